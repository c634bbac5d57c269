"""Canvases: a source picture as planes [N,rows,width] for one `grid_sample` call, copied only if need be."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .plans import SamplingPlan

# A float32 grid resolves about 3e-8 of the canvas height: taller than this, packing the faces is worth its
# copy.
_TALLEST = 16384

# Below this many samples per part, splitting the work costs more than it saves.
_SMALLEST_PART = 16384


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64 pictures, float32 for all others: half precision cannot hold a grid."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def flat_canvas(pixels: Tensor) -> Tensor:
    """[B,C,H,W] as planes [B*C,H,W] in the working dtype."""
    return pixels.to(working_dtype(pixels.dtype)).flatten(0, 1)


def cube_stride(faces: Tensor) -> int:
    """Distance between faces in the canvas of [B,6,C,S,S], counted in faces: C without a copy, 1 packed."""
    batch, _, channels, size, _ = faces.shape
    in_place = batch == 1 and (5 * channels + 1) * size <= _TALLEST
    return channels if in_place and not (faces.requires_grad and torch.is_grad_enabled()) else 1


def cube_canvas(faces: Tensor, stride: int) -> Tensor:
    """[B,6,C,S,S] as planes [B*C,(5*stride+1)*S,S] in the working dtype; face f starts at row f*stride*S.

    The planes of one picture interleave in memory: channel c of face f is the (f*C + c)-th of 6*C squares.
    Seen with a plane stride of one square, every C-th square of a plane is a face of that channel, so no
    pixel has to move.
    """
    faces = faces.to(working_dtype(faces.dtype))
    batch, _, channels, size, _ = faces.shape
    if stride == 1:
        return faces.transpose(1, 2).reshape(batch * channels, 6 * size, size)
    faces = faces.contiguous()
    shape = (channels, (5 * channels + 1) * size, size)
    return faces.as_strided(shape, (size * size, size, 1), faces.storage_offset())


def sample_canvas(canvas: Tensor, plan: SamplingPlan, panels: int = 1, padding: str = "zeros") -> Tensor:
    """Read canvas [N,rows,width] along a plan: [panels,N,rows/panels,width].

    `grid_sample` on a CPU is parallel over its batch alone, so the samples are handed to it in parts that
    share one canvas. With gradients the work stays whole: a shared canvas would be differentiated once per
    part.
    """
    rows, width = plan.passes[0].grid.shape[:2]
    parts = _parts(canvas, rows, width, panels)
    shared = canvas[None].expand(parts, -1, -1, -1)
    out = None
    for p in plan.passes:
        grid = p.grid.view(parts, rows // parts, width, 2)
        read = F.grid_sample(shared, grid, mode=p.mode, padding_mode=padding, align_corners=False)
        out = (
            read
            if out is None and p.share == 1.0
            else read * p.share
            if out is None
            else out.add(read, alpha=p.share)
        )
    if plan.patch is not None and plan.patch.index.numel():
        _apply_patch(out, canvas, plan)
    return _assemble(out, panels)


def _apply_patch(out: Tensor, canvas: Tensor, plan: SamplingPlan) -> None:
    """Overwrite, in place, the samples [parts,N,h,w] that reach over a border."""
    patch = plan.patch
    rows = patch.taps.div(canvas.shape[-1], rounding_mode="floor")
    texels = canvas[:, rows, patch.taps - rows * canvas.shape[-1]]
    values = (texels * patch.weights).sum(-1)
    per_part = out.shape[-2] * out.shape[-1]
    part = patch.index.div(per_part, rounding_mode="floor")
    out.view(*out.shape[:2], per_part)[part, :, patch.index - part * per_part] = values.T


def _parts(canvas: Tensor, rows: int, width: int, panels: int) -> int:
    """How many equal parts of whole rows to sample at once: a multiple of `panels`, or 1."""
    if canvas.device.type != "cpu" or (canvas.requires_grad and torch.is_grad_enabled()):
        return 1
    threads = torch.get_num_threads()
    if threads == 1:
        return panels
    wanted = min(-(-threads // panels), max(1, rows * width // (panels * _SMALLEST_PART)))
    per_panel = rows // panels
    return panels * max(k for k in range(1, wanted + 1) if per_panel % k == 0)


def _assemble(out: Tensor, panels: int) -> Tensor:
    """[parts,N,h,w] to [panels,N,H,w]."""
    parts, planes, height, width = out.shape
    if parts == panels:
        return out
    if parts == 1:
        return out.view(planes, panels, height // panels, width).transpose(0, 1)
    split = out.view(panels, parts // panels, planes, height, width).transpose(1, 2)
    return split.reshape(panels, planes, height * parts // panels, width)
