"""The part of an equirectangular picture that a flat one covers, exactly: its rows, and its columns in at most two runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .sphere import directions_to_lonlat, lonlat_to_equirect_pixels

# Pixels added on every side, so that a pixel of which only a part is covered is inside.
_MARGIN = 1


@dataclass(frozen=True)
class Window:
    """Rows top..bottom-1 and columns left..right-1 of a picture."""

    top: int
    bottom: int
    left: int
    right: int


def equirect_windows(corners: Tensor, height: int) -> tuple[Window, ...]:
    """The windows of an equirectangular picture, `height` x 2·height, around a spherical polygon.

    `corners` [N,3] are unit directions (float64) in order around a convex polygon that fits into a hemisphere, its
    edges great circles. One window; two where it goes over the seam at the back; the full width around a pole.
    """
    width = 2 * height
    south, north = _latitudes(corners)
    west, east = _longitudes(corners)
    x, y = lonlat_to_equirect_pixels(
        torch.stack([west, east]), torch.stack([north, south]), height, width
    )  # columns grow eastward, rows southward
    top = max(0, math.floor(float(y[0])) - _MARGIN)
    bottom = min(height, math.ceil(float(y[1])) + _MARGIN + 1)
    left = math.floor(float(x[0])) - _MARGIN
    right = math.ceil(float(x[1])) + _MARGIN + 1
    at_pole = math.pi / 2 - max(float(north), -float(south)) < 2 * math.pi / height
    if at_pole or right - left >= width:
        return (Window(top, bottom, 0, width),)
    turns = left // width
    left, right = left - turns * width, right - turns * width
    if right <= width:
        return (Window(top, bottom, left, right),)
    return Window(top, bottom, left, width), Window(top, bottom, 0, right - width)


def _latitudes(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest latitude: at a corner, where an edge turns over, or at a pole inside."""
    ends = corners.roll(-1, 0)
    normals = F.normalize(torch.linalg.cross(corners, ends), dim=-1)
    up = corners.new_tensor([0.0, 1.0, 0.0])
    crest = F.normalize(up - normals * normals[:, 1:2], dim=-1)
    reached = [corners]
    for point in (crest, -crest):
        after = (torch.linalg.cross(corners, point) * normals).sum(-1) > 0
        before = (torch.linalg.cross(point, ends) * normals).sum(-1) > 0
        reached.append(point[after & before])
    sides = normals @ corners.sum(0)
    reached += [pole[None] for pole in (up, -up) if bool(((normals @ pole) * sides > 0).all())]
    sines = torch.cat(reached)[:, 1].clamp(-1.0, 1.0)
    return sines.min().asin(), sines.max().asin()


def _longitudes(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Westernmost and easternmost longitude of a polygon without a pole inside; may lie beyond ±pi.

    Longitude only grows or only falls along a great circle, so that both are at corners.
    """
    longitudes = directions_to_lonlat(corners)[0]
    steps = torch.remainder(longitudes.diff() + math.pi, 2 * math.pi) - math.pi
    unwrapped = torch.cat([longitudes[:1], longitudes[:1] + steps.cumsum(0)])
    return unwrapped.min(), unwrapped.max()
