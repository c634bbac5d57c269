"""A small convolutional network that reads what a picture shows: a panorama, on a ring, or a face of a cube."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EdgeConv(nn.Conv2d):
    """A 3×3 or 5×5 convolution that repeats the edge in height and, in width, wraps on a `ring` or repeats it, too."""

    def __init__(self, inside: int, outside: int, size: int, stride: int = 1, ring: bool = True) -> None:
        super().__init__(inside, outside, size, stride)
        self.reach, self.width_mode = size // 2, "circular" if ring else "replicate"

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (self.reach, self.reach, 0, 0), mode=self.width_mode)
        return super().forward(F.pad(x, (0, 0, self.reach, self.reach), mode="replicate"))


class Block(nn.Module):
    """Two convolutions around a skip."""

    def __init__(self, channels: int, ring: bool) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, channels)
        self.first = EdgeConv(channels, channels, 3, ring=ring)
        self.second = EdgeConv(channels, channels, 3, ring=ring)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(self.norm(x)))))


class ReaderNetwork(nn.Module):
    """Pictures [B, 3, height, W] in 0..1 → (logits per attribute, light direction [B, 2] as (sin, cos), or None).

    `classes` are the numbers of values per attribute. Rows keep their meaning to the end (a horizon is not a ceiling),
    columns do not: attributes are read from the mean and the maximum over columns. On a `ring` the light's direction is
    a vote of all columns, each turned by its own azimuth; rolling the panorama by 16 pixels therefore leaves the
    attributes as they are and turns the direction exactly. Without `ring` nothing wraps and no direction is read: a
    single face does not tell where ahead is.
    """

    def __init__(
        self,
        classes: Sequence[int],
        widths: Sequence[int] = (16, 32, 48, 64, 64),
        height: int = 256,
        ring: bool = True,
    ) -> None:
        super().__init__()
        self.classes, self.ring = tuple(classes), ring
        layers: list[nn.Module] = [EdgeConv(3, widths[0], 5, 2, ring)]
        for narrow, wide in pairwise(widths[:-1]):
            layers += [nn.SiLU(), EdgeConv(narrow, wide, 3, 2, ring), Block(wide, ring)]
        self.fine = nn.Sequential(*layers)
        self.coarse = nn.Sequential(
            nn.SiLU(), EdgeConv(widths[-2], widths[-1], 3, 2, ring), Block(widths[-1], ring)
        )
        rows = height // 2 ** len(widths)
        self.attributes = nn.Sequential(
            nn.Linear(2 * rows * widths[-1], 128), nn.SiLU(), nn.Linear(128, sum(self.classes))
        )
        if ring:
            self.votes = nn.Conv2d(widths[-2], 3, (2 * rows, 1))

    def forward(self, pixels: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
        fine = self.fine(pixels * 2.0 - 1.0)
        coarse = self.coarse(fine)
        pooled = torch.cat([coarse.mean(dim=-1), coarse.amax(dim=-1)], dim=1).flatten(1)
        direction = self._direction(fine) if self.ring else None
        return self.attributes(pooled).split(self.classes, dim=-1), direction

    def _direction(self, fine: Tensor) -> Tensor:
        score, ahead, aside = self.votes(F.silu(fine))[:, :, 0].float().unbind(dim=1)
        columns = score.shape[-1]
        azimuth = ((torch.arange(columns, device=score.device) + 0.5) / columns - 0.5) * (2 * math.pi)
        weight = torch.softmax(score, dim=-1)
        sin = weight * (azimuth.sin() * (1 + ahead) + azimuth.cos() * aside)
        cos = weight * (azimuth.cos() * (1 + ahead) - azimuth.sin() * aside)
        return torch.stack([sin.sum(dim=-1), cos.sum(dim=-1)], dim=-1)
