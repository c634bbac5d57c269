"""Latents and tokens on a ring: packing, position ids, circular padding and rolling.

A token is a 2×2 patch of latent pixels. The padding of DiT360 repeats the opposite edge *with its position
ids*, so that the copies stay exact copies through the whole network (dit360 spec, sections 2.2 and 4.1).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..runtime.errors import InputError

PATCH = 2
"""Latent pixels per token and axis."""


def pack(latents: Tensor) -> Tensor:
    """Latents [B, C, h, w] → tokens [B, (h/2)·(w/2), 4C], row by row; feature index 4·c + 2·i + j.

    Raises InputError when h or w is odd.
    """
    height, width = latents.shape[-2:]
    if height % PATCH or width % PATCH:
        raise InputError(
            f"latents of {height}×{width} cannot be cut into {PATCH}×{PATCH} patches: use even sizes"
        )
    return F.pixel_unshuffle(latents, PATCH).flatten(2).transpose(1, 2)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """Tokens [B, (h/2)·(w/2), 4C] → latents [B, C, h, w]; `height` and `width` are those of the latents.

    Raises InputError when the number of tokens does not fit the size.
    """
    rows, columns = height // PATCH, width // PATCH
    if tokens.shape[1] != rows * columns:
        raise InputError(
            f"{tokens.shape[1]} tokens do not fill latents of {height}×{width} ({rows}×{columns} tokens)"
        )
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (rows, columns)), PATCH)


def image_ids(
    rows: int,
    columns: int,
    padding: int = 0,
    *,
    id_scale: float = 1.0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Position ids (0, row, column) [rows·(columns + 2·padding), 3], float32, of a ring-padded token grid.

    Padding columns carry the ids of the columns they copy: n−p … n−1 on the left, 0 … p−1 on the right. With
    `id_scale` s an id i becomes s·i + (s − 1)/2, the place of the token's centre on a grid s times finer; s =
    2 lets a picture of half size speak about the same directions as a full one. Raises InputError when
    `padding` is negative or wider than the grid.
    """
    check_padding(padding, columns)
    row = torch.arange(rows, dtype=torch.float32, device=device)
    column = torch.arange(-padding, columns + padding, dtype=torch.float32, device=device) % columns
    ids = torch.zeros(rows, len(column), 3, dtype=torch.float32, device=device)
    offset = (id_scale - 1.0) / 2.0
    ids[..., 1] = (row * id_scale + offset)[:, None]
    ids[..., 2] = (column * id_scale + offset)[None, :]
    return ids.reshape(-1, 3)


def check_padding(padding: int, columns: int) -> None:
    """Raise InputError unless 0 ≤ `padding` ≤ `columns` (token columns)."""
    if not 0 <= padding <= columns:
        raise InputError(
            f"circular padding must be 0 … {columns} token columns for this width, got {padding}"
        )


def pad_ring(x: Tensor, padding: int) -> Tensor:
    """Repeat `padding` columns of the opposite edge on each side of the last axis: [..., w] → [..., w +
    2·padding].
    """
    if padding == 0:
        return x
    return torch.cat([x[..., -padding:], x, x[..., :padding]], dim=-1)


def crop_ring(x: Tensor, padding: int) -> Tensor:
    """Undo `pad_ring`: drop `padding` columns on each side of the last axis (a view)."""
    return x[..., padding : x.shape[-1] - padding] if padding else x


def roll_ring(x: Tensor, columns: int) -> Tensor:
    """Move the picture `columns` to the right around the ring, along the last axis."""
    return torch.roll(x, columns, dims=-1) if columns % x.shape[-1] else x


def pad_index(
    rows: int, columns: int, padding: int, shift: int = 0, *, device: torch.device | str | None = None
) -> Tensor:
    """Token indices [rows·(columns + 2·padding)] that roll a grid `shift` columns right and ring-pad it, in
    one gather.

    `tokens[:, pad_index(...)]` turns [B, rows·columns, C] into the padded grid; ids stay where they are, so
    with a shift the content moves relative to the positions that the network sees. Inverse: `crop_index`.
    """
    check_padding(padding, columns)
    column = torch.arange(-padding, columns + padding, device=device).sub(shift) % columns
    return _grid_index(rows, columns, column)


def crop_index(
    rows: int, columns: int, padding: int, shift: int = 0, *, device: torch.device | str | None = None
) -> Tensor:
    """Token indices [rows·columns] that drop the padding columns and undo the roll of `pad_index`."""
    column = padding + torch.arange(columns, device=device).add(shift) % columns
    return _grid_index(rows, columns + 2 * padding, column)


def _grid_index(rows: int, stride: int, column: Tensor) -> Tensor:
    row = torch.arange(rows, device=column.device)[:, None] * stride
    return (row + column[None, :]).flatten()
