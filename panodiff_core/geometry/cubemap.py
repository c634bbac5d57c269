"""The cubemap: frames of the six faces, their rays, and which edge touches which.

Faces in the order F R B L U D. Face normal n, image-right a, image-up b; pixel centres u = 2(j+1/2)/S - 1,
v = 1 - 2(i+1/2)/S; direction = normalise(n + u a + v b). Everything below is derived from the frames.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .checks import check_directions, check_size

FACES = ("F", "R", "B", "L", "U", "D")
EDGES = ("left", "right", "top", "bottom")

Axis = tuple[int, int, int]

# (normal, right, up) of each face.
FRAMES: tuple[tuple[Axis, Axis, Axis], ...] = (
    ((0, 0, 1), (1, 0, 0), (0, 1, 0)),
    ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    ((0, 0, -1), (-1, 0, 0), (0, 1, 0)),
    ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
    ((0, 1, 0), (1, 0, 0), (0, 0, -1)),
    ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
)


class Adjacent(NamedTuple):
    """What lies behind an edge: indices into `FACES` and `EDGES`, and whether the index along it runs the
    other way.
    """

    face: int
    edge: int
    reversed: bool


def _negative(axis: Axis) -> Axis:
    return (-axis[0], -axis[1], -axis[2])


def _outward_and_along(face: int, edge: int) -> tuple[Axis, Axis]:
    """Direction out of the face across an edge, and the direction in which the row or column index grows
    along it.
    """
    _, right, up = FRAMES[face]
    outward = (_negative(right), right, up, _negative(up))[edge]
    return outward, _negative(up) if edge < 2 else right


def _find_adjacent(face: int, edge: int) -> Adjacent:
    outward, along = _outward_and_along(face, edge)
    other = next(g for g in range(6) if FRAMES[g][0] == outward)
    back = next(e for e in range(4) if _outward_and_along(other, e)[0] == FRAMES[face][0])
    return Adjacent(other, back, _outward_and_along(other, back)[1] != along)


ADJACENCY: tuple[tuple[Adjacent, ...], ...] = tuple(
    tuple(_find_adjacent(face, edge) for edge in range(4)) for face in range(6)
)
"""`ADJACENCY[face][edge]`: the neighbour behind that edge."""

CUBE_EDGES: tuple[tuple[int, int], ...] = tuple(
    (face, edge) for face in range(6) for edge in range(4) if face < ADJACENCY[face][edge].face
)
"""The 12 edges of the cube, each named once as (face, edge) of its first face."""


def face_frames(dtype: torch.dtype = torch.float32, device: torch.device | str | None = None) -> Tensor:
    """Frames [6,3,3]: for each face the rows normal, right, up."""
    return torch.tensor(FRAMES, dtype=dtype, device=device)


def face_directions(
    size: int, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> Tensor:
    """Unit directions [6,S,S,3] through the pixel centres of the faces F R B L U D."""
    check_size("size", size)
    centres = (2.0 * torch.arange(size, dtype=dtype, device=device) + 1.0) / size - 1.0
    return directions_from_faces(face_frames(dtype, device), centres[None, None, :], -centres[None, :, None])


def directions_from_faces(frames: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Unit directions of plane coordinates (u, v) on faces with frames [F,3,3]; u, v broadcast against
    [F,...].
    """
    n, a, b = (frames[:, k].reshape(-1, *[1] * (max(u.ndim, v.ndim) - 1), 3) for k in range(3))
    direction = n + u[..., None] * a + v[..., None] * b
    return direction / (1.0 + u * u + v * v).sqrt()[..., None]


def directions_to_faces(directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(face int64 [...], u [...], v [...]) of directions [...,3] of any length; u and v lie in [-1, 1].

    The face is the one whose normal is nearest. A ray exactly on an edge belongs to the first of the pairs
    F/B, R/L, U/D.
    """
    check_directions(directions)
    x, y, z = directions.unbind(-1)
    ax, ay, az = x.abs(), y.abs(), z.abs()
    on_z = (az >= ax) & (az >= ay)
    on_x = ~on_z & (ax >= ay)
    depth = torch.where(on_z, az, torch.where(on_x, ax, ay))
    depth = torch.where(depth == 0, torch.ones_like(depth), depth)
    # F/B: u = +-x, v = y.  R/L: u = -+z, v = y.  U/D: u = x, v = -+z.
    u = torch.where(on_z, torch.where(z < 0, -x, x), torch.where(on_x, torch.where(x < 0, z, -z), x)) / depth
    v = torch.where(on_z | on_x, y, torch.where(y < 0, z, -z)) / depth
    face = torch.where(on_z, (z < 0) * 2, torch.where(on_x, 1 + (x < 0) * 2, 4 + (y < 0) * 1))
    return face, u, v


def edge_texels(size: int, depth: int = 0, device: torch.device | str | None = None) -> Tensor:
    """Flat texel indices face*S*S + row*S + column [6,4,S] of the line of texels `depth` away from each edge.

    Along an edge the index grows with the row (left, right) or the column (top, bottom).
    """
    check_size("size", size)
    along = torch.arange(size, device=device)
    near, far = torch.full_like(along, depth), torch.full_like(along, size - 1 - depth)
    rows = torch.stack([along, along, near, far])
    columns = torch.stack([near, far, along, along])
    faces = torch.arange(6, device=device).reshape(6, 1, 1) * (size * size)
    return faces + rows * size + columns


def edge_neighbours(size: int, depth: int = 0, device: torch.device | str | None = None) -> Tensor:
    """Flat texel indices [6,4,S] of the texels that face `edge_texels(size, depth)` across each edge.

    The neighbour has the same position along the edge (mirrored where the edge is reversed) and the same
    depth behind it.
    """
    lines = edge_texels(size, depth, device)
    rows = []
    for face in range(6):
        for edge in range(4):
            other = ADJACENCY[face][edge]
            line = lines[other.face, other.edge]
            rows.append(line.flip(0) if other.reversed else line)
    return torch.stack(rows).reshape(6, 4, size)
