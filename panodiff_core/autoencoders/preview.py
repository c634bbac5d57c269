"""Quick previews: a linear map from latents to colours, fitted to the VAE at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .latents import scale

FIELDS, SIDE = 4, 128
RIDGE = 1e-3
"""Relative weight of the penalty: directions of latent space that the fields hardly reach get no colour."""


@dataclass(frozen=True)
class PreviewMap:
    """RGB = matrix · latent + bias, per latent pixel; `matrix` [3, C], `bias` [3]."""

    matrix: Tensor
    bias: Tensor

    def __call__(self, latents: Tensor) -> Tensor:
        """Scaled model latents [B, C, h, w] → RGB [B, 3, h, w] float32 in 0..1, on the latents' device.

        NaN and infinity show as black or white: the sampler reports them, with the step.
        """
        matrix, bias = self.matrix.to(latents.device), self.bias.to(latents.device)
        rgb = torch.einsum("oc,bchw->bohw", matrix, latents.float()) + bias[:, None, None]
        return rgb.nan_to_num().clamp(0.0, 1.0)


def fit_preview(vae: nn.Module) -> PreviewMap:
    """The map of a VAE of diffusers, which stays where it is."""
    weight = next(vae.parameters())

    def encode(signed: Tensor) -> Tensor:
        return scale(vae.encode(signed.to(weight)).latent_dist.mode(), vae)

    return fit_colours(encode)


@torch.no_grad()
def fit_colours(encode: Callable[[Tensor], Tensor]) -> PreviewMap:
    """Encode fields of random colours and fit the map by least squares; `encode` takes pixels [1, 3, SIDE, SIDE] in
    −1..1 and gives latents [1, C, h, w].

    The fields are as rough as pictures are: flat colours, which no picture is made of, lie so far from the latents of
    pictures that a map fitted to them shows everything in glaring colours. They are small (4 of 128×128 pixels), so that
    this costs a fraction of one picture's encoding.
    """
    fields = _fields()
    latents = torch.cat([encode(one * 2.0 - 1.0) for one in fields.split(1)]).cpu().double()
    colours = F.adaptive_avg_pool2d(fields.double(), latents.shape[-2:])
    # Without the outermost latents, which have seen the encoder's padding.
    x, y = (t[..., 1:-1, 1:-1].transpose(0, 1).flatten(1).T for t in (latents, colours))
    centre, target = x.mean(0), y.mean(0)
    x, y = x - centre, y - target
    gram = x.T @ x
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    matrix = torch.linalg.solve(gram + ridge, x.T @ y).T
    return PreviewMap(matrix.float(), (target - matrix @ centre).float())


def _fields() -> Tensor:
    """Pictures [FIELDS, 3, SIDE, SIDE] in 0..1 of noise at every scale, each half as strong as the one twice as large,
    and with more brightness than colour in it; the same every time.
    """
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(FIELDS, 3, SIDE, SIDE)
    for level in range(1, 7):
        cells = 2**level
        light = torch.randn(FIELDS, 1, cells, cells, generator=generator)
        colour = torch.randn(FIELDS, 3, cells, cells, generator=generator)
        rough = F.interpolate(light + 0.7 * colour, SIDE, mode="bilinear", align_corners=False)
        total += rough * 0.5 ** (level - 1)
    return (0.5 + 0.2 * total / total.std()).clamp(0.0, 1.0)
