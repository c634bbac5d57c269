"""Captions as tokens with the attributes that they state, for training text encoders."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..conditioning.text import token_ids
from .worlds import ATTRIBUTES, caption, sample_scene

UNSPECIFIED = 0


def caption_classes() -> dict[str, int]:
    """Attribute → number of classes of a caption: its values and "not stated" (class 0)."""
    return {name: len(values) + 1 for name, values in ATTRIBUTES.items()}


def caption_targets(mentioned: dict[str, str]) -> list[int]:
    """Class per attribute in the order of `caption_classes`."""
    return [
        ATTRIBUTES[name].index(mentioned[name]) + 1 if name in mentioned else UNSPECIFIED
        for name in ATTRIBUTES
    ]


class CaptionBatches(Dataset):
    """Batch i depends on (seed, i) alone: {"clip": ids [B, L], "t5": ids [B, L], "targets": classes [B, A]}.

    A share of the captions gets unknown words sprinkled in, as people's prompts will, and a few are empty.
    """

    def __init__(
        self, tokenizer: Any, tokenizer_2: Any, batch_size: int, seed: int, split: str = "train"
    ) -> None:
        self.tokenizer, self.tokenizer_2 = tokenizer, tokenizer_2
        self.batch_size, self.seed, self.split = batch_size, seed, split

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        texts, targets = [], []
        for _ in range(self.batch_size):
            scene = sample_scene(int(rng.integers(2**31)), split=self.split).rotated(
                float(rng.uniform(0, 360))
            )
            said = caption(scene, int(rng.integers(2**31)))
            text, mentioned = said.text, said.mentioned
            if rng.random() < 0.02:
                text, mentioned = "", {}
            elif rng.random() < 0.2:
                text = _sprinkle(text, rng)
            texts.append(text)
            targets.append(caption_targets(mentioned))
        return {
            "clip": token_ids(self.tokenizer, texts),
            "t5": token_ids(self.tokenizer_2, texts),
            "targets": torch.tensor(targets),
        }


def _sprinkle(text: str, rng: np.random.Generator) -> str:
    words = text.split(" ")
    for _ in range(int(rng.integers(1, 4))):
        words.insert(int(rng.integers(len(words) + 1)), "<unk>")
    return " ".join(words)
