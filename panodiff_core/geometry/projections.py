"""Planes that the sphere is laid on: from a point of the plane to a ray of the camera, and back.

Plane coordinates are x to the right and y up, with the camera's forward direction at the origin. Rays are in
the camera's own axes (right, up, forward). Sources: J. P. Snyder, Map Projections: A Working Manual (USGS
Professional Paper 1395, 1987) for gnomonic, stereographic, azimuthal equidistant and equidistant
cylindrical; T. K. Sharpless, B. Postle, D. M. German, Pannini: A New Projection for Rendering Wide Angle
Perspective Images (Computational Aesthetics 2010) with d = 1 and no vertical compression.

Rectilinear, Pannini and stereographic are one family: the ray of (x, y) is (x, y, 1 - (a x^2 + b y^2) / 4)
with the bends (a, b) = (0, 0), (1, 0) and (1, 1). The plane point of a ray (X, Y, Z) solves a quadratic:
(x, y) = s (X, Y), s = 2 / (Z + sqrt(Z^2 + a X^2 + b Y^2)).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .cubemap import FRAMES, directions_to_faces
from .sphere import directions_to_lonlat, lonlat_to_directions

BENDS = {"rectilinear": (0.0, 0.0), "pannini": (1.0, 0.0), "stereographic": (1.0, 1.0)}
FISHEYE, EQUIRECTANGULAR = "fisheye", "equirectangular"

CELLS = {
    "cubemap_cross": ((0, 0), (1, 0), (2, 0), (-1, 0), (0, 1), (0, -1)),
    "cubemap_3x2": ((0, 0), (1, 0), (2, 0), (0, -1), (1, -1), (2, -1)),
}
"""(column, row) of the faces F R B L U D: columns to the right of F, rows above it. A cell is 2 units wide."""

PROJECTIONS = (*BENDS, FISHEYE, EQUIRECTANGULAR, *CELLS)

MAX_FOV_DEG = {"rectilinear": 180.0, "pannini": 359.99, "stereographic": 359.99}
"""Horizontal fields of view stay below these; for all other projections they are a scale without a limit."""


class Unprojected(NamedTuple):
    """What lies at plane points [...]: the camera's rays [...,3] (not normalised), the distance in plane units
    to the border of what the plane holds (negative outside) and to the nearest line where the rays jump.
    """

    rays: Tensor
    border: Tensor
    jump: Tensor


def reach(projection: str, fov_deg: float) -> float:
    """Half the width, in plane units, of a window with this horizontal field of view.

    Fisheye and equirectangular planes are in radians; on a cubemap a face is 2 units and 90 degrees wide.
    """
    if projection in CELLS:
        return fov_deg / 90.0
    half = math.radians(fov_deg) / 2
    if projection in BENDS:
        x, z = math.sin(half), math.cos(half)
        return 2.0 * x / (z + math.sqrt(z * z + BENDS[projection][0] * x * x))
    return half


def window_centre(projection: str, fov_deg: float, height: int, width: int) -> tuple[float, float]:
    """The plane point in the middle of a window: the origin, except on cubemaps.

    A window that holds a whole cubemap shows it centred; one that is 90 degrees wide is centred on face F;
    between the two, the centre moves evenly with the field of view.
    """
    if projection not in CELLS:
        return 0.0, 0.0
    columns, rows = zip(*CELLS[projection], strict=True)
    wide, high = max(columns) - min(columns) + 1, max(rows) - min(rows) + 1
    fit = 90.0 * max(wide, high * width / height)
    share = min(max((fov_deg - 90.0) / (fit - 90.0), 0.0), 1.0)
    return share * (max(columns) + min(columns)), share * (max(rows) + min(rows))


def unproject(projection: str, x: Tensor, y: Tensor) -> Unprojected:
    """What lies at the plane points (x, y); see `Unprojected`."""
    if projection in CELLS:
        return _unproject_cube(projection, x, y)
    far = torch.full_like(x, math.inf)
    if projection == FISHEYE:
        angle = torch.hypot(x, y)
        across = torch.sinc(angle / math.pi)
        rays = torch.stack([x * across, y * across, angle.cos()], -1)
        return Unprojected(rays, math.pi / 2 - angle, far)
    if projection == EQUIRECTANGULAR:
        border = torch.minimum(math.pi - x.abs(), math.pi / 2 - y.abs())
        return Unprojected(lonlat_to_directions(x, y), border, far)
    a, b = BENDS[projection]
    return Unprojected(torch.stack([x, y, 1.0 - (a * x * x + b * y * y) / 4], -1), far, far)


def project(projection: str, rays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Plane points x, y [...] of unit rays [...,3] in the camera's axes, and whether the plane holds them.

    Where it does not (behind a rectilinear camera, outside a fisheye's circle) x and y are finite but mean
    nothing.
    """
    if projection in CELLS:
        face, u, v = directions_to_faces(rays)
        cells = torch.tensor(CELLS[projection], dtype=rays.dtype, device=rays.device)[face]
        return 2.0 * cells[..., 0] + u, 2.0 * cells[..., 1] + v, torch.ones_like(face, dtype=torch.bool)
    if projection == EQUIRECTANGULAR:
        lon, lat = directions_to_lonlat(rays)
        return lon, lat, torch.ones_like(lon, dtype=torch.bool)
    right, up, forward = rays.unbind(-1)
    if projection == FISHEYE:
        across = torch.hypot(right, up)
        angle = torch.atan2(across, forward)
        scale = torch.where(
            across > 0, angle / across.clamp(min=torch.finfo(across.dtype).tiny), torch.ones_like(angle)
        )
        return right * scale, up * scale, angle <= math.pi / 2
    a, b = BENDS[projection]
    depth = forward + (forward * forward + a * right * right + b * up * up).sqrt()
    held = depth > 2e-6
    scale = 2.0 / torch.where(held, depth, torch.full_like(depth, 2.0))
    return right * scale, up * scale, held


