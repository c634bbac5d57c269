"""Muon: momentum whose matrix updates are made orthogonal before they are applied.

Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with the update scaled to
AdamW's size as in Liu et al., "Muon is scalable for LLM training" (2025). torch's own class takes matrices only; this
one also takes convolutions (as matrices of output channels × everything else) and can orthogonalise in bf16.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """SGD with Nesterov momentum, its update replaced by the nearest (semi-)orthogonal matrix.

    `lr` has the meaning of AdamW's: the update has a root mean square of about 0.2·lr. Weight decay is decoupled.
    Raises ValueError for parameters with fewer than two dimensions.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        steps: int = 5,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": steps}
        )
        for group in self.param_groups:
            if any(p.ndim < 2 for p in group["params"]):
                raise ValueError("Muon takes matrices and convolutions; give vectors and scalars to AdamW")

    @torch.no_grad()
    def step(self, closure=None):
        """One update; returns the closure's loss if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, group)
        return loss

    def _update(self, p: Tensor, group: dict) -> None:
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        velocity = state["momentum"]
        velocity.lerp_(p.grad, 1.0 - group["momentum"])
        direction = p.grad.lerp(velocity, group["momentum"]).flatten(1)
        update = orthogonalise(direction, group["steps"]).view_as(p)
        p.mul_(1.0 - group["lr"] * group["weight_decay"])
        p.add_(update.to(p.dtype), alpha=-group["lr"] * 0.2 * max(direction.shape) ** 0.5)


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """[m, n] → roughly U·Vᵀ of its singular value decomposition (singular values within about 0.7 … 1.2).

    Newton–Schulz iteration with the quintic of the Muon authors, in bf16.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.float()
    x = (x / (x.norm() + 1e-7)).bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.mT.contiguous()
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + torch.addmm(gram, gram, gram, beta=b, alpha=c) @ x
    return x.mT if tall else x
