"""The flat picture: rays of a pinhole camera at the centre of the sphere, and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .checks import check_directions, check_fov, check_size
from .rotation import rotation_matrix


def perspective_directions(
    height: int,
    width: int,
    fov_deg: float = 90.0,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Unit world directions [H,W,3] through the pixel centres; `fov_deg` is horizontal, pixels are square."""
    check_size("height", height)
    check_size("width", width)
    rows = torch.arange(height, dtype=dtype, device=device)
    rays = camera_rays(rows, height, width, check_fov(fov_deg))
    return rays @ rotation_matrix(yaw_deg, pitch_deg, roll_deg, dtype=dtype, device=device).T


def camera_rays(rows: Tensor, height: int, width: int, fov_deg: float) -> Tensor:
    """Unit directions [R,width,3] in the camera's own axes (right, up, forward) through the pixel centres of `rows` [R].

    They have the rows' dtype and device.
    """
    reach = math.tan(math.radians(fov_deg) / 2)
    columns = torch.arange(width, dtype=rows.dtype, device=rows.device)
    x = ((2.0 * columns + 1.0) / width - 1.0) * reach
    y = (1.0 - (2.0 * rows + 1.0) / height) * (reach * height / width)
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], -1) / (1.0 + x * x + y * y).sqrt()[..., None]


def perspective_pixels(
    directions: Tensor,
    height: int,
    width: int,
    fov_deg: float = 90.0,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Where directions [...,3] land in a flat picture: x, y (pixel centres at whole numbers) and whether
    inside it.
    """
    check_directions(directions)
    check_size("height", height)
    check_size("width", width)
    reach = math.tan(math.radians(check_fov(fov_deg)) / 2)
    turn = rotation_matrix(yaw_deg, pitch_deg, roll_deg, dtype=directions.dtype, device=directions.device)
    right, up, forward = (directions @ turn).unbind(-1)
    in_front = forward > 1e-6
    depth = torch.where(in_front, forward, torch.ones_like(forward)) * reach
    x = (right / depth + 1.0) * (width / 2) - 0.5
    y = (height - up / depth * width) / 2 - 0.5
    inside = in_front & (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return x, y, inside
