"""Ring padding behind a sequence, and tiles that fade across the seam."""

from __future__ import annotations

import pytest
import torch

from panodiff_core.autoencoders.margins import crop_fading
from panodiff_core.layers.ring import image_ids, pad_index, pad_ring
from panodiff_core.layers.ring_copies import RingCopies, offset_at

ROWS, COLUMNS = 3, 8


def sorted_rows(ids: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    rows = torch.cat([ids, tokens], dim=-1)
    return torch.tensor(sorted(rows.tolist()))


@pytest.mark.parametrize("shift", [None, 0, 3, -2, 8])
@pytest.mark.parametrize("padding", [0, 1, 3, 8])
def test_same_tokens_at_the_same_places_as_the_padded_grid(padding, shift) -> None:
    """Up to their order, which a transformer does not see, these are the tokens and ids of `layers.ring`."""
    tokens = torch.arange(ROWS * COLUMNS, dtype=torch.float32)[None, :, None]
    rest = torch.full((1, 2, 1), 99.0), torch.full((1, 2, 3), 77.0)
    ring = RingCopies.lay(ROWS, COLUMNS, padding, None if shift is None else torch.tensor([shift]))
    ours = ring.tokens(torch.cat([tokens, rest[0]], dim=1))
    ids = ring.ids(torch.cat([image_ids(ROWS, COLUMNS)[None], rest[1]], dim=1))
    assert torch.equal(ours[:, : ROWS * COLUMNS], tokens) and (ours[:, ROWS * COLUMNS :][:, :2] == 99).all()
    keep = ours[0, :, 0] != 99
    padded = tokens[0, pad_index(ROWS, COLUMNS, padding, shift or 0)]
    expected = sorted_rows(image_ids(ROWS, COLUMNS, padding), padded)
    assert torch.equal(sorted_rows(ids[0, keep], ours[0, keep]), expected)


def test_residual_follows_the_sources() -> None:
    ring = RingCopies.lay(ROWS, COLUMNS, 2, torch.tensor([3]))
    tokens = torch.randn(1, ROWS * COLUMNS + 5, 4)
    residual = torch.randn(1, ROWS * COLUMNS, 4)
    added = ring.tokens(tokens) + ring.residual(residual, tokens.shape[1])
    tokens[:, : ROWS * COLUMNS] += residual
    assert torch.equal(added, ring.tokens(tokens))


def test_too_much_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="circular padding must be 0 … 8"):
        RingCopies.lay(ROWS, COLUMNS, 9)


def test_offset_of_a_noise_level() -> None:
    sigmas, offsets = torch.tensor([1.0, 0.7, 0.2, 0.0]), torch.tensor([5, 6, 7])
    found = [
        offset_at(torch.tensor([s]), sigmas, offsets).item() for s in (1.0, 0.9, 0.7, 0.3, 0.2, 0.1, 0.0, 1.5)
    ]
    assert found == [5, 5, 6, 6, 7, 7, 7, 5]


@pytest.mark.parametrize("margin", [0, 1, 4])
def test_fading_keeps_a_ring(margin) -> None:
    x = torch.randn(2, 3, 8)
    assert torch.allclose(crop_fading(pad_ring(x, margin), margin), x, atol=1e-6)


def test_fading_joins_ends_that_differ() -> None:
    """Left half 0, right half 1, as two tiles that disagree: around the seam the values rise in even steps."""
    widened = torch.cat([torch.zeros(12), torch.ones(12)])
    ring = crop_fading(widened, 4)
    around = torch.cat([ring[-4:], ring[:4]])
    assert torch.allclose(around, 1 - (torch.arange(8) + 0.5) / 8)
    assert torch.equal(ring[4:12], widened[8:16])
