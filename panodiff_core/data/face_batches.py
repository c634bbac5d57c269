"""Batches of single cube faces without captions, for training an autoencoder."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..geometry import equirect_to_perspective
from ..geometry.checks import check_size
from ..geometry.cubemap import FACES
from ..io.images import load_image
from ..runtime.checks import check_least
from .cubemap_scenes import FACES_FOLDER, CubemapScenes
from .panoramas import PanoramaCache

PITCHES = (0.0, 0.0, 0.0, 0.0, 90.0, -90.0)
"""Where the faces F R B L U D look."""


class _FaceBatches(Dataset, ABC):
    """Batch i depends on (seed, i) alone: {"pixels": [B, 3, size, size] in 0..1}; half of the faces are mirrored."""

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self.size, self.batch_size = check_size("size", size), check_least("batch_size", batch_size)
        self.seed = seed

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        faces = [self._mirrored(self._face(rng), rng) for _ in range(self.batch_size)]
        return {"pixels": torch.stack(faces)}

    @staticmethod
    def _mirrored(face: Tensor, rng: np.random.Generator) -> Tensor:
        return face.flip(-1) if rng.random() < 0.5 else face

    @abstractmethod
    def _face(self, rng: np.random.Generator) -> Tensor:
        """One face [3, size, size]."""


class SceneFaces(_FaceBatches):
    """Faces of the scenes of a folder, see `_FaceBatches`; the size is that of the scenes."""

    def __init__(self, scenes: CubemapScenes, batch_size: int, seed: int) -> None:
        super().__init__(scenes.size, batch_size, seed)
        self.scenes = scenes

    def _face(self, rng: np.random.Generator) -> Tensor:
        scene = self.scenes.scene_ids[int(rng.integers(len(self.scenes)))]
        face = FACES[int(rng.integers(6))]
        return load_image(self.scenes.root / scene / FACES_FOLDER / f"{face}.png")[0]


class PanoramaFaces(_FaceBatches):
    """Faces cut out of panoramas turned by any number of columns, see `_FaceBatches`.

    A face has the panorama's detail in its middle only when it is no larger than half of the panorama's height.
    """

    def __init__(self, cache: PanoramaCache, size: int, batch_size: int, seed: int) -> None:
        super().__init__(size, batch_size, seed)
        self.cache = cache

    def _face(self, rng: np.random.Generator) -> Tensor:
        panorama = self.cache[int(rng.integers(len(self.cache)))].float() / 255.0
        panorama = panorama.roll(int(rng.integers(panorama.shape[-1])), dims=-1)[None]
        pitch = PITCHES[int(rng.integers(6))]
        return equirect_to_perspective(panorama, self.size, self.size, 90.0, pitch_deg=pitch)[0].clamp(0, 1)
