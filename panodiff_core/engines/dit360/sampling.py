"""The sampling loop of DiT360: from noise to latents on a ring.

Without roll the ring padding is laid once and stays for the whole trajectory, as in the reference; its
columns remain exact copies. With roll the ring is turned before every call, so the padding is laid anew for
each call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...layers.ring import pack, unpack
from ...runtime.errors import NumericalError
from ...runtime.progress import OnStep, Step
from ...schedulers.flow_matching import FlowMatchScheduler
from .config import SamplingOptions
from .model import RingGrid

Predict = Callable[[Tensor, float], Tensor]
SEED_SALT = 0x9E3779B97F4A7C15
"""Keeps the roll offsets independent of the noise that the same seed draws."""


def sample_ring(
    scheduler: FlowMatchScheduler,
    predict: Predict,
    grid: RingGrid,
    noise: Tensor,
    *,
    offsets: tuple[int, ...] | None = None,
    solver: str = "euler",
    on_step: OnStep | None = None,
) -> Tensor:
    """Integrate from `noise` [B, C, h, w] float32 to latents of the same shape.

    `predict(tokens, σ)` gives the velocity of padded tokens; `offsets` are token columns to roll per step, or
    None. Raises NumericalError naming the step at which a value stopped being finite, and whatever `on_step`
    raises.
    """
    rolling = offsets is not None
    state = pack(noise) if rolling else grid.enter(noise)
    watch = FiniteWatch(scheduler.steps)

    def view(tokens: Tensor) -> Tensor:
        return unpack(tokens, grid.height, grid.width) if rolling else grid.leave(tokens)

    for index in range(scheduler.steps):
        call = _rolled(predict, grid, offsets[index]) if rolling else predict
        sigma, after = scheduler.sigma(index), scheduler.sigma(index + 1)
        velocity = call(state, sigma)
        before, state = state, scheduler.step(velocity, index, state)
        if solver == "heun" and after > 0.0:
            state = scheduler.heun_step(velocity, call(state, after), index, before)
        watch.look(index + 1, state)
        if on_step is not None:
            denoised = view(scheduler.denoised(before, velocity, sigma))
            on_step(Step(index + 1, scheduler.steps, after, view(state), denoised))
    watch.finish()
    return view(state)


def lay_noise_levels(
    scheduler: FlowMatchScheduler, options: SamplingOptions, grid: RingGrid, sigmas: Sequence[float] | None
) -> None:
    """Set the noise levels that `options` ask for; `sigmas` replaces their steps and grid, and is shifted too.

    The shift follows the tokens that enter the network, with or without the padding columns, or is a number.
    """
    tokens = grid.rows * grid.columns if options.mu == "unpadded" else grid.tokens
    mu = scheduler.mu(tokens) if isinstance(options.mu, str) else options.mu
    scheduler.set_timesteps(options.steps, mu, options.grid, sigmas)


def _rolled(predict: Predict, grid: RingGrid, offset: int) -> Predict:
    return lambda tokens, sigma: grid.crop(predict(grid.pad(tokens, offset), sigma), offset)


def roll_offsets(roll: str | tuple[int, ...], steps: int, columns: int, seed: int) -> tuple[int, ...] | None:
    """Token columns to roll before each of `steps` calls, or None for "off" (see `SamplingOptions.roll`)."""
    if roll == "off":
        return None
    if roll in ("alternate", "late"):
        first = steps // 2 if roll == "late" else 0
        return tuple((index % 2) * (columns // 2) if index >= first else 0 for index in range(steps))
    if roll == "random":
        generator = torch.Generator().manual_seed((seed ^ SEED_SALT) & (2**63 - 1))
        return tuple(torch.randint(columns, (steps,), generator=generator).tolist())
    return tuple(roll)


def draw_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal noise, float32, drawn on the CPU in one go: the same picture on every device, and the
    noise that ComfyUI's samplers draw for this seed.
    """
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


class FiniteWatch:
    """Notices NaN and infinity one step late, so that the host never waits for the step just queued."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._pending: tuple[int, Tensor] | None = None

    def look(self, step: int, state: Tensor) -> None:
        """Queue the test of `state` after `step`, and read that of the step before."""
        flag = torch.isfinite(state).all()
        self.finish()
        self._pending = (step, flag)

    def finish(self) -> None:
        """Read the last test. Raises NumericalError."""
        if self._pending is not None and not self._pending[1].item():
            raise NumericalError(
                "NaN or infinity in the latents, stage transformer, "
                f"step {self._pending[0]} of {self.total}: use bfloat16 or float32, "
                "a guidance in the model's range, or check the weights"
            )
        self._pending = None
