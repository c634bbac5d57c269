"""Which tokens a call of the blocks holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Token grids laid one after the other: `scales` names the scale of each, after `leading` text tokens.

    The generator taught with all scales is (0, 1, … S−1), one step of inference (s,), the masked sampler of a picture
    (s,) with one leading token, and that of a cubemap six times s with one leading token.
    """

    scales: tuple[int, ...]
    leading: int = 0
