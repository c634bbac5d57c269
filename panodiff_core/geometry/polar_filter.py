"""Remove from the rows near the poles what no picture of the sphere can hold there."""

from __future__ import annotations

import torch
from torch import Tensor

from ..runtime.errors import InputError
from .checks import check_floating

#: Rows whose limit is this many times the highest frequency of a row, or more, stay untouched (|latitude| < 48.2°).
_UNTOUCHED = 2.0


def polar_filter(pixels: Tensor) -> Tensor:
    """Low-pass the rows near the poles along the ring, for any [..., H, W] that spans 360° × 180°.

    A row at the angle θ from a pole is a circle of radius sin θ. At the pixel pitch of the equator it has room for
    (W/2)·sin θ waves, 1.6 in the first row of a 2:1 picture, while its W pixels could hold W/2: what a network paints
    beyond that shows as a pinch when one looks straight up. Wave number m is multiplied by exp(−½·(m/limit)⁴) with
    limit = (W/2)·sin θ/(1 − sin θ), which is the room there is near the pole and leaves the rows towards the equator
    alone; beyond 41.8° from the pole nothing changes at all. Means of rows stay, and turning the picture before or
    after is the same. This is the Fourier filter of latitude-longitude grids (Arakawa and Lamb, "Computational design
    of the basic dynamical processes of the UCLA general circulation model", 1977), applied to pictures.

    Returns the same shape and dtype (half precision is filtered in float32). Raises InputError for integers or fewer
    than two dimensions.
    """
    check_floating("pixels", pixels)
    if pixels.ndim < 2 or 0 in pixels.shape:
        raise InputError(f"pixels must be [..., H, W] and hold pixels, got {list(pixels.shape)}")
    height, width = pixels.shape[-2:]
    exact = torch.float64 if pixels.dtype == torch.float64 else torch.float32
    sine = torch.sin((torch.arange(height, dtype=exact) + 0.5) / height * torch.pi)
    room = sine / (1.0 - sine).clamp(min=1e-6)  # in units of the highest frequency, W/2
    rows = torch.nonzero(room < _UNTOUCHED)[:, 0].to(pixels.device)
    if not len(rows):  # two rows or one: none is near a pole
        return pixels
    share = torch.arange(width // 2 + 1, dtype=exact) / (width / 2)
    gain = torch.exp(-0.5 * (share / room[room < _UNTOUCHED, None]) ** 4).to(pixels.device)
    waves = torch.fft.rfft(pixels.index_select(-2, rows).to(exact), dim=-1)
    calm = torch.fft.irfft(waves * gain, n=width, dim=-1)
    return pixels.index_copy(-2, rows, calm.to(pixels.dtype))
