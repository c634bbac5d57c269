"""Rotations by yaw, pitch and roll: yaw turns right, pitch up, roll clockwise (as a head does, seen from
behind).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..runtime.errors import InputError
from .checks import check_angle, check_matrix


def rotation_matrix(
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Tensor:
    """Camera-to-world rotation [3,3] = yaw * pitch * roll; its columns are the camera's right, up and
    forward.

    `directions @ rotation_matrix(...).T` turns camera rays into world rays. Quarter turns are exact.
    """
    (cy, sy), (cp, sp), (cr, sr) = (
        _cos_sin(check_angle(name, value))
        for name, value in (("yaw_deg", yaw_deg), ("pitch_deg", pitch_deg), ("roll_deg", roll_deg))
    )
    yaw = torch.tensor([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]], dtype=torch.float64)
    pitch = torch.tensor([[1.0, 0.0, 0.0], [0.0, cp, sp], [0.0, -sp, cp]], dtype=torch.float64)
    roll = torch.tensor([[cr, sr, 0.0], [-sr, cr, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    return (yaw @ pitch @ roll).to(dtype=dtype, device=device)


def rotation_angles(matrix: Tensor) -> tuple[float, float, float]:
    """(yaw_deg, pitch_deg, roll_deg) of a rotation [3,3]; roll is 0 where the camera looks straight up or
    down.

    Raises `InputError` when the matrix is no rotation.
    """
    check_rotation("matrix", matrix)
    if matrix.ndim != 2:
        raise InputError(f"matrix has shape {tuple(matrix.shape)}; pass one rotation [3,3] at a time")
    r = matrix.detach().to("cpu", torch.float64).tolist()
    pitch = math.atan2(r[1][2], math.hypot(r[0][2], r[2][2]))
    if math.hypot(r[0][2], r[2][2]) < 1e-6:
        yaw, roll = math.atan2(-r[2][0], r[0][0]), 0.0
    else:
        yaw, roll = math.atan2(r[0][2], r[2][2]), math.atan2(-r[1][0], r[1][1])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def check_rotation(name: str, matrix: Tensor) -> None:
    """Raise `InputError` unless [...,3,3] is finite, orthonormal within 1e-3 and of determinant +1."""
    check_matrix(name, matrix, 3)
    wide = matrix.detach().to("cpu", torch.float64)
    error = float((wide.mT @ wide - torch.eye(3, dtype=torch.float64)).abs().max())
    if error > 1e-3:
        raise InputError(
            f"{name} is no rotation: its columns are off orthonormal by {error:.2g}; normalise them"
        )
    if float(torch.linalg.det(wide).min()) < 0:
        raise InputError(f"{name} mirrors (determinant -1); convert the pose with geometry.camera first")


def _cos_sin(angle_deg: float) -> tuple[float, float]:
    quarter, rest = divmod(angle_deg, 90.0)
    if rest == 0.0:
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(quarter) % 4]
    angle = math.radians(angle_deg)
    return math.cos(angle), math.sin(angle)
