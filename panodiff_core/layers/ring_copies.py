"""Ring padding behind a sequence, for a network that takes an unpadded grid of tokens and is not ours.

A transformer does not see where in the sequence a token stands, only its content and its position ids. So the padding
of `layers.ring` may stand at the very end, after everything that other code put there, and what is lined up with the
first tokens stays lined up. For the same reason a roll moves no content: each token takes the ids of the place that
it would move to (dit360 spec, sections 4.2 and 4.6).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .ring import check_padding


@dataclass(frozen=True)
class RingCopies:
    """Copies of the end columns for sequences that begin with rows × columns tokens, row by row.

    `sources` [rows·2·padding] are the tokens to copy, `places` [rows·columns] the token whose ids each token takes,
    or None where nothing is rolled.
    """

    sources: Tensor
    places: Tensor | None

    @classmethod
    def lay(
        cls,
        rows: int,
        columns: int,
        padding: int,
        shift: Tensor | None = None,
        device: torch.device | str | None = None,
    ) -> RingCopies:
        """The ring of one grid; `shift` [1] int64 rolls it so many token columns to the right.

        The shift is a tensor so that a device never has to tell it to the host. Raises InputError when `padding`
        is negative or wider than the grid.
        """
        check_padding(padding, columns)
        row = torch.arange(rows, device=device)[:, None] * columns
        ends = torch.cat([torch.arange(-padding, 0, device=device), torch.arange(padding, device=device)])
        if shift is None:
            return cls((row + ends % columns).flatten(), None)
        moved = (torch.arange(columns, device=device) + shift) % columns
        return cls((row + (ends - shift) % columns).flatten(), (row + moved).flatten())

    def tokens(self, tokens: Tensor) -> Tensor:
        """[B, N, C] → [B, N + copies, C]."""
        return torch.cat([tokens, tokens.index_select(1, self.sources)], dim=1)

    def ids(self, ids: Tensor) -> Tensor:
        """Position ids [B, N, axes] → [B, N + copies, axes]; the copies have the ids of what they copy."""
        if self.places is not None:
            grid = ids.index_select(1, self.places)
            ids = torch.cat([grid, ids[:, len(self.places) :]], dim=1)
        return self.tokens(ids)

    def residual(self, residual: Tensor, length: int) -> Tensor:
        """What is added to the first n of `length` tokens, [B, n, C] → [B, length + copies, C].

        The copies get what their sources get, otherwise they would not stay copies.
        """
        between = residual.new_zeros(residual.shape[0], length - residual.shape[1], residual.shape[2])
        return torch.cat([residual, between, residual.index_select(1, self.sources)], dim=1)

    def mask(self, mask: Tensor, text: int) -> Tensor:
        """Attention mask [..., T, T] over `text` text tokens and then the sequence → [..., T + copies, T + copies]."""
        for dim in (-2, -1):
            mask = torch.cat([mask, mask.index_select(dim, self.sources + text)], dim=dim)
        return mask


def offset_at(sigma: Tensor, sigmas: Tensor, offsets: Tensor) -> Tensor:
    """The offset [1] of the step that a noise level [1] lies in, found on its device.

    `sigmas` [steps + 1] fall, `offsets` [steps] int64 are one per step. A level between two of the grid, such as the
    midpoint of a second-order step, belongs to the step that it divides.
    """
    step = (sigmas[:-1] >= sigma - 1e-6).sum().sub(1).clamp(min=0)
    return offsets.to(sigma.device).index_select(0, step.view(1))
