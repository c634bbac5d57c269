"""What happens where column W-1 meets column 0: column steps, seam ratio, rank, row profile.

All functions take pixels [B,3,H,W] (floats, any unit) and never look at what is left or right of the picture:
on the ring, column W is column 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..runtime.errors import InputError

DISTANCES = (1, 2, 8, 16)
MIN_WIDTH = 2 * DISTANCES[-1] + 2
_ROWS = 16  # measured at a time: what stays in a processor's cache


def _ratio(wrap: Tensor, inside: Tensor) -> Tensor:
    """wrap ÷ inside, where 0/0 is 1: a picture of one colour has no seam."""
    return torch.where((wrap == 0) & (inside == 0), torch.ones_like(wrap), wrap / inside)


def column_steps(pixels: Tensor, distance: int = 1) -> Tensor:
    """[B,W]: entry j is the mean |difference| of columns j and j+distance, counted round the ring.

    The last `distance` entries are the pairs that cross the seam. Mean over rows and colour channels.
    Raises `InputError` for a distance that is not between 1 and W-1.
    """
    width = pixels.shape[-1]
    if not 1 <= distance < width:
        raise InputError(f"distance {distance} does not fit into {width} columns.")
    sums = [_step_sums(rows, distance) for rows in pixels.split(_ROWS, dim=-2)]
    return torch.stack(sums).sum(dim=0) / (pixels.shape[1] * pixels.shape[2])


def _step_sums(rows: Tensor, distance: int) -> Tensor:
    right = torch.cat([rows[..., distance:], rows[..., :distance]], dim=-1)
    return (right - rows).abs_().sum(dim=(1, 2))


def seam_ratio(steps: Tensor, distance: int = 1) -> Tensor:
    """[B]: mean step across the seam ÷ mean step inside, from `column_steps` of the same distance.

    1 is ideal, far above 1 is a cut, far below 1 a blurred band.
    """
    return _ratio(steps[:, -distance:].mean(dim=1), steps[:, :-distance].mean(dim=1))


def wrap_rank(steps: Tensor, stride: int = 1) -> Tensor:
    """[B]: fraction of the other columns whose step is smaller than that of the wrap column; ties count half.

    `steps` are the `column_steps` at distance 1. Near 0 the seam is smoother than everything else (blur),
    near 1 it is the sharpest edge of the picture (cut); over many pictures a perfect ring gives an even
    spread. `stride` compares only with columns at the same position within blocks of that many columns: 8
    takes a VAE's own 8-pixel pattern out of the comparison. Raises `InputError` where the stride does not
    divide the width or leaves no other column.
    """
    width = steps.shape[-1]
    if stride < 1 or width % stride or width // stride < 2:
        raise InputError(f"a stride of {stride} does not divide {width} columns into blocks to compare.")
    comparable = steps[:, stride - 1 :: stride]
    others, wrap = comparable[:, :-1], comparable[:, -1:]
    smaller = (others < wrap).to(torch.float64).sum(dim=1)
    equal = (others == wrap).to(torch.float64).sum(dim=1)
    return (smaller + 0.5 * equal) / others.shape[1]


def row_profile(pixels: Tensor, window: int = 9) -> Tensor:
    """[B,H]: the seam ratio row by row, each over a window of `window` rows (odd), to see where a seam shows.

    Rows beyond the picture repeat its first or last row.
    """
    if window < 1 or window % 2 == 0:
        raise InputError(f"the window must be an odd number of rows, got {window}.")
    wrap = (pixels[..., 0] - pixels[..., -1]).abs().mean(dim=1)
    blocks = pixels.split(_ROWS, dim=-2)
    inside = torch.cat([(rows[..., 1:] - rows[..., :-1]).abs_().mean(dim=(1, 3)) for rows in blocks], dim=-1)
    return _ratio(_smooth_rows(wrap, window), _smooth_rows(inside, window))


def profile_bands(profile: Tensor, count: int) -> Tensor:
    """[B,H] -> [B,min(H,count)]: the largest value in each of `count` (1 or more) bands of rows, equally high
    up to a row, so that a short seam does not disappear where the profile is drawn small.
    """
    return torch.nn.functional.adaptive_max_pool1d(profile[:, None], min(count, profile.shape[-1]))[:, 0]


def _smooth_rows(values: Tensor, window: int) -> Tensor:
    half = window // 2
    padded = torch.nn.functional.pad(values[:, None], (half, half), mode="replicate")
    return padded.unfold(-1, window, 1).mean(dim=-1)[:, 0]
