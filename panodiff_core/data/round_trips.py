"""Panoramas as an autoencoder gives them back, on disk in the format of rendered ones."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..autoencoders.ring import decode, encode, to_pixels
from .panoramas import PanoramaCache, write_cache


@torch.no_grad()
def round_trip(vae: nn.Module, pixels: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] in 0..1 through ring-aware encode and decode, one at a time, in bf16 autocast."""
    device = next(vae.parameters()).device
    out = []
    for one in pixels.split(1):
        with torch.autocast(device.type, torch.bfloat16):
            out.append(to_pixels(decode(vae, encode(vae, one.to(device)).float())).to(pixels.device))
    return torch.cat(out)


def round_trip_cache(folder: Path, source: PanoramaCache, vae: nn.Module, count: int, on_shard=None) -> None:
    """Make `folder` hold the round trips of the first `count` panoramas of `source`; finished shards are kept."""

    def pictures(start: int, stop: int):
        for index in range(start, stop):
            trip = round_trip(vae, source[index][None].float() / 255.0)[0]
            yield (trip * 255.0).round().byte()

    write_cache(
        folder,
        pictures,
        min(count, len(source)),
        height=source.height,
        split=source.split,
        first_seed=source.seed(0),
        shard_size=source.shard_size,
        on_shard=on_shard,
    )
