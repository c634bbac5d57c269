"""Masks in pixels → masks in latents: exact areas, whatever the sizes."""

from __future__ import annotations

import pytest
import torch

from panodiff_core.autoencoders.masks import latent_mask
from panodiff_core.runtime.errors import InputError


def noise(height: int, width: int, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, height, width, generator=torch.Generator().manual_seed(height))


def test_whole_blocks_are_their_means():
    mask = noise(64, 128)
    expected = torch.nn.functional.avg_pool2d(mask[:, None], 8)
    assert torch.allclose(latent_mask(mask, 8, 16), expected, atol=1e-6)


@pytest.mark.parametrize("height", [5, 10, 24, 100])
def test_cut_pixels_count_by_their_part(height):
    """Against the same mask on a grid fine enough for both sizes."""
    mask = noise(15, 30)
    fine = mask.repeat_interleave(height, 1).repeat_interleave(height, 2)
    expected = torch.nn.functional.avg_pool2d(fine[:, None], 15)
    result = latent_mask(mask, height, 2 * height)
    assert result.shape == (2, 1, height, 2 * height) and result.dtype == torch.float32
    assert torch.allclose(result, expected, atol=1e-6)
    assert torch.allclose(result.mean((1, 2, 3)), mask.mean((1, 2)), atol=1e-6)


def test_turning_the_ring_turns_the_mask():
    mask = noise(30, 60)
    turned = latent_mask(mask.roll(6, -1), 10, 20)
    assert torch.allclose(turned, latent_mask(mask, 10, 20).roll(2, -1), atol=1e-6)


def test_black_and_white_stay_exact():
    mask = torch.zeros(1, 7, 14)
    assert latent_mask(mask, 4, 8).max() == 0.0
    assert latent_mask(mask + 1, 4, 8).min() == 1.0
    across = torch.zeros(1, 64, 128)
    across[..., :12], across[..., -4:] = 1.0, 1.0
    row = latent_mask(across, 8, 16)[0, 0, 0]
    assert row.tolist() == [1.0, 0.5, *[0.0] * 13, 0.5]


def test_other_shapes_and_proportions_are_refused():
    with pytest.raises(InputError, match="64 x 64 and the latents are 16 x 8"):
        latent_mask(torch.zeros(1, 64, 64), 8, 16)
    with pytest.raises(InputError, match=r"\[B, H, W\], got \[1, 1, 8, 16\]"):
        latent_mask(torch.zeros(1, 1, 8, 16), 8, 16)
