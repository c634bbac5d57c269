"""How the benchmarks sum up repeated measurements."""

from __future__ import annotations

import numpy as np


def interval(values: list[float], draws: int = 2000) -> dict[str, float]:
    """Median with its 95 % bootstrap interval, in the unit of the values."""
    sample = np.random.default_rng(0).choice(values, (draws, len(values)))
    low, high = np.percentile(np.median(sample, axis=1), [2.5, 97.5])
    return {"median": float(np.median(values)), "low": float(low), "high": float(high)}
