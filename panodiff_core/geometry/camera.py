"""Camera poses and lenses, and the way to other conventions.

A pose here is a camera-to-world matrix [4,4] in our axes: the columns are the camera's right, up, forward
(+X, +Y, +Z, left-handed) and its position. OpenCV and COLMAP: x right, y down, z forward. OpenGL, Blender
cameras and NeRF data: x right, y up, z backward. Both of those are right-handed, so a whole change of
convention mirrors the world's axis together with the camera's; rotations stay proper (determinant +1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..runtime.errors import InputError
from .checks import check_fov, check_matrix, check_size
from .rotation import check_rotation, rotation_angles, rotation_matrix

CUBE_FACE_ANGLES_DEG = ((0.0, 0.0), (90.0, 0.0), (180.0, 0.0), (-90.0, 0.0), (0.0, 90.0), (0.0, -90.0))
"""(yaw_deg, pitch_deg) of the cameras that see the faces F R B L U D at 90 degrees."""


def pose_matrix(
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    position: Sequence[float] = (0.0, 0.0, 0.0),
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Tensor:
    """Camera-to-world matrix [4,4] in our axes; the position is in world units."""
    if len(position) != 3:
        raise InputError(f"position has {len(position)} numbers; pass X, Y and Z")
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = rotation_matrix(yaw_deg, pitch_deg, roll_deg)
    pose[:3, 3] = torch.tensor([float(p) for p in position], dtype=torch.float64)
    return pose.to(dtype=dtype, device=device)


def pose_angles(pose: Tensor) -> tuple[float, float, float]:
    """(yaw_deg, pitch_deg, roll_deg) of one pose [4,4] in our axes."""
    check_pose("pose", pose)
    return rotation_angles(pose[..., :3, :3])


def check_pose(name: str, pose: Tensor) -> None:
    """Raise `InputError` unless pose [...,4,4] is finite, ends in 0 0 0 1 and holds a proper rotation."""
    check_matrix(name, pose, 4)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    if float((pose[..., 3, :].detach().to("cpu", torch.float64) - last).abs().max()) > 1e-6:
        raise InputError(
            f"{name} has a last row other than 0 0 0 1; it may be transposed: pass camera-to-world matrices"
        )
    check_rotation(f"{name}[:3,:3]", pose[..., :3, :3])


def to_opencv(pose: Tensor) -> Tensor:
    """Our camera-to-world pose [...,4,4] as OpenCV's (world and camera: x right, y down, z forward)."""
    return _flip(pose, (1.0, -1.0, 1.0), both=True)


def from_opencv(pose: Tensor) -> Tensor:
    """OpenCV camera-to-world pose [...,4,4] in our axes; the inverse of `to_opencv`."""
    return _flip(pose, (1.0, -1.0, 1.0), both=True)


def to_opengl(pose: Tensor) -> Tensor:
    """Our camera-to-world pose [...,4,4] as OpenGL's (world and camera: x right, y up, z backward)."""
    return _flip(pose, (1.0, 1.0, -1.0), both=True)


def from_opengl(pose: Tensor) -> Tensor:
    """OpenGL camera-to-world pose [...,4,4] in our axes; the inverse of `to_opengl`."""
    return _flip(pose, (1.0, 1.0, -1.0), both=True)


def opencv_to_opengl(pose: Tensor, *, keep_world: bool = False) -> Tensor:
    """OpenCV camera-to-world [...,4,4] to OpenGL's, or back (the conversion is its own inverse).

    With `keep_world` only the camera's axes change (M diag(1,-1,-1,1)): for data with a shared world.
    """
    return _flip(pose, (1.0, -1.0, -1.0), both=not keep_world)


def intrinsics(
    height: int,
    width: int,
    fov_deg: float,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Tensor:
    """Pinhole matrix K [3,3] in pixels for a horizontal field of view; square pixels, pixel centres at +1/2.

    K maps OpenCV camera axes (x right, y down, z forward) to pixels, so pixel (column j, row i)
    is (j+1/2, i+1/2).
    """
    focal = fov_to_focal(fov_deg, width)
    k = [
        [focal, 0.0, check_size("width", width) / 2],
        [0.0, focal, check_size("height", height) / 2],
        [0.0, 0.0, 1.0],
    ]
    return torch.tensor(k, dtype=dtype, device=device)


def fov_to_focal(fov_deg: float, width: int) -> float:
    """Focal length in pixels of a picture `width` pixels wide with this horizontal field of view."""
    return 0.5 * check_size("width", width) / math.tan(math.radians(check_fov(fov_deg)) / 2)


def focal_to_fov(focal_px: float, width: int) -> float:
    """Horizontal field of view in degrees of a picture `width` pixels wide with this focal length."""
    if not (math.isfinite(focal_px) and focal_px > 0):
        raise InputError(f"focal_px is {focal_px!r}; pass a positive number of pixels")
    return math.degrees(2.0 * math.atan(0.5 * check_size("width", width) / focal_px))


def vertical_fov(fov_deg: float, height: int, width: int) -> float:
    """Vertical field of view in degrees that belongs to a horizontal one, for square pixels."""
    half = (
        math.tan(math.radians(check_fov(fov_deg)) / 2)
        * check_size("height", height)
        / check_size("width", width)
    )
    return math.degrees(2.0 * math.atan(half))


def _flip(pose: Tensor, signs: tuple[float, float, float], both: bool) -> Tensor:
    check_pose("pose", pose)
    sign = pose.new_tensor([*signs, 1.0])
    flipped = pose * sign
    return flipped * sign[:, None] if both else flipped
