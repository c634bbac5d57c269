"""The scales of a next-scale model: token grids of growing side, laid one after the other in one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

from .config import check_sides


class Scales:
    """A scale list such as 1, 2, 3, 4, 6, 8, as every part of the model needs it.

    `sides`: tokens per axis of each scale. `lengths`: tokens of each scale. `offsets`: where each scale begins in the
    whole sequence. `total`: tokens of all scales. Raises InputError unless the sides begin with 1 and grow.
    """

    def __init__(self, sides: Sequence[int]) -> None:
        self.sides = check_sides(sides)
        self.lengths = tuple(side * side for side in self.sides)
        ends = tuple(accumulate(self.lengths))
        self.offsets = (0, *ends[:-1])
        self.total = ends[-1]

    def __len__(self) -> int:
        """Number of scales."""
        return len(self.sides)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scales) and other.sides == self.sides

    def __hash__(self) -> int:
        return hash(self.sides)

    def __repr__(self) -> str:
        return f"Scales({self.sides})"

    @property
    def last_side(self) -> int:
        """Side of the finest scale, which is that of the latents."""
        return self.sides[-1]

    def slice(self, scale: int) -> slice:
        """Where a scale lies in the whole sequence."""
        return slice(self.offsets[scale], self.offsets[scale] + self.lengths[scale])

    def phi(self, k_convs: int = 4) -> tuple[int, ...]:
        """Which of `k_convs` shared convolutions smooths each scale: the one whose tick is nearest to s/(S−1).

        In float64: 3 of 10 scales, and others, are exact ties that rounding decides, as in the reference (VAR's
        partially shared quantizer residuals; ticks by numpy's linspace).
        """
        return _phi(len(self.sides), k_convs)


def ticks(k_convs: int) -> tuple[float, ...]:
    """Positions of the shared convolutions in 0..1: from 1/12 to 11/12 for four, from 1/(2K) on for other K.

    Rounded as numpy.linspace rounds: start + i·step, and the end as it is.
    """
    first = 1 / 3 / k_convs if k_convs == 4 else 1 / 2 / k_convs
    if k_convs == 1:
        return (first,)
    last = 1 - first
    step = (last - first) / (k_convs - 1)
    return (*(i * step + first for i in range(k_convs - 1)), last)


@lru_cache
def _phi(scales: int, k_convs: int) -> tuple[int, ...]:
    marks = ticks(k_convs)
    positions = (s / max(1, scales - 1) for s in range(scales))
    return tuple(min(range(k_convs), key=lambda k: abs(marks[k] - at)) for at in positions)
