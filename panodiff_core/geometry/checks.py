"""What the geometry functions accept, and the errors that say what to do instead."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..runtime.errors import InputError

MODES = ("bilinear", "bicubic", "nearest")


def check_mode(mode: str) -> str:
    """Return `mode` when it is one of `MODES`."""
    if mode not in MODES:
        raise InputError(f"mode is {mode!r}; use one of {', '.join(MODES)}")
    return mode


def check_floating(name: str, pixels: Tensor) -> None:
    """Pixels are floats; a byte picture has to be scaled first."""
    if not isinstance(pixels, Tensor):
        raise InputError(f"{name} is a {type(pixels).__name__}; pass a torch tensor")
    if not pixels.is_floating_point():
        raise InputError(
            f"{name} has dtype {pixels.dtype}; convert it to floats in 0..1, e.g. {name}.float() / 255"
        )


def _check_not_empty(name: str, pixels: Tensor) -> None:
    if pixels.numel() == 0:
        raise InputError(
            f"{name} has shape {tuple(pixels.shape)} and holds no pixels; every dimension must be >= 1"
        )


def check_equirect(name: str, pixels: Tensor) -> None:
    """[B,C,H,W] floats with W = 2 H."""
    check_floating(name, pixels)
    if pixels.ndim != 4:
        raise InputError(
            f"{name} has shape {tuple(pixels.shape)}; an equirectangular picture is [B,C,H,W] "
            "(add a batch dimension with .unsqueeze(0))"
        )
    _check_not_empty(name, pixels)
    height, width = pixels.shape[-2:]
    if width != 2 * height:
        raise InputError(
            f"{name} is {width}x{height} pixels; an equirectangular picture is twice as wide as high: "
            f"resize it to {2 * height}x{height} or crop the part that covers 360x180 degrees"
        )


def check_cube(name: str, faces: Tensor) -> None:
    """[B,6,C,S,S] floats."""
    check_floating(name, faces)
    if faces.ndim != 5 or faces.shape[1] != 6:
        raise InputError(
            f"{name} has shape {tuple(faces.shape)}; a cubemap is [B,6,C,S,S], faces in the order F R B L U D"
        )
    _check_not_empty(name, faces)
    if faces.shape[-1] != faces.shape[-2]:
        raise InputError(
            f"{name} has faces of {faces.shape[-1]}x{faces.shape[-2]} pixels; cube faces are square"
        )


def check_picture(name: str, pixels: Tensor) -> None:
    """[B,C,H,W] floats of any size."""
    check_floating(name, pixels)
    if pixels.ndim != 4:
        raise InputError(f"{name} has shape {tuple(pixels.shape)}; pass [B,C,H,W]")
    _check_not_empty(name, pixels)


def check_directions(directions: Tensor) -> None:
    """[...,3] floats."""
    check_floating("directions", directions)
    if directions.ndim < 1 or directions.shape[-1] != 3:
        raise InputError(f"directions has shape {tuple(directions.shape)}; the last dimension holds X, Y, Z")


def check_size(name: str, value: int) -> int:
    """A positive whole number of pixels."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; pass a whole number of pixels, at least 1")
    return value


def check_fade(name: str, pixels: int, size: int) -> None:
    """Pixels over which the edges of cube faces of `size` pixels are faded; 0 is off."""
    whole = isinstance(pixels, int) and not isinstance(pixels, bool)
    if not whole or not (pixels == 0 or 2 <= pixels <= size // 2):
        raise InputError(f"{name} must be 0, or from 2 to {size // 2}, half a face, got {pixels!r}")


def check_fov(fov_deg: float) -> float:
    """A horizontal field of view that a flat picture can have."""
    value = check_angle("fov_deg", fov_deg)
    if not 0.0 < value < 180.0:
        raise InputError(
            f"fov_deg is {value:g}; a perspective picture needs a horizontal field of view between 0 and 180 "
            "degrees (both excluded; 60 to 100 look natural)"
        )
    return value


def check_angle(name: str, value: float) -> float:
    """A finite number of degrees."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name} is {value!r}; pass a finite number of degrees")
    return number


def check_matrix(name: str, matrix: Tensor, size: int) -> None:
    """[...,size,size] floats."""
    check_floating(name, matrix)
    if matrix.ndim < 2 or tuple(matrix.shape[-2:]) != (size, size):
        raise InputError(f"{name} has shape {tuple(matrix.shape)}; pass [...,{size},{size}]")
    if not bool(torch.isfinite(matrix).all()):
        raise InputError(f"{name} holds NaN or infinity; pass finite numbers")
