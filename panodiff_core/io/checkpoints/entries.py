"""A tensor that lies in a file: known by its shape, read only when it is needed, whole or by rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...runtime.float8 import FLOAT8


@dataclass(frozen=True)
class Entry:
    """One tensor, not yet read.

    `dtype` is the element type in which `read` gives it: that of the file, or float32 where the file holds blocks or
    scaled numbers. `read_rows(start, stop)` reads a range of the first axis; a scalar ignores it. `origin` names file
    and tensor in messages. `factors` are the file's own numbers in 8 bits and their scale, where it holds such a pair.
    `finite_rows(start, stop)` says whether a range is free of NaN and infinities without keeping it in memory; None
    where only reading tells.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    origin: str
    read_rows: Callable[[int, int], Tensor]
    factors: tuple[Entry, Entry] | None = None
    finite_rows: Callable[[int, int], bool] | None = None

    @property
    def is_float8(self) -> bool:
        """Whether the file holds 8-bit floats here, with a scale or without."""
        return self.factors is not None or self.dtype in FLOAT8

    def read(self) -> Tensor:
        """The whole tensor, on the CPU."""
        return self.read_rows(0, self.shape[0] if self.shape else 1)

    def is_finite(self, tensor: Tensor) -> bool:
        """Whether the file has no NaN and no infinity here; `tensor` is what `read` gave."""
        if self.finite_rows is None:
            return all_finite(tensor)
        return self.finite_rows(0, self.shape[0] if self.shape else 1)

    def rows(self, start: int, stop: int) -> Entry:
        """A range of the first axis."""
        finite = self.finite_rows
        factors = None
        if self.factors is not None:
            numbers, scale = self.factors
            factors = (numbers.rows(start, stop), scale.rows(start, stop) if _per_row(scale) else scale)
        return Entry(
            (stop - start, *self.shape[1:]),
            self.dtype,
            self.origin,
            lambda low, high: self.read_rows(start + low, start + high),
            factors,
            finite and (lambda low, high: finite(start + low, start + high)),
        )

    def squeezed(self) -> Entry:
        """Without the trailing axes of length one: the kernel of a 1×1 convolution as a matrix."""
        shape = self.shape
        while len(shape) > 2 and shape[-1] == 1:
            shape = shape[:-1]
        return Entry(
            shape,
            self.dtype,
            self.origin,
            lambda low, high: self.read_rows(low, high).reshape(-1, *shape[1:]),
            finite_rows=self.finite_rows,
        )

    def scaled(self, scale: Entry) -> Entry:
        """Times a factor, one for all or one per row, in float32."""

        def read_rows(low: int, high: int) -> Tensor:
            factor = (scale.rows(low, high) if _per_row(scale) else scale).read().float()
            return self.read_rows(low, high).float() * factor.reshape(-1, *[1] * (len(self.shape) - 1))

        return Entry(self.shape, torch.float32, self.origin, read_rows, (self, scale))


def all_finite(tensor: Tensor) -> bool:
    """Whether a floating-point tensor has no NaN and no infinity."""
    if tensor.numel() == 0:
        return True
    if tensor.dtype.itemsize == 1:  # no reduction is written for 8-bit floats
        tensor = tensor.to(torch.bfloat16)
    low, high = torch.aminmax(tensor)  # one pass, nothing allocated; NaN wins in both
    return math.isfinite(low.item()) and math.isfinite(high.item())


def _per_row(scale: Entry) -> bool:
    return math.prod(scale.shape) > 1


def joined(parts: Sequence[Entry]) -> Entry:
    """Entries one after the other along the first axis; they are read whole."""
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])

    def read_rows(low: int, high: int) -> Tensor:
        return torch.cat([part.read() for part in parts])[low:high]

    return Entry(shape, parts[0].dtype, parts[0].origin, read_rows)


Weights = Mapping[str, Entry]
"""The tensors of one model by name."""


def with_prefix_removed(weights: Weights, prefix: str) -> dict[str, Entry]:
    """The entries whose name starts with `prefix`, under the rest of their name."""
    return {name.removeprefix(prefix): entry for name, entry in weights.items() if name.startswith(prefix)}
