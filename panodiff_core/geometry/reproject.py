"""From one picture of the sphere to another: equirectangular, cubemap, perspective, turned by yaw, pitch and
roll.

Pixels are [B,C,H,W] floats of any kind (float16 and bfloat16 are computed in float32), cubemaps [B,6,C,S,S]
in the order F R B L U D. All functions are differentiable in the pixels, keep dtype and device, and treat the
whole batch with one pose. `yaw_deg` turns the camera right, `pitch_deg` up, `roll_deg` clockwise. `mode` is
"bilinear", "bicubic" (Catmull-Rom) or "nearest". With `antialias` a target coarser than its source is
averaged instead of picked at points (see `antialias`); "nearest" is for labels and is never averaged. Every
function raises `InputError`, which is a `ValueError`, naming the input that cannot be used.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .antialias import average, oversampling
from .canvas import working_dtype
from .checks import check_angle, check_cube, check_equirect, check_fov, check_mode, check_picture, check_size
from .layouts import CubeLayout, EquirectLayout, Layout, PerspectiveLayout
from .rotation import rotation_angles, rotation_matrix
from .sampling import Angles, sample_layout


def equirect_to_cubemap(
    pixels: Tensor,
    size: int | None = None,
    mode: str = "bilinear",
    antialias: bool = True,
    *,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
) -> Tensor:
    """Cube faces [B,6,C,S,S] of equirectangular pictures [B,C,H,2H]; S is H/2 by default."""
    check_equirect("pixels", pixels)
    source = EquirectLayout(pixels.shape[-2])
    target = CubeLayout(check_size("size", max(1, source.height // 2) if size is None else size))
    return _reproject(pixels, source, target, _angles(yaw_deg, pitch_deg, roll_deg), mode, antialias)[0]


def cubemap_to_equirect(
    faces: Tensor,
    height: int | None = None,
    mode: str = "bilinear",
    antialias: bool = True,
    *,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
) -> Tensor:
    """Equirectangular pictures [B,C,H,2H] of cube faces [B,6,C,S,S]; H is 2S by default."""
    check_cube("faces", faces)
    source = CubeLayout(faces.shape[-1])
    target = EquirectLayout(check_size("height", 2 * source.size if height is None else height))
    return _reproject(faces, source, target, _angles(yaw_deg, pitch_deg, roll_deg), mode, antialias)[0]


def equirect_to_perspective(
    pixels: Tensor,
    height: int,
    width: int,
    fov_deg: float = 90.0,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    mode: str = "bilinear",
    antialias: bool = True,
) -> Tensor:
    """The flat pictures [B,C,height,width] that a camera with horizontal field of view `fov_deg` takes
    inside.
    """
    check_equirect("pixels", pixels)
    target = _perspective(height, width, fov_deg)
    angles = _angles(yaw_deg, pitch_deg, roll_deg)
    return _reproject(pixels, EquirectLayout(pixels.shape[-2]), target, angles, mode, antialias)[0]


def cubemap_to_perspective(
    faces: Tensor,
    height: int,
    width: int,
    fov_deg: float = 90.0,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    mode: str = "bilinear",
    antialias: bool = True,
) -> Tensor:
    """As `equirect_to_perspective`, from cube faces [B,6,C,S,S]."""
    check_cube("faces", faces)
    target = _perspective(height, width, fov_deg)
    angles = _angles(yaw_deg, pitch_deg, roll_deg)
    return _reproject(faces, CubeLayout(faces.shape[-1]), target, angles, mode, antialias)[0]


def perspective_to_equirect(
    pixels: Tensor,
    height: int,
    fov_deg: float = 90.0,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    mode: str = "bilinear",
    antialias: bool = True,
) -> tuple[Tensor, Tensor]:
    """Paint flat pictures [B,C,h,w], taken by a camera with that pose, onto the sphere.

    Returns equirectangular pictures [B,C,height,2*height], 0 where the camera did not look, and the share
    [1,1,height,2*height] of each pixel that it saw, 0..1.
    """
    return _from_perspective(pixels, EquirectLayout(check_size("height", height)), fov_deg,
                             _angles(yaw_deg, pitch_deg, roll_deg), mode, antialias)  # fmt: skip


def perspective_to_cubemap(
    pixels: Tensor,
    size: int,
    fov_deg: float = 90.0,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    mode: str = "bilinear",
    antialias: bool = True,
) -> tuple[Tensor, Tensor]:
    """As `perspective_to_equirect`, onto cube faces [B,6,C,size,size], with the share [1,6,1,size,size]."""
    return _from_perspective(pixels, CubeLayout(check_size("size", size)), fov_deg,
                             _angles(yaw_deg, pitch_deg, roll_deg), mode, antialias)  # fmt: skip


def rotate_equirect(
    pixels: Tensor,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    mode: str = "bilinear",
) -> Tensor:
    """What equirectangular pictures [B,C,H,2H] show to a camera turned by these angles.

    Turning right by yaw moves the picture left. A yaw alone by a whole number of pixels is an exact roll.
    """
    check_equirect("pixels", pixels)
    check_mode(mode)
    angles = _angles(yaw_deg, pitch_deg, roll_deg)
    if angles[1:] == (0.0, 0.0):
        shift = angles[0] / 360.0 * pixels.shape[-1]
        if abs(shift - round(shift)) < 1e-6:
            return torch.roll(pixels, -round(shift), dims=-1)
    layout = EquirectLayout(pixels.shape[-2])
    return _reproject(pixels, layout, layout, angles, mode, False)[0]


def rotate_cubemap(
    faces: Tensor, yaw_deg: float = 0.0, pitch_deg: float = 0.0, roll_deg: float = 0.0, mode: str = "bilinear"
) -> Tensor:
    """What cube faces [B,6,C,S,S] show to a camera turned by these angles."""
    check_cube("faces", faces)
    layout = CubeLayout(faces.shape[-1])
    return _reproject(faces, layout, layout, _angles(yaw_deg, pitch_deg, roll_deg), mode, False)[0]


def _from_perspective(
    pixels: Tensor, target: Layout, fov_deg: float, angles: Angles, mode: str, antialias: bool
) -> tuple[Tensor, Tensor]:
    check_picture("pixels", pixels)
    source = _perspective(pixels.shape[-2], pixels.shape[-1], fov_deg)
    # The target looks forward and the source camera is turned: seen from the source, the target is turned
    # back.
    back = rotation_angles(rotation_matrix(*angles).T)
    out, share = _reproject(pixels, source, target, back, mode, antialias)
    share = share.to(out.dtype)
    if isinstance(target, CubeLayout):
        share = share.view(1, 6, 1, target.size, target.size)
    else:
        share = share.view(1, 1, *share.shape)
    return out * (share > 0), share


def _reproject(
    pixels: Tensor, source: Layout, target: Layout, angles: Angles, mode: str, antialias: bool
) -> tuple[Tensor, Tensor | None]:
    check_mode(mode)
    dtype = pixels.dtype
    pool, rays = oversampling(source, target) if antialias and mode != "nearest" else (1, 1)
    if pool > 1:
        pixels = average(pixels.to(working_dtype(dtype)), pool)
    out, inside = sample_layout(source.divided(pool), pixels, target, angles, mode, rays)
    return out.to(dtype), inside


def _perspective(height: int, width: int, fov_deg: float) -> PerspectiveLayout:
    return PerspectiveLayout(check_size("height", height), check_size("width", width), check_fov(fov_deg))


def _angles(yaw_deg: float, pitch_deg: float, roll_deg: float) -> Angles:
    named = (("yaw_deg", yaw_deg), ("pitch_deg", pitch_deg), ("roll_deg", roll_deg))
    return tuple(check_angle(name, value) + 0.0 for name, value in named)
