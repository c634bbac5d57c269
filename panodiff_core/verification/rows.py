"""What a comparison with golden vectors yields: rows of errors and bounds, or the name of what is missing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """One comparison: the group it belongs to, what was compared, the largest absolute error and its bound.

    `error` is infinite where shapes differ. `above` marks a negative control: something wrong on purpose, whose error
    must exceed the bound.
    """

    test: str
    what: str
    error: float
    bound: float
    above: bool = False

    @property
    def met(self) -> bool:
        """Whether the error keeps the bound, or exceeds it in a negative control; NaN never does."""
        return self.error > self.bound if self.above else self.error <= self.bound


@dataclass(frozen=True)
class Absent:
    """A group that could not be measured because the folder lacks a file."""

    title: str
    file: str


def failed(test: str, why: str) -> Row:
    """The row of a comparison that could not be made."""
    return Row(test, why, float("inf"), 0.0)


def compare(test: str, what: str, got: Tensor, expected: Tensor, bound: float) -> Row:
    """The row of one tensor against its golden counterpart: the largest absolute difference may reach `bound`.

    Equal infinities differ by nothing; NaN on either side meets no bound.
    """
    if got.shape != expected.shape:
        return Row(test, f"{what}: shape {list(got.shape)}, not {list(expected.shape)}", float("inf"), bound)
    got, expected = got.detach().cpu().double(), expected.detach().cpu().double()
    difference = torch.where(got == expected, 0.0, (got - expected).abs())
    return Row(test, what, difference.max().item() if difference.numel() else 0.0, bound)


def compare_scaled(
    test: str, what: str, got: Tensor, expected: Tensor, relative: float = 1e-4, bound: float | None = None
) -> Row:
    """The row of one tensor whose numbers may be large: integers and truth values exact, floats within
    relative · (1 + max |expected|), or within `bound` where that is tighter.

    The maximum goes over the finite numbers of the golden tensor.
    """
    if not expected.is_floating_point():
        return compare(test, what, got, expected, 0.0)
    finite = expected[expected.isfinite()].double().abs()
    scaled = relative * (1.0 + (finite.max().item() if finite.numel() else 0.0))
    return compare(test, what, got, expected, scaled if bound is None else min(scaled, bound))
