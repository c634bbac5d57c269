"""Latents on a ring ↔ the tokens that enter the network, padded along the ring."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ....layers.ring import PATCH, crop_index, image_ids, pack, pad_index, unpack


class RingGrid:
    """Latents [B, C, h, w] ↔ the ring-padded tokens [B, N, 4C] of one picture size; `ids` [N, 3] are their
    positions.

    Raises InputError when the latent size is odd or `padding` wider than the grid.
    """

    def __init__(
        self,
        height: int,
        width: int,
        padding: int,
        *,
        id_scale: float = 1.0,
        device: torch.device | str | None = None,
    ) -> None:
        self.height, self.width, self.padding, self.device = height, width, padding, device
        self.rows, self.columns = height // PATCH, width // PATCH
        self.ids = image_ids(self.rows, self.columns, padding, id_scale=id_scale, device=device)
        self._indices: dict[tuple[str, int], Tensor] = {}

    @property
    def tokens(self) -> int:
        """Number of image tokens that enter the network, padding included."""
        return self.rows * (self.columns + 2 * self.padding)

    def enter(self, latents: Tensor, shift: int = 0) -> Tensor:
        """Latents → padded tokens, rolled `shift` token columns to the right."""
        return self.pad(pack(latents), shift)

    def leave(self, tokens: Tensor, shift: int = 0) -> Tensor:
        """Padded tokens → latents; undoes `enter`."""
        return unpack(self.crop(tokens, shift), self.height, self.width)

    def pad(self, tokens: Tensor, shift: int = 0) -> Tensor:
        """Plain tokens → padded tokens, rolled."""
        if not self.padding and shift % self.columns == 0:
            return tokens
        return tokens.index_select(1, self._index(pad_index, shift))

    def crop(self, tokens: Tensor, shift: int = 0) -> Tensor:
        """Padded tokens → plain tokens; undoes `pad`."""
        if not self.padding and shift % self.columns == 0:
            return tokens
        return tokens.index_select(1, self._index(crop_index, shift))

    def _index(self, build: Callable[..., Tensor], shift: int) -> Tensor:
        key = (build.__name__, shift % self.columns)
        if key not in self._indices:
            self._indices[key] = build(self.rows, self.columns, self.padding, key[1], device=self.device)
        return self._indices[key]
