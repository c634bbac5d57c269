"""A small convolutional network that reads what a panorama shows, on a ring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RingConv(nn.Conv2d):
    """A 3×3 or 5×5 convolution that wraps in width and repeats the edge in height."""

    def forward(self, x: Tensor) -> Tensor:
        reach = self.kernel_size[0] // 2
        x = F.pad(x, (reach, reach, 0, 0), mode="circular")
        return super().forward(F.pad(x, (0, 0, reach, reach), mode="replicate"))


class Block(nn.Module):
    """Two convolutions around a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, channels)
        self.first = RingConv(channels, channels, 3)
        self.second = RingConv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(self.norm(x)))))


class ReaderNetwork(nn.Module):
    """Panoramas [B, 3, 256, 512] in 0..1 → (logits per attribute, light direction [B, 2] as (sin, cos)).

    `classes` are the numbers of values per attribute. Rows keep their meaning to the end (a horizon is not a ceiling),
    columns do not: attributes are read from the mean and the maximum over columns, and the light's direction is a
    vote of all columns, each turned by its own azimuth. Rolling the picture by 16 pixels therefore leaves the
    attributes as they are and turns the direction exactly.
    """

    def __init__(self, classes: Sequence[int], widths: Sequence[int] = (16, 32, 48, 64, 64)) -> None:
        super().__init__()
        self.classes = tuple(classes)
        layers: list[nn.Module] = [RingConv(3, widths[0], 5, stride=2)]
        for narrow, wide in pairwise(widths[:-1]):
            layers += [nn.SiLU(), RingConv(narrow, wide, 3, stride=2), Block(wide)]
        self.fine = nn.Sequential(*layers)
        self.coarse = nn.Sequential(
            nn.SiLU(), RingConv(widths[-2], widths[-1], 3, stride=2), Block(widths[-1])
        )
        rows = 256 // 2 ** len(widths)
        self.attributes = nn.Sequential(
            nn.Linear(2 * rows * widths[-1], 128), nn.SiLU(), nn.Linear(128, sum(self.classes))
        )
        self.votes = nn.Conv2d(widths[-2], 3, (2 * rows, 1))

    def forward(self, pixels: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        fine = self.fine(pixels * 2.0 - 1.0)
        coarse = self.coarse(fine)
        pooled = torch.cat([coarse.mean(dim=-1), coarse.amax(dim=-1)], dim=1).flatten(1)
        return self.attributes(pooled).split(self.classes, dim=-1), self._direction(fine)

    def _direction(self, fine: Tensor) -> Tensor:
        score, ahead, aside = self.votes(F.silu(fine))[:, :, 0].float().unbind(dim=1)
        columns = score.shape[-1]
        azimuth = ((torch.arange(columns, device=score.device) + 0.5) / columns - 0.5) * (2 * math.pi)
        weight = torch.softmax(score, dim=-1)
        sin = weight * (azimuth.sin() * (1 + ahead) + azimuth.cos() * aside)
        cos = weight * (azimuth.cos() * (1 + ahead) - azimuth.sin() * aside)
        return torch.stack([sin.sum(dim=-1), cos.sum(dim=-1)], dim=-1)
