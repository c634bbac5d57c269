"""The losses that DiT360 was trained with, as published and done right (dit360 spec, section 6).

A panorama's velocity error is also measured after a yaw rotation and on a cubemap. The published maps are the
reference, kept number by number: their period is W − 1, they clamp at the seam, and rows count from the bottom.
`yaw_rotate` and `cube_map` are the same ideas without those faults.

An exact rotation only permutes the error, so that its yaw loss is the flow loss again; the published one differs
by the low-pass of its interpolation alone. The cube loss weighs directions by solid angle instead of by pixels.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...geometry import equirect_to_cubemap
from ...geometry.checks import check_angle, check_picture
from ...runtime.errors import InputError

PUBLISHED_YAWS_DEG = (60, 180, 300)
"""One of these is drawn for each training batch."""


def flow_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of two velocities [B, ...], float32. Raises InputError when the shapes differ."""
    if predicted.shape != target.shape:
        raise InputError(
            f"predicted is {list(predicted.shape)} and target {list(target.shape)}: give equal shapes"
        )
    return (predicted.float() - target.float()).square().mean()


def yaw_loss(predicted: Tensor, target: Tensor, yaw_deg: float, *, published: bool = True) -> Tensor:
    """`flow_loss` of velocities [B, C, H, W] turned by `yaw_deg`; `published=False` turns them exactly."""
    rotate = yaw_rotate_published if published else yaw_rotate
    return flow_loss(rotate(predicted, yaw_deg), rotate(target, yaw_deg))


def cube_loss(predicted: Tensor, target: Tensor, *, published: bool = True) -> Tensor:
    """`flow_loss` of velocities [B, C, H, W] on cube faces; `published=False` takes our own (2:1 only)."""
    project = cube_map_published if published else cube_map
    return flow_loss(project(predicted), project(target))


def published_losses(
    predicted: Tensor,
    target: Tensor,
    yaw_deg: float,
    *,
    yaw_weight: float = 0.5,
    cube_weight: float = 0.5,
) -> dict[str, Tensor]:
    """What the published training minimises from its third epoch on, for velocities [B, C, H, W].

    "loss" is flow + `yaw_weight`·yaw + `cube_weight`·cube; the parts stand beside it as "flow", "yaw" and "cube".
    The published training draws `yaw_deg` from `PUBLISHED_YAWS_DEG`.
    """
    flow = flow_loss(predicted, target)
    yaw, cube = yaw_loss(predicted, target, yaw_deg), cube_loss(predicted, target)
    return {"loss": flow + yaw_weight * yaw + cube_weight * cube, "flow": flow, "yaw": yaw, "cube": cube}


def yaw_rotate(x: Tensor, yaw_deg: float) -> Tensor:
    """Turn panoramas [B, C, H, W] to the right, which moves their content left by W·yaw/360 columns.

    A circular shift with period W, linear between columns; exact for multiples of 360/W degrees.
    """
    check_picture("x", x)
    shift = check_angle("yaw_deg", yaw_deg) * x.shape[-1] / 360.0
    whole = math.floor(shift)
    rest = shift - whole
    near = torch.roll(x, -whole, dims=-1)
    return near if rest == 0.0 else torch.lerp(near, torch.roll(x, -whole - 1, dims=-1), rest)


