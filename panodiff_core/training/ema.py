"""An exponential moving average of a module's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Keeps float32 averages of every trainable parameter of `module`.

    The decay warms up as (1 + n) / (10 + n), n updates so far, and is capped at `decay`, so that early averages are
    not dominated by the random start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.shadow: dict[str, Tensor] = {
            name: p.detach().float().clone() for name, p in module.named_parameters() if p.requires_grad
        }

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the averages towards the module's present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = dict(module.named_parameters())
        shadow = list(self.shadow.values())
        now = [weights[name].detach().float() for name in self.shadow]
        torch._foreach_lerp_(shadow, now, 1.0 - decay)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[nn.Module]:
        """Lend the averages to `module` for the length of the context; its own weights come back exactly."""
        weights = dict(module.named_parameters())
        own = {name: weights[name].data for name in self.shadow}
        try:
            for name, average in self.shadow.items():
                weights[name].data = average.to(own[name].dtype, copy=True)
            yield module
        finally:
            for name, data in own.items():
                weights[name].data = data
