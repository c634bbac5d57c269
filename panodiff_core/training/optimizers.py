"""Optimizers by name, over the parts of a module that each of them suits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..runtime.errors import InputError
from .muon import Muon


def matrices_and_rest(
    module: nn.Module,
    learning_rate: float,
    kind: str,
    *,
    hidden: Callable[[str, nn.Parameter], bool],
    weight_decay: float = 0.01,
) -> list[torch.optim.Optimizer]:
    """Kind "muon": Muon on the parameters that `hidden(name, parameter)` picks, AdamW on the rest; "adamw": AdamW on all.

    Both take `learning_rate`; Muon's updates have AdamW's size. Only parameters with two or more dimensions decay.
    Raises InputError for another kind.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    if kind == "adamw":
        return [_adamw([p for _, p in named], learning_rate, weight_decay)]
    if kind != "muon":
        raise InputError(f"unknown optimizer {kind!r}; known: muon, adamw")
    picked = [p for name, p in named if hidden(name, p)]
    rest = [p for name, p in named if not hidden(name, p)]
    return [
        Muon(picked, lr=learning_rate, weight_decay=weight_decay),
        _adamw(rest, learning_rate, weight_decay),
    ]


def _adamw(
    parameters: list[nn.Parameter], learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=learning_rate, betas=(0.9, 0.98), fused=True
    )
