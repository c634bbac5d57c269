"""Masks in pixels → masks in latents."""

from __future__ import annotations

import torch
from torch import Tensor

from ..runtime.errors import InputError


def latent_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """Masks [B, H, W] in 0..1 → [B, 1, height, width], float32: the mean over the area that a latent pixel covers.

    Exact for any pair of sizes, also where pixels are cut by the border of a latent one. Both grids begin at the wrap
    of the ring, so that no latent pixel lies across it. Raises InputError for another shape or other proportions.
    """
    if mask.ndim != 3 or 0 in mask.shape:
        raise InputError(f"mask must be [B, H, W], got {list(mask.shape)}")
    rows, columns = mask.shape[1:]
    if rows * width != columns * height:
        raise InputError(
            f"the mask is {columns} x {rows} and the latents are {width} x {height}: the proportions differ; make the "
            "mask for the whole panorama, of any size twice as wide as high"
        )
    down, across = _shares(rows, height, mask.device), _shares(columns, width, mask.device)
    return (down @ mask.double() @ across.T).clamp(0.0, 1.0).float()[:, None]


def _shares(cells: int, wanted: int, device: torch.device) -> Tensor:
    """[wanted, cells]: which part of each wider cell a finer one makes up; rows sum to 1."""
    edges = torch.arange(wanted + 1, dtype=torch.float64, device=device) * (cells / wanted)
    left = torch.arange(cells, dtype=torch.float64, device=device)
    overlap = torch.minimum(edges[1:, None], left + 1) - torch.maximum(edges[:-1, None], left)
    return overlap.clamp_(min=0.0) * (wanted / cells)
