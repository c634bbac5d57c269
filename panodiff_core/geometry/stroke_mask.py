"""Strokes on the sphere as an equirectangular mask.

Everything is measured on the sphere, so that the seam and the poles are nothing special. The picture is worked on in tiles:
one distance from a tile's centre tells whether the brush covers all of it or none of it. Only tiles on the border of a
stroke are computed pixel by pixel, each with the few pieces of the stroke that can be nearest there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import check_size
from .sphere import equirect_pixels_to_lonlat, lonlat_to_directions
from .strokes import Stroke, parse_strokes

_TILE = 64

# In radians: far below a pixel, far above the rounding of float64.
_NO_LENGTH = 1e-9

# Distances computed at a time.
_CHUNK = 1 << 19


def mask_from_strokes(strokes: str | Iterable[Stroke], height: int) -> Tensor:
    """The mask [1,1,height,2·height] (float32 on the CPU, 0..1) that strokes paint: a text as in `strokes`, or parsed.

    At the distance d from its line (great circles between the points) a stroke has the strength (r + p/2 − d) / (p + s·r),
    kept in 0..1: r is the radius, s the softness, p = pi/height the height of a pixel. Hard brushes so have an edge of one
    pixel, half of which is inside. Painting takes the larger of mask and strength; erasing the smaller of mask and
    1 − strength. Raises `InputError` for texts and sizes that cannot be used.
    """
    check_size("height", height)
    if isinstance(strokes, str):
        strokes = parse_strokes(strokes)
    mask = torch.zeros(height, 2 * height)
    tiles = _make_tiles(height)
    for stroke in strokes:
        _draw(mask, stroke, tiles)
    return mask[None, None]


@dataclass(frozen=True)
class _Tiles:
    """Tiles of a picture: bounds [T,4] as top, bottom, left, right; unit centres [T,3]; no pixel is farther than reach [T]."""

    bounds: Tensor
    centres: Tensor
    reach: Tensor


def _make_tiles(height: int) -> _Tiles:
    width, pixel = 2 * height, math.pi / height
    top, left = torch.meshgrid(torch.arange(0, height, _TILE), torch.arange(0, width, _TILE), indexing="ij")
    top, left = top.flatten(), left.flatten()
    bottom, right = (top + _TILE).clamp(max=height), (left + _TILE).clamp(max=width)
    x, y = (left + right - 1) / 2.0, (top + bottom - 1) / 2.0
    lon, lat = equirect_pixels_to_lonlat(x.double(), y.double(), height, width)
    up, across = (bottom - top) * pixel / 2, (right - left) * pixel / 2
    # First along the meridian, then along the longest parallel of the tile.
    reach = up + across * torch.cos((lat.abs() - up).clamp_min(0.0))
    return _Tiles(torch.stack([top, bottom, left, right], -1), lonlat_to_directions(lon, lat), reach)


def _draw(mask: Tensor, stroke: Stroke, tiles: _Tiles) -> None:
    """Draw one stroke, in place."""
    pixel, radius = math.pi / mask.shape[0], math.radians(stroke.radius_deg)
    outer, fade = radius + pixel / 2, pixel + stroke.softness * radius
    arcs = _arcs(stroke)
    nearest = _angle(_cosine(tiles.centres, arcs))
    whole = nearest + tiles.reach <= outer - fade
    border = ~whole & (nearest - tiles.reach < outer)
    for top, bottom, left, right in tiles.bounds[whole].tolist():
        mask[top:bottom, left:right] = 1.0 if stroke.mode == "paint" else 0.0
    for index in border.nonzero().flatten().tolist():
        there = _angle(_cosines(tiles.centres[index], arcs))
        near = arcs[there <= nearest[index] + 2 * tiles.reach[index] + 1e-9]
        top, bottom, left, right = tiles.bounds[index].tolist()
        rows, columns = torch.arange(top, bottom).double(), torch.arange(left, right).double()
        lonlat = equirect_pixels_to_lonlat(columns, rows[:, None], *mask.shape)
        distance = _angle(_cosine(lonlat_to_directions(*lonlat), near))
        strength = ((outer - distance) / fade).clamp(0.0, 1.0).float()
        part = mask[top:bottom, left:right]
        if stroke.mode == "paint":
            torch.maximum(part, strength, out=part)
        else:
            torch.minimum(part, 1.0 - strength, out=part)


def _arcs(stroke: Stroke) -> Tensor:
    """Pieces of a stroke [K,5,3]: start, end, normal, and the normals of the two planes that bound what is beside it."""
    lon, lat = torch.tensor(stroke.points, dtype=torch.float64).deg2rad().unbind(-1)
    points = lonlat_to_directions(lon, lat)
    start, end = (points, points) if len(points) == 1 else (points[:-1], points[1:])
    normal = torch.linalg.cross(start, end)
    length = normal.norm(dim=-1, keepdim=True)
    # A piece without length gets zeros, by which nothing is beside it and only its ends count.
    normal = torch.where(length > _NO_LENGTH, normal / length, 0.0)
    return torch.stack(
        [start, end, normal, torch.linalg.cross(normal, start), torch.linalg.cross(end, normal)], 1
    )


def _cosines(points: Tensor, arcs: Tensor) -> Tensor:
    """Cosine [...,K] of the distance of unit points [...,3] to each arc."""
    start, end, off, after, before = (points @ arcs.flatten(0, 1).T).unflatten(-1, (-1, 5)).unbind(-1)
    beside = (1.0 - off * off).clamp_min(0.0).sqrt()
    return torch.where((after > 0) & (before > 0), beside, torch.maximum(start, end))


def _cosine(points: Tensor, arcs: Tensor) -> Tensor:
    """Cosine [...] of the distance of unit points [...,3] to the nearest arc."""
    count = max(1, _CHUNK // points[..., 0].numel())
    best = None
    for part in arcs.split(count):
        cosine = _cosines(points, part).amax(-1)
        best = cosine if best is None else torch.maximum(best, cosine)
    return best


def _angle(cosine: Tensor) -> Tensor:
    return cosine.clamp(-1.0, 1.0).acos()
