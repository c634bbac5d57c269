"""What lies behind the border of a picture of the sphere, as weighted texels of the same picture.

Almost every sample reads texels inside the picture, and `grid_sample` does those. The few whose kernel
reaches over a border (the 0/360 degree seam, a pole, a cube edge) are listed here with the texels that they
really read; their cost follows the length of the border, not the size of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .cubemap import ADJACENCY
from .kernels import REACH, line_weights, plane_weights

# Samples this close (in texels) to needing the far side are listed too, so that rounding of a float32 grid,
# whose neighbour in memory may be an unrelated texel, cannot show.
_MARGIN = 2e-3


@dataclass(frozen=True)
class Patch:
    """Samples computed texel by texel: out[index] = sum over k of weights[:,k] * texels[taps[:,k]]."""

    index: Tensor
    taps: Tensor
    weights: Tensor


def reaches_over(x: Tensor, y: Tensor, height: int, width: int, mode: str) -> Tensor:
    """Positions [N] (int64) of the samples whose kernel at coordinates x, y [M] leaves height x width."""
    first, last = REACH[mode]

    def over(p: Tensor, size: int) -> Tensor:
        return (p < _MARGIN - first) | (p >= size - last - _MARGIN)

    return (over(x.detach(), width) | over(y.detach(), height)).nonzero().flatten()


def equirect_patch(x: Tensor, y: Tensor, height: int, width: int, mode: str) -> Patch | None:
    """The samples of an equirectangular picture next to the seam or a pole; x, y [M] are coordinates.

    Beyond a pole lies the same row again, half a turn around; beyond the last column lies the first.
    """
    if mode == "nearest":
        return None
    index = reaches_over(x, y, height, width, mode)
    rows, columns, weights = _kernel_texels(x[index], y[index], mode)
    above, below = rows < 0, rows >= height
    rows = torch.where(above, -1 - rows, torch.where(below, 2 * height - 1 - rows, rows)).clamp(0, height - 1)
    columns = torch.where(above | below, columns + width // 2, columns).remainder(width)
    return Patch(index, rows * width + columns, weights)


def cube_patch(face: Tensor, x: Tensor, y: Tensor, size: int, mode: str) -> Patch | None:
    """The samples of a cubemap next to an edge or a corner; taps count texels of six stacked faces.

    Across an edge the kernel runs over lines of texels parallel to it, some on this face and some on the
    neighbour. Each line is read where the curve (coordinate along the edge) / (1 + coordinate across) =
    constant through the sample meets it. The curves look the same from both faces, so both give one value on
    their common edge, and to second order they are straight: the mean of the two outermost lines is right at
    the edge.
    """
    if mode == "nearest":
        return None
    index = reaches_over(x, y, size, size, mode)
    face, x, y = face[index], x[index], y[index]
    far_x, far_y = x.detach() > (size - 1) / 2, y.detach() > (size - 1) / 2
    out_x, out_y = torch.where(far_x, x, size - 1 - x), torch.where(far_y, y, size - 1 - y)
    edge_x, edge_y = far_x.long(), 2 + far_y.long()
    over_x = (out_x >= out_y).detach()
    taps, weights = _edge_texels(
        face,
        torch.where(over_x, edge_x, edge_y),
        torch.where(over_x, out_x, out_y),
        torch.where(over_x, y, x),
        size,
        mode,
    )
    tx, ty = out_x - (size - 1), out_y - (size - 1)
    corner = ((2 * tx > ty) & (2 * ty > tx)).nonzero().flatten()
    if corner.numel():
        three = _corner_texels(face[corner], edge_x[corner], edge_y[corner], tx[corner], ty[corner], size)
        spare = (0, taps.shape[1] - 3)
        taps = taps.index_copy(0, corner, F.pad(three[0], spare))
        weights = weights.index_copy(0, corner, F.pad(three[1], spare))
    return Patch(index, taps, weights)


def _kernel_texels(x: Tensor, y: Tensor, mode: str) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns (int64, may lie outside) and weights [N,k*k] that the kernel reads at coordinates [N]."""
    x0, y0 = x.detach().floor(), y.detach().floor()
    weights = plane_weights(x - x0, y - y0, mode)
    first, last = REACH[mode]
    offsets = torch.arange(first, last + 1, device=x.device)
    rows = y0.long()[:, None, None] + offsets[:, None]
    columns = x0.long()[:, None, None] + offsets[None, :]
    rows, columns = torch.broadcast_tensors(rows, columns)
    return rows.flatten(1), columns.flatten(1), weights