def _unproject_cube(projection: str, x: Tensor, y: Tensor) -> Unprojected:
    column, row, border, jump = (_cross_cell if projection == "cubemap_cross" else _block_cell)(x, y)
    rays = torch.zeros(*x.shape, 3, dtype=x.dtype, device=x.device)
    for (at_column, at_row), frame in zip(CELLS[projection], FRAMES, strict=True):
        normal, right, up = torch.tensor(frame, dtype=x.dtype, device=x.device)
        u, v = (x - 2 * at_column)[..., None], (y - 2 * at_row)[..., None]
        here = (column == at_column) & (row == at_row)
        rays = torch.where(here[..., None], normal + u * right + v * up, rays)
    return Unprojected(rays, border, jump)


def _cross_cell(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Column, row, border and jump distance on the cross: a belt L F R B and a column U F D.

    Neighbours in the cross are neighbours on the cube, so nothing jumps inside.
    """
    belt = torch.minimum(torch.minimum(x + 3, 5 - x), 1 - y.abs())
    pillar = torch.minimum(1 - x.abs(), 3 - y.abs())
    in_pillar = pillar > belt
    column = torch.where(in_pillar, 0, ((x + 1) / 2).floor().clamp(-1, 2))
    row = torch.where(in_pillar, ((y + 1) / 2).floor().clamp(-1, 1), 0)
    return column, row, torch.maximum(belt, pillar), torch.full_like(x, math.inf)


def _block_cell(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `_cross_cell` on the block F R B over L U D: only F R B are neighbours on the cube."""
    border = torch.minimum(torch.minimum(x + 1, 5 - x), torch.minimum(1 - y, y + 3))
    column = ((x + 1) / 2).floor().clamp(0, 2)
    lower = y < -1
    across = torch.minimum((x - 1).abs(), (x - 3).abs())
    jump = torch.where(lower, torch.minimum(across, (y + 1).abs()), (y + 1).abs())
    return column, torch.where(lower, -1, 0), border, jump
