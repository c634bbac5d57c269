"""Seams of a cubemap: each face continued over its edges and compared with what its neighbour shows there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from ..geometry.cubemap import ADJACENCY, EDGES, FACES, face_frames
from ..runtime.errors import InputError
from .ring import DISTANCES

MIN_FACE_SIZE = 2 * DISTANCES[-1]


def _columns_outwards(face: Tensor, side: str) -> Tensor:
    """[B,C,S,S] turned so that its last column lies at `side`; rows then run along the edge, `_edge_axes`
    says how.
    """
    if side == "right":
        return face
    if side == "left":
        return face.flip(-1)
    # Image rows run downwards (-b): the top row becomes the last column and rows run along +a.
    upright = face.transpose(-1, -2)
    return upright.flip(-1) if side == "top" else upright


def _edge_axes(frame: Tensor, side: str) -> tuple[Tensor, Tensor, Tensor]:
    """(normal, outward, along): `along` is the direction in which the rows of `_columns_outwards` advance."""
    normal, right, up = frame
    return {
        "right": (normal, right, -up),
        "left": (normal, -right, -up),
        "top": (normal, up, right),
        "bottom": (normal, -up, right),
    }[side]


def _continued(
    faces: Tensor, frames: Tensor, axes: tuple[Tensor, Tensor, Tensor], neighbour: int, depth: int
) -> Tensor:
    """[B,C,S,depth]: the next `depth` columns beyond an edge, on the face's own plane, read from the
    neighbour alone.
    """
    normal, outward, along = axes
    size = faces.shape[-1]
    count = torch.arange(size, dtype=frames.dtype)
    t = (2 * (count + 0.5) / size - 1)[:, None, None]
    u = (1 + (2 * torch.arange(depth, dtype=frames.dtype) + 1) / size)[:, None]
    rays = normal + u * outward + t * along
    n, a, b = frames[neighbour]
    grid = torch.stack([rays @ a, -(rays @ b)], dim=-1) / (rays @ n)[..., None]
    grid = grid.to(faces)[None].expand(faces.shape[0], -1, -1, -1)
    return grid_sample(faces[:, neighbour], grid, mode="bilinear", padding_mode="border", align_corners=False)


def _shifted_along(columns: Tensor, depth: int) -> Tensor:
    """Columns [B,C,S,n] read off their pixel centres along the edge by as much as `_continued` does at that
    depth.

    Reading between pixels smooths fine texture a little. The steps inside a face are taken with and without
    that smoothing, so that neither side of the comparison is sharper than the other.
    """
    size = columns.shape[-2]
    t = 2 * (torch.arange(size, dtype=columns.dtype, device=columns.device) + 0.5) / size - 1
    t = t / (1 + (2 * depth - 1) / size)
    grid = torch.stack([torch.zeros_like(t), t], dim=-1)[None, :, None]
    batch, channels, _, count = columns.shape
    single = columns.permute(0, 3, 1, 2).reshape(batch * count, channels, size, 1)
    read = grid_sample(
        single,
        grid.expand(batch * count, -1, -1, -1),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return read.reshape(batch, count, channels, size).permute(0, 2, 3, 1)


def _steps_at_side(own: Tensor, beyond: Tensor, distance: int) -> tuple[Tensor, Tensor]:
    """([B], [B]): mean |step| at one distance across a side, and of the pairs just inside it."""
    across = (beyond[..., :distance] - own[..., -distance:]).abs().mean(dim=(1, 2, 3))
    pairs = max(2, distance // 4)
    near, far = own[..., -pairs:], own[..., -pairs - distance : own.shape[-1] - distance]
    plain = (near - far).abs().mean(dim=(1, 2, 3))
    smooth = (_shifted_along(near, distance) - _shifted_along(far, distance)).abs().mean(dim=(1, 2, 3))
    return across, 0.5 * (plain + smooth)


def cube_edge_ratios(faces: Tensor) -> tuple[dict[int, Tensor], tuple[str, ...]]:
    """Seam ratios across the 12 edges of a cubemap [B,6,3,S,S] (faces in the order F, R, B, L, U, D).

    Returns {distance: [B,12]} for 1, 2, 8 and 16 pixels, and the names of the edges ("F-R", …). Each face is
    continued over the edge on its own plane, sampled from the neighbour, and compared with its outermost
    columns; both directions are averaged. The quotient is by the same difference just inside the edge on both
    faces, where pixels cover nearly the same angle; for smooth pictures the rest of that difference shows as
    about -(d+2)/S. Raises `InputError` for another shape or faces below 32 pixels.
    """
    if faces.ndim != 5 or faces.shape[1] != 6 or faces.shape[-1] != faces.shape[-2]:
        raise InputError(f"cube faces are [B,6,C,S,S], got {list(faces.shape)}.")
    if faces.shape[-1] < MIN_FACE_SIZE:
        raise InputError(f"cube seams need faces of at least {MIN_FACE_SIZE} pixels, got {faces.shape[-1]}.")
    frames = face_frames(torch.float64)
    sums: dict[tuple[str, int], list[tuple[Tensor, Tensor]]] = {}
    for index, name in enumerate(FACES):
        for side, adjacent in zip(EDGES, ADJACENCY[index], strict=True):
            edge = "-".join(sorted((name, FACES[adjacent.face]), key=FACES.index))
            own = _columns_outwards(faces[:, index], side)
            axes = _edge_axes(frames[index], side)
            beyond = _continued(faces, frames, axes, adjacent.face, DISTANCES[-1])
            for distance in DISTANCES:
                sums.setdefault((edge, distance), []).append(_steps_at_side(own, beyond, distance))
    names = tuple(dict.fromkeys(edge for edge, _ in sums))
    return {d: torch.stack([_edge_ratio(sums[edge, d]) for edge in names], dim=1) for d in DISTANCES}, names


def gradient_energy(faces: Tensor, border: int = 4) -> tuple[Tensor, Tensor]:
    """([B,6], [B,6]): mean squared step between neighbouring pixels of faces [B,6,C,S,S], among the outer `border`
    pixels and among the others.

    Steps between the two parts belong to neither. Grey or blurred borders show as little energy in the first. Raises
    `InputError` for another shape, or a border that leaves less than two pixels inside.
    """
    size = faces.shape[-1]
    if faces.ndim != 5 or faces.shape[1] != 6 or size != faces.shape[-2]:
        raise InputError(f"cube faces are [B,6,C,S,S], got {list(faces.shape)}.")
    if not 2 <= border <= size // 2 - 1:
        raise InputError(
            f"a border of {border} pixels does not fit faces of {size}: it takes 2 to {size // 2 - 1}."
        )
    depth = torch.arange(size, device=faces.device)
    depth = torch.minimum(depth, size - 1 - depth)
    outer = torch.minimum(depth[:, None], depth[None]) < border
    across = (faces[..., 1:] - faces[..., :-1]).square().mean(dim=2)
    down = (faces[..., 1:, :] - faces[..., :-1, :]).square().mean(dim=2)

    def energy(part: Tensor) -> Tensor:
        beside, below = part[:, 1:] & part[:, :-1], part[1:] & part[:-1]
        return torch.cat([across[..., beside], down[..., below]], dim=-1).mean(dim=-1)

    return energy(outer), energy(~outer)


def _edge_ratio(both_ways: list[tuple[Tensor, Tensor]]) -> Tensor:
    across = sum(pair[0] for pair in both_ways)
    inside = sum(pair[1] for pair in both_ways)
    return torch.where((across == 0) & (inside == 0), torch.ones_like(across), across / inside)
