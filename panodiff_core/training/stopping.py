"""How a run ends before its last step: at a signal or the time limit, in all processes after the same step."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether one run should end: after SIGTERM or Ctrl-C, or `minutes` from now (None: no limit).

    `reason` says why, and is None while the run goes on.
    """

    def __init__(self, minutes: float | None) -> None:
        self.reason: str | None = None
        self._deadline = math.inf if minutes is None else time.monotonic() + 60.0 * minutes

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While open, signals ask for an end instead of ending the process; the old handlers come back."""
        try:
            old = {number: signal.signal(number, self._ask) for number in SIGNALS}
        except ValueError:  # not the main thread: the caller's own handlers stay in charge
            old = {}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def asked(self, accelerator: Accelerator) -> bool:
        """Whether to end after this step; all processes get the same answer."""
        if self.reason is None and time.monotonic() >= self._deadline:
            self.reason = "time limit"
        stop = self.reason is not None
        if accelerator.num_processes > 1:
            flag = torch.tensor(float(stop), device=accelerator.device)
            stop = bool(accelerator.reduce(flag, reduction="sum") > 0)
        return stop

    def _ask(self, number: int, _frame: object) -> None:
        self.reason = signal.Signals(number).name


def ignore_signals(_worker: int) -> None:
    """Let data processes outlive a signal to the whole group: the trainer still needs them to reach its checkpoint."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
