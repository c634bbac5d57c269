"""Editing a panorama as DiT360 does: RF inversion and the controlled reverse (dit360 spec, section 7).

`invert` carries a picture to noise, `edit` comes back in two branches: the source, pulled to the picture, and the
edit, which takes tokens from it in every attention (`replace_tokens`) and places from it after every step. Both run
on ring-padded tokens [B, N, 4C] like the reference, whose padding columns need not be copies here. The noise levels
are those of the *unpadded* length: `lay_noise_levels` with mu "unpadded".

    predict = replace_tokens(network, transformer, keep, tau=0.5)
    tokens = edit(scheduler, predict, grid, image, invert(scheduler, empty, image, noise, gamma=1.0), fresh, keep)
    picture = grid.leave(tokens[len(image):])
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from ...runtime.errors import InputError
from ...runtime.progress import OnStep, Step
from ...schedulers.flow_matching import FlowMatchScheduler
from .model import RingGrid
from .sampling import FiniteWatch, Predict
from .sharing import check_keep

OnInversionStep = Callable[[int, int, Tensor], None]
"""(step from 1, their number, tokens [B, N, 4C]) after each step of an inversion; raise `Cancelled` to stop."""


@dataclass(frozen=True)
class EditOptions:
    """How tightly an edit follows its source; the defaults are those of the published example.

    The source branch is pulled to the picture by `eta` (1 = all the way) in the steps int(`start`·n) up to
    int(`stop`·n) of n, times (1 − i/n)^`decay`. Where the mask keeps, the edit takes the source's latents after
    every step that began at a noise level of at least `blend_from`. Raises InputError for a value out of range.
    """

    eta: float = 1.0
    start: float = 0.0
    stop: float = 0.99
    decay: float = 0.0
    blend_from: float = 0.5

    def __post_init__(self) -> None:
        for name in ("eta", "start", "stop", "blend_from"):
            _check_share(name, getattr(self, name))
        if self.start > self.stop:
            raise InputError(f"start {self.start:g} must not lie after stop {self.stop:g}")
        if not 0.0 <= self.decay < float("inf"):
            raise InputError(f"decay must be an exponent of at least 0, got {self.decay!r}")

    def pull(self, index: int, steps: int) -> float:
        """The share of step `index` of `steps` that goes straight to the picture."""
        if not int(self.start * steps) <= index < int(self.stop * steps):
            return 0.0
        return self.eta * (1.0 - index / steps) ** self.decay


def invert(
    scheduler: FlowMatchScheduler,
    predict: Predict,
    image: Tensor,
    noise: Tensor,
    *,
    gamma: float = 0.5,
    on_step: OnInversionStep | None = None,
) -> Tensor:
    """Carry the padded tokens `image` [B, N, 4C] towards `noise` of the same shape, in the published form.

    `predict(tokens, time)` is the network at guidance 0 with the empty prompt. Step i of n feeds it the time
    i/(n + 1) and mixes its velocity with the one straight to `noise`, weight `gamma`; the step is as long as the
    scheduler's step i. (Time and steps do not belong together, but that is what was published.) At gamma 1 the
    network has no say and is not called; see `inversion_residual`. Raises InputError for shapes or a gamma that do
    not fit, NumericalError for NaN.
    """
    _check_share("gamma", gamma)
    _check_tokens("noise", noise, image.shape)
    steps = _steps(scheduler)
    watch, state = FiniteWatch(steps), image
    for index in range(steps):
        time = inversion_time(index, steps)
        direction = (noise - state) / (1.0 - time)
        if gamma < 1.0:
            direction = torch.lerp(predict(state, time), direction, gamma)
        state = state + direction * (scheduler.sigma(index) - scheduler.sigma(index + 1))
        watch.look(index + 1, state)
        if on_step is not None:
            on_step(index + 1, steps, state)
    watch.finish()
    return state


def inversion_time(index: int, steps: int) -> float:
    """The time that the network is told in step `index` of an inversion: i/(n + 1), rising from 0."""
    return index / (steps + 1)


def inversion_residual(scheduler: FlowMatchScheduler) -> float:
    """r of the closed form that `invert` has at gamma 1: r·image + (1 − r)·noise.

    At 50 steps of a 1024×2048 picture it is −0.0001: the published inversion is then plain noise.
    """
    steps = _steps(scheduler)
    levels = [scheduler.sigma(index) for index in range(steps + 1)]
    spans = (levels[i] - levels[i + 1] for i in range(steps))
    return prod(1.0 - span / (1.0 - inversion_time(i, steps)) for i, span in enumerate(spans))


def invert_closed_form(scheduler: FlowMatchScheduler, image: Tensor, noise: Tensor) -> Tensor:
    """`invert` at gamma 1, in one go."""
    _check_tokens("noise", noise, image.shape)
    return torch.lerp(noise, image, inversion_residual(scheduler))


def edit(
    scheduler: FlowMatchScheduler,
    predict: Predict,
    grid: RingGrid,
    image: Tensor,
    inverted: Tensor,
    noise: Tensor,
    keep: Tensor | None = None,
    options: EditOptions | None = None,
    *,
    on_step: OnStep | None = None,
) -> Tensor:
    """Come back from the `inverted` picture and from fresh `noise`, side by side: padded tokens [2B, N, 4C].

    `image`, `inverted` and `noise` are padded tokens [B, N, 4C] on `grid`. The first half of the result are the
    sources, the second the edits. `predict` gets both halves at once, with the sources' conditions before those
    of the edits; `replace_tokens` lets them share tokens. `keep` [N, 1] in 0..1 (1 = take from the source) is for
    blending, None for none. `on_step` sees the edits. Raises InputError for shapes that do not fit the grid,
    NumericalError for NaN.
    """
    options = options or EditOptions()
    for name, tokens in (("image", image), ("inverted", inverted), ("noise", noise)):
        _check_tokens(name, tokens, (len(image), grid.tokens, image.shape[-1]))
    if keep is not None:
        check_keep(keep, grid.tokens)
    steps = _steps(scheduler)
    watch = FiniteWatch(steps)
    source, edited = inverted, noise
    for index in range(steps):
        sigma = scheduler.sigma(index)
        free, velocity = predict(torch.cat([source, edited]), sigma).chunk(2)
        straight = (source - image) / sigma
        source = scheduler.step(torch.lerp(free, straight, options.pull(index, steps)), index, source)
        before, edited = edited, scheduler.step(velocity, index, edited)
        if keep is not None and sigma >= options.blend_from:
            edited = torch.lerp(edited, source, keep.to(edited))
        both = torch.cat([source, edited])
        watch.look(index + 1, both)
        if on_step is not None:
            denoised = grid.leave(scheduler.denoised(before, velocity, sigma))
            on_step(Step(index + 1, steps, scheduler.sigma(index + 1), grid.leave(edited), denoised))
    watch.finish()
    return both


def _steps(scheduler: FlowMatchScheduler) -> int:
    if scheduler.steps < 1:
        raise InputError("the scheduler has no steps: call set_timesteps first")
    return scheduler.steps


def _check_tokens(name: str, tokens: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tokens.shape) != tuple(shape):
        raise InputError(f"{name} must be padded tokens {list(shape)}, got {list(tokens.shape)}")


def _check_share(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= 1.0:
        raise InputError(f"{name} must be a number from 0 to 1, got {value!r}")
