"""The controlled reverse: back from noise in two branches, the source and its edit (dit360 spec, section 7.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ....runtime.errors import InputError
from ....runtime.progress import OnStep, Step
from ....schedulers.flow_matching import FlowMatchScheduler
from ..model import RingGrid
from ..sampling import FiniteWatch, Predict
from .checks import check_keep, check_share, check_tokens, count_steps


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
            check_share(name, getattr(self, name))
        if self.start > self.stop:
            raise InputError(f"start {self.start:g} must not lie after stop {self.stop:g}")
        if not 0.0 <= self.decay < float("inf"):
            raise InputError(f"decay must be an exponent of at least 0, got {self.decay!r}")

    def pull(self, index: int, steps: int) -> float:
        """The share of step `index` of `steps` that goes straight to the picture."""
        if not int(self.start * steps) <= index < int(self.stop * steps):
            return 0.0
        return self.eta * (1.0 - index / steps) ** self.decay


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
        check_tokens(name, tokens, (len(image), grid.tokens, image.shape[-1]))
    if keep is not None:
        check_keep(keep, grid.tokens)
    steps = count_steps(scheduler)
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
