"""Encoded worlds on disk: fp16 latents with their scene seeds, so that the autoencoder runs once per picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..autoencoders.ring import encode
from ..runtime.errors import InputError
from .panoramas import PanoramaCache, rendered_stream
from .shards import append_shard, open_index, read_index


def encode_cache(
    folder: Path,
    vae: nn.Module,
    count: int,
    height: int,
    *,
    pictures: PanoramaCache | None = None,
    first_seed: int = 0,
    shard_size: int = 250,
    workers: int = 1,
    batch_size: int = 2,
    split: str = "train",
    on_shard: Callable[[int, int], None] | None = None,
) -> None:
    """Make `folder` hold the scaled latents [16, height/8, height/4] of scenes `first_seed` … + `count` − 1.

    Pictures come from `pictures` where it has the scene at this height, else from the renderer in `workers`
    processes. Finished shards are kept, as in `render_cache`. Raises InputError if the folder holds other latents,
    also when they were made with another autoencoder.
    """
    wanted = {
        "height": height,
        "first_seed": first_seed,
        "shard_size": shard_size,
        "split": split,
        "autoencoder": fingerprint(vae),
    }
    index = open_index(folder, wanted, "latents")
    shards = -(-count // shard_size)
    for shard in range(index["shards"], shards):
        seeds = range(first_seed + shard * shard_size, first_seed + (shard + 1) * shard_size)
        batches = _batches(seeds, height, split, pictures, workers, batch_size)
        latents = torch.cat([encode_pictures(vae, pixels) for pixels in batches])
        append_shard(folder, index, _shard_name(shard), latents.half().cpu().numpy())
        if on_shard is not None:
            on_shard((shard + 1) * shard_size, shards * shard_size)


def fingerprint(vae: nn.Module) -> float:
    """A number that tells one encoder from another: the sum of its absolute weights, scaled as its latents are."""
    total = sum(p.detach().double().abs().sum() for p in vae.encoder.parameters())
    return round(float(total) * float(vae.config.scaling_factor), 3)


@torch.no_grad()
def encode_pictures(vae: nn.Module, pixels: Tensor) -> Tensor:
    """uint8 pictures [B, 3, H, W] → scaled latents, ring-aware, in bf16 autocast."""
    device = next(vae.parameters()).device
    with torch.autocast(device.type, torch.bfloat16):
        return encode(vae, pixels.to(device).float() / 255.0).float()


def _batches(seeds, height, split, pictures, workers, size):
    have = pictures is not None and pictures.height == height and pictures.split == split
    if have and pictures.seed(0) <= seeds[0] and seeds[-1] <= pictures.seed(len(pictures) - 1):
        source = (pictures[seed - pictures.seed(0)] for seed in seeds)
    else:
        source = iter(rendered_stream(seeds, height, split, workers))
    for start in range(0, len(seeds), size):
        yield torch.stack([next(source) for _ in range(min(size, len(seeds) - start))])


def _shard_name(shard: int) -> str:
    return f"latents-{shard:05d}.npy"


class LatentCache:
    """All latents of a folder in memory: `latents` fp16 [N, 16, h, w]; entry i belongs to scene `seed(i)`."""

    def __init__(self, folder: Path) -> None:
        index = read_index(folder)
        if index is None or not index["shards"]:
            raise InputError(f"{folder} holds no latents; make them with `train dit360-latents`")
        self.height, self.split, self._first = index["height"], index["split"], index["first_seed"]
        self.autoencoder = index["autoencoder"]
        arrays = [np.load(Path(folder) / _shard_name(i)) for i in range(index["shards"])]
        self.latents = torch.from_numpy(np.concatenate(arrays))

    def __len__(self) -> int:
        return len(self.latents)

    def seed(self, index: int) -> int:
        """The scene seed of entry `index`."""
        return self._first + index
