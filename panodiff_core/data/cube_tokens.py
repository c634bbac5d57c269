"""Cubemaps as codes on disk: the six faces of a scene together, with what its captions need.

A folder holds `index.json` and, for every shard, `codes-00000.npy`, uint16 [scenes, turns, 6, L] with the faces in the
order F R B L U D and the scales one after the other, and `scenes-00000.json`, one entry per scene. Worlds come in four
quarter turns, so that a world shows each face of its cube in each direction; other scenes as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..geometry.cubemap import FACES
from ..io.atomic import write_text
from ..runtime.checks import check_least
from ..runtime.errors import InputError
from .cubemap_scenes import SOURCE, CubemapScenes, read_prompts
from .cubemap_worlds import render_faces
from .shards import append_shard, open_index, read_index
from .worlds import Scene, sample_scene

TURNS = 4
SIDES = FACES.index("U")
"""The first so many faces stand around the horizon, each right of the one before."""


@dataclass(frozen=True)
class CubeSource:
    """What is to be encoded: `faces(i)` is [6, 3, S, S] in 0..1 of scene i, `entries` what is known of each.

    An entry is {"scene_id", "prompt"}, and for worlds {"scene_id", "world": seed, "split"}. `turns` is 4 where all are
    worlds, else 1. `what` tells this source from another.
    """

    faces: Dataset
    entries: tuple[dict[str, Any], ...]
    turns: int
    what: str


class _WorldFaces(Dataset):
    def __init__(self, seeds: range, size: int, split: str) -> None:
        self.seeds, self.size, self.split = seeds, size, split

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> Tensor:
        return render_faces(sample_scene(self.seeds[index], split=self.split), self.size)


class _SceneFaces(Dataset):
    def __init__(self, scenes: CubemapScenes) -> None:
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Tensor:
        return self.scenes[index]["faces"]


def worlds_source(size: int, count: int, first_seed: int = 0, split: str = "train") -> CubeSource:
    """Worlds `first_seed` … `first_seed + count − 1`, rendered when they are asked for."""
    if count < 1:
        raise InputError(f"count is {count}; ask for at least one world")
    seeds = range(first_seed, first_seed + count)
    sample_scene(0, split)
    entries = ({"scene_id": f"world{seed}", "world": seed, "split": split} for seed in seeds)
    what = f"{count} worlds from {first_seed}, {split}"
    return CubeSource(_WorldFaces(seeds, size, split), tuple(entries), TURNS, what)


def scenes_source(scenes: CubemapScenes) -> CubeSource:
    """Scenes on disk. Those that `train cubemap-scenes` rendered are worlds, whose captions can be written anew."""
    entries, worlds = [], True
    for scene in scenes.scene_ids:
        prompts = read_prompts(scenes.root / scene)
        entry = {"scene_id": scene, "prompt": prompts.get("scene", "")}
        if match := re.fullmatch(rf"world (\d+) (\w+) {scenes.size}", prompts.get(SOURCE, "")):
            entry |= {"world": int(match[1]), "split": match[2]}
        worlds &= "world" in entry
        entries.append(entry)
    first, last = scenes.scene_ids[0], scenes.scene_ids[-1]
    what = f"{len(scenes)} scenes, {first} to {last}, {_digest(scenes, entries)}"
    return CubeSource(_SceneFaces(scenes), tuple(entries), TURNS if worlds else 1, what)


def _digest(scenes: CubemapScenes, entries: list[dict[str, Any]]) -> str:
    """Eight letters that change with what stands in prompts.json and with the files of the faces."""
    digest = hashlib.sha256(json.dumps(entries).encode())
    for scene in scenes.scene_ids:
        for path in scenes.face_files(scene):
            about = path.stat()
            digest.update(f"{about.st_size} {about.st_mtime_ns} ".encode())
    return digest.hexdigest()[:8]


def quarter_turned(faces: Tensor, turns: int) -> Tensor:
    """Faces [6, C, S, S] of a scene whose content is turned right by so many quarters, pixel for pixel."""
    sides = faces[:SIDES].roll(turns, dims=0)
    up, down = faces[SIDES].rot90(turns, (-2, -1)), faces[SIDES + 1].rot90(-turns, (-2, -1))
    return torch.cat([sides, torch.stack([up, down])])


def encode_cubes(
    folder: Path,
    source: CubeSource,
    encode: Callable[[Tensor], Tensor],
    *,
    patch_nums: Sequence[int],
    vocab: int,
    autoencoder: float,
    shard_size: int = 100,
    workers: int = 0,
    on_shard: Callable[[int, int], None] | None = None,
) -> None:
    """Make `folder` hold the codes of all scenes of `source`.

    `encode` takes faces [B, 3, S, S] in 0..1 and gives codes [B, L]; `autoencoder` is a number that tells it from
    others. Finished shards are kept, so an interrupted call continues. Calls `on_shard(done, total)`. Raises InputError
    where the folder holds other codes, or a codebook has more codes than 16 bits tell apart.
    """
    check_least("workers", workers, 0)
    if vocab > 2**16:
        raise InputError(f"a codebook of {vocab} codes does not fit 16 bits")
    total = len(source.entries)
    wanted = {
        "source": source.what,
        "patch_nums": list(patch_nums),
        "vocab": vocab,
        "autoencoder": autoencoder,
        "turns": source.turns,
        "faces": list(FACES),
        "shard_size": shard_size,
    }
    index = open_index(folder, wanted, "codes")
    start = index["shards"] * shard_size
    loader = DataLoader(
        source.faces,
        batch_size=None,
        sampler=range(start, total),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    stream = iter(loader)
    for low in range(start, total, shard_size):
        high = min(low + shard_size, total)
        codes = torch.stack([_encoded(next(stream), source.turns, encode) for _ in range(low, high)])
        shard = low // shard_size
        write_text(folder / _scenes_name(shard), json.dumps(source.entries[low:high], ensure_ascii=False))
        append_shard(folder, index, _codes_name(shard), codes.numpy().astype(np.uint16))
        if on_shard is not None:
            on_shard(high, total)


def _encoded(faces: Tensor, turns: int, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """Codes [turns, 6, L]; sides only change places, so each of them is encoded once."""
    cubes = torch.stack([quarter_turned(faces, turn) for turn in range(turns)])
    codes = encode(torch.cat([faces[:SIDES], cubes[:, SIDES:].flatten(0, 1)])).cpu()
    ends = codes[SIDES:].unflatten(0, (turns, -1))
    return torch.stack([torch.cat([codes[:SIDES].roll(turn, dims=0), ends[turn]]) for turn in range(turns)])


def _codes_name(shard: int) -> str:
    return f"codes-{shard:05d}.npy"


def _scenes_name(shard: int) -> str:
    return f"scenes-{shard:05d}.json"


class CubeTokens:
    """Read access to what `encode_cubes` wrote.

    `patch_nums`, `vocab` and `autoencoder` are those of the codes; `turns` is how many cubes there are of each scene.
    Raises InputError for a folder without finished shards.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        index = read_index(self.folder)
        if index is None or not index["shards"] or "patch_nums" not in index:
            raise InputError(f"{folder} holds no codes of cubemaps; make them with `train star-tokens`")
        self.patch_nums, self.vocab = tuple(index["patch_nums"]), index["vocab"]
        self.autoencoder, self.turns = index["autoencoder"], index["turns"]
        self.source, self._shard_size = index["source"], index["shard_size"]
        self._entries: list[dict[str, Any]] = []
        for shard in range(index["shards"]):
            self._entries += json.loads((self.folder / _scenes_name(shard)).read_text(encoding="utf-8"))
        self._open: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def codes(self, scene: int, turn: int = 0) -> Tensor:
        """Codes [6, L] of one cube, int64."""
        shard, place = divmod(scene, self._shard_size)
        if shard not in self._open:
            self._open[shard] = np.load(self.folder / _codes_name(shard), mmap_mode="r")
        return torch.from_numpy(self._open[shard][place, turn].astype(np.int64))

    def scene_id(self, scene: int) -> str:
        """Its name."""
        return self._entries[scene]["scene_id"]

    def prompt(self, scene: int) -> str:
        """The prompt that came with it, "" where there was none."""
        return self._entries[scene].get("prompt", "")

    def world(self, scene: int, turn: int = 0) -> Scene | None:
        """The world that it shows in this turn; None for any other scene."""
        entry = self._entries[scene]
        if "world" not in entry:
            return None
        return sample_scene(entry["world"], split=entry["split"]).rotated(90.0 * turn)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": {}}  # workers open the files themselves
