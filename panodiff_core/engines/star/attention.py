"""STAR's attention: queries and keys of unit length, a learned scale per head, and the softmax's own scale 1.

The attention itself is a callable handed down (`layers.attention`) that divides by √(head width); queries are
multiplied by that beforehand, so every back end computes the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...layers.attention import Attention, plain_attention
from ...runtime.errors import InputError
from .rope import rotate

SHARPEST = math.log(100.0)
"""Largest logarithm of a head's scale."""


class SelfAttention(nn.Module):
    """Attention among image tokens; keys of the state dict as in the official checkpoints."""

    def __init__(self, width: int, heads: int, operations: Any = nn) -> None:
        super().__init__()
        self.heads = heads
        self.scale_mul_1H11 = nn.Parameter(torch.full((1, heads, 1, 1), math.log(4.0)))
        self.mat_qkv = operations.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("zero_k_bias", torch.zeros(width))
        self.proj = operations.Linear(width, width)

    def forward(self, x: Tensor, table: Tensor, attend: Attention) -> Tensor:
        """Tokens x [B, N, C] turned by `table` [N, 1, head width/2] → [B, N, C].

        `attend` gets q, k and v of these tokens, [B, heads, N, head width], and says what they see.
        """
        out = attend(*self._project(x, table))
        return self.proj(out.transpose(1, 2).flatten(2))

    def _project(self, x: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, heads, N, head width]; without gradients all in the memory of one product."""
        qkv = self.mat_qkv(x)
        bias = torch.cat([self.q_bias, self.zero_k_bias, self.v_bias])
        qkv = qkv.add_(bias.to(qkv)).unflatten(-1, (3, self.heads, -1))
        sharpness = _head_scale(self.scale_mul_1H11, qkv.shape[-1], x)
        scale = torch.stack([sharpness, torch.ones_like(sharpness)])
        in_place = not torch.is_grad_enabled()
        turned = rotate(qkv[:, :, :2].float(), table.unsqueeze(1), in_place=in_place)
        q, k = _to_length(turned, scale, in_place=in_place).to(qkv.dtype).permute(2, 0, 3, 1, 4)
        return q, k, qkv[:, :, 2].transpose(1, 2)


@dataclass(frozen=True)
class TextKeys:
    """What one block knows of the text, and which rows ask.

    `k`, `v` [P, heads, T, head width]; `mask` [P, 1, 1, T], True where a token is seen, None where all are. The rows
    of a call come as [units, `turns`, `group`]: the first of the turns asks, and all get its answer. The rows that ask
    are P runs of equal length with one text each. (1, 1): every row asks for itself.
    """

    k: Tensor
    v: Tensor
    mask: Tensor | None = None
    turns: int = 1
    group: int = 1

    def ask(self, x: Tensor) -> Tensor:
        """The rows of x [R, N, C] that ask."""
        return x if self.turns == 1 else x.unflatten(0, (-1, self.turns, self.group))[:, 0].flatten(0, 1)

    def answer(self, x: Tensor, y: Tensor) -> Tensor:
        """x [R, N, C] with the answers y of the rows that asked added to all; see `add`."""
        rows = x.unflatten(0, (-1, self.turns, self.group))
        return add(rows, y.unflatten(0, (-1, 1, self.group))).flatten(0, 2)

    def part(self, units: slice) -> TextKeys:
        """The texts `units` of P, for a part of the rows."""
        mask = None if self.mask is None else self.mask[units]
        return TextKeys(self.k[units], self.v[units], mask, self.turns, self.group)


class CrossAttention(nn.Module):
    """Attention of image tokens to the text; keys of the state dict as in the official checkpoints."""

    def __init__(self, width: int, heads: int, text_width: int, operations: Any = nn) -> None:
        super().__init__()
        self.heads = heads
        self.scale_mul_1H11 = nn.Parameter(torch.full((1, heads, 1, 1), math.log(4.0)))
        self.mat_q = operations.Linear(width, width, bias=False)
        self.mat_kv = operations.Linear(text_width, 2 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("zero_k_bias", torch.zeros(width))
        self.proj = operations.Linear(width, width)

    def keys(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [P, heads, T, head width] of text [P, T, D]."""
        kv = self.mat_kv(text)
        bias = torch.cat([self.zero_k_bias, self.v_bias])
        kv = (kv + bias.to(kv)).unflatten(-1, (2, self.heads, -1))
        k = _to_length(kv[:, :, 0].float(), 1.0).to(kv.dtype)
        return k.transpose(1, 2), kv[:, :, 1].transpose(1, 2)

    def forward(self, x: Tensor, text: TextKeys, attention: Attention) -> Tensor:
        """What the rows x [R, N, C] that ask hear: [R, N, C]. Rows of one text are one sequence: no copies of keys."""
        rows = x.reshape(len(text.k), -1, x.shape[-1])
        q = self.mat_q(rows)
        q = q.add_(self.q_bias.to(q)).unflatten(-1, (self.heads, -1))
        sharpness = _head_scale(self.scale_mul_1H11, q.shape[-1], x)
        in_place = not torch.is_grad_enabled()
        q = _to_length(q.float(), sharpness, in_place=in_place).to(q.dtype).transpose(1, 2)
        if text.mask is not None:  # only texts of unequal length in one batch; other back ends take no mask
            attention = partial(plain_attention, mask=text.mask)
        out = attention(q, text.k.to(q.dtype), text.v.to(q.dtype))
        return self.proj(out.transpose(1, 2).flatten(2)).view(x.shape)


