"""The sampling loop of DiT360: from noise, or a noisy picture, to latents on a ring.

Without roll the ring padding is laid once and stays for the whole trajectory, as in the reference; its
columns remain exact copies. With roll the ring is turned before every call, so the padding is laid anew for
each call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ....layers.ring import pack, unpack
from ....runtime.errors import NumericalError
from ....runtime.progress import OnStep, Step
from ....schedulers.flow_matching import FlowMatchScheduler
from ..config import SamplingOptions
from ..model import RingGrid
from .image_to_image import SourceImage, keep_nothing

log = logging.getLogger(__name__)

TRAINED_TOKENS = 64 * (128 + 2)
"""Of 2048×1024 pixels with one column of padding at either end, the size that DiT360 was trained for."""

Predict = Callable[[Tensor, float], Tensor]
"""(tokens, σ) → their velocity."""


def lay_noise_levels(
    scheduler: FlowMatchScheduler, options: SamplingOptions, grid: RingGrid, sigmas: Sequence[float] | None
) -> None:
    """Set the noise levels that `options` ask for; `sigmas` replaces their steps and grid, and is shifted too.

    The shift follows the tokens that enter the network, with or without the padding columns, or is a number.
    """
    mu = shift_exponent(scheduler, options.mu, grid) if isinstance(options.mu, str) else options.mu
    scheduler.set_timesteps(options.steps, mu, options.grid, sigmas)


def shift_exponent(scheduler: FlowMatchScheduler, rule: str, grid: RingGrid) -> float:
    """μ by the "padded" or "unpadded" number of tokens of `grid`. Warns where there are more than anybody trained for:
    the line goes on, and soon leaves nearly all steps to the highest noise.
    """
    tokens = grid.rows * grid.columns if rule == "unpadded" else grid.tokens
    mu = scheduler.mu(tokens)
    if tokens > TRAINED_TOKENS and scheduler.config.use_dynamic_shifting:
        log.warning(
            "%d tokens are more than the %d of DiT360's training, and shift the noise levels by mu = %.2f: set mu to %.3f "
            "(in ComfyUI shift fixed), or make 2048x1024 and enlarge it with a second pass",
            tokens, TRAINED_TOKENS, mu, scheduler.mu(TRAINED_TOKENS),
        )  # fmt: skip
    return mu


def sample_ring(
    scheduler: FlowMatchScheduler,
    predict: Predict,
    grid: RingGrid,
    noise: Tensor,
    *,
    source: SourceImage | None = None,
    offsets: tuple[int, ...] | None = None,
    solver: str = "euler",
    on_step: OnStep | None = None,
    on_turn: Callable[[int], None] | None = None,
) -> Tensor:
    """Integrate from `noise` [B, C, h, w] float32 to latents of the same shape.

    `predict(tokens, σ)` gives the velocity of padded tokens; `source` is a picture to start from (see
    `image_to_image`), whose skipped steps are not counted; `offsets` are token columns to roll per step of the
    whole schedule, or None; `on_turn` is told each before its step. Raises NumericalError naming the step at
    which a value stopped being finite, and whatever `on_step` raises.
    """
    ring = _Ring(predict, grid, offsets, on_turn)
    first = 0 if source is None else source.first_step(scheduler.steps)
    state = ring.enter(noise if source is None else source.begin(scheduler, noise))
    keep = keep_nothing if source is None else source.keeper(noise, ring.enter)
    total = scheduler.steps - first
    watch = FiniteWatch(total)
    for index in range(first, scheduler.steps):
        call = ring.predict_at(index)
        sigma, after = scheduler.sigma(index), scheduler.sigma(index + 1)
        velocity = call(state, sigma)
        before, state = state, scheduler.step(velocity, index, state)
        if solver == "heun" and after > 0.0:
            state = scheduler.heun_step(velocity, call(state, after), index, before)
        state = keep(state, after)
        watch.look(index - first + 1, state)
        if on_step is not None:
            denoised = keep(scheduler.denoised(before, velocity, sigma), 0.0)
            on_step(Step(index - first + 1, total, after, ring.leave(state), ring.leave(denoised)))
    watch.finish()
    return ring.leave(state)


class _Ring:
    """How the state lies between steps: padded tokens, or plain ones where the ring turns before every call."""

    def __init__(
        self,
        predict: Predict,
        grid: RingGrid,
        offsets: tuple[int, ...] | None,
        on_turn: Callable[[int], None] | None,
    ) -> None:
        self.predict, self.grid, self.offsets, self.on_turn = predict, grid, offsets, on_turn

    def enter(self, latents: Tensor) -> Tensor:
        return self.grid.enter(latents) if self.offsets is None else pack(latents)

    def leave(self, tokens: Tensor) -> Tensor:
        grid = self.grid
        return grid.leave(tokens) if self.offsets is None else unpack(tokens, grid.height, grid.width)

    def predict_at(self, index: int) -> Predict:
        """The network on the state as it lies, the ring turned for step `index`."""
        if self.offsets is None:
            return self.predict
        predict, grid, offset = self.predict, self.grid, self.offsets[index]
        if self.on_turn is not None:
            self.on_turn(offset)
        return lambda tokens, sigma: grid.crop(predict(grid.pad(tokens, offset), sigma), offset)


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
