"""The sampling loop of DiT360: from noise, or a noisy picture, to latents on a ring.

Without roll the ring padding is laid once and stays for the whole trajectory, as in the reference; its
columns remain exact copies. With roll the ring is turned before every call, so the padding is laid anew for
each call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ...layers.ring import PATCH, pack, unpack
from ...runtime.errors import InputError, NumericalError
from ...runtime.progress import OnStep, Step
from ...schedulers.flow_matching import FlowMatchScheduler
from .config import SamplingOptions
from .image_to_image import SourceImage
from .model import RingGrid
from .step_cache import MOST_OFFSETS

Predict = Callable[[Tensor, float], Tensor]
SEED_SALT = 0x9E3779B97F4A7C15
"""Keeps the roll offsets independent of the noise that the same seed draws."""


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
    whole schedule, or None; `on_turn` is told each before its step. Raises NumericalError naming the step at which a value stopped being finite, and
    whatever `on_step` raises.
    """
    rolling = offsets is not None
    enter = pack if rolling else grid.enter
    first = 0 if source is None else source.first_step(scheduler.steps)
    state = enter(noise if source is None else source.begin(scheduler, noise))
    keep = _keep_nothing if source is None else source.keeper(noise, enter)
    total = scheduler.steps - first
    watch = FiniteWatch(total)

    def view(tokens: Tensor) -> Tensor:
        return unpack(tokens, grid.height, grid.width) if rolling else grid.leave(tokens)

    for index in range(first, scheduler.steps):
        if rolling and on_turn is not None:
            on_turn(offsets[index])
        call = _rolled(predict, grid, offsets[index]) if rolling else predict
        sigma, after = scheduler.sigma(index), scheduler.sigma(index + 1)
        velocity = call(state, sigma)
        before, state = state, scheduler.step(velocity, index, state)
        if solver == "heun" and after > 0.0:
            state = scheduler.heun_step(velocity, call(state, after), index, before)
        state = keep(state, after)
        watch.look(index - first + 1, state)
        if on_step is not None:
            denoised = keep(scheduler.denoised(before, velocity, sigma), 0.0)
            on_step(Step(index - first + 1, total, after, view(state), view(denoised)))
    watch.finish()
    return view(state)


def _keep_nothing(state: Tensor, sigma: float) -> Tensor:
    return state


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


def choose_noise(shape: tuple[int, ...], seed: int, latents: Tensor | None) -> Tensor:
    """The caller's `latents`, or noise drawn from `seed`, of `shape` [B, C, h, w], float32.

    Raises InputError when the latents are not B, or not finite.
    """
    if latents is None:
        return draw_noise(shape, seed)
    if len(latents) != shape[0]:
        raise InputError(f"{len(latents)} latents were given for {shape[0]} pictures (prompts × batch_size)")
    if not torch.isfinite(latents).all():
        raise InputError("the latents given as noise have NaN or infinite values")
    return latents.float()


def forward_bytes(
    transformer: nn.Module, shape: tuple[int, ...], text_length: int, options: SamplingOptions
) -> int:
    """Activations of one forward on latents of `shape` [B, C, h, w], with both prompts of true guidance: about 24
    hidden states (4D-wide MLP, q, k, v, residuals) per token, and 5 more for each turn of the ring whose steps are
    cached.
    """
    states = 24
    if options.step_cache:
        states += 5 if options.roll == "off" else 5 * MOST_OFFSETS
    tokens = forward_tokens(shape, text_length, options)
    branches = 2 if options.cfg != 1.0 else 1
    return states * branches * tokens * transformer.inner_dim * transformer.dtype.itemsize


def forward_tokens(shape: tuple[int, ...], text_length: int, options: SamplingOptions) -> int:
    """Tokens of text and picture in one forward for one of the prompts of true guidance, over the whole batch of `shape` [B, C, h, w]."""
    batch, _, height, width = shape
    return batch * (height // PATCH * (width // PATCH + 2 * options.padding) + text_length)


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
