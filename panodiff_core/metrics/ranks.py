"""Is the wrap column an outlier among the columns? A test over many pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy

from ..runtime.errors import InputError

MIN_PICTURES = 8


def wrap_rank_p_value(ranks: Iterable[float]) -> float:
    """p value of the two-sided one-sample Kolmogorov-Smirnov test of the ranks against the uniform
    distribution.

    `ranks` are fractions 0..1, one per picture (`wrap_rank`). Where the seam is a column like any other, its
    rank is uniform; a cut gathers the ranks at 1, a blur at 0, and a mixture of both empties the middle: each
    moves the distribution function away from the diagonal, and p becomes small. The p value is Kolmogorov's
    series with Stephens' correction for finite n (J. R. Statist. Soc. B 32, 1970, p. 115), within 0.01 of the
    exact one from 8 pictures on; fewer raise `InputError`, as do values outside 0..1.
    """
    values = numpy.sort(numpy.asarray(list(ranks), dtype=numpy.float64))
    count = values.size
    if count < MIN_PICTURES:
        raise InputError(f"the rank test needs at least {MIN_PICTURES} pictures, got {count}.")
    if not numpy.all((values >= 0) & (values <= 1)):
        raise InputError("ranks must be fractions between 0 and 1.")
    above = numpy.arange(1, count + 1) / count - values
    below = values - numpy.arange(count) / count
    largest = float(max(above.max(), below.max()))
    root = math.sqrt(count)
    return _kolmogorov_tail((root + 0.12 + 0.11 / root) * largest)


def _kolmogorov_tail(value: float) -> float:
    """P(K > value) of Kolmogorov's limit distribution."""
    if value < 0.2:
        return 1.0
    terms = ((-1.0) ** (k - 1) * math.exp(-2.0 * k * k * value * value) for k in range(1, 101))
    return min(1.0, max(0.0, 2.0 * sum(terms)))
