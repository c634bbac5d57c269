"""The three pictures of a sphere as values: their size, their rays and how fine they are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from .cubemap import FRAMES, directions_from_faces
from .perspective import camera_rays
from .sphere import equirect_pixels_to_lonlat, lonlat_to_directions

# Rays are made in float64 on the CPU, whatever the picture's dtype and device: the grids then agree
# everywhere.
_EXACT = torch.float64


@dataclass(frozen=True)
class EquirectLayout:
    """An equirectangular picture `height` pixels high and twice as wide."""

    height: int
    panels: ClassVar[int] = 1

    @property
    def rows(self) -> int:
        return self.height

    @property
    def width(self) -> int:
        return 2 * self.height

    @property
    def pitch(self) -> float:
        """Angle between neighbouring pixels where they are farthest apart, in radians (here: the equator)."""
        return math.pi / self.height

    def divides(self, factor: int) -> bool:
        return self.height % factor == 0

    def scaled(self, factor: int) -> EquirectLayout:
        return replace(self, height=self.height * factor)

    def divided(self, factor: int) -> EquirectLayout:
        return replace(self, height=self.height // factor)

    def directions(self, first: int, last: int) -> Tensor:
        """Unit directions [last-first, width, 3] of the pixel rows first..last-1."""
        columns = torch.arange(self.width, dtype=_EXACT)
        rows = torch.arange(first, last, dtype=_EXACT)
        return lonlat_to_directions(
            *equirect_pixels_to_lonlat(columns, rows[:, None], self.height, self.width)
        )


@dataclass(frozen=True)
class CubeLayout:
    """Six faces of `size` pixels, stacked F R B L U D from top to bottom."""

    size: int
    panels: ClassVar[int] = 6

    @property
    def rows(self) -> int:
        return 6 * self.size

    @property
    def width(self) -> int:
        return self.size

    @property
    def pitch(self) -> float:
        """Angle between neighbouring pixels where they are farthest apart, in radians (here: the face
        centre).
        """
        return 2.0 / self.size

    def divides(self, factor: int) -> bool:
        return self.size % factor == 0

    def scaled(self, factor: int) -> CubeLayout:
        return replace(self, size=self.size * factor)

    def divided(self, factor: int) -> CubeLayout:
        return replace(self, size=self.size // factor)

    def directions(self, first: int, last: int) -> Tensor:
        """Unit directions [last-first, width, 3] of the stacked pixel rows first..last-1."""
        rows = torch.arange(first, last)
        frames = torch.tensor(FRAMES, dtype=_EXACT)[rows // self.size]
        u = (2.0 * torch.arange(self.size, dtype=_EXACT) + 1.0) / self.size - 1.0
        v = 1.0 - (2.0 * (rows % self.size).to(_EXACT) + 1.0) / self.size
        return directions_from_faces(frames, u[None, :], v[:, None])


@dataclass(frozen=True)
class PerspectiveLayout:
    """A flat picture with a horizontal field of view in degrees, looking forward."""

    height: int
    width: int
    fov_deg: float
    panels: ClassVar[int] = 1

    @property
    def rows(self) -> int:
        return self.height

    @property
    def pitch(self) -> float:
        """Angle between neighbouring pixels where they are farthest apart, in radians (here: the image
        centre).
        """
        return 2.0 * math.tan(math.radians(self.fov_deg) / 2) / self.width

    def divides(self, factor: int) -> bool:
        return self.height % factor == 0 and self.width % factor == 0

    def scaled(self, factor: int) -> PerspectiveLayout:
        return replace(self, height=self.height * factor, width=self.width * factor)

    def divided(self, factor: int) -> PerspectiveLayout:
        return replace(self, height=self.height // factor, width=self.width // factor)

    def directions(self, first: int, last: int) -> Tensor:
        """Unit directions [last-first, width, 3] of the pixel rows first..last-1."""
        rows = torch.arange(first, last, dtype=_EXACT)
        return camera_rays(rows, self.height, self.width, self.fov_deg)


Layout = EquirectLayout | CubeLayout | PerspectiveLayout
