"""The cross-fade closes a seam, and leaves a ring that closes alone."""

from __future__ import annotations

import math

import pytest
import torch

from panodiff_core.geometry import crossfade_seam
from panodiff_core.runtime.errors import InputError

WIDTH = 256


def ring(width: int = WIDTH, height: int = 8) -> torch.Tensor:
    """Waves that close, [3, height, width]; the step from column to column is up to 0.016."""
    longitude = (torch.arange(width, dtype=torch.float64) + 0.5) * 2 * math.pi / width
    phases = torch.linspace(0, 5, 3 * height, dtype=torch.float64).view(3, height, 1)
    return 0.5 + 0.5 * torch.sin(longitude + phases)


def steps(pixels: torch.Tensor) -> torch.Tensor:
    """|difference| of neighbouring columns; the last is the seam's."""
    return (pixels.roll(-1, -1) - pixels).abs()


def ramp(height: int = 8) -> torch.Tensor:
    """0 to almost 1 along the row: a jump of 1 at the seam."""
    return (torch.arange(WIDTH, dtype=torch.float64) / WIDTH).expand(1, height, WIDTH)


@pytest.mark.parametrize("columns", [2, 16, 32, 128])
def test_a_ring_stays_as_it_is(columns):
    pixels = ring()
    assert steps(pixels).max() > 0.012  # it is not flat
    assert (crossfade_seam(pixels, columns) - pixels).abs().max() <= 1e-4


def test_a_unit_jump_becomes_small_steps():
    faded = crossfade_seam(ramp(), 32)
    assert steps(ramp()).max() > 0.99
    assert steps(faded).max() <= 0.012  # 1/64 of the fade − 1/256 of the ramp itself
    assert torch.equal(faded[..., 32:-32], ramp()[..., 32:-32])


@pytest.mark.parametrize("columns", [8, 16, 32, 64])
def test_a_step_falls_linearly(columns):
    # Flat on both sides of the seam with a jump of 1 over it, and a slope far away from it.
    flat = torch.linspace(0, 1, WIDTH - 128).clamp(0, 1)
    row = torch.cat([torch.zeros(64), flat, torch.ones(64)]).expand(1, 4, WIDTH)
    near = steps(crossfade_seam(row, columns)).roll(columns, -1)[..., 1 : 2 * columns - 2]
    assert torch.allclose(near, torch.tensor(0.5 / columns), atol=1e-6)


def test_smoothing_keeps_noise_out():
    noise = 0.1 * torch.randn(1, 400, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pixels = ramp(400) + noise
    plain, smooth = (crossfade_seam(pixels, 32, smooth_rows=s) - pixels for s in (0.0, 8.0))
    assert plain[..., 0].std() > 3.0 * smooth[..., 0].std()
    assert abs(smooth[..., 0].mean() - 0.5 * (1 - 0.5 / 32)) < 0.02  # a jump of 1 is still a jump of 1
    constant = crossfade_seam(ramp(9), 32, smooth_rows=50.0)  # far more than there are rows
    assert (constant - crossfade_seam(ramp(9), 32)).abs().max() < 1e-12


def test_dtype_shape_and_input_are_kept():
    pixels = ramp().to(torch.float16)[None, :, None]
    before = pixels.clone()
    faded = crossfade_seam(pixels)
    assert faded.dtype == torch.float16 and faded.shape == pixels.shape and torch.equal(pixels, before)


@pytest.mark.parametrize(
    "pixels, options, words",
    [
        (torch.zeros(4, 8, dtype=torch.uint8), {}, "float"),
        (torch.zeros(8), {}, r"\[8\]"),
        (torch.zeros(4, 8), {"columns": 5}, "from 2 to 4"),
        (torch.zeros(4, 8), {"columns": 1}, "from 2 to 4"),
        (torch.zeros(4, 8), {"columns": 2, "smooth_rows": -1.0}, "smooth_rows"),
    ],
)
def test_bad_input(pixels, options, words):
    with pytest.raises(InputError, match=words):
        crossfade_seam(pixels, **options)
