"""STAR's transformer block, and how something may be added to it without changing it.

A *branch* is a function (normed, raw) → residual: `raw` [R, N, C] is the residual stream that enters the block, `normed`
what self-attention gets, LayerNorm(raw). The residual is added right after the one of self-attention, without
drop-path; cross-attention and the feed-forward come after both:

    x = x + SelfAttention(LN(x))
    x = x + branch(LN(x_in), x_in)          only where a branch is given
    x = x + CrossAttention(LN(x), text)     generator only
    x = x + FeedForward(LN(x))

Whoever runs the blocks takes `branches`, a function (block, span) → branch or None, and asks it for each block, so that
modules that were hung onto a block (`block.faceray_adapter`) can be found there. `span` says which tokens the call
holds (`span.Span`): all scales in training, one scale in cached inference, a leading text token in the masked sampler.
Rows that belong together (six faces of a cube) are consecutive, and no call of the blocks cuts them apart: rows are
[units, halves of guidance, rows of a unit], and a call holds some whole units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...layers.attention import Attention
from .attention import CrossAttention, SelfAttention, TextKeys, add
from .cache import CachedAttention
from .config import STARConfig
from .parts import rows_together
from .span import Span

Branch = Callable[[Tensor, Tensor], Tensor]
"""(normed, raw) → residual, all [R, N, C]; see the module."""

Branches = Callable[[nn.Module, Span], "Branch | None"]
"""(block, span) → the block's branch in this call; see the module."""


PASS_BYTES = 2**22
"""Hidden numbers that a CPU computes at a time: they stay in its cache, and need no memory for all tokens at once."""


class FeedForward(nn.Module):
    """fc2(GELU(fc1(x))), GELU in its tanh form."""

    def __init__(self, width: int, hidden: int, operations: Any = nn) -> None:
        super().__init__()
        self.fc1 = operations.Linear(width, hidden)
        self.fc2 = operations.Linear(hidden, width)
        self.hidden = hidden

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [R, N, C] → [R, N, C]."""
        tokens = max(1, PASS_BYTES // (self.hidden * x.element_size()))
        if x.device.type != "cpu" or torch.is_grad_enabled() or x.shape[:-1].numel() <= tokens:
            return self._once(x)
        out = torch.empty_like(x)
        for part, place in zip(x.flatten(0, -2).split(tokens), out.flatten(0, -2).split(tokens), strict=True):
            place.copy_(self._once(part))
        return out

    def _once(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    """One block of the generator, or of the masked sampler, which has no cross-attention (`text_width` None)."""

    def __init__(
        self, config: STARConfig, text_width: int | None, drop_path: float = 0.0, operations: Any = nn
    ) -> None:
        super().__init__()
        self.eps, self.drop_path = config.norm_eps, drop_path
        self.attn = SelfAttention(config.width, config.heads, operations)
        if text_width is not None:
            self.cross_attn = CrossAttention(config.width, config.heads, text_width, operations)
        self.ffn = FeedForward(config.width, config.hidden, operations)

    def forward(
        self,
        x: Tensor,
        table: Tensor,
        attend: Attention,
        attention: Attention,
        text: TextKeys | None = None,
        branch: Branch | None = None,
    ) -> Tensor:
        """Tokens x [R, N, C] → [R, N, C].

        `table`: rotary codes [N, 1, head width/2]. `attend` is the self-attention's: it knows what these tokens see;
        `attention` is the plain one. `text` None leaves cross-attention out. `branch`: see the module.
        """
        in_parts = isinstance(attend, CachedAttention) and x.device.type == "cpu"
        attended = self._attended_in_parts if in_parts else self._attended
        x = attended(x, table, attend, branch)
        if text is not None:
            x = text.answer(x, self.cross_attn(norm(text.ask(x), self.eps), text, attention))
        if not in_parts:
            return add(x, self._dropped(self.ffn(norm(x, self.eps))))
        for rows in rows_together(*x.shape[:2]):
            x[rows].add_(self.ffn(norm(x[rows], self.eps)))
        return x

    def _attended(self, raw: Tensor, table: Tensor, attend: Attention, branch: Branch | None) -> Tensor:
        normed = norm(raw, self.eps)
        x = raw + self._dropped(self.attn(normed, table, attend))
        return x if branch is None else add(x, branch(normed, raw))

    def _attended_in_parts(
        self, raw: Tensor, table: Tensor, attend: CachedAttention, branch: Branch | None
    ) -> Tensor:
        """The same, some rows at a time, to spare memory."""
        x = torch.empty_like(raw)
        for rows in rows_together(*raw.shape[:2]):
            residual = self.attn(norm(raw[rows], self.eps), table, attend.part(rows))
            torch.add(raw[rows], residual, out=x[rows])
        return x if branch is None else add(x, branch(norm(raw, self.eps), raw))

    def _dropped(self, residual: Tensor) -> Tensor:
        """Stochastic depth in training: a row's residual is left out with probability `drop_path`."""
        if not self.training or not self.drop_path:
            return residual
        keep = 1.0 - self.drop_path
        kept = torch.empty(len(residual), 1, 1, device=residual.device).bernoulli_(keep) / keep
        return residual * kept.to(residual.dtype)


def run_blocks(
    blocks: Iterable[Block],
    x: Tensor,
    table: Tensor,
    span: Span,
    attends: Iterable[Attention],
    attention: Attention,
    texts: Iterable[TextKeys | None] | None = None,
    branches: Branches | None = None,
    checkpointing: bool = False,
) -> Tensor:
    """Tokens x [R, N, C] of `span` through the blocks; `attends` and `texts` give one item per block.

    With `checkpointing`, the blocks' activations are computed again in the backward pass instead of being kept.
    """
    for block, attend, text in zip(blocks, attends, repeat(None) if texts is None else texts, strict=False):
        branch = None if branches is None else branches(block, span)
        inputs = (x, table, attend, attention, text, branch)
        if checkpointing and torch.is_grad_enabled():
            x = checkpoint(block, *inputs, use_reentrant=False)
        else:
            x = block(*inputs)
    return x


def norm(x: Tensor, eps: float) -> Tensor:
    """LayerNorm without weights; torch computes it in float32 inside for 16-bit tensors."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def drop_rates(depth: int) -> list[float]:
    """Drop-path of each block: from 0 to depth/240 in equal steps."""
    last = 0.1 * depth / 24
    return [last * index / max(1, depth - 1) for index in range(depth)]
