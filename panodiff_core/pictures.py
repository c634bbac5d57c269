"""What `decode` returns: pixels with their layout and cameras, each with a way to a panorama."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .runtime.errors import InputError


@dataclass(frozen=True)
class Camera:
    """A flat view from the sphere's centre; `fov_deg` is the horizontal field of view, between 0 and 180."""

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    fov_deg: float = 90.0

    def __post_init__(self) -> None:
        values = (self.yaw_deg, self.pitch_deg, self.roll_deg, self.fov_deg)
        if not all(math.isfinite(v) for v in values) or not 0.0 < self.fov_deg < 180.0:
            raise InputError(f"a camera needs finite angles and 0 < fov_deg < 180, got {values}")


@dataclass(frozen=True)
class Panorama:
    """Equirectangular pictures: `pixels` [B, 3, H, W] in 0..1. The centre looks forward.

    Like all pictures here, raises InputError for another shape, for integers and for NaN.
    """

    pixels: Tensor

    def __post_init__(self) -> None:
        _check("a panorama", self.pixels, ("B", 3, "H", "W"))

    def to_equirect(self) -> Panorama:
        """Itself."""
        return self


@dataclass(frozen=True)
class CubeFaces:
    """Cube maps: `pixels` [B, 6, 3, S, S] in 0..1, faces in the order F, R, B, L, U, D."""

    pixels: Tensor

    def __post_init__(self) -> None:
        _check("cube faces", self.pixels, ("B", 6, 3, "S", "S"))

    def to_equirect(self, height: int | None = None, fade: int = 0) -> Panorama:
        """The panorama seen from the cube's centre, height × 2·height; height is 2S by default.

        `fade` spreads what jumps at the 12 edges over so many pixels of each face (`geometry.crossfade_cube`), 2 … S/2;
        0 leaves the faces as they are.
        """
        from .geometry import crossfade_cube, cubemap_to_equirect
        from .geometry.checks import check_fade

        check_fade("fade", fade, self.pixels.shape[-1])
        faces = self.pixels if fade == 0 else crossfade_cube(self.pixels, fade)
        return Panorama(cubemap_to_equirect(faces, height).clamp(0.0, 1.0))


@dataclass(frozen=True)
class Views:
    """Perspective views: `pixels` [B, N, 3, H, W] in 0..1 with one `Camera` per view."""

    pixels: Tensor
    cameras: tuple[Camera, ...]

    def __post_init__(self) -> None:
        _check("views", self.pixels, ("B", "N", 3, "H", "W"))
        object.__setattr__(self, "cameras", tuple(self.cameras))
        if len(self.cameras) != self.pixels.shape[1]:
            raise InputError(f"{self.pixels.shape[1]} views need as many cameras, got {len(self.cameras)}")

    def to_equirect(self, height: int | None = None) -> Panorama:
        """All views painted onto one sphere, height × 2·height; black where no camera looked.

        Where views overlap they fade into each other, each weighted by the distance to its own border. By
        default the panorama has the pixels per degree of the first view's centre, rounded up to a multiple of
        16.
        """
        from .geometry import perspective_to_equirect

        height = self._natural_height() if height is None else height
        tent = _tent(*self.pixels.shape[-2:]).to(self.pixels).expand(len(self.pixels), 1, -1, -1)
        total = weight = 0.0
        for view, camera in zip(self.pixels.unbind(1), self.cameras, strict=True):
            pose = (camera.fov_deg, camera.yaw_deg, camera.pitch_deg, camera.roll_deg)
            painted, share = perspective_to_equirect(torch.cat([view, tent], dim=1), height, *pose)
            fade = painted[:, 3:] * share
            total, weight = total + painted[:, :3] * fade, weight + fade
        return Panorama((total / weight.clamp_min(1e-6)).clamp(0.0, 1.0))

    def _natural_height(self) -> int:
        reach = math.tan(math.radians(self.cameras[0].fov_deg) / 2.0)
        return math.ceil(math.pi * self.pixels.shape[-1] / (2.0 * reach) / 16.0) * 16


@dataclass(frozen=True)
class Sequence:
    """Panoramas in time: `pixels` [B, T, 3, H, W] in 0..1."""

    pixels: Tensor

    def __post_init__(self) -> None:
        _check("a sequence", self.pixels, ("B", "T", 3, "H", "W"))

    def to_equirect(self) -> Panorama:
        """All frames as panoramas [B·T, 3, H, W], in order."""
        return Panorama(self.pixels.flatten(0, 1))


def _tent(height: int, width: int) -> Tensor:
    """Weight [1, 1, height, width]: 1 at the centre, falling to almost 0 at the border."""
    lines = (1.0 - ((torch.arange(n) + 0.5) * 2.0 / n - 1.0).abs() for n in (height, width))
    rows, columns = lines
    return torch.minimum(rows[:, None], columns[None, :])[None, None]


def _check(what: str, pixels: Tensor, layout: tuple[str | int, ...]) -> None:
    name = f"[{', '.join(map(str, layout))}]"
    if not isinstance(pixels, Tensor) or not pixels.is_floating_point():
        raise InputError(f"{what} must be a floating point tensor {name}, got {type(pixels).__name__}")
    shape = tuple(pixels.shape)
    fits = len(shape) == len(layout) and 0 not in shape
    fits = fits and all(
        isinstance(want, str) or want == have for want, have in zip(layout, shape, strict=True)
    )
    if fits and layout[-1] == "S":
        fits = shape[-1] == shape[-2]
    if not fits:
        raise InputError(f"{what} must be {name}, got {list(shape)}")
    if not torch.isfinite(pixels).all():
        raise InputError(f"{what} must be finite: the pixels hold NaN or infinite values")
