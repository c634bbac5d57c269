"""From a picture instead of from noise: image to image by strength, and inpainting on the ring.

Both are ours; the reference has neither (dit360 spec, section 7.6). With n steps and strength s, sampling begins
before step k = int(n − min(n·s, n)) from σ_k·ε + (1 − σ_k)·z₀: the steps before it are skipped, the noise levels
stay. (ComfyUI's `denoise` lays a longer schedule instead.) With a mask m, 1 = regenerate, every step's result x
becomes m·x + (1 − m)·(σ·ε + (1 − σ)·z₀) at the level σ it reached, so that the last one keeps z₀ itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ....runtime.errors import InputError
from ....schedulers.flow_matching import FlowMatchScheduler

Keep = Callable[[Tensor, float], Tensor]
"""(state, the σ it has) → the state with the kept places put back."""


def keep_nothing(state: Tensor, sigma: float) -> Tensor:
    """A `Keep` without a mask: the state itself."""
    return state


@dataclass(frozen=True)
class SourceImage:
    """A picture to start from: scaled latents [B, C, h, w] of the noise's shape, a strength in (0, 1], and a mask
    [B, 1, h, w] in 0..1 (1 = regenerate) or None.
    """

    latents: Tensor
    strength: float = 1.0
    mask: Tensor | None = None

    def first_step(self, steps: int) -> int:
        """The step of `steps` to begin with."""
        return int(max(steps - min(steps * self.strength, steps), 0.0))

    def to(self, device: torch.device) -> SourceImage:
        """The same on another device."""
        mask = None if self.mask is None else self.mask.to(device)
        return SourceImage(self.latents.to(device), self.strength, mask)

    def begin(self, scheduler: FlowMatchScheduler, noise: Tensor) -> Tensor:
        """The noisy latents [B, C, h, w] that the first step takes."""
        sigma = scheduler.sigma(self.first_step(scheduler.steps))
        return scheduler.add_noise(self.latents, noise, sigma)

    def keeper(self, noise: Tensor, enter: Callable[[Tensor], Tensor]) -> Keep:
        """What to do with the state after every step; `enter` lays latents [B, C, h, w] as the state lies."""
        if self.mask is None:
            return keep_nothing
        clean, noise, mask = (enter(x) for x in (self.latents, noise, self.mask.expand_as(self.latents)))

        def keep(state: Tensor, sigma: float) -> Tensor:
            return torch.lerp(FlowMatchScheduler.add_noise(clean, noise, sigma), state, mask)

        return keep


def read_source(
    latents: Tensor | None, strength: float, mask: Tensor | None, shape: torch.Size, steps: int
) -> SourceImage | None:
    """What a caller gives to start from, completed to the noise's `shape` [B, C, h, w]; None for pure noise.

    `latents` are [B or 1, C, h, w], `mask` [B or 1, 1, h, w]. Raises InputError for what contradicts itself or the
    shape, and for a strength that leaves none of the `steps`.
    """
    number = isinstance(strength, (int, float)) and not isinstance(strength, bool)
    if not number or not 0.0 < strength <= 1.0:
        raise InputError(f"strength must be above 0 and at most 1, got {strength!r}")
    if latents is None:
        if mask is not None or strength != 1.0:
            given = "a mask" if mask is not None else f"strength {strength:g}"
            raise InputError(f"{given} was given without image_latents: there is no picture to start from")
        return None
    _check("image_latents", latents, shape)
    if mask is not None:
        _check("mask", mask, (shape[0], 1, *shape[2:]))
        if mask.min() < 0.0 or mask.max() > 1.0:
            raise InputError("mask must lie in 0..1; 1 regenerates, 0 keeps the picture")
        mask = mask.float().expand(shape[0], -1, -1, -1)
    source = SourceImage(latents.float().expand(shape), float(strength), mask)
    if source.first_step(steps) == steps:
        raise InputError(f"strength {strength:g} leaves none of {steps} steps: raise strength or steps")
    return source


def _check(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    batch, *rest = shape
    if x.ndim != 4 or list(x.shape[1:]) != rest or len(x) not in (1, batch):
        rows = "1" if batch == 1 else f"{batch} or 1"
        raise InputError(f"{name} must be [{rows}, {', '.join(map(str, rest))}], got {list(x.shape)}")
    if not torch.isfinite(x).all():
        raise InputError(f"{name} has NaN or infinite values")
