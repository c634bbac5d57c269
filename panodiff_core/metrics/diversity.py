"""How different the pictures of one prompt are from each other."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..runtime.errors import InputError

LOW_PASS_ROWS = 16


def low_pass_features(pixels: Tensor, rows: int = LOW_PASS_ROWS) -> Tensor:
    """[N,3,H,W] -> [N,3,rows,2·rows]: area means on a coarse panorama, weighted by the area they cover on the
    sphere.

    The Euclidean distance of two results is the RMS colour difference of the two pictures over the sphere, in
    the unit of the pixels, after detail finer than 180°/rows is averaged away: it sees another layout or
    another colour, not another grain. Raises `InputError` for another shape.
    """
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise InputError(f"pixels are [N,3,H,W], got {list(pixels.shape)}.")
    coarse = torch.nn.functional.adaptive_avg_pool2d(pixels.to(torch.float32), (rows, 2 * rows))
    latitude = (0.5 - (torch.arange(rows, dtype=torch.float32, device=coarse.device) + 0.5) / rows) * math.pi
    weight = latitude.cos() / (latitude.cos().sum() * 2 * rows * 3)
    return coarse * weight.sqrt()[:, None]


def mean_pairwise_distance(features: Tensor) -> float:
    """Mean Euclidean distance over all pairs of N feature vectors [N,…]. Raises `InputError` for fewer than
    two.
    """
    if features.shape[0] < 2:
        raise InputError("a distance needs at least two pictures.")
    return float(torch.pdist(features.flatten(1).to(torch.float64)).mean())


def mean_aligned_distance(features: Tensor) -> float:
    """As `mean_pairwise_distance` for `low_pass_features`, each pair at the yaw that makes it most alike.

    Two pictures of one place seen in different directions are then the same, so that turning alone is no
    diversity.
    """
    if features.ndim != 4 or features.shape[0] < 2:
        raise InputError("a distance needs the low-pass features of at least two pictures.")
    turned = torch.stack([features.roll(shift, -1) for shift in range(features.shape[-1])]).flatten(2)
    distances = torch.cdist(turned.to(torch.float64), features.flatten(1).to(torch.float64)[None])
    nearest = distances.amin(dim=0)
    first, second = torch.triu_indices(*nearest.shape, offset=1)
    return float(nearest[first, second].mean())
