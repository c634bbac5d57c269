"""The steps of the masked sampler: how many codes are committed in each, and which (STAR, MaskGIT's confidence rule)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

VERSIONS = ("off", "1024", "new")
"""How a fine scale is drawn: in one pass; in the published way, beginning with the generator's logits; or by the masked
sampler alone.
"""
RANDOM_STEPS = 5
"""Steps that commit tokens at random rather than the likeliest: those would all lie in one place."""
LONG_FROM = 13
"""Scales from here on take more steps in version "1024", and none of the generator's."""
STEPS, LONG_STEPS = 8, 15


def step_count(scale: int, version: str) -> int:
    """Steps at a scale."""
    return LONG_STEPS if version == "1024" and scale >= LONG_FROM else STEPS


def reveal_counts(tokens: int, steps: int) -> tuple[int, ...]:
    """How many of `tokens` codes each step commits: growing as arccos(1 − i/(steps−1)), at least 1, in float32.

    The last one makes the sum right (that is 0 for 3×3 tokens in 8 steps). Fewer tokens than steps take one step each.
    """
    steps = min(steps, tokens)
    if steps == 1:
        return (tokens,)
    ramp = 1.0 - torch.arange(steps, dtype=torch.float32) / (steps - 1)
    shares = ramp.acos() / (math.pi / 2)
    counts = [max(1, int(count)) for count in (shares / shares.sum() * tokens).round()]
    counts[-1] += tokens - sum(counts)
    return tuple(counts)


@dataclass(frozen=True)
class MaskedStep:
    """One step as it went: the `indices` [B, N] drawn at all places, which are committed (`seen` [B, N]), and the
    `codes` [B, N, Cv], the committed ones and for the rest those just drawn.
    """

    index: int
    total: int
    indices: Tensor
    seen: Tensor
    codes: Tensor


def draw_in_steps(
    counts: tuple[int, ...],
    given: Tensor | None,
    predict: Callable[[Tensor], Tensor],
    draw: Callable[[Tensor], tuple[Tensor, Tensor]],
    uniform: Callable[[], Tensor],
    codes: Callable[[Tensor], Tensor],
    known: Tensor,
    on_step: Callable[[MaskedStep], None],
) -> Tensor:
    """Commit codes step after step; returns all codes [B, N, Cv] of the scale. Rows do not know of each other.

    `known` [B, N, Cv] are zeros to begin with. `predict(known)` gives logits [B, N, V]; `given` are the generator's,
    which serve the first steps of version "1024", or None. `draw(logits)` gives indices and their probabilities,
    `uniform()` random confidences [B, N], `codes(indices)` the codes.
    """
    seen = torch.zeros(known.shape[:2], dtype=torch.bool, device=known.device)
    for step, count in enumerate(counts):
        from_generator = given is not None and step < RANDOM_STEPS
        indices, probability = draw(given if from_generator else predict(known))
        drawn, before = codes(indices).to(known), seen
        if from_generator:  # over all places: committed ones are chosen again, without effect
            seen = seen | _largest(probability, count)
        confidence = uniform().to(probability) if step < RANDOM_STEPS else probability
        seen = seen | _largest(confidence.masked_fill(seen, -1.0), count)
        known = torch.where((seen & ~before).unsqueeze(-1), drawn, known)
        shown = torch.where(seen.unsqueeze(-1), known, drawn)
        on_step(MaskedStep(step + 1, len(counts), indices, seen, shown))
    return known


def _largest(values: Tensor, count: int) -> Tensor:
    """True at the `count` largest of each row."""
    places = values.topk(count, dim=1).indices
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, places, True)
