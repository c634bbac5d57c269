"""The polar filter: what it removes, what it leaves, and that it knows no seam."""

from __future__ import annotations

import math

import pytest
import torch

from panodiff_core.geometry import equirect_directions, polar_filter, rotate_equirect
from panodiff_core.runtime.errors import InputError

HEIGHT, WIDTH = 64, 128


def waves(number: int) -> torch.Tensor:
    columns = torch.arange(WIDTH, dtype=torch.float64)
    return torch.cos(2 * math.pi * number * columns / WIDTH).expand(1, 1, HEIGHT, WIDTH).contiguous()


@pytest.mark.parametrize("number", [0, 1, 2, 3, 7, 30, 64])
def test_gain_is_the_documented_one(number):
    theta = (torch.arange(HEIGHT, dtype=torch.float64) + 0.5) / HEIGHT * math.pi
    limit = WIDTH / 2 * theta.sin() / (1 - theta.sin())
    gain = torch.where(limit < WIDTH, torch.exp(-0.5 * (number / limit) ** 4), 1.0)
    wanted = waves(number) * gain[:, None]
    assert (polar_filter(waves(number)) - wanted).abs().max() < 1e-12


def test_rows_towards_the_equator_are_bit_identical():
    picture = torch.rand(2, 3, HEIGHT, WIDTH)
    theta = (torch.arange(HEIGHT) + 0.5) / HEIGHT * math.pi
    inner = theta.sin() >= 2 / 3
    assert inner.sum() > HEIGHT // 2
    calm = polar_filter(picture)
    assert torch.equal(calm[:, :, inner], picture[:, :, inner])
    assert (calm[:, :, ~inner] != picture[:, :, ~inner]).any(dim=-1).all()


def test_first_row_keeps_its_mean_and_loses_its_pinch():
    picture = torch.rand(1, 3, HEIGHT, WIDTH, dtype=torch.float64)
    calm = polar_filter(picture)
    assert (calm.mean(-1) - picture.mean(-1)).abs().max() < 1e-12
    # White noise in a first row with room for 1.6 of 64 waves: about 2·1.6/128 of its variance stays.
    share = calm[:, :, [0, -1]].var() / picture[:, :, [0, -1]].var()
    assert 0.0 < share < 0.06


def test_smooth_functions_on_the_sphere_pass():
    """Polynomials in the direction of any tilt, up to degree 4 of the 64 that the picture could hold."""
    x, y, z = equirect_directions(HEIGHT, WIDTH, dtype=torch.float64).unbind(-1)
    picture = torch.stack([x, (x + 2 * y) * z, (x - z) ** 2 * y * x])[None]
    assert (polar_filter(picture) - picture).abs().max() < 0.02
    assert (polar_filter(picture) - picture).abs().mean() < 1e-4


def test_turning_before_and_after_is_the_same():
    picture = torch.rand(1, 3, HEIGHT, WIDTH)
    once = polar_filter(picture)
    for columns in (1, 17, 64):
        assert (polar_filter(picture.roll(columns, -1)) - once.roll(columns, -1)).abs().max() < 1e-6
    turned = rotate_equirect(picture, yaw_deg=90.0)
    assert (polar_filter(turned) - rotate_equirect(once, yaw_deg=90.0)).abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (3, 7, 9), (1, 3, 16, 48)])
def test_any_size_and_shape(shape):
    picture = torch.rand(shape)
    calm = polar_filter(picture)
    assert calm.shape == picture.shape and torch.isfinite(calm).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_filtered_in_float32(dtype):
    picture = torch.rand(1, 3, 32, 64).to(dtype)
    calm = polar_filter(picture)
    assert calm.dtype == dtype
    assert torch.equal(calm, polar_filter(picture.float()).to(dtype))


def test_gradients_flow():
    picture = torch.rand(1, 1, 6, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(polar_filter, (picture,))


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match="uint8"):
        polar_filter(torch.zeros(1, 3, 8, 16, dtype=torch.uint8))
    with pytest.raises(InputError, match=r"\[8\]"):
        polar_filter(torch.zeros(8))
