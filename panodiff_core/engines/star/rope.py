"""Normalised axial rotary codes: every scale spans the same positions, whatever its side (STAR, arXiv:2406.10797).

Half of a head's channel pairs turn with the column, half with the row. Positions run from 0 to `norm` at every scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .scales import Scales
from .span import Span


class AxialRope:
    """Rotary tables of a scale list, made once per span and device; they belong to no state dict."""

    def __init__(self, scales: Scales, head_dim: int, norm: float, theta: float) -> None:
        self.scales, self.head_dim, self.norm, self.theta = scales, head_dim, norm, theta
        self._tables: dict[tuple[Span, str], Tensor] = {}

    def table(self, span: Span, device: torch.device | str = "cpu") -> Tensor:
        """cos + i·sin of each token and channel pair, complex [N, 1, head_dim/2]; leading text tokens do not turn."""
        key = (span, str(device))
        if key not in self._tables:
            with torch.inference_mode(False):
                angles = [torch.zeros(span.leading, self.head_dim // 2)]
                angles += [
                    axial_angles(self.scales.sides[s], self.head_dim, self.norm, self.theta)
                    for s in span.scales
                ]
                angle = torch.cat(angles).unsqueeze(1)
                self._tables[key] = torch.polar(torch.ones_like(angle), angle).to(device)
        return self._tables[key]


def axial_angles(side: int, head_dim: int, norm: float, theta: float) -> Tensor:
    """Angles [side², head_dim/2] of a grid, row by row: columns in the first half of the pairs, rows in the second."""
    rates = theta ** -(torch.arange(0, head_dim, 4, dtype=torch.float32) / head_dim)
    places = torch.arange(side, dtype=torch.float32) / max(1, side - 1) * norm
    turns = torch.outer(places, rates)
    across = turns.unsqueeze(0).expand(side, -1, -1)
    down = turns.unsqueeze(1).expand(-1, side, -1)
    return torch.cat([across, down], dim=-1).flatten(0, 1)


def rotate(x: Tensor, table: Tensor, *, in_place: bool = False) -> Tensor:
    """Turn adjacent channel pairs of x [..., head_dim], float32, by a table that broadcasts over [..., head_dim/2]."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    pairs = pairs.mul_(table) if in_place else pairs * table
    return torch.view_as_real(pairs).flatten(-2)
