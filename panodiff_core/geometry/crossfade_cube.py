"""Close the edges of a cubemap from elsewhere by spreading the jump at each edge over the pixels beside it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..runtime.errors import InputError
from .checks import check_cube
from .crossfade import smoothed
from .cubemap import ADJACENCY, EDGES, edge_neighbours, edge_texels

_LEFT, _RIGHT, _TOP, _BOTTOM = range(len(EDGES))
# The other edge at either end of an edge, and which end of that it is: (edge, end).
_PARTNERS = (
    ((_TOP, 0), (_BOTTOM, 0)),
    ((_TOP, 1), (_BOTTOM, 1)),
    ((_LEFT, 0), (_RIGHT, 0)),
    ((_LEFT, 1), (_RIGHT, 1)),
)


def crossfade_cube(faces: Tensor, pixels: int, *, smooth_rows: float | None = None) -> Tensor:
    """Spread the jumps at the 12 edges of cube faces [B, 6, C, S, S] over `pixels` on either side.

    Both faces are extrapolated to their common edge, and half of the difference is taken away on each side, falling
    linearly to 0; near a corner the three faces go to their mean. Nothing is mixed with another part of the picture.
    The jump is smoothed along the edge by a Gaussian of `smooth_rows` pixels (None: half of `pixels`), which keeps fine
    texture, that no two faces sample at the same rays, out of it. Faces that agree stay as they are: the extrapolation
    of a smooth picture is off by about S⁻² of its curvature. Values may leave 0..1 by the size of the correction.

    Returns a new tensor of the same shape and dtype. Raises InputError for other shapes, integers, `pixels` that do not
    fit twice into a face, or a negative `smooth_rows`.
    """
    check_cube("faces", faces)
    size = faces.shape[-1]
    if isinstance(pixels, bool) or not isinstance(pixels, int) or not 2 <= pixels <= size // 2:
        raise InputError(f"pixels must be a whole number from 2 to {size // 2}, half a face, got {pixels!r}")
    smooth_rows = pixels / 2 if smooth_rows is None else smooth_rows
    if not 0.0 <= smooth_rows < math.inf:
        raise InputError(f"smooth_rows must be 0 or more pixels, got {smooth_rows!r}")
    exact = faces if faces.dtype == torch.float64 else faces.float()
    halves = smoothed(_half_jumps(exact), smooth_rows)
    place = torch.arange(size, device=exact.device, dtype=exact.dtype)
    fall = (1.0 - (place + 0.5) / pixels).clamp_min(0.0)
    return (exact + _spread(halves, fall)).to(faces.dtype)


def _half_jumps(faces: Tensor) -> Tensor:
    """[B, C, 6, 4, S]: what to add at each edge of each face, half the way to its neighbour."""
    size = faces.shape[-1]
    flat = faces.transpose(1, 2).flatten(2)

    def at_edge(near: Tensor, far: Tensor) -> Tensor:
        return 1.5 * flat[:, :, near] - 0.5 * flat[:, :, far]

    own = at_edge(*(edge_texels(size, depth, faces.device) for depth in (0, 1)))
    other = at_edge(*(edge_neighbours(size, depth, faces.device) for depth in (0, 1)))
    return (other - own) / 2


def _spread(halves: Tensor, fall: Tensor) -> Tensor:
    """The corrections [B, 6, C, S, S] of all pixels, from those at the edges [B, C, 6, 4, S].

    Between the two edges of a corner they are blended as in a Coons patch, so that each edge keeps its own.
    """
    ends = halves[..., [0, -1]]
    shift = (_at(ends, _own_partners()) + _at(ends, _neighbours_partners())) / 3
    edges = halves + shift[..., :1] * fall + shift[..., 1:] * fall.flip(0)
    corner = ends + shift
    corner = (corner + _at(corner, _own_partners())) / 2
    rows, columns = edges[..., None], edges[..., None, :]
    back = fall.flip(0)
    total = rows[..., _LEFT, :, :] * fall + rows[..., _RIGHT, :, :] * back
    total = total + columns[..., _TOP, :, :] * fall[:, None] + columns[..., _BOTTOM, :, :] * back[:, None]
    for edge, across in ((_LEFT, fall), (_RIGHT, back)):
        for end, down in enumerate((fall, back)):
            total = total - corner[..., edge, end, None, None] * (down[:, None] * across)
    return total.transpose(1, 2)


def _at(ends: Tensor, place: Tensor) -> Tensor:
    """Values of ends [B, C, 6, 4, 2] at `place` [6, 4, 2], which counts their last three axes as one."""
    return ends.flatten(2)[:, :, place.to(ends.device)]


def _number(face: int, edge: int, end: int) -> int:
    other, its_end = _PARTNERS[edge][end]
    return (face * 4 + other) * 2 + its_end


def _own_partners() -> Tensor:
    """For each (face, edge, end) the same corner on the face's other edge [6, 4, 2]."""
    return torch.tensor(
        [[[_number(face, edge, end) for end in (0, 1)] for edge in range(4)] for face in range(6)]
    )


def _neighbours_partners() -> Tensor:
    """The same corner on the edge that the neighbour behind (face, edge) has with the third face."""

    def behind(face: int, edge: int, end: int) -> int:
        other = ADJACENCY[face][edge]
        return _number(other.face, other.edge, 1 - end if other.reversed else end)

    return torch.tensor(
        [[[behind(face, edge, end) for end in (0, 1)] for edge in range(4)] for face in range(6)]
    )
