"""Reading a picture along any rays, and along the rays of another picture with cached plans."""

from __future__ import annotations

import torch
from torch import Tensor

from ..runtime.errors import InputError
from .antialias import average
from .canvas import cube_canvas, cube_stride, flat_canvas, sample_canvas
from .checks import check_cube, check_directions, check_equirect, check_mode
from .grids import plan_cache
from .layouts import CubeLayout, EquirectLayout, Layout, PerspectiveLayout
from .plans import SamplingPlan, join_plans, make_plan
from .rotation import rotation_matrix

Angles = tuple[float, float, float]

# Rays planned at once: their float64 temporaries stay near the cache and within tens of megabytes.
_CHUNK = 1 << 18

# Samples of a target too large to keep that are read at a time.
_BAND = 1 << 22


def sample_equirect(
    pixels: Tensor, directions: Tensor, mode: str = "bilinear", *, per_picture: bool = False
) -> Tensor:
    """Read equirectangular pictures [B,C,H,W] along rays [...,3] of any length: [B,C,...].

    With `per_picture` the rays are [B,...,3], one set for each picture. Points are read as they are, without
    antialiasing. Gradients flow to pixels and rays. Raises `InputError` for wrong shapes, dtypes or modes.
    """
    check_equirect("pixels", pixels)
    layout = EquirectLayout(pixels.shape[-2])
    if not per_picture:
        return _sample_rays(pixels, flat_canvas(pixels), layout, 1, directions, mode)
    return _sample_each(sample_equirect, "pixels", pixels, directions, mode)


def sample_cubemap(
    faces: Tensor, directions: Tensor, mode: str = "bilinear", *, per_picture: bool = False
) -> Tensor:
    """Read cubemaps [B,6,C,S,S] along rays [...,3]: [B,C,...]; otherwise as `sample_equirect`."""
    check_cube("faces", faces)
    layout = CubeLayout(faces.shape[-1])
    if not per_picture:
        stride = cube_stride(faces)
        return _sample_rays(faces[:, 0], cube_canvas(faces, stride), layout, stride, directions, mode)
    return _sample_each(sample_cubemap, "faces", faces, directions, mode)


def _sample_each(sample, name: str, pictures: Tensor, directions: Tensor, mode: str) -> Tensor:
    check_directions(directions)
    if directions.ndim < 2 or directions.shape[0] != pictures.shape[0]:
        raise InputError(
            f"directions has shape {tuple(directions.shape)}; with per_picture it starts with the batch size "
            f"{pictures.shape[0]} of {name}"
        )
    each = zip(pictures.split(1), directions, strict=True)
    return torch.cat([sample(picture, rays, mode) for picture, rays in each])


def _sample_rays(
    like: Tensor, canvas: Tensor, layout: Layout, stride: int, directions: Tensor, mode: str
) -> Tensor:
    check_mode(mode)
    check_directions(directions)
    shape = directions.shape[:-1]
    batch, channels = like.shape[:2]
    if shape.numel() == 0:
        return like.new_zeros(batch, channels, *shape)
    rays = directions.to(canvas.device, torch.promote_types(directions.dtype, torch.float32))
    width = shape[-1] if len(shape) else 1
    plan = make_plan(layout, rays.reshape(-1, width, 3), mode, stride).to(canvas.device, canvas.dtype)
    out = sample_canvas(canvas, plan)
    return out.reshape(batch, channels, *shape).to(like.dtype)


def sample_layout(
    source: Layout, pixels: Tensor, target: Layout, angles: Angles, mode: str, rays: int = 1
) -> tuple[Tensor, Tensor | None]:
    """Read the picture `pixels` of layout `source` as a picture of layout `target`, whose camera is turned by
    `angles`.

    [B,C,H,W] (or [B,6,C,S,S] for cubes) in and out, in the working dtype; every target pixel is the mean of
    rays x rays samples. The second result is, for a flat source, the covered share [rows,width] of every
    target pixel, else None.
    """
    stride = cube_stride(pixels) if isinstance(source, CubeLayout) else 1
    canvas = cube_canvas(pixels, stride) if isinstance(source, CubeLayout) else flat_canvas(pixels)
    batch = pixels.shape[0]
    fine = target.scaled(rays)
    padding = "border" if isinstance(source, PerspectiveLayout) else "zeros"
    job = _Job(source, fine, angles, mode, stride, canvas.device, canvas.dtype)
    limit = plan_cache().info().limit_bytes
    if job.estimated_nbytes <= limit // 2:
        plan = plan_cache().get(job.key, job.plan)
        out = average(sample_canvas(canvas, plan, target.panels, padding), rays)
        inside = plan.inside
    else:
        out, inside = _sample_in_bands(canvas, job, rays, padding)
        out = out.unflatten(1, (target.panels, -1)).transpose(0, 1)
    if inside is not None:
        inside = (
            average(inside.to(canvas.dtype), rays)
            if inside.shape[0] != target.rows
            else inside.to(canvas.dtype)
        )
    return _unpack(out, batch, target), inside


def _sample_in_bands(canvas: Tensor, job: _Job, rays: int, padding: str) -> tuple[Tensor, Tensor | None]:
    """A target whose plan is too large to keep, a few rows at a time: [N,rows,width] after averaging."""
    step = max(1, _BAND // (job.target.width * rays)) * rays
    outs, insides = [], []
    for first in range(0, job.target.rows, step):
        plan = job.plan(first, min(first + step, job.target.rows))
        outs.append(average(sample_canvas(canvas, plan, 1, padding)[0], rays))
        if plan.inside is not None:
            insides.append(average(plan.inside.to(canvas.dtype), rays))
    return torch.cat(outs, 1), torch.cat(insides) if insides else None


class _Job:
    """One (source, target, pose, mode) on one device: the key of its plan and how to build it."""

    def __init__(
        self,
        source: Layout,
        target: Layout,
        angles: Angles,
        mode: str,
        stride: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.source, self.target, self.angles, self.mode, self.stride = source, target, angles, mode, stride
        self.device, self.dtype = device, dtype
        self.key = (source, target, angles, mode, stride, str(device), dtype)

    @property
    def estimated_nbytes(self) -> int:
        grids = 2 if self.mode == "bicubic" else 1
        return self.target.rows * self.target.width * 2 * grids * self.dtype.itemsize

    def plan(self, first: int = 0, last: int | None = None) -> SamplingPlan:
        """The plan for the target's rows first..last-1 (all by default).

        Made outside inference mode, so that a plan cached there also serves training.
        """
        last = self.target.rows if last is None else last
        step = max(1, _CHUNK // self.target.width)
        with torch.inference_mode(False), torch.no_grad():
            turn = rotation_matrix(*self.angles).T
            return join_plans(
                self._rows(row, min(row + step, last), turn).to(self.device, self.dtype)
                for row in range(first, last, step)
            )

    def _rows(self, first: int, last: int, turn: Tensor) -> SamplingPlan:
        directions = self.target.directions(first, last)
        if self.angles != (0.0, 0.0, 0.0):
            directions = directions @ turn
        return make_plan(self.source, directions, self.mode, self.stride)


def _unpack(out: Tensor, batch: int, target: Layout) -> Tensor:
    """[panels,B*C,h,w] to the layout's own shape, contiguous."""
    if isinstance(target, CubeLayout):
        return out.unflatten(1, (batch, -1)).transpose(0, 1).contiguous()
    return out.reshape(batch, -1, target.rows, target.width)
