"""The views of the 360 degree viewer: which direction every pixel of a window shows, in each of its modes.

The viewer's shader computes the same in the browser; this is its reference, and the way to render what the
viewer shows at any size. In every mode but the cubemaps the middle of the window shows (yaw, pitch). Cubemaps
are those of a camera turned by the pose, as `equirect_to_cubemap` makes them. In the flat modes yaw and pitch
move the picture under the window, and roll turns it in its plane.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..runtime.errors import InputError
from .checks import check_angle, check_equirect, check_mode, check_size
from .projections import EQUIRECTANGULAR, MAX_FOV_DEG, Unprojected, project, reach, unproject, window_centre
from .rotation import rotation_matrix
from .sampling import sample_equirect

_EXACT = torch.float64


@dataclass(frozen=True)
class ViewMode:
    """How a mode lays the sphere on the window's plane; an angle that it fixes is not None."""

    projection: str
    yaw_deg: float | None = None
    pitch_deg: float | None = None


VIEW_MODES = {
    "perspective": ViewMode("rectilinear"),
    "flat": ViewMode(EQUIRECTANGULAR),
    "seam": ViewMode(EQUIRECTANGULAR, yaw_deg=180.0),
    "zenith": ViewMode("rectilinear", pitch_deg=90.0),
    "nadir": ViewMode("rectilinear", pitch_deg=-90.0),
    "planet": ViewMode("stereographic"),
    "fisheye": ViewMode("fisheye"),
    "pannini": ViewMode("pannini"),
    "cubemap_cross": ViewMode("cubemap_cross"),
    "cubemap_3x2": ViewMode("cubemap_3x2"),
}
"""The modes in the order of the viewer's number keys. "planet" is a little planet where the pitch is -90
degrees and a tunnel where it is 90; "fisheye" is equidistant and ends at 90 degrees from its axis."""


@dataclass(frozen=True)
class View:
    """A window of `width` x `height` square pixels in a mode, with a pose in degrees.

    `fov_deg` belongs to the window's width, on the plane's central row: an angle in the modes of a camera, and
    a scale where the whole sphere lies flat (360 shows all longitudes, on cubemaps 90 is one face). Raises
    `InputError` for an unknown mode, a size below 1, angles that are not finite, or a field of view that the
    mode's plane does not have.
    """

    mode: str
    height: int
    width: int
    fov_deg: float
    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0

    def __post_init__(self) -> None:
        if self.mode not in VIEW_MODES:
            raise InputError(f"mode is {self.mode!r}; use one of {', '.join(VIEW_MODES)}")
        for name in ("height", "width"):
            check_size(name, getattr(self, name))
        for name in ("fov_deg", "yaw_deg", "pitch_deg", "roll_deg"):
            check_angle(name, getattr(self, name))
        limit = MAX_FOV_DEG.get(self.projection, math.inf)
        if not 0.0 < self.fov_deg < limit:
            above = "" if limit == math.inf else f" and below {limit:g}"
            raise InputError(
                f"fov_deg is {self.fov_deg:g}; in the mode {self.mode!r} it must be above 0{above}"
            )

    @property
    def projection(self) -> str:
        return VIEW_MODES[self.mode].projection

    @property
    def angles(self) -> tuple[float, float, float]:
        """(yaw_deg, pitch_deg, roll_deg) with those that the mode fixes."""
        fixed = VIEW_MODES[self.mode]
        yaw = self.yaw_deg if fixed.yaw_deg is None else fixed.yaw_deg
        pitch = self.pitch_deg if fixed.pitch_deg is None else fixed.pitch_deg
        return yaw, pitch, self.roll_deg

    @property
    def plane_per_pixel(self) -> float:
        """Width of a window pixel in units of the plane."""
        return 2.0 * reach(self.projection, self.fov_deg) / self.width


def view_directions(view: View) -> Tensor:
    """Unit world directions [H,W,3] in float64 through the pixel centres of a view.

    Outside of what the plane holds (`view_coverage` is 0) they are finite and mean nothing.
    """
    return _turned(view)[0]


