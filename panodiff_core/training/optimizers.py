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
    decays: Callable[[str, nn.Parameter], bool] = lambda name, p: p.ndim >= 2,
    betas: tuple[float, float] = (0.9, 0.98),
) -> list[torch.optim.Optimizer]:
    """Kind "muon": Muon on the parameters that `hidden(name, parameter)` picks, AdamW on the rest; "adamw": AdamW on all.

    Both take `learning_rate`; Muon's updates have AdamW's size. `decays(name, parameter)` says what AdamW lets decay, by
    default all with two or more dimensions; `betas` are AdamW's.
    Raises InputError for another kind.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    if kind == "adamw":
        return [_adamw(named, learning_rate, weight_decay, decays, betas)]
    if kind != "muon":
        raise InputError(f"unknown optimizer {kind!r}; known: muon, adamw")
    picked = [p for name, p in named if hidden(name, p)]
    rest = [(name, p) for name, p in named if not hidden(name, p)]
    return [
        Muon(picked, lr=learning_rate, weight_decay=weight_decay),
        _adamw(rest, learning_rate, weight_decay, decays, betas),
    ]


def _adamw(
    named: list[tuple[str, nn.Parameter]],
    learning_rate: float,
    weight_decay: float,
    decays: Callable[[str, nn.Parameter], bool],
    betas: tuple[float, float],
) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for name, p in named if decays(name, p)], "weight_decay": weight_decay},
        {"params": [p for name, p in named if not decays(name, p)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=betas, fused=True)
