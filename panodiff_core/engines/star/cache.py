"""Keys and values of the scales that are already there, in memory taken once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ...layers.attention import Attention
from .scales import Scales


class KVCache:
    """Room for all scales of `rows` rows in every block: 2·layers·rows·L·width numbers, taken at once and never moved.

    Holds rotated keys of unit length, as attention takes them.
    """

    def __init__(
        self,
        scales: Scales,
        layers: int,
        rows: int,
        heads: int,
        head_dim: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        self.scales, self.layers = scales, layers
        shape = (layers, 2, rows, heads, scales.total, head_dim)
        self.memory = torch.empty(shape, dtype=dtype, device=device)

    def attends(
        self, scale: int, attention: Attention, rows: slice = slice(None)
    ) -> Iterator[CachedAttention]:
        """For each block in turn the self-attention of `scale` in some rows: keeps its keys and values, and sees them
        with those of the coarser scales.
        """
        place = self.scales.slice(scale)
        for layer in range(self.layers):
            yield CachedAttention(*self.memory[layer, :, rows, :, : place.stop], place, attention)


class CachedAttention:
    """Attention of one block's new tokens, whose keys and values go into the cache, to all that are there."""

    def __init__(self, keys: Tensor, values: Tensor, place: slice, attention: Attention) -> None:
        self.keys, self.values, self.place, self.attention = keys, values, place, attention

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.keys[:, :, self.place] = k
        self.values[:, :, self.place] = v
        return self.attention(q, self.keys, self.values)

    def part(self, rows: slice) -> CachedAttention:
        """That of some of the rows."""
        return CachedAttention(self.keys[rows], self.values[rows], self.place, self.attention)


def cache_bytes(scales: Scales, layers: int, rows: int, width: int, itemsize: int) -> int:
    """What a `KVCache` takes."""
    return 2 * layers * rows * scales.total * width * itemsize
