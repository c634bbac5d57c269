"""Enlarging a picture of the whole sphere."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_REACH = 3
"""Pixels that the bicubic kernel reads beyond a border, and one more."""


def resize_sphere(pixels: Tensor, factor: int) -> Tensor:
    """Pictures of the whole sphere [B, C, H, W] → [B, C, factor·H, factor·W], bicubic (Catmull-Rom).

    What lies beyond the left and right border is the other end of the row, and beyond a pole the row itself, half a
    turn away. W must be even.
    """
    turned = pixels.roll(pixels.shape[-1] // 2, -1)
    poles = (turned[..., :_REACH, :].flip(-2), pixels, turned[..., -_REACH:, :].flip(-2))
    tall = torch.cat(poles, dim=-2)
    around = torch.cat([tall[..., -_REACH:], tall, tall[..., :_REACH]], dim=-1)
    # With antialias, torch's kernel has a = -1/2 instead of -3/4, and that is all it changes when enlarging.
    large = F.interpolate(around.float(), scale_factor=factor, mode="bicubic", antialias=True)
    border = factor * _REACH
    return large[..., border:-border, border:-border].contiguous()
