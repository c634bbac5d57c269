"""Latents and tokens on a ring, and the shift exponent, as the published pipeline has them."""

from __future__ import annotations

import torch
from torch import Tensor

SCHEDULER = {"base_shift": 0.4, "max_shift": 1.3, "base_image_seq_len": 16, "max_image_seq_len": 96}
SCHEDULER |= {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}


def pack(x: Tensor) -> Tensor:
    """[B, C, h, w] → tokens, as the published pipeline writes it."""
    b, c, h, w = x.shape
    x = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(b, h // 2 * (w // 2), 4 * c)


def unpack(x: Tensor, rows: int) -> Tensor:
    b, n, f = x.shape
    x = x.view(b, rows, n // rows, f // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(b, f // 4, 2 * rows, 2 * (n // rows))


def pad(x: Tensor, rows: int, p: int) -> Tensor:
    """Tokens or ids [..., rows·columns, F] with `p` columns of the other edge on either side."""
    grid = x.unflatten(-2, (rows, -1))
    n = grid.shape[-2]
    return torch.cat([grid[..., n - p :, :], grid, grid[..., :p, :]], dim=-2).flatten(-3, -2)


def crop(x: Tensor, rows: int, p: int) -> Tensor:
    grid = x.unflatten(-2, (rows, -1))
    return grid[..., p : grid.shape[-2] - p, :].flatten(-3, -2)


def ids(rows: int, columns: int) -> Tensor:
    axes = torch.meshgrid(*(torch.arange(n) for n in (1, rows, columns)), indexing="ij")
    return torch.stack(axes, dim=-1).reshape(-1, 3).float()


def shift_exponent(tokens: int) -> float:
    c = SCHEDULER
    slope = (c["max_shift"] - c["base_shift"]) / (c["max_image_seq_len"] - c["base_image_seq_len"])
    return c["base_shift"] + slope * (tokens - c["base_image_seq_len"])
