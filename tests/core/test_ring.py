"""Tokens, ids and padding on the ring."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from panodiff_core.layers.ring import (
    crop_index,
    crop_ring,
    image_ids,
    pack,
    pad_index,
    pad_ring,
    roll_ring,
    unpack,
)
from panodiff_core.runtime.errors import InputError


def test_pack_order():
    """Feature 4·c + 2·i + j of token (r, q) is latent pixel (c, 2r + i, 2q + j)."""
    latents = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    tokens = pack(latents)
    assert tokens.shape == (2, 6, 12)
    for r, q, c, i, j in [(0, 0, 0, 0, 0), (1, 2, 2, 1, 0), (0, 1, 1, 0, 1), (1, 0, 2, 1, 1)]:
        assert tokens[1, r * 3 + q, 4 * c + 2 * i + j] == latents[1, c, 2 * r + i, 2 * q + j]
    assert torch.equal(unpack(tokens, 4, 6), latents)


def test_ids_of_padding_are_those_of_the_opposite_edge():
    ids = image_ids(2, 4, 2).view(2, 8, 3)
    assert ids[0, :, 2].tolist() == [2, 3, 0, 1, 2, 3, 0, 1]
    assert ids[:, 0, 1].tolist() == [0, 1] and not ids[..., 0].any()


def test_ids_on_a_finer_grid():
    """At half size a token covers two of the full grid: its id is the mean of theirs."""
    full, half = image_ids(4, 8).view(4, 8, 3), image_ids(2, 4, id_scale=2.0).view(2, 4, 3)
    means = full.view(2, 2, 4, 2, 3).mean(dim=(1, 3))
    assert torch.equal(half, means)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 9),
    padding=st.integers(0, 9),
    shift=st.integers(-20, 20),
)
def test_one_gather_is_roll_then_pad(rows, columns, padding, shift):
    padding = min(padding, columns)
    tokens = torch.arange(rows * columns).view(rows, columns)
    expected = pad_ring(roll_ring(tokens, shift), padding)
    gathered = tokens.flatten()[pad_index(rows, columns, padding, shift)]
    assert torch.equal(gathered, expected.flatten())
    assert torch.equal(gathered[crop_index(rows, columns, padding, shift)], tokens.flatten())


def test_padding_latents_equals_padding_tokens():
    latents = torch.randn(1, 16, 4, 8)
    tokens = pack(latents)[:, pad_index(2, 4, 1)]
    assert torch.equal(pack(pad_ring(latents, 2)), tokens)
    assert torch.equal(crop_ring(pad_ring(latents, 2), 2), latents)


def test_refusals():
    with pytest.raises(InputError, match="5×8 cannot be cut"):
        pack(torch.zeros(1, 16, 5, 8))
    with pytest.raises(InputError, match="7 tokens do not fill"):
        unpack(torch.zeros(1, 7, 64), 4, 8)
    with pytest.raises(InputError, match="padding must be 0 … 4"):
        image_ids(2, 4, 5)
    with pytest.raises(InputError, match="got -1"):
        pad_index(2, 4, -1)