def cube_map(x: Tensor) -> Tensor:
    """Panoramas [B, C, H, 2H] → cube faces [B, 6, C, H/2, H/2] in the order F R B L U D, seen from inside.

    Half-pixel centres, wrapped at the seam and continued over the poles (`geometry.equirect_to_cubemap`). Raises
    InputError unless the width is twice the height.
    """
    return equirect_to_cubemap(x, max(1, x.shape[-2] // 2), antialias=False)


def yaw_rotate_published(x: Tensor, yaw_deg: float) -> Tensor:
    """The published yaw rotation of panoramas or their middle rows [B, C, H ≤ W/2, W].

    A whole panorama's first and last row lie so close to the poles that float32 puts them beyond: they come out
    turned by half a turn more. Raises InputError for other shapes.
    """
    _check_rows(x)
    return _read(x, _yaw_grid(*x.shape[-2:], check_angle("yaw_deg", yaw_deg)))


def cube_map_published(x: Tensor) -> Tensor:
    """The published cube map of panoramas or their middle rows [B, C, H ≤ W/2, W]: faces [B, 6, C, H/2, H/2].

    Faces +X −X +Y −Y +Z −Z in that map's own axes: ±X are mirrored, +Y shows the bottom rows. Good for a loss, not
    for display. Raises InputError for other shapes.
    """
    _check_rows(x)
    faces = _read(x, _cube_grid(*x.shape[-2:])).unflatten(-2, (6, -1))
    return faces.transpose(1, 2).contiguous()


def _check_rows(x: Tensor) -> None:
    check_picture("x", x)
    height, width = x.shape[-2:]
    if not 2 <= height <= width // 2:
        raise InputError(
            f"x is {width}×{height}: the published maps take the middle rows of a panorama, "
            f"2 to {width // 2} rows for this width"
        )


def _read(x: Tensor, grid: Tensor) -> Tensor:
    work = x.to(torch.promote_types(x.dtype, torch.float32))
    grid = grid.to(work.device, work.dtype).expand(len(x), -1, -1, -1)
    return F.grid_sample(work, grid, mode="bilinear", padding_mode="border", align_corners=True).to(x.dtype)


# Both grids are made in float32 on the CPU in the reference's order of operations, since its pole rows and the
# interpolation of noise are sensitive to the last bit. Directions are unbound from one [..., 3] tensor because
# torch's float32 atan2 rounds differently on contiguous and on strided numbers. Outside inference mode, so that
# a grid cached there also serves training.


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
def _yaw_grid(height: int, width: int, yaw_deg: float) -> Tensor:
    low, high = _latitudes(height, width)
    row, column = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    phi = low + (high - low) * (row / (height - 1))
    theta = -math.pi + 2 * math.pi * (column / (width - 1))
    directions = torch.stack([phi.cos() * theta.sin(), phi.sin(), phi.cos() * theta.cos()], dim=-1)
    cos, sin = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    x, y, z = directions.unbind(-1)
    return _grid_of(torch.stack([x * cos + z * sin, y, z * cos - x * sin], dim=-1), height, width)


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
def _cube_grid(height: int, width: int) -> Tensor:
    size = height // 2
    line = torch.linspace(-1.0, 1.0, size)
    p, q = torch.meshgrid(line, -line, indexing="ij")
    one = torch.ones_like(p)
    faces = ((one, q, p), (-one, q, -p), (p, one, q), (p, -one, -q), (p, q, one), (-p, q, -one))
    directions = torch.stack([torch.stack(face, dim=-1) for face in faces])
    grid = _grid_of(directions / directions.norm(dim=-1, keepdim=True), height, width)
    return torch.rot90(grid, dims=(1, 2)).flatten(0, 1)


def _grid_of(directions: Tensor, height: int, width: int) -> Tensor:
    """Coordinates [..., 2] in −1..1 for `grid_sample` of directions [..., 3] in a panorama or its middle rows."""
    low, high = _latitudes(height, width)
    x, y, z = directions.unbind(-1)
    v = (y.clamp(-1.0, 1.0).asin() - low) / (high - low) * (height - 1)
    u = (torch.atan2(x, z) + math.pi) / (2 * math.pi) * (width - 1)
    return torch.stack([u / (width - 1) * 2 - 1, v / (height - 1) * 2 - 1], dim=-1)


def _latitudes(height: int, width: int) -> tuple[float, float]:
    """Latitudes of the lower and upper border of the middle `height` rows of a panorama `width` wide."""
    full = width // 2
    start = (full - height) // 2
    return math.pi / 2 - math.pi * (start + height) / full, math.pi / 2 - math.pi * start / full
