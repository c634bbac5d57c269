"""Batches of panorama crops for training an autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .panoramas import PanoramaCache


@dataclass(frozen=True)
class CropPlan:
    """One kind of batch: `count` crops of `height` × `width` pixels, drawn with probability ∝ `weight`.

    A crop as large as the panorama is a full panorama with a random yaw.
    """

    height: int
    width: int
    count: int
    weight: float


class CropBatches(Dataset):
    """Batch i depends on (seed, i) alone: {"pixels": float [B, 3, h, w] in −1..1, "ring": bool []}.

    Every crop takes a random panorama, a random yaw (columns wrap) and a random latitude, and is mirrored half of the
    time. `ring` says that the crop spans all columns, so that the network must wrap as well.
    """

    def __init__(self, cache: PanoramaCache, plans: tuple[CropPlan, ...], seed: int) -> None:
        self.cache, self.plans, self.seed = cache, plans, seed
        weights = np.array([plan.weight for plan in plans], dtype=np.float64)
        self._cumulative = np.cumsum(weights / weights.sum())

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        plan = self.plans[int(np.searchsorted(self._cumulative, rng.random(), side="right"))]
        pixels = np.stack([self._crop(rng, plan) for _ in range(plan.count)])
        ring = plan.width == 2 * self.cache.height
        return {"pixels": torch.from_numpy(pixels).float() / 127.5 - 1.0, "ring": torch.tensor(ring)}

    def _crop(self, rng: np.random.Generator, plan: CropPlan) -> np.ndarray:
        panorama = self.cache.array(int(rng.integers(len(self.cache))))
        top = int(rng.integers(self.cache.height - plan.height + 1))
        columns = (int(rng.integers(panorama.shape[2])) + np.arange(plan.width)) % panorama.shape[2]
        crop = panorama[:, top : top + plan.height][:, :, columns]
        return crop[:, :, ::-1] if rng.random() < 0.5 else crop