class BlockCausal:
    """Attention of a whole sequence of scales: each sees itself and the coarser ones. Scale by scale, without a mask,
    which computes only what is seen and leaves the choice of kernel free.
    """

    def __init__(self, lengths: Sequence[int], attention: Attention) -> None:
        self.lengths, self.attention = tuple(lengths), attention

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, end = [], 0
        for part in q.split(self.lengths, dim=2):
            end += part.shape[2]
            out.append(self.attention(part, k[:, :, :end], v[:, :, :end]))
        return torch.cat(out, dim=2)


class SeparateGrids:
    """Attention of one text token and several grids after it: the text token sees and is seen by all, a grid's tokens
    see the text and their own grid (scales of the masked sampler, or faces of a cube).
    """

    def __init__(self, lengths: Sequence[int], attention: Attention) -> None:
        self.lengths, self.attention = tuple(lengths), attention

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if len(self.lengths) == 1:
            return self.attention(q, k, v)
        out, begin = [self.attention(q[:, :, :1], k, v)], 1
        for length in self.lengths:
            grid = slice(begin, begin + length)
            seen = [torch.cat([x[:, :, :1], x[:, :, grid]], dim=2) for x in (k, v)]
            out.append(self.attention(q[:, :, grid], *seen))
            begin += length
        return torch.cat(out, dim=2)


def seen_text(hidden: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """Text [P, T, D] without the tokens that no row sees (`mask` [P, T]), and the mask [P, 1, 1, T'] that is left, None
    where every row sees all of it. Raises InputError for a row that sees nothing.
    """
    mask = mask.bool()
    if mask.shape != hidden.shape[:2] or not mask.any(dim=1).all():
        raise InputError(
            f"the text mask must be {list(hidden.shape[:2])} with at least one visible token in every row, "
            f"got {list(mask.shape)}"
        )
    used = mask.any(dim=0)
    hidden, mask = hidden[:, used.to(hidden.device)], mask[:, used].to(hidden.device)
    return hidden, None if mask.all() else mask[:, None, None]


def add(x: Tensor, residual: Tensor) -> Tensor:
    """x + residual; without gradients in the memory of x."""
    return x + residual if torch.is_grad_enabled() else x.add_(residual)


def _head_scale(logarithm: Tensor, head_dim: int, x: Tensor) -> Tensor:
    """exp(min(m, ln 100))·√(head width) of each head [heads, 1], float32 on the device of x."""
    return logarithm.to(x.device, torch.float32).clamp(max=SHARPEST).exp().view(-1, 1) * head_dim**0.5


def _to_length(x: Tensor, length: Tensor | float, *, in_place: bool = False) -> Tensor:
    """Vectors x [..., head width], float32, of the given length."""
    factor = length / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(1e-12)
    return x.mul_(factor) if in_place else x * factor
