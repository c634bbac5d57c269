"""Sampling plans: everything about a reprojection that does not depend on the pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .borders import Patch, cube_patch, equirect_patch
from .cubemap import directions_to_faces
from .kernels import passes
from .layouts import CubeLayout, EquirectLayout, Layout
from .perspective import perspective_pixels
from .sphere import directions_to_lonlat, lonlat_to_equirect_pixels


@dataclass(frozen=True)
class Pass:
    """One `grid_sample` call: its mode, its share of the result and its grid [rows,width,2]."""

    mode: str
    share: float
    grid: Tensor


@dataclass(frozen=True)
class SamplingPlan:
    """How rows x width samples are read from a canvas: whole-picture passes, then the samples at the border.

    `inside` [rows,width] says, for a flat source, which samples it covers; it is None for a whole sphere.
    """

    passes: tuple[Pass, ...]
    patch: Patch | None
    inside: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        tensors = [p.grid for p in self.passes]
        if self.patch is not None:
            tensors += [self.patch.index, self.patch.taps, self.patch.weights]
        if self.inside is not None:
            tensors.append(self.inside)
        return sum(t.numel() * t.element_size() for t in tensors)

    def to(self, device: torch.device, dtype: torch.dtype) -> SamplingPlan:
        """The plan with its grids and weights in `dtype`, on `device`."""
        patch = self.patch
        if patch is not None:
            patch = Patch(patch.index.to(device), patch.taps.to(device), patch.weights.to(device, dtype))
        moved = tuple(Pass(p.mode, p.share, p.grid.to(device, dtype)) for p in self.passes)
        return SamplingPlan(moved, patch, None if self.inside is None else self.inside.to(device))


def make_plan(source: Layout, directions: Tensor, mode: str, stride: int = 1) -> SamplingPlan:
    """Plan the samples of `source` along directions [rows,width,3].

    `stride` is how many faces lie from one face to the next in the canvas of a cubemap (see
    `canvas.cube_canvas`). Gradients flow to the directions.
    """
    if isinstance(source, EquirectLayout):
        return _equirect_plan(source, directions, mode)
    if isinstance(source, CubeLayout):
        return _cube_plan(source, directions, mode, stride)
    x, y, inside = perspective_pixels(directions, source.height, source.width, source.fov_deg)
    x, y = x.clamp(-1, source.width), y.clamp(-1, source.height)
    return SamplingPlan(_passes(x, y, source.height, source.width, mode), None, inside)


def join_plans(plans: Iterable[SamplingPlan]) -> SamplingPlan:
    """One plan out of plans for successive rows of the same picture."""
    parts = list(plans)
    if len(parts) == 1:
        return parts[0]
    grids = zip(*(p.passes for p in parts), strict=True)
    joined = tuple(Pass(g[0].mode, g[0].share, torch.cat([p.grid for p in g])) for g in grids)
    inside = None if parts[0].inside is None else torch.cat([p.inside for p in parts])
    return SamplingPlan(joined, _join_patches(parts), inside)


def _join_patches(parts: list[SamplingPlan]) -> Patch | None:
    if parts[0].patch is None:
        return None
    slots = max(p.patch.taps.shape[1] for p in parts)
    index, taps, weights, offset = [], [], [], 0
    for part in parts:
        patch, grid = part.patch, part.passes[0].grid
        spare = (0, slots - patch.taps.shape[1])
        index.append(patch.index + offset)
        taps.append(torch.nn.functional.pad(patch.taps, spare))
        weights.append(torch.nn.functional.pad(patch.weights, spare))
        offset += grid.shape[0] * grid.shape[1]
    return Patch(torch.cat(index), torch.cat(taps), torch.cat(weights))


def _equirect_plan(source: EquirectLayout, directions: Tensor, mode: str) -> SamplingPlan:
    height, width = source.height, source.width
    x, y = lonlat_to_equirect_pixels(*directions_to_lonlat(directions), height, width)
    patch = equirect_patch(x.flatten(), y.flatten(), height, width, mode)
    return SamplingPlan(_passes(x.clamp(0, width - 1), y.clamp(0, height - 1), height, width, mode), patch)


def _cube_plan(source: CubeLayout, directions: Tensor, mode: str, stride: int) -> SamplingPlan:
    size = source.size
    face, u, v = directions_to_faces(directions)
    x, y = (u + 1.0) * (size / 2) - 0.5, (1.0 - v) * (size / 2) - 0.5
    patch = cube_patch(face.flatten(), x.flatten(), y.flatten(), size, mode)
    if patch is not None and stride != 1:
        jump = patch.taps.div(size * size, rounding_mode="floor") * ((stride - 1) * size * size)
        patch = Patch(patch.index, patch.taps + jump, patch.weights)
    x, y = x.clamp(0, size - 1), y.clamp(0, size - 1) + face * (stride * size)
    return SamplingPlan(_passes(x, y, (5 * stride + 1) * size, size, mode), patch)


def _passes(x: Tensor, y: Tensor, height: int, width: int, mode: str) -> tuple[Pass, ...]:
    made = []
    for kernel, share, px, py in passes(x, y, mode):
        grid = torch.stack([(2.0 * px + 1.0) / width - 1.0, (2.0 * py + 1.0) / height - 1.0], -1)
        made.append(Pass(kernel, share, grid))
    return tuple(made)
