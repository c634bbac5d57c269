"""The knobs of a training run that do not depend on what is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ..runtime.errors import InputError

SCHEDULES = ("cosine", "constant")
PRECISIONS = ("no", "bf16", "fp16")
_LEAST = {
    "steps": 1,
    "seed": 0,
    "grad_accumulation": 1,
    "keep": 1,
    "log_every": 1,
    "checkpoint_every": 1,
    "picture_every": 0,
    "warmup": 0,
    "workers": 0,
    "grad_clip": 0,
}


@dataclass(frozen=True)
class LoopConfig:
    """How long, how fast and how safely to train.

    `steps` counts optimizer steps from the very beginning, also across resumes. `minutes` limits one sitting: the run
    stops cleanly with a checkpoint and continues when started again. `learning_rate` belongs to the first optimizer
    group of the recipe; other groups keep their ratio to it. `ema_decay` 0 switches the moving average off.
    `grad_clip` 0 switches clipping off.
    """

    out: Path
    steps: int
    seed: int = 0
    learning_rate: float = 1e-3
    warmup: int = 100
    schedule: str = "cosine"
    final_lr_ratio: float = 0.02
    grad_accumulation: int = 1
    grad_clip: float = 1.0
    ema_decay: float = 0.999
    precision: str = "bf16"
    log_every: int = 20
    picture_every: int = 500
    checkpoint_every: int = 500
    keep: int = 2
    minutes: float | None = None
    workers: int = 0
    init: Path | None = None
    channels_last: bool = False

    def __post_init__(self) -> None:
        """Raises InputError naming the first option that makes no sense."""
        for name, low in _LEAST.items():
            self._check(name, getattr(self, name) >= low, f"must be at least {low}")
        for name, known in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            self._check(name, getattr(self, name) in known, f"must be one of {', '.join(known)}")
        rate = self.learning_rate
        self._check("learning_rate", math.isfinite(rate) and rate > 0.0, "must be positive and finite")
        self._check("final_lr_ratio", 0.0 <= self.final_lr_ratio <= 1.0, "must lie in 0..1")
        self._check("ema_decay", 0.0 <= self.ema_decay < 1.0, "must lie in 0..1 (1 excluded)")
        self._check("minutes", self.minutes is None or self.minutes > 0.0, "must be positive")

    def _check(self, name: str, fine: bool, rule: str) -> None:
        if not fine:
            raise InputError(f"{name} (--{name.replace('_', '-')}) {rule}, not {getattr(self, name)!r}")
