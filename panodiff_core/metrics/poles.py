"""How calm the poles are: all pixels of the first and of the last row look in almost the same direction."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ROWS = 16  # measured at a time: what stays in a processor's cache


def picture_variance(pixels: Tensor) -> Tensor:
    """[B]: variance over the sphere (rows weighted by the cosine of their latitude), mean over colour
    channels.
    """
    return _whole(*_row_moments(pixels))


def _row_moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """([B,3,H], [B,3,H]): mean and variance along each row."""
    means = pixels.mean(dim=-1)
    blocks = zip(pixels.split(_ROWS, dim=-2), means.split(_ROWS, dim=-1), strict=True)
    variances = [(rows - mean[..., None]).square_().mean(dim=-1) for rows, mean in blocks]
    return means, torch.cat(variances, dim=-1)


def _whole(means: Tensor, variances: Tensor) -> Tensor:
    """Variance over the sphere: within the rows and between their means."""
    height = means.shape[-1]
    rows = (0.5 - (torch.arange(height, dtype=means.dtype, device=means.device) + 0.5) / height) * math.pi
    weight = rows.cos() / rows.cos().sum()
    mean = (means * weight).sum(dim=-1, keepdim=True)
    return ((variances + (means - mean) ** 2) * weight).sum(dim=-1).mean(dim=1)


def pole_variance(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """([B], [B]): variance along the first and the last row ÷ the picture's own variance on the sphere.

    0 is a pole of one colour, 1 a first row as varied as the whole picture (a pinch). Divided by the
    picture's variance so that pale and vivid pictures compare; a picture of one colour counts as 0. The first
    row is a circle of radius 90°/H around the pole, so compare pictures of one height.
    """
    means, variances = _row_moments(pixels)
    whole = _whole(means, variances)
    # Below this a picture is one colour up to rounding and its quotient would be noise.
    flat = whole < 1e-12
    safe = torch.where(flat, torch.ones_like(whole), whole)
    return tuple(
        torch.where(flat, torch.zeros_like(whole), variances[..., row].mean(dim=1) / safe) for row in (0, -1)
    )
