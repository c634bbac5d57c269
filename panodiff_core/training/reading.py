"""What the recipes of attribute readers share: losses and hits where an attribute is there, and the optimizers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.readings import NOT_THERE
from .optimizers import matrices_and_rest


def reading_losses(logits: Sequence[Tensor], classes: Tensor) -> tuple[Tensor, Tensor]:
    """(mean cross-entropy over attributes, share of right answers) of logits [B, values] per attribute.

    `classes` [B, A] are the targets; what is NOT_THERE is left out.
    """
    losses = []
    for scores, target in zip(logits, classes.unbind(dim=1), strict=True):
        there = target != NOT_THERE
        if bool(there.any()):
            losses.append(F.cross_entropy(scores.float()[there], target[there], label_smoothing=0.02))
    hits, asked = reading_hits(logits, classes)
    return torch.stack(losses).mean(), hits.sum() / asked.sum()


def reading_hits(logits: Sequence[Tensor], classes: Tensor) -> tuple[Tensor, Tensor]:
    """([A], [A]): how often each attribute of `classes` [B, A] was read right, and how often it was there."""
    there = classes != NOT_THERE
    guess = torch.stack([scores.argmax(-1) for scores in logits], dim=1)
    return ((guess == classes) & there).sum(dim=0), there.sum(dim=0)


def reader_optimizers(module: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon on all convolutions but the first, AdamW on the rest."""
    return matrices_and_rest(
        module, learning_rate, "muon", hidden=lambda name, p: p.ndim == 4 and p.shape[0] > 3
    )
