"""Rendered panoramas on disk: shards of uint8 pixels that can be read in place, addressed by scene seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..runtime.errors import InputError
from .shards import INDEX, append_shard, open_index, read_index


class _Rendered(Dataset):
    """Scene `seeds[i]` as uint8 [3, H, W]; rendered in the worker process that asks for it."""

    def __init__(self, seeds: range, height: int, split: str) -> None:
        self.seeds, self.height, self.split = seeds, height, split

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> Tensor:
        from .worlds import render_equirect, sample_scene

        scene = sample_scene(self.seeds[index], split=self.split)
        with torch.no_grad():
            picture = render_equirect(scene, self.height, 2 * self.height)
        return (picture.clamp(0, 1) * 255.0).round().byte()


def rendered_stream(seeds: range, height: int, split: str, workers: int) -> DataLoader:
    """Panoramas of the scenes `seeds` in order, uint8 [3, height, 2·height] each, rendered by `workers` processes."""
    return DataLoader(
        _Rendered(seeds, height, split),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=8 if workers else None,
    )


def render_cache(
    folder: Path,
    count: int,
    height: int,
    *,
    split: str = "train",
    first_seed: int = 0,
    shard_size: int = 250,
    workers: int = 2,
    on_shard: Callable[[int, int], None] | None = None,
) -> None:
    """Make `folder` hold the panoramas of scenes `first_seed` … `first_seed + count − 1`, 2·height wide.

    See `write_cache` for continuing, adding and errors.
    """

    def pictures(start: int, stop: int) -> Iterable[Tensor]:
        return rendered_stream(range(first_seed + start, first_seed + stop), height, split, workers)

    write_cache(
        folder,
        pictures,
        count,
        height=height,
        split=split,
        first_seed=first_seed,
        shard_size=shard_size,
        on_shard=on_shard,
    )


def write_cache(
    folder: Path,
    pictures: Callable[[int, int], Iterable[Tensor]],
    count: int,
    *,
    height: int,
    split: str,
    first_seed: int,
    shard_size: int,
    on_shard: Callable[[int, int], None] | None = None,
) -> None:
    """Fill `folder` with shards of `pictures(start, stop)`, uint8 [3, height, 2·height] each.

    `count` is rounded up to whole shards. Finished shards are kept: an interrupted call continues, and a larger
    `count` only adds. Calls `on_shard(done, count)` after each shard. Raises InputError if the folder holds another
    size, split or first seed.
    """
    wanted = {"height": height, "split": split, "first_seed": first_seed, "shard_size": shard_size}
    index = open_index(folder, wanted, "panoramas")
    shards = -(-count // shard_size)
    if index["shards"] >= shards:
        return
    stream = iter(pictures(index["shards"] * shard_size, shards * shard_size))
    for shard in range(index["shards"], shards):
        pixels = torch.stack([next(stream) for _ in range(shard_size)]).numpy()
        append_shard(folder, index, shard_name(shard), pixels)
        if on_shard is not None:
            on_shard((shard + 1) * shard_size, shards * shard_size)


def shard_name(shard: int) -> str:
    """File name of a shard of panoramas."""
    return f"panoramas-{shard:05d}.npy"


class PanoramaCache:
    """Read access to what `render_cache` wrote: `cache[i]` is uint8 [3, H, W] of scene `cache.seed(i)`."""

    def __init__(self, folder: Path) -> None:
        index = read_index(folder)
        if index is None:
            raise InputError(
                f"{folder} holds no rendered panoramas (no {INDEX}); make them with `train worlds-cache`"
            )
        self.folder, self.height, self.split = Path(folder), index["height"], index["split"]
        self.shard_size, self.shards, self._first = index["shard_size"], index["shards"], index["first_seed"]
        if not self.shards:
            raise InputError(f"{folder} holds no finished shard yet")
        self._open: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.shards * self.shard_size

    def seed(self, index: int) -> int:
        """The scene seed of panorama `index`."""
        return self._first + index

    def array(self, index: int) -> np.ndarray:
        """Panorama `index` as a read-only memory map, uint8 [3, H, W]."""
        shard = index // self.shard_size
        if shard not in self._open:
            self._open[shard] = np.load(self.folder / shard_name(shard), mmap_mode="r")
        return self._open[shard][index % self.shard_size]

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.array(self.array(index)))

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": {}}  # workers open the files themselves
