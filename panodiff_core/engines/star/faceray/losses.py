"""What FaceRay trains on: the codes of all faces, and features that agree across the cube's edges.

The masked sampler's loss is STAR's `masked_sampler.hidden_loss`: the mean over hidden tokens.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ....runtime.errors import InputError
from .geometry import SeamRule, seam_tables

PAIRINGS = ("opposite", "window", "soft_min")
SOFT_MIN_TAU = 0.2


def face_loss(logits: Tensor, codes: Tensor) -> Tensor:
    """Mean cross-entropy of logits [rows, L, V] over all tokens of all faces; `codes` [rows, L]."""
    return F.cross_entropy(logits.float().flatten(0, 1), codes.flatten())


def seam_loss(
    features: Tensor, rule: SeamRule | None = None, pairing: str = "opposite", tau: float = SOFT_MIN_TAU
) -> Tensor:
    """How far features [cubes, 6, n, n, C] (or [cubes·6, n·n, C]) of neighbouring faces differ along the cube's edges.

    SmoothL1 (beta 1, mean over channels) between a boundary token and a token behind the edge. `pairing`: "opposite"
    is the mean over each token and the one straight behind each edge that it touches, "window" over all neighbours
    that it sees, "soft_min" a mean over tokens of its neighbours weighed by softmax(−difference/`tau`). Gradients flow
    to both sides. Raises InputError for another shape or pairing.
    """
    if pairing not in PAIRINGS:
        raise InputError(f"pairing is {pairing!r}; use one of {', '.join(PAIRINGS)}")
    tokens, side = _tokens_of_cubes(features)
    pairs = _pairs(side, rule or SeamRule(), pairing == "opposite", str(features.device))
    own, other = (tokens.index_select(1, each) for each in (pairs.own, pairs.other))
    difference = F.smooth_l1_loss(own, other, reduction="none").mean(dim=-1)
    if pairing != "soft_min":
        return difference.mean()
    table = difference.new_full((len(tokens), *pairs.seen.shape), torch.inf)
    table[:, pairs.seen] = difference
    weights = (-table / tau).softmax(dim=-1)[:, pairs.seen]
    return (weights * difference).sum() / (len(tokens) * len(pairs.seen))


def seam_weight(step: int, total_steps: int, weight: float = 0.1, warmup_ratio: float = 0.1) -> float:
    """Weight of the seam loss at optimiser step `step` (first 0): a rise over the first `warmup_ratio` of the steps."""
    rise = total_steps * warmup_ratio
    return weight * (min(1.0, step / rise) if rise > 0 else 1.0)


class _Pairs(NamedTuple):
    """Token numbers [P] of both sides of every pair; `seen` [Q, K] tells which slot of which token each pair fills."""

    own: Tensor
    other: Tensor
    seen: Tensor


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
def _pairs(side: int, rule: SeamRule, opposite: bool, device: str) -> _Pairs:
    tables = seam_tables(side, rule)
    others = tables.opposite if opposite else tables.neighbours
    seen = others >= 0
    own = tables.queries[:, None].expand_as(others)[seen]
    return _Pairs(*(each.to(device) for each in (own, others[seen], seen)))


def _tokens_of_cubes(features: Tensor) -> tuple[Tensor, int]:
    """Features as float32 [cubes, 6·n·n, C], and n."""
    if features.ndim == 5 and features.shape[1] == 6 and features.shape[2] == features.shape[3]:
        return features.float().flatten(1, 3), features.shape[2]
    if features.ndim == 3 and features.shape[0] % 6 == 0:
        side = round(features.shape[1] ** 0.5)
        if side**2 == features.shape[1]:
            return features.float().unflatten(0, (-1, 6)).flatten(1, 2), side
    raise InputError(
        f"features have shape {list(features.shape)}; pass [cubes, 6, n, n, C] or [cubes·6, n·n, C], faces F R B L U D"
    )
