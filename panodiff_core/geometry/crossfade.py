"""Close the seam of a panorama from elsewhere by spreading its jump over the columns beside it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..runtime.errors import InputError
from .checks import check_floating


def crossfade_seam(pixels: Tensor, columns: int = 32, *, smooth_rows: float = 0.0) -> Tensor:
    """Spread the jump between the last and the first column of [..., H, W] over `columns` on either side.

    Both edges are extrapolated to the seam and half of their difference is taken away on each side, falling linearly to
    0: a ring that closes already stays as it is, and a jump of 1 becomes steps of 1/(2·columns) per pixel. No picture is
    mixed with another part of it (dit360 spec, section 10.3). `smooth_rows` > 0 smooths the jump down the seam with a
    Gaussian of so many rows, which keeps fine noise out of the correction. Values may leave 0..1 by the size of the
    correction: clamp where that matters.

    Returns a new tensor of the same shape and dtype. Raises InputError for integers, fewer than two dimensions, columns
    that do not fit twice into the width, or a negative `smooth_rows`.
    """
    check_floating("pixels", pixels)
    if pixels.ndim < 2 or 0 in pixels.shape:
        raise InputError(f"pixels must be [..., H, W] and hold pixels, got {list(pixels.shape)}")
    width = pixels.shape[-1]
    if isinstance(columns, bool) or not isinstance(columns, int) or not 2 <= columns <= width // 2:
        raise InputError(
            f"columns must be a whole number from 2 to {width // 2}, half the width, got {columns!r}"
        )
    if not 0.0 <= smooth_rows < math.inf:
        raise InputError(f"smooth_rows must be 0 or more rows, got {smooth_rows!r}")
    exact = pixels if pixels.dtype == torch.float64 else pixels.float()
    last = exact[..., -1] + (exact[..., -1] - exact[..., -2]) / 2
    first = exact[..., 0] - (exact[..., 1] - exact[..., 0]) / 2
    jump = smoothed(last - first, smooth_rows)[..., None]
    fall = 1.0 - (torch.arange(columns, device=exact.device, dtype=exact.dtype) + 0.5) / columns
    result = exact.clone()
    result[..., :columns] += jump / 2 * fall
    result[..., -columns:] -= jump / 2 * fall.flip(0)
    return result.to(pixels.dtype)


def smoothed(values: Tensor, sigma: float) -> Tensor:
    """Gaussian along the last dimension; at the ends the weights that remain are made to sum to 1."""
    if not sigma:
        return values
    reach = math.ceil(3.0 * sigma)
    place = torch.arange(-reach, reach + 1, device=values.device, dtype=values.dtype)
    kernel = torch.exp(-0.5 * (place / sigma) ** 2)[None, None]
    flat = values.reshape(-1, 1, values.shape[-1])
    total = F.conv1d(flat, kernel, padding=reach)
    return (total / F.conv1d(torch.ones_like(flat[:1]), kernel, padding=reach)).reshape(values.shape)
