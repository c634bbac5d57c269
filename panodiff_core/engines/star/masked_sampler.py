"""STAR's masked sampler: a small network that draws the codes of a fine scale in several steps, so that tokens drawn in
one pass do not contradict each other.

It sees the generator's features of the scale and the codes committed so far. A cubemap's six faces are one sequence
with the text token in front, each face seeing itself and the text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.attention import Attention, fused_attention
from ...runtime.errors import InputError
from .attention import SeparateGrids
from .blocks import Block, Branches, drop_rates, norm, run_blocks
from .config import STARConfig
from .generator import reset_modules, scale_codes
from .rope import AxialRope
from .scales import Scales
from .span import Span

VISIBLE_LOGIT = 10.0
"""What STAR's loss gives a visible token for its own class, beside 0 for all others."""


class MaskedSampler(nn.Module):
    """The sampler's modules; their keys lie beside the generator's in an official state dict and share none with it.

    Raises InputError for a configuration without sampler blocks, or with more than the generator has.
    """

    def __init__(
        self, config: STARConfig, *, attention: Attention | None = None, operations: Any = nn
    ) -> None:
        super().__init__()
        if not 0 < config.sampler_blocks <= config.depth:
            raise InputError(
                f"sampler_blocks is {config.sampler_blocks}: a masked sampler has from 1 to depth ({config.depth}) blocks"
            )
        self.config, self.scales = config, Scales(config.patch_nums)
        self.rope = AxialRope(self.scales, config.head_dim, config.rope_norm, config.rope_theta)
        self.attention = attention or fused_attention
        self.checkpointing = False
        width = config.width
        self.word_embed_head = operations.Linear(config.latent_channels, width)
        self.pos_start_last = nn.Parameter(torch.zeros(1, 1, width))
        self.lvl_embed_2 = operations.Embedding(len(self.scales), width)
        self.encoder_proj2 = operations.Linear(config.text_width, width)
        self.head_proj = operations.Linear(2 * width, width)
        # The reference takes the first rates of the generator's list.
        rates = drop_rates(config.depth)[: config.sampler_blocks]
        self.feat_extract_blocks = nn.ModuleList(Block(config, None, rate, operations) for rate in rates)
        self.head_logits2 = operations.Linear(width, config.vocab)

    @property
    def grids(self) -> tuple[int, ...]:
        """The scales that the sampler serves."""
        return tuple(range(self.config.sampler_from, len(self.scales)))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Fresh weights by STAR's rules."""
        reset_modules(self, self.config, generator)
        self.pos_start_last.normal_(std=(3 * self.config.width) ** -0.5, generator=generator)

    def features(
        self,
        codes: Tensor,
        features: Tensor,
        pooled: Tensor,
        scales: Iterable[int],
        branches: Branches | None = None,
    ) -> Tensor:
        """Last hidden states [R, M, C] of the image tokens, see `forward`; the text token's are dropped."""
        span = Span(tuple(scales), leading=1)
        lengths = [self.scales.lengths[s] for s in span.scales]
        self._check(codes, features, pooled, sum(lengths))
        text = self.encoder_proj2(pooled).unsqueeze(1)
        text = text + self.pos_start_last.to(text)
        known = self.word_embed_head(codes)
        known = known + scale_codes(self.lvl_embed_2, self.scales, span.scales).to(known)
        both = torch.cat(
            [torch.cat([text, known], dim=1), torch.cat([text, features.to(text)], dim=1)], dim=2
        )
        attend = SeparateGrids(lengths, self.attention)
        out = run_blocks(
            self.feat_extract_blocks,
            self.head_proj(both).to(codes.dtype),  # as the generator's residual stream under autocast
            self.rope.table(span, codes.device),
            span,
            repeat(attend),
            self.attention,
            branches=branches,
            checkpointing=self.checkpointing and self.training,
        )
        return out[:, 1:]

    def head_input(self, features: Tensor) -> Tensor:
        """What the head takes: always the LayerNorm."""
        return norm(features, self.config.norm_eps)

    def head_output(self, normed: Tensor) -> Tensor:
        """Logits [R, M, V], float32, of what `head_input` gives, or a mixture of it."""
        return self.head_logits2(normed).float()

    def head(self, features: Tensor) -> Tensor:
        """Logits [R, M, V], float32, of `features`."""
        return self.head_output(self.head_input(features))

    def forward(
        self,
        codes: Tensor,
        features: Tensor,
        pooled: Tensor,
        scales: Iterable[int] | None = None,
        *,
        branches: Branches | None = None,
    ) -> Tensor:
        """Logits [R, M, V], float32, of the image tokens.

        `codes` [R, M, Cv]: the code of each visible token, zeros for hidden ones. `features` [R, M, C]: the
        generator's, before its head. `pooled` [R, D]: pooled text. `scales`: which scale each token grid of the
        sequence has; None is all that the sampler serves, (s,)·6 the six faces of a cube. Raises InputError where
        sizes do not fit.
        """
        grids = self.grids if scales is None else scales
        return self.head(self.features(codes, features, pooled, grids, branches))

    def _check(self, codes: Tensor, features: Tensor, pooled: Tensor, tokens: int) -> None:
        config, rows = self.config, len(codes)
        expected = {
            "codes": (codes, (rows, tokens, config.latent_channels)),
            "features": (features, (rows, tokens, config.width)),
            "pooled text": (pooled, (rows, config.text_width)),
        }
        for name, (value, shape) in expected.items():
            if value.shape != shape:
                raise InputError(
                    f"{name} of the masked sampler must be {list(shape)}, got {list(value.shape)}"
                )


def keep_probability(r: Tensor) -> Tensor:
    """Share of visible tokens in training for r in 0..1: arccos(r)/(π/2)."""
    return r.acos() / (math.pi / 2)


def draw_keep(rows: int, tokens: int, generator: torch.Generator | None = None) -> Tensor:
    """Which tokens are visible in training [rows, tokens], bool, on the CPU: one r ~ U(0, 1) per row."""
    share = keep_probability(torch.rand(rows, 1, generator=generator))
    return torch.rand(rows, tokens, generator=generator) < share


def hidden_loss(logits: Tensor, targets: Tensor, keep: Tensor) -> Tensor:
    """Mean cross-entropy of the hidden tokens: logits [R, M, V], targets [R, M], keep [R, M] True where visible.

    0 where nothing is hidden.
    """
    losses = _token_losses(logits, targets)
    hidden = ~keep.bool()
    return torch.where(hidden, losses, 0.0).sum() / hidden.sum().clamp_min(1)


def official_loss(logits: Tensor, targets: Tensor, keep: Tensor, total: int) -> Tensor:
    """STAR's own form: V+1 classes, summed over tokens and divided by `total`, the tokens of all scales; mean of rows.

    Hidden tokens have one more class with logit 0. Visible ones count as the further class with logits 0 … 0, 10: a
    constant without gradient.
    """
    hidden = F.pad(logits, (0, 1))
    visible = math.log(logits.shape[-1] + math.exp(VISIBLE_LOGIT)) - VISIBLE_LOGIT
    losses = torch.where(keep.bool(), visible, _token_losses(hidden, targets))
    return losses.sum(dim=1).mean() / total


def _token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
