"""Cubemaps of rendered worlds without files: whole cubes, or single faces whose captions say where they look."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..geometry.checks import check_size
from ..geometry.cubemap import FACES, face_directions
from ..runtime.checks import check_least
from ..runtime.errors import InputError
from .worlds import Scene, caption, render, sample_scene

FACE_WORDS = dict(zip(FACES, ("front", "right", "behind", "left", "up", "down"), strict=True))
"""How captions name the direction of a face."""


def face_caption(face: int, text: str) -> str:
    """The caption of one face (its index in F R B L U D) of the scene that `text` describes; "" stays ""."""
    return f"{FACE_WORDS[FACES[face]]}, {text}" if text else text


FACE_TEXTS = {name: face_caption(face, "{prompt}") for face, name in enumerate(FACES)}
"""The words of `face_caption` around the text of each face, as a model keeps them that was trained with them."""


def render_faces(scene: Scene, size: int, faces: Sequence[int] = range(6)) -> Tensor:
    """Faces [F, 3, size, size] of a world in 0..1, `faces` being indices in F R B L U D.

    Rendered ray by ray, so that neighbours agree along their edges.
    """
    rays = face_directions(check_size("size", size))[list(faces)]
    with torch.no_grad():
        return render(scene, rays, pixel_angle=math.pi / 2 / size).movedim(-1, 1).contiguous()


class _Worlds(Dataset):
    """What both kinds of batches share: worlds without end, a yaw and a caption for each."""

    def __init__(
        self, size: int, batch_size: int, seed: int, split: str = "train", dropout: float = 0.0
    ) -> None:
        self.size, self.batch_size = check_size("size", size), check_least("batch_size", batch_size)
        if not 0.0 <= dropout <= 1.0:
            raise InputError(f"dropout is {dropout!r}; it is a share of the captions from 0 to 1")
        sample_scene(0, split)  # says what is wrong with a split before a worker process does
        self.seed, self.split, self.dropout = seed, split, dropout

    def __len__(self) -> int:
        return 2**62

    def _draw(self, rng: np.random.Generator) -> tuple[Scene, str]:
        scene = sample_scene(int(rng.integers(2**31)), split=self.split).rotated(float(rng.uniform(0, 360)))
        text = caption(scene, int(rng.integers(2**31))).text
        return scene, "" if rng.random() < self.dropout else text


class WorldCubemaps(_Worlds):
    """Batch i depends on (seed, i) alone: {"faces": [B, 6, 3, size, size] in 0..1, "captions": B texts}.

    Worlds are drawn at random from `split` and turned by any yaw; a share `dropout` of the captions is empty. Raises
    InputError for a size or batch below 1, an unknown split or a share outside 0..1.
    """

    def __getitem__(self, index: int) -> dict[str, Tensor | list[str]]:
        rng = np.random.default_rng([self.seed, index])
        drawn = [self._draw(rng) for _ in range(self.batch_size)]
        faces = torch.stack([render_faces(scene, self.size) for scene, _ in drawn])
        return {"faces": faces, "captions": [text for _, text in drawn]}


class WorldFaces(_Worlds):
    """Batch i depends on (seed, i) alone: {"pixels": [B, 3, size, size] in 0..1, "captions", "faces": indices [B]}.

    One random face of each world; only its rays are rendered. Captions are `face_caption`s of the whole scene, so what
    they tell need not be in view. The rest is as for `WorldCubemaps`.
    """

    def __getitem__(self, index: int) -> dict[str, Tensor | list[str]]:
        rng = np.random.default_rng([self.seed, index])
        pixels, captions, faces = [], [], []
        for _ in range(self.batch_size):
            scene, text = self._draw(rng)
            face = int(rng.integers(6))
            pixels.append(render_faces(scene, self.size, [face])[0])
            captions.append(face_caption(face, text))
            faces.append(face)
        return {"pixels": torch.stack(pixels), "captions": captions, "faces": torch.tensor(faces)}
