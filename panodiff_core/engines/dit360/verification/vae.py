"""vae.safetensors: plain and ring-aware coding, tiles and bands, and what turning the ring may change."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ....autoencoders.latents import scale
from ....autoencoders.network import unroll
from ....autoencoders.ring import decode, encode, ring_aware, to_pixels
from ....autoencoders.streaming import plan_stream, run_stream
from ....autoencoders.tiles import Axis, TilePlan, run_tiles
from ....layers.ring import crop_ring, pad_ring
from ....verification import Results, Row, compare
from .folder import DiT360Vectors

NAME = "vae"
BOUND = 1e-4
TILED = r"derived\.tiled_ring\.tile(\d+)_overlap(\d+)"
PADDED = r"derived\.decode_pad(\d+)_crop"


@torch.no_grad()
def check(vectors: DiT360Vectors) -> Iterator[Row]:
    """Every result of the file, whatever its sizes; and equivariance, which needs no golden numbers."""
    t, vae = Results(NAME, vectors.tensors(NAME)), vectors.vae()
    raw = t["in.vae_input"]
    latents = scale(raw, vae)

    yield t.row("decode", decode(vae, latents, ring=False), BOUND)
    ring = decode(vae, latents)
    yield from t.rows("derived.decode_circular_conv", ring, BOUND)
    yield compare(NAME, "bands against derived.decode_circular_conv", _in_bands(vae, raw), ring, BOUND)
    for key in sorted(t):
        if match := re.fullmatch(PADDED, key):
            pad = int(match[1])
            padded = vae.decode(pad_ring(raw, pad)).sample
            yield t.row(key, crop_ring(padded, pad * _factor(vae)), BOUND)
        if match := re.fullmatch(TILED, key):
            yield from _tiles(vae, raw, t, key, Axis(raw.shape[3], int(match[1]), int(match[2]), wraps=True))
    yield from _encoding(vectors, vae, t)
    yield from _turned(vae, latents, ring)
    yield from t.left()


def _tiles(vae: nn.Module, raw: Tensor, t: Results, key: str, axis: Axis) -> Iterator[Row]:
    tiled = _in_tiles(vae, raw, axis)
    yield t.row(key, tiled, BOUND)
    turned = _in_tiles(vae, raw.roll(axis.stride, -1), axis)
    expected = tiled.roll(axis.stride * _factor(vae), -1)
    yield compare(NAME, f"{key} turned by {axis.stride} latents", turned, expected, 0.0)


def _encoding(vectors: DiT360Vectors, vae: nn.Module, t: Results) -> Iterator[Row]:
    """What was encoded are the first of the pictures that t2i ends with."""
    counts = {len(t[key]) for key in t if key.startswith("encode.")}
    if not counts:
        return
    pictures = vectors.tensors("t2i")["cfg_off.image_u8"][: max(counts)]
    pixels = pictures.permute(0, 3, 1, 2) / 255.0
    posterior = vae.encode(pixels * 2.0 - 1.0).latent_dist
    yield from t.rows("encode.mean", posterior.mean, BOUND)
    yield from t.rows("encode.logvar", posterior.logvar, BOUND)
    yield from t.rows("encode.mode_scaled", encode(vae, pixels, ring=False), BOUND)


def _turned(vae: nn.Module, latents: Tensor, ring: Tensor) -> Iterator[Row]:
    """decode(roll(z)) = roll(decode(z)), in pixels, and the same for encode."""
    pixels, shift = to_pixels(ring), latents.shape[3] // 2 - 1
    moved = pixels.roll(shift * _factor(vae), -1)
    decoded = to_pixels(decode(vae, latents.roll(shift, -1)))
    yield compare(NAME, f"decode turned by {shift} latents", decoded, moved, BOUND)
    coded = encode(vae, pixels).roll(shift, -1)
    yield compare(NAME, f"encode turned by {shift} latents", encode(vae, moved), coded, BOUND)


def _in_tiles(vae: nn.Module, raw: Tensor, columns: Axis) -> Tensor:
    rows, unit = raw.shape[2], _factor(vae)
    return _collect(
        lambda write: run_tiles(
            TilePlan(Axis(rows, rows), columns),
            raw,
            (1, unit),
            lambda tile: vae.decode(tile).sample,
            write,
            lambda: None,
        )
    )


def _in_bands(vae: nn.Module, raw: Tensor) -> Tensor:
    """Picture by picture, as bands are."""
    with ring_aware(vae.decoder):
        plan = plan_stream(unroll(vae.decoder), *raw.shape[1:], raw.element_size(), budget=0)
        return torch.cat(
            [
                _collect(lambda write, one=one: run_stream(plan, one, write, lambda: None))
                for one in raw.split(1)
            ]
        )


def _collect(run: Callable[[Callable[[int, Tensor], None]], None]) -> Tensor:
    bands: list[Tensor] = []
    run(lambda first, rows: bands.append(rows))
    return torch.cat(bands, dim=2)


def _factor(vae: nn.Module) -> int:
    return 2 ** (len(vae.config.block_out_channels) - 1)