def view_coverage(view: View) -> Tensor:
    """How much of each pixel [H,W] the picture covers, 0..1 in float64.

    It is less than 1 outside of a fisheye's circle, a flat picture or a cubemap's faces, with one pixel of
    linear transition centred on the border.
    """
    return (_turned(view)[1].border / view.plane_per_pixel + 0.5).clamp(0.0, 1.0)


def view_discontinuities(view: View, margin: float = 0.01, pole_deg: float = 0.01) -> Tensor:
    """Pixels [H,W] (bool) whose value rounding can change: those with a centre within `margin` pixels of a
    line where neighbouring faces do not belong together, or within `pole_deg` degrees of a pole, where
    longitude is undefined.

    Neither the meridian at the back nor the border of the covered part is among them: the picture wraps
    around, and the border is a transition (see `view_coverage`).
    """
    directions, plane = _turned(view)
    at_pole = torch.hypot(directions[..., 0], directions[..., 2]) <= math.radians(pole_deg)
    return (plane.jump / view.plane_per_pixel <= margin) | at_pole


def view_positions(view: View, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where world directions [...,3] of any length appear in a view: x, y (pixel centres at whole numbers)
    and whether inside the window; the inverse of `view_directions`.
    """
    yaw, pitch, roll = view.angles
    rays = directions / directions.norm(dim=-1, keepdim=True)
    flat = view.projection == EQUIRECTANGULAR
    turn = rotation_matrix(yaw, *((0.0, 0.0) if flat else (pitch, roll)), dtype=rays.dtype)
    x, y, held = project(view.projection, rays @ turn.to(rays.device))
    if flat:
        x, y = _rolled(x, y - math.radians(pitch), -roll)
    centre = window_centre(view.projection, view.fov_deg, view.height, view.width)
    column = (x - centre[0]) / view.plane_per_pixel + view.width / 2 - 0.5
    row = view.height / 2 - (y - centre[1]) / view.plane_per_pixel - 0.5
    inside = held & (column >= -0.5) & (column <= view.width - 0.5)
    return column, row, inside & (row >= -0.5) & (row <= view.height - 0.5)


def equirect_to_view(pixels: Tensor, view: View, mode: str = "bilinear", background: float = 0.0) -> Tensor:
    """What a view shows of equirectangular pictures [B,C,H,2H]: [B,C,view.height,view.width].

    Pixels are read as points at full resolution, without antialiasing; what the picture does not cover has the
    value `background`. Raises `InputError` for pictures that are not 2:1 and unknown modes of sampling.
    """
    check_equirect("pixels", pixels)
    check_mode(mode)
    shown = sample_equirect(pixels, view_directions(view).to(pixels.device), mode)
    covered = view_coverage(view).to(shown)
    return background + (shown - background) * covered


def _turned(view: View) -> tuple[Tensor, Unprojected]:
    """World directions [H,W,3] and what the plane says about the pixel centres of a view."""
    yaw, pitch, roll = view.angles
    per_pixel = view.plane_per_pixel
    centre = window_centre(view.projection, view.fov_deg, view.height, view.width)
    columns = torch.arange(view.width, dtype=_EXACT) + 0.5 - view.width / 2
    rows = view.height / 2 - 0.5 - torch.arange(view.height, dtype=_EXACT)
    y, x = torch.meshgrid(rows * per_pixel + centre[1], columns * per_pixel + centre[0], indexing="ij")
    if view.projection == EQUIRECTANGULAR:
        x, y = _rolled(x, y, roll)
        plane = unproject(view.projection, x, y + math.radians(pitch))
        return plane.rays @ rotation_matrix(yaw).T, plane
    plane = unproject(view.projection, x, y)
    unit = plane.rays / plane.rays.norm(dim=-1, keepdim=True)
    return unit @ rotation_matrix(yaw, pitch, roll).T, plane


def _rolled(x: Tensor, y: Tensor, roll_deg: float) -> tuple[Tensor, Tensor]:
    """Plane points as a camera rolled clockwise sees them."""
    (cos, sin, _), *_ = rotation_matrix(0.0, 0.0, roll_deg).tolist()
    return cos * x + sin * y, cos * y - sin * x
