"""Where a token looks, and which tokens of other faces it attends to: the tables of FaceRay, one set per scale.

Everything is derived from the cube's frames and adjacency in `geometry.cubemap`. A face of side n holds n·n tokens in
row-major order; the tokens of one scale are numbered face·n·n + row·n + column, faces in the order F R B L U D.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from ....geometry.cubemap import edge_neighbours, face_directions, face_frames
from ....runtime.errors import InputError

STRIP_WIDTH, WINDOW = 2, 2
DEGENERATE = 1e-6


@dataclass(frozen=True)
class SeamRule:
    """Which tokens touch a seam and which ones they see behind it.

    `strip_width`: rows along an edge that count as its boundary. `window`: tokens to either side of the one straight
    behind the edge. `depth_matched`: look as far behind the edge as the token lies before it; else at the row next to
    the edge, which is what the requirement asks for. Raises InputError for a width below 1 or a window below 0.
    """

    strip_width: int = STRIP_WIDTH
    window: int = WINDOW
    depth_matched: bool = False

    def __post_init__(self) -> None:
        for name, low in (("strip_width", 1), ("window", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise InputError(f"{name} must be a whole number of at least {low}, got {value!r}")


@dataclass(frozen=True)
class SeamTables:
    """The boundary tokens of one scale of side `side` and what lies behind their edges; int64 token numbers.

    `queries` [Q]: boundary tokens, ascending. `neighbours` [Q, K]: tokens of adjacent faces that each of them sees,
    ascending, `counts` [Q] of them valid and the rest −1. `opposite` [Q, 4]: the token straight behind each crossed
    edge in the order left, right, top, bottom, padded with −1.
    """

    side: int
    queries: Tensor
    neighbours: Tensor
    counts: Tensor
    opposite: Tensor


def ray_frames(side: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """D_ray [6, side·side, 3, 3] of every token: rows e_x, e_y, e_z, world → ray, e_z along the token's ray.

    e_y is the face's up without its part along the ray, e_x = e_y × e_z. Computed in float64.
    """
    e_z = face_directions(side, torch.float64).flatten(1, 2)
    _, right, up = (axis[:, None] for axis in face_frames(torch.float64).unbind(1))
    e_y = _perpendicular(up, e_z)
    length = e_y.norm(dim=-1, keepdim=True)
    # No ray through a cube face comes near its up axis; other callers' rays would.
    e_y = torch.where(length < DEGENERATE, _perpendicular(right, e_z), e_y)
    e_y = e_y / e_y.norm(dim=-1, keepdim=True)
    return torch.stack([torch.linalg.cross(e_y, e_z), e_y, e_z], dim=-2).to(dtype)


def _perpendicular(axis: Tensor, ray: Tensor) -> Tensor:
    return axis - (axis * ray).sum(-1, keepdim=True) * ray


def boundary_tokens(side: int, strip_width: int = STRIP_WIDTH) -> Tensor:
    """Numbers [Q] of the tokens within `strip_width` rows of an edge, all six faces, ascending."""
    return _edge_distances(side, strip_width)[0]


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def seam_tables(side: int, rule: SeamRule = SeamRule()) -> SeamTables:
    """The tables of one scale. A token at a corner of its face sees the union over the edges that it touches."""
    queries, distance = _edge_distances(side, rule.strip_width)
    row, column = queries % side**2 // side, queries % side
    along = torch.stack([row, row, column, column], dim=1)
    touches = distance < rule.strip_width
    depth = distance.clamp(max=rule.strip_width - 1) * touches if rule.depth_matched else 0 * distance
    behind = torch.stack([edge_neighbours(side, d) for d in range(int(depth.max()) + 1)])
    at = along[:, :, None] + torch.arange(-rule.window, rule.window + 1)
    valid = touches[:, :, None] & (at >= 0) & (at < side)
    face, edge = queries // side**2, torch.arange(4)
    seen = behind[depth[:, :, None], face[:, None, None], edge[:, None], at.clamp(0, side - 1)]
    neighbours, counts = _sorted_union(seen.flatten(1), valid.flatten(1), 6 * side**2)
    opposite = _packed(seen[:, :, rule.window], touches)
    return SeamTables(side, queries, neighbours, counts, opposite)


def _edge_distances(side: int, strip_width: int) -> tuple[Tensor, Tensor]:
    """Boundary tokens [Q] and their distance in rows [Q, 4] to the left, right, top and bottom edge."""
    line = torch.arange(side)
    row, column = (grid.flatten() for grid in torch.meshgrid(line, line, indexing="ij"))
    distance = torch.stack([column, side - 1 - column, row, side - 1 - row], dim=1)
    local = (distance < strip_width).any(dim=1).nonzero().flatten()
    queries = (torch.arange(6)[:, None] * side**2 + local).flatten()
    return queries, distance[local].repeat(6, 1)


def _sorted_union(values: Tensor, valid: Tensor, absent: int) -> tuple[Tensor, Tensor]:
    """Distinct valid numbers of each row, ascending and padded with −1 [Q, K], and how many there are [Q]."""
    ordered = torch.where(valid, values, absent).sort(dim=1).values
    again = torch.zeros_like(valid)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    ordered = torch.where(again, absent, ordered).sort(dim=1).values
    counts = (ordered < absent).sum(dim=1)
    ordered = ordered[:, : int(counts.max())]
    return torch.where(ordered < absent, ordered, -1), counts


def _packed(values: Tensor, valid: Tensor) -> Tensor:
    """The valid numbers of each row first, in their order, then −1."""
    order = (~valid).to(torch.int8).sort(dim=1, stable=True).indices
    return torch.where(valid, values, -1).gather(1, order)
