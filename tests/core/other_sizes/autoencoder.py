"""The autoencoder's pictures, whole, padded, in tiles and with convolutions on a ring."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .network import Maker


def make_autoencoder(maker: Maker, raw: Tensor, picture: Tensor, shown: Tensor) -> None:
    posterior = maker.vae.encode(shown.permute(0, 3, 1, 2) / 255.0 * 2 - 1).latent_dist

    def decode(x: Tensor) -> Tensor:
        return maker.vae.decode(x).sample

    wide = torch.cat([raw[..., -3:], raw, raw[..., :3]], dim=-1)
    t = {"in.vae_input": raw, "decode": picture, "encode.mean": posterior.mean}
    t["encode.logvar"] = posterior.logvar
    t["derived.decode_pad3_crop"] = decode(wide)[..., 12:-12]
    t["derived.tiled_ring.tile6_overlap1"] = _tiled(decode, raw, 6, 1)
    t["derived.decode_circular_conv"] = _ring_copy(maker.vae).decode(raw).sample
    maker.save("vae", t)


def _tiled(decode: Callable[[Tensor], Tensor], raw: Tensor, tile: int, overlap: int) -> Tensor:
    """Width tiles around the ring, blended with linear ramps and divided by the sum of the weights."""
    width, factor, stride = raw.shape[-1], 4, tile - overlap
    ramp = (torch.arange(factor * overlap) + 0.5) / (factor * overlap)
    weight = torch.ones(factor * tile)
    weight[: len(ramp)], weight[-len(ramp) :] = ramp, ramp.flip(0)
    total, weights = (
        torch.zeros(len(raw), 3, factor * raw.shape[2], factor * width),
        torch.zeros(factor * width),
    )
    for first in range(0, width, stride):
        columns = (first + torch.arange(tile)) % width
        place = (first * factor + torch.arange(tile * factor)) % (width * factor)
        total[..., place] += weight * decode(raw[..., columns])
        weights[place] += weight
    return total / weights


def _ring_copy(vae: nn.Module) -> nn.Module:
    """The autoencoder with a decoder whose 3×3 convolutions wrap around in width."""
    vae = copy.deepcopy(vae)
    for layer in vae.decoder.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.forward = lambda x, own=layer: F.conv2d(
                F.pad(F.pad(x, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1)), own.weight, own.bias
            )
    return vae
