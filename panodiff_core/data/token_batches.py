"""Batches of coded cubemaps with captions: single faces whose captions may name their direction, or whole cubes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..runtime.checks import check_least
from ..runtime.errors import InputError
from .captions import caption_classes, caption_targets
from .cube_tokens import CubeTokens
from .cubemap_scenes import CubemapScenes
from .cubemap_worlds import face_caption
from .worlds import caption

UNKNOWN = -100
"""Target of what nothing is known of; cross-entropy leaves it out."""


def reading_classes() -> tuple[int, ...]:
    """Classes of each thing that a face's caption can state: attributes and the face, 0 being "not stated"."""
    return (*caption_classes().values(), 7)


class _Tokens(Dataset):
    """What both kinds of batches share: every epoch visits all scenes in a new order, in a random quarter turn.

    Scenes of a place in `repeat` (place → times) come so many times per epoch. A share `dropout` of the captions is
    empty, for guidance; `name_often` (attribute → share) has attributes of worlds stated in that share of the captions
    whatever else they say. Raises InputError for a share outside 0..1.
    """

    def __init__(
        self,
        tokens: CubeTokens,
        batch_size: int,
        seed: int,
        dropout: float = 0.1,
        repeat: Mapping[str, int] | None = None,
        name_often: Mapping[str, float] | None = None,
    ) -> None:
        self.tokens, self.batch_size = tokens, check_least("batch_size", batch_size)
        self.seed, self.dropout, self.name_often = (
            seed,
            check_share("dropout", dropout),
            dict(name_often or {}),
        )
        self.repeat = dict(repeat or {})
        self._scenes = [i for i in range(len(tokens)) for _ in range(self._times(i, self.repeat))]
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return 2**62

    def _times(self, scene: int, repeat: Mapping[str, int]) -> int:
        world = self.tokens.world(scene) if repeat else None
        return 1 if world is None else repeat.get(world["place"], 1)

    def _scene(self, position: int) -> int:
        epoch, place = divmod(position, len(self._scenes))
        if self._order[0] != epoch:
            order = np.random.default_rng([self.seed, 0xE90C, epoch]).permutation(len(self._scenes))
            self._order = (epoch, order)
        return self._scenes[int(self._order[1][place])]

    def _draw(self, position: int, rng: np.random.Generator) -> tuple[Tensor, str, list[int]]:
        """Codes [6, L] of a cube, its caption, and the class of each attribute that the caption states."""
        scene, turn = self._scene(position), int(rng.integers(self.tokens.turns))
        world, codes = self.tokens.world(scene, turn), self.tokens.codes(scene, turn)
        always = [name for name, share in self.name_often.items() if rng.random() < share]
        silent, wording = rng.random() < self.dropout, int(rng.integers(2**31))
        if silent:
            return codes, "", caption_targets({})
        if world is None:
            return codes, self.tokens.prompt(scene), [UNKNOWN] * len(caption_classes())
        said = caption(world, wording, always=always)
        return codes, said.text, caption_targets(said.mentioned)

    def _positions(self, index: int) -> range:
        return range(index * self.batch_size, (index + 1) * self.batch_size)


class TokenFaces(_Tokens):
    """Batch i depends on (seed, i) alone: {"codes": [B, L], "captions": B texts, "targets": [B, A]}.

    One random face of each scene. Its caption names the direction, except in a share `plain` of them. `targets` are the
    classes of `reading_classes`.
    """

    def __init__(self, *args, plain: float = 0.25, **options) -> None:
        super().__init__(*args, **options)
        self.plain = check_share("plain", plain)

    def __getitem__(self, index: int) -> dict[str, Tensor | list[str]]:
        rng = np.random.default_rng([self.seed, index])
        codes, captions, targets = [], [], []
        for position in self._positions(index):
            cube, text, stated = self._draw(position, rng)
            face, plain = int(rng.integers(6)), rng.random() < self.plain
            named = bool(text) and not plain
            codes.append(cube[face])
            captions.append(face_caption(face, text) if named else text)
            targets.append([*stated, face + 1 if named else 0])
        return {"codes": torch.stack(codes), "captions": captions, "targets": torch.tensor(targets)}


class TokenCubes(_Tokens):
    """Batch i depends on (seed, i) alone: {"codes": [B, 6, L], "captions": B texts of whole scenes}."""

    def __getitem__(self, index: int) -> dict[str, Tensor | list[str]]:
        rng = np.random.default_rng([self.seed, index])
        drawn = [self._draw(position, rng) for position in self._positions(index)]
        return {"codes": torch.stack([codes for codes, _, _ in drawn]), "captions": [t for _, t, _ in drawn]}


class SceneCubes(Dataset):
    """Batch i depends on (seed, i) alone: {"faces": [B, 6, 3, size, size] in 0..1, "captions"} of scenes on disk.

    Every epoch visits all scenes once in a new order; a share `dropout` of the prompts is emptied.
    """

    def __init__(self, scenes: CubemapScenes, batch_size: int, seed: int, dropout: float = 0.1) -> None:
        self.scenes, self.batch_size = scenes, check_least("batch_size", batch_size)
        self.seed, self.dropout = seed, check_share("dropout", dropout)

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, index: int) -> dict[str, Tensor | list[str]]:
        rng = np.random.default_rng([self.seed, index])
        items = [self._item(p) for p in range(index * self.batch_size, (index + 1) * self.batch_size)]
        captions = ["" if rng.random() < self.dropout else item["prompt"] for item in items]
        return {"faces": torch.stack([item["faces"] for item in items]), "captions": captions}

    def _item(self, position: int) -> dict[str, Tensor | str]:
        epoch, place = divmod(position, len(self.scenes))
        order = np.random.default_rng([self.seed, 0xE90C, epoch]).permutation(len(self.scenes))
        return self.scenes[int(order[place])]


def check_share(name: str, value: float) -> float:
    """`value` if it lies in 0..1. Raises InputError."""
    if not 0.0 <= value <= 1.0:
        raise InputError(f"{name} is {value!r}; it is a share of the captions from 0 to 1")
    return value
