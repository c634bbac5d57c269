"""RF inversion: a picture is carried to noise (dit360 spec, section 7.1), in the form that DiT360 published."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from ....schedulers.flow_matching import FlowMatchScheduler
from ..sampling import FiniteWatch, Predict
from .checks import check_share, check_tokens, count_steps

OnInversionStep = Callable[[int, int, Tensor], None]
"""(step from 1, their number, tokens [B, N, 4C]) after each step of an inversion; raise `Cancelled` to stop."""


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
    check_share("gamma", gamma)
    check_tokens("noise", noise, image.shape)
    steps = count_steps(scheduler)
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
    steps = count_steps(scheduler)
    levels = [scheduler.sigma(index) for index in range(steps + 1)]
    spans = (levels[i] - levels[i + 1] for i in range(steps))
    return prod(1.0 - span / (1.0 - inversion_time(i, steps)) for i, span in enumerate(spans))


def invert_closed_form(scheduler: FlowMatchScheduler, image: Tensor, noise: Tensor) -> Tensor:
    """`invert` at gamma 1, in one go."""
    check_tokens("noise", noise, image.shape)
    return torch.lerp(noise, image, inversion_residual(scheduler))
