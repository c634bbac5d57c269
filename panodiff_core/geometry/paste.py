"""A perspective picture, edited, back into the panorama that it was taken out of.

Only what was changed is put back. The edited picture is compared with what the panorama shows there; where they differ
by more than an 8-bit file rounds, pixels of the panorama are replaced by the edited picture, resampled once. An unedited
picture so changes nothing at all, also after it went through a PNG or half precision.

The two simpler ways are worse. To replace the whole view blurs what nobody touched, which by then was resampled twice. To
add the resampled difference also leaves the unedited alone, but it keeps what the view could not hold of the old picture
(finer detail than its pixels, and what its kernel softened): what was painted over shines through.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..runtime.errors import InputError
from .antialias import average, oversampling
from .bounds import Window, equirect_windows
from .camera import vertical_fov
from .canvas import flat_canvas, sample_canvas, working_dtype
from .checks import check_angle, check_equirect, check_fov, check_mode, check_picture
from .kernels import REACH, smoothstep
from .layouts import EquirectLayout, PerspectiveLayout
from .plans import make_plan
from .reproject import equirect_to_perspective
from .rotation import rotation_matrix
from .sphere import equirect_pixels_to_lonlat, lonlat_to_directions

# Differences up to the first count as none (an 8-bit file is off by up to 1/255), from the second on as all.
_SAME, _CHANGED = 1.5 / 255.0, 4.0 / 255.0

# Side of the squares over which changes are spread and then smoothed: single pixels that an edit happened to leave as they
# were are replaced too, and the border of what is replaced is soft.
_SPREAD = 5

# Samples worked on at a time.
_BAND = 1 << 18


def paste_perspective(
    panorama: Tensor,
    edited: Tensor,
    fov_deg: float = 90.0,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    mode: str = "bilinear",
    *,
    feather_deg: float = 0.0,
    mask: Tensor | None = None,
    original: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Put flat pictures [B,C,h,w] back into panoramas [B,C,H,2H], taken out by `equirect_to_perspective` at this pose.

    Pixels are in 0..1. `edited` may have another size than what was taken out, in the same proportions. `original` is
    the picture as it was before the edit, at the size of `edited`; by default it is taken out again with `mode`.
    `mask` [B,1,h,w], 0..1, says where edits count; all do by default. Edits fade out over the last `feather_deg` degrees
    before the border of the view, at most half its smaller field of view. A batch of one meets any number.

    Returns new panoramas, with the dtype and device of `panorama`, and the share [B,1,H,2H] to which every pixel was
    replaced; where that is 0, the panorama is bit by bit as it was. Raises `InputError` for shapes that do not fit
    together, NaN in any of `edited`, `original` and `mask`, and a feather that is too wide.
    """
    check_mode(mode)
    batch = _check(panorama, edited, mask, original)
    lens = PerspectiveLayout(*edited.shape[-2:], check_fov(fov_deg))
    feather = _check_feather(feather_deg, lens)
    pose = tuple(
        check_angle(name, value)
        for name, value in (("yaw_deg", yaw_deg), ("pitch_deg", pitch_deg), ("roll_deg", roll_deg))
    )
    if original is None:
        original = equirect_to_perspective(panorama, lens.height, lens.width, lens.fov_deg, *pose, mode=mode)
    dtype = working_dtype(panorama.dtype)
    share = _changes(edited.to(dtype), original.to(dtype))
    if mask is not None:
        share = share * mask.to(share).clamp(0.0, 1.0)
    result = panorama.expand(batch, -1, -1, -1).clone()
    replaced = panorama.new_zeros(batch, 1, *panorama.shape[-2:])
    height = panorama.shape[-2]
    pool, rays = oversampling(lens, EquirectLayout(height)) if mode != "nearest" else (1, 1)
    layers = torch.cat([layer.expand(batch, -1, -1, -1) for layer in (edited.to(dtype), share)], 1)
    patch = _Patch(
        average(layers, pool),
        lens.divided(pool),
        rotation_matrix(*pose),
        feather,
        mode,
        rays,
        *_range(edited.to(dtype)),
    )
    for window in patch.windows(height):
        for band in _bands(window, rays):
            _paste(result, replaced, patch, band)
    return result, replaced


@dataclass(frozen=True)
class _Patch:
    """Colours and share [B,C+1,h,w] that `lens` took, turned by `turn` (camera to world), read `rays` x `rays` per pixel."""

    layers: Tensor
    lens: PerspectiveLayout
    turn: Tensor
    feather: float
    mode: str
    rays: int
    low: Tensor
    high: Tensor

    def windows(self, height: int) -> tuple[Window, ...]:
        """Where in a panorama something is to be replaced."""
        used = (self.layers[:, -1] > 0).any(0)
        if not bool(used.any()):
            return ()
        rows, columns = used.any(1).nonzero(), used.any(0).nonzero()
        reach = REACH[self.mode][1] + 1  # what kernels read beyond, and half a pixel
        y = torch.stack([rows[0] - reach, rows[-1] + 1 + reach]).flatten().double().cpu()
        x = torch.stack([columns[0] - reach, columns[-1] + 1 + reach]).flatten().double().cpu()
        lens = self.lens
        scale = 2.0 * math.tan(math.radians(lens.fov_deg) / 2) / lens.width
        x = (x.clamp(0, lens.width) - lens.width / 2) * scale
        y = (lens.height / 2 - y.clamp(0, lens.height)) * scale
        around = torch.stack([x[[0, 1, 1, 0]], y[[0, 0, 1, 1]], torch.ones(4, dtype=x.dtype)], -1)
        return equirect_windows(F.normalize(around, dim=-1) @ self.turn.T, height)


