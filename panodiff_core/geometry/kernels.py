"""Interpolation kernels, and how to get them out of `grid_sample`.

`grid_sample`'s bicubic is the cubic convolution with a = -0.75, which does not reproduce a straight ramp: on
smooth pictures it is less accurate than bilinear. Cubic convolution is linear in a, and its a = 0 member is a
bilinear blend at the smoothstepped fraction, so Catmull-Rom (a = -0.5; R. Keys, IEEE ASSP 29(6), 1981) is two
thirds of the former plus one third of the latter: exact along each axis, and off by a mixed second-order term
of under 0.005 texel^2 in the plane, 27 times below bilinear's own error. One extra bilinear pass buys that.
"""

from __future__ import annotations

import torch
from torch import Tensor

TORCH_CUBIC_A = -0.75
CUBIC_SHARE = 2.0 / 3.0

REACH = {"nearest": (0, 0), "bilinear": (0, 1), "bicubic": (-1, 2)}
"""First and last texel, relative to the one at or before the sample, that a kernel reads."""


def smoothstep(t: Tensor) -> Tensor:
    """3 t^2 - 2 t^3."""
    return t * t * (3.0 - 2.0 * t)


def cubic_weights(t: Tensor, a: float) -> Tensor:
    """Weights [...,4] of the texels -1, 0, 1, 2 at fraction t of the cubic convolution with parameter a."""

    def near(s: Tensor) -> Tensor:
        return ((a + 2.0) * s - (a + 3.0)) * s * s + 1.0

    def far(s: Tensor) -> Tensor:
        return a * (((s - 5.0) * s + 8.0) * s - 4.0)

    return torch.stack([far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)], -1)


def line_weights(t: Tensor, mode: str) -> Tensor:
    """Weights [...,k] along one axis at fraction t: 2 for bilinear, 4 (Catmull-Rom) for bicubic."""
    if mode == "bicubic":
        return cubic_weights(t, -0.5)
    return torch.stack([1.0 - t, t], -1)


def plane_weights(tx: Tensor, ty: Tensor, mode: str) -> Tensor:
    """Weights [...,k*k], row by row, at fractions (tx, ty); the same kernel that `passes` spells for
    `grid_sample`.
    """
    if mode == "bilinear":
        return _outer(line_weights(tx, mode), line_weights(ty, mode))
    sharp = _outer(cubic_weights(tx, TORCH_CUBIC_A), cubic_weights(ty, TORCH_CUBIC_A))
    flat = _outer(cubic_weights(tx, 0.0), cubic_weights(ty, 0.0))
    return CUBIC_SHARE * sharp + (1.0 - CUBIC_SHARE) * flat


def passes(x: Tensor, y: Tensor, mode: str) -> list[tuple[str, float, Tensor, Tensor]]:
    """The `grid_sample` calls (mode, share, x, y) that together make `mode` at pixel coordinates (x, y)."""
    if mode != "bicubic":
        return [(mode, 1.0, x, y)]
    x0, y0 = x.detach().floor(), y.detach().floor()
    stepped = (x0 + smoothstep(x - x0), y0 + smoothstep(y - y0))
    return [("bicubic", CUBIC_SHARE, x, y), ("bilinear", 1.0 - CUBIC_SHARE, *stepped)]


def _outer(across: Tensor, down: Tensor) -> Tensor:
    return (down[..., :, None] * across[..., None, :]).flatten(-2)
