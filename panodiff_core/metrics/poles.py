"""How calm the poles are: all pixels of the first and of the last row look in almost the same direction."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def row_variance(pixels: Tensor, row: int) -> Tensor:
    """[B]: variance of the pixels along one row of [B,3,H,W], mean over the colour channels."""
    return pixels[:, :, row].var(dim=-1, correction=0).mean(dim=1)


def picture_variance(pixels: Tensor) -> Tensor:
    """[B]: variance over the sphere (rows weighted by the cosine of their latitude), mean over colour
    channels.
    """
    height = pixels.shape[-2]
    rows = (0.5 - (torch.arange(height, dtype=pixels.dtype, device=pixels.device) + 0.5) / height) * math.pi
    weight = (rows.cos() / rows.cos().sum())[:, None]
    mean = (pixels.mean(dim=-1, keepdim=True) * weight).sum(dim=-2, keepdim=True)
    return (((pixels - mean) ** 2).mean(dim=-1, keepdim=True) * weight).sum(dim=(-2, -1)).mean(dim=1)


def pole_variance(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """([B], [B]): variance along the first and the last row ÷ the picture's own variance on the sphere.

    0 is a pole of one colour, 1 a first row as varied as the whole picture (a pinch). Divided by the
    picture's variance so that pale and vivid pictures compare; a picture of one colour counts as 0. The first
    row is a circle of radius 90°/H around the pole, so compare pictures of one height.
    """
    whole = picture_variance(pixels)
    # Below this a picture is one colour up to rounding and its quotient would be noise.
    flat = whole < 1e-12
    safe = torch.where(flat, torch.ones_like(whole), whole)
    return tuple(
        torch.where(flat, torch.zeros_like(whole), row_variance(pixels, row) / safe) for row in (0, -1)
    )