def _edge_texels(
    face: Tensor, edge: Tensor, out: Tensor, along: Tensor, size: int, mode: str
) -> tuple[Tensor, Tensor]:
    """Texels and weights [N,k*k] of samples near one edge.

    `out` is the pixel coordinate towards the edge (size - 1/2 on it), `along` the one along it.
    """
    base = out.detach().floor()
    first, last = REACH[mode]
    lines = base.long()[:, None] + torch.arange(first, last + 1, device=out.device)
    behind = lines >= size
    depth = torch.where(behind, lines - size, size - 1 - lines).clamp(0, size - 1)
    where = torch.where(behind[:, -1:], _meet(out, along, depth, size), along[:, None])
    texels, shares = _line_texels(where, size, mode)
    taps = torch.where(
        behind[..., None],
        _texel_behind(face[:, None, None], edge[:, None, None], depth[..., None], texels, size),
        _texel(face[:, None, None], edge[:, None, None], depth[..., None], texels, size),
    )
    return taps.flatten(1), (line_weights(out - base, mode)[..., None] * shares).flatten(1)


def _corner_texels(
    face: Tensor, edge_x: Tensor, edge_y: Tensor, tx: Tensor, ty: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """The three texels around a corner of the cube, and barycentric weights [N,3] in their triangle.

    tx, ty in (0, 1/2] say how far the sample lies beyond the last centres. The neighbours' centres are seen
    at (1, 1/2) and (1/2, 1), since a neighbour's grid is slanted by half a texel there; the corner itself has
    thirds.
    """
    zero = torch.zeros_like(face)
    column = torch.where(edge_x == 1, size - 1, zero)
    row = torch.where(edge_y == 3, size - 1, zero)
    own = (face * size + row) * size + column
    beside = _texel_behind(face, edge_x, zero, row, size)
    above = _texel_behind(face, edge_y, zero, column, size)
    of_beside, of_above = (4.0 * tx - 2.0 * ty) / 3.0, (4.0 * ty - 2.0 * tx) / 3.0
    weights = torch.stack([1.0 - of_beside - of_above, of_beside, of_above], -1)
    return torch.stack([own, beside, above], -1), weights


def _meet(out: Tensor, along: Tensor, depth: Tensor, size: int) -> Tensor:
    """Coordinate along the edge at which the curve through each sample [N] meets lines `depth` [N,L] deep."""
    across = (2.0 * out + 1.0) / size
    slope = ((2.0 * along + 1.0) / size - 1.0) / across
    there = slope[:, None] * (2.0 - (2.0 * depth.to(out.dtype) + 1.0) / size)
    return (there + 1.0) * (size / 2) - 0.5


def _line_texels(p: Tensor, size: int, mode: str) -> tuple[Tensor, Tensor]:
    """Texels of one line, kept on it, and their weights [...,k] at pixel coordinate p.

    Beyond its ends the line goes on straight, where a cubic needs it to.
    """
    p = p.clamp(0, size - 1)
    base = p.detach().floor()
    first, last = REACH[mode]
    texels = base.long()[..., None] + torch.arange(first, last + 1, device=p.device)
    weights = line_weights(p - base, mode)
    if mode == "bicubic":
        a, b, c, d = weights.unbind(-1)
        before = torch.where(base == 0, a, 0.0)
        after = torch.where(base >= size - 2, d, 0.0)
        weights = torch.stack([a - before, b + 2 * before - after, c + 2 * after - before, d - after], -1)
    return texels.clamp(0, size - 1), weights


def _texel(face: Tensor, edge: Tensor, depth: Tensor, along: Tensor, size: int) -> Tensor:
    """Flat index of the texel `depth` inside an edge, at `along` on it (rows or columns, growing)."""
    across = torch.where(edge % 2 == 0, depth, size - 1 - depth)
    row, column = torch.where(edge < 2, along, across), torch.where(edge < 2, across, along)
    return (face * size + row) * size + column


def _texel_behind(face: Tensor, edge: Tensor, depth: Tensor, along: Tensor, size: int) -> Tensor:
    """The same on the other side of the edge."""
    other_face, other_edge, mirrored = torch.tensor(ADJACENCY, device=face.device)[face, edge].unbind(-1)
    along = torch.where(mirrored == 1, size - 1 - along, along)
    return _texel(other_face, other_edge, depth, along, size)
