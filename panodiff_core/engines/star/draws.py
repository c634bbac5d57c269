"""Random numbers of a generation: drawn on the CPU, a stream of its own for each picture or cube."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class RandomSource(Protocol):
    """Where numbers come from; rows are pictures, or the faces of cubes."""

    def tokens(self, count: int) -> Tensor:
        """One uniform number in [0, 1) for each of `count` tokens of every row, to draw its code [B, count]."""

    def confidences(self, count: int) -> Tensor:
        """The same, to choose which tokens a step of the masked sampler commits [B, count]."""

    def mixtures(self, count: int, vocab: int) -> Tensor:
        """Exp(1) numbers for every token and code [B, count, vocab]."""


class SeededDraws:
    """Numbers of `units` pictures or cubes of `group` rows each: unit i has the numbers of seed + i, so that a picture
    of a batch can be made again alone.
    """

    def __init__(self, seed: int, units: int, group: int = 1) -> None:
        self.group = group
        self.streams = [torch.Generator().manual_seed((seed + unit) % 2**64) for unit in range(units)]

    def tokens(self, count: int) -> Tensor:
        """See `RandomSource`."""
        return torch.cat([torch.rand(self.group, count, generator=stream) for stream in self.streams])

    def confidences(self, count: int) -> Tensor:
        """See `RandomSource`."""
        return self.tokens(count)

    def mixtures(self, count: int, vocab: int) -> Tensor:
        """See `RandomSource`."""
        shape = (self.group, count, vocab)
        return torch.cat([torch.empty(shape).exponential_(generator=stream) for stream in self.streams])