def _paste(result: Tensor, replaced: Tensor, patch: _Patch, band: Window) -> None:
    """Put the patch into one band of the panoramas, in place."""
    rays = _directions(band, result.shape[-2], patch.rays) @ patch.turn
    canvas = flat_canvas(patch.layers)
    plan = make_plan(patch.lens, rays, patch.mode).to(canvas.device, canvas.dtype)
    read = sample_canvas(canvas, plan, padding="border")[0].unflatten(0, (len(result), -1))
    inside = _inside(rays, patch.lens, patch.feather).to(read)
    share = average(read[:, -1:].clamp(0.0, 1.0) * inside, patch.rays)
    colour = average(read[:, :-1], patch.rays).clamp(patch.low, patch.high)
    place = (..., slice(band.top, band.bottom), slice(band.left, band.right))
    before = result[place]
    mixed = torch.lerp(before.to(colour), colour, share).to(before.dtype)
    result[place] = torch.where(share > 0, mixed, before)
    replaced[place] = share.to(replaced.dtype)


def _changes(edited: Tensor, original: Tensor) -> Tensor:
    """How far each pixel counts as edited [B,1,h,w], 0..1; never less than for its own difference."""
    difference = (edited - original).abs().amax(1, keepdim=True)
    edit = ((difference - _SAME) / (_CHANGED - _SAME)).clamp(0.0, 1.0)
    spread = F.max_pool2d(edit, _SPREAD, 1, _SPREAD // 2)
    return F.avg_pool2d(spread, _SPREAD, 1, _SPREAD // 2, count_include_pad=False)


def _range(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Darkest and brightest [B,C,1,1]: a cubic overshoots, but nothing is to leave what the picture holds."""
    return pixels.amin((-2, -1), keepdim=True), pixels.amax((-2, -1), keepdim=True)


def _inside(rays: Tensor, lens: PerspectiveLayout, feather: float) -> Tensor:
    """Weight [...] of rays [...,3] of the camera: 0 outside of the picture, 1 from `feather` radians inside its border on."""
    across = math.radians(lens.fov_deg) / 2
    up = math.radians(vertical_fov(lens.fov_deg, lens.height, lens.width)) / 2
    x, y, z = rays.unbind(-1)
    # The border is four great circles; this is the sine of the distance to the nearest.
    sine = torch.minimum(
        z * math.sin(across) - x.abs() * math.cos(across), z * math.sin(up) - y.abs() * math.cos(up)
    )
    if feather == 0.0:
        return sine >= 0
    return smoothstep((sine.clamp(-1.0, 1.0).asin() / feather).clamp(0.0, 1.0))


def _bands(window: Window, rays: int) -> Iterator[Window]:
    step = max(1, _BAND // ((window.right - window.left) * rays * rays))
    for top in range(window.top, window.bottom, step):
        yield Window(top, min(top + step, window.bottom), window.left, window.right)


def _directions(band: Window, height: int, rays: int) -> Tensor:
    """World rays [rows·rays,columns·rays,3] through a band of an equirectangular picture, rays x rays in each pixel."""
    columns = torch.arange(band.left * rays, band.right * rays, dtype=torch.float64)
    rows = torch.arange(band.top * rays, band.bottom * rays, dtype=torch.float64)
    fine = height * rays
    return lonlat_to_directions(*equirect_pixels_to_lonlat(columns, rows[:, None], fine, 2 * fine))


def _check(panorama: Tensor, edited: Tensor, mask: Tensor | None, original: Tensor | None) -> int:
    """The size of the batch, when everything fits together."""
    check_equirect("panorama", panorama)
    given = {"edited": edited, "original": original, "mask": mask}
    given = {name: pixels for name, pixels in given.items() if pixels is not None}
    sizes = {"panorama": len(panorama)}
    for name, pixels in given.items():
        check_picture(name, pixels)
        if not bool(torch.isfinite(pixels).all()):
            raise InputError(f"{name} holds NaN or infinity; pass finite pixels")
        sizes[name] = len(pixels)
        channels = 1 if name == "mask" else panorama.shape[1]
        if pixels.shape[1] != channels:
            like = "a mask" if name == "mask" else "the panorama"
            raise InputError(f"{name} has {pixels.shape[1]} channels; it needs {channels}, as {like} has")
        if pixels.shape[-2:] != edited.shape[-2:]:
            raise InputError(
                f"{name} is {pixels.shape[-1]}x{pixels.shape[-2]} pixels and edited is "
                f"{edited.shape[-1]}x{edited.shape[-2]}; resize it to the size of edited"
            )
    counts = set(sizes.values()) - {1}
    if len(counts) > 1:
        listed = ", ".join(f"{count} in {name}" for name, count in sizes.items())
        raise InputError(f"the batches do not match ({listed}); pass equally many pictures, or one")
    return max(counts, default=1)


def _check_feather(feather_deg: float, lens: PerspectiveLayout) -> float:
    """The feather in radians."""
    value = check_angle("feather_deg", feather_deg)
    widest = min(lens.fov_deg, vertical_fov(lens.fov_deg, lens.height, lens.width)) / 2
    if not 0.0 <= value <= widest:
        raise InputError(
            f"feather_deg is {value:g}; this view takes 0 to {widest:.4g} degrees, half its smaller field of view"
        )
    return math.radians(value)
