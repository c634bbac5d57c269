"""Learning rate as a function of the step alone, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math


def lr_factor(step: int, *, steps: int, warmup: int, schedule: str, final_ratio: float) -> float:
    """Factor on the base learning rate at optimizer step `step` (0-based) of `steps`.

    Rises linearly over `warmup` steps, then stays 1 ("constant") or falls along half a cosine to `final_ratio`.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return final_ratio + (1.0 - final_ratio) * 0.5 * (1.0 + math.cos(math.pi * progress))
