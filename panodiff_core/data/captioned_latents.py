"""Batches of latents, turned by a random yaw, with a fresh caption of the turned scene."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..layers.ring import PATCH
from .captions import token_ids
from .latents import LatentCache
from .worlds import caption, sample_scene


class CaptionedLatents(Dataset):
    """Batch i depends on (seed, i) alone: {"latents": [B, 16, h, w], "clip": ids, "t5": ids}.

    Every epoch visits all scenes once in a new order, those of a place in `repeat` (place → times) so many times: a room
    has attributes that no other place teaches. Each latent is rolled by a random number of whole tokens
    (exact, as the encoder is ring-aware) and its scene rotated by the same angle before the caption is written:
    captions speak of where the light stands. A share `dropout` of the captions is empty, for guidance;
    `name_often` (attribute → share) has some attributes stated in that share of the captions whatever else is said.
    """

    def __init__(
        self,
        cache: LatentCache,
        tokenizer: Any,
        tokenizer_2: Any,
        batch_size: int,
        seed: int,
        dropout: float = 0.1,
        repeat: Mapping[str, int] | None = None,
        name_often: Mapping[str, float] | None = None,
    ) -> None:
        self.cache, self.batch_size, self.seed = cache, batch_size, seed
        self.dropout, self.name_often = dropout, dict(name_often or {})
        self.tokenizer, self.tokenizer_2 = tokenizer, tokenizer_2
        self._entries = [i for i in range(len(cache)) for _ in range(self._times(i, repeat or {}))]
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        latents, texts = [], []
        for position in range(index * self.batch_size, (index + 1) * self.batch_size):
            latent, text = self._sample(self._entry(position), rng)
            latents.append(latent)
            texts.append(text)
        return {
            "latents": torch.stack(latents).float(),
            "clip": token_ids(self.tokenizer, texts),
            "t5": token_ids(self.tokenizer_2, texts),
        }

    def _times(self, entry: int, repeat: Mapping[str, int]) -> int:
        return repeat.get(sample_scene(self.cache.seed(entry), split=self.cache.split)["place"], 1)

    def _entry(self, position: int) -> int:
        epoch, place = divmod(position, len(self._entries))
        if self._order[0] != epoch:
            order = np.random.default_rng([self.seed, 0xE90C, epoch]).permutation(len(self._entries))
            self._order = (epoch, order)
        return self._entries[int(self._order[1][place])]

    def _sample(self, entry: int, rng: np.random.Generator) -> tuple[Tensor, str]:
        latent = self.cache.latents[entry]
        columns = latent.shape[-1] // PATCH
        turn = int(rng.integers(columns))
        scene = sample_scene(self.cache.seed(entry), split=self.cache.split).rotated(360.0 * turn / columns)
        always = [name for name, share in self.name_often.items() if rng.random() < share]
        text = caption(scene, int(rng.integers(2**31)), always=always).text
        text = "" if rng.random() < self.dropout else text
        return torch.roll(latent, PATCH * turn, dims=-1), text
