"""A small patch discriminator for the last part of autoencoder training."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Scores overlapping patches of about 30 pixels. Takes [B, 3, H, W] in −1..1, returns ([B, 1, H/8, W/8], maps)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 3 * width)
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1))
            for a, b in pairwise(widths)
        )
        self.score = nn.utils.parametrizations.spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = []
        for layer in self.layers:
            pictures = F.leaky_relu(layer(pictures), 0.2)
            maps.append(pictures)
        return self.score(pictures), maps

    def frozen(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The same function with its weights held constant: gradients reach the pictures only."""
        constants = {name: p.detach() for name, p in self.named_parameters()}
        return torch.func.functional_call(self, constants, (pictures,))
