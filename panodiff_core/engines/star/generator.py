"""STAR's generator: a transformer that predicts all codes of a scale from the coarser ones (arXiv:2406.10797)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from ...layers.attention import Attention, fused_attention
from ...runtime.errors import InputError
from .attention import BlockCausal, TextKeys, seen_text
from .blocks import Block, Branches, drop_rates, norm, run_blocks
from .config import STARConfig
from .rope import AxialRope
from .scales import Scales
from .span import Span
from .text import TextFeatures


class STARGenerator(nn.Module):
    """The generator without the masked sampler; its state dict has the official keys (`trainer.var_wo_ddp`).

    `attention` is what all blocks compute with. `checkpointing` saves memory in training. `operations` provides
    `Linear` and `Embedding`.
    """

    def __init__(
        self, config: STARConfig, *, attention: Attention | None = None, operations: Any = nn
    ) -> None:
        super().__init__()
        self.config, self.scales = config, Scales(config.patch_nums)
        self.rope = AxialRope(self.scales, config.head_dim, config.rope_norm, config.rope_theta)
        self.attention = attention or fused_attention
        self.checkpointing = False
        width = config.width
        self.pos_start = nn.Parameter(torch.zeros(1, 1, width))
        self.word_embed = operations.Linear(config.latent_channels, width)
        if config.class_rows:  # nothing reads it, but official files hold it
            self.class_emb = operations.Embedding(config.class_rows, width)
        self.lvl_embed = operations.Embedding(len(self.scales), width)
        self.encoder_proj = operations.Linear(config.text_width, width)
        self.blocks = nn.ModuleList(
            Block(config, config.text_width, rate, operations) for rate in drop_rates(config.depth)
        )
        self.head_logits = operations.Linear(width, config.vocab)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.word_embed.weight.dtype

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Fresh weights by STAR's rules; `generator` makes them repeatable."""
        reset_modules(self, self.config, generator)
        self.pos_start.normal_(std=(3 * self.config.width) ** -0.5, generator=generator)
        self.head_logits.weight.mul_(0.02)
        for block in self.blocks:
            for layer in (block.attn.proj, block.ffn.fc2):
                layer.weight.div_((2 * self.config.depth) ** 0.5)

    def start(self, pooled: Tensor) -> Tensor:
        """The token of the first scale [R, 1, C] from pooled text [R, D]."""
        token = self.encoder_proj(pooled).unsqueeze(1)
        return token + self.pos_start.to(token) + self._level((0,), token)

    def embed(self, latents: Tensor, scales: Iterable[int]) -> Tensor:
        """Tokens [R, N, C] of the accumulated latents [R, N, Cv] as `scales` see them, one after the other."""
        tokens = self.word_embed(latents)
        return tokens + self._level(tuple(scales), tokens)

    def _level(self, scales: tuple[int, ...], like: Tensor) -> Tensor:
        return scale_codes(self.lvl_embed, self.scales, scales).to(like)

    def text_keys(self, text: TextFeatures, turns: int = 1, group: int = 1) -> Iterator[TextKeys]:
        """Keys and values of the text, block after block as they are asked for; `turns`, `group`: see `TextKeys`."""
        hidden, mask = seen_text(text.hidden, text.mask)
        for block in self.blocks:
            yield TextKeys(*block.cross_attn.keys(hidden), mask, turns, group)

    def run(
        self,
        x: Tensor,
        span: Span,
        attends: Iterable[Attention],
        texts: Iterable[TextKeys],
        branches: Branches | None = None,
    ) -> Tensor:
        """Tokens x [R, N, C] of `span` through all blocks → features [R, N, C], before the head's norm."""
        table = self.rope.table(span, x.device)
        checkpointing = self.checkpointing and self.training
        return run_blocks(
            self.blocks, x, table, span, attends, self.attention, texts, branches, checkpointing
        )

    def head_input(self, features: Tensor) -> Tensor:
        """What the head takes of features: their LayerNorm, unless the model has none."""
        return norm(features, self.config.norm_eps) if self.config.logit_norm else features

    def head_output(self, normed: Tensor) -> Tensor:
        """Logits [R, N, V], float32, of what `head_input` gives, or a mixture of it."""
        return self.head_logits(normed).float()

    def head(self, features: Tensor) -> Tensor:
        """Logits [R, N, V], float32, of features [R, N, C]."""
        return self.head_output(self.head_input(features))

    def features(
        self,
        teacher: Tensor,
        text: TextFeatures,
        *,
        branches: Branches | None = None,
        scales: int | None = None,
    ) -> Tensor:
        """Features [R, L, C] of all tokens, taught: scale s sees the true codes of the coarser scales.

        `teacher` [R, L−1, Cv]: the accumulated latents as each scale but the first sees them
        (`Quantizer.teacher_input`). With `scales` only so many of the first are computed; L is then their tokens. `text` has P rows that divide R: each is for R/P consecutive rows. With
        cross-attention "row0" all get the answer of the first row, as the reference trains; otherwise each its own.
        Raises InputError where sizes do not fit.
        """
        count = len(self.scales) if scales is None else scales
        self._check(teacher, text, count)
        rows, repeats = len(teacher), len(teacher) // len(text)
        start = self.start(text.pooled.to(teacher.dtype)).repeat_interleave(repeats, dim=0)
        finer = range(1, count)
        # In the teacher's precision: autocast would keep the whole residual stream in 16 bits.
        x = torch.cat([start, self.embed(teacher, finer)], dim=1).to(teacher.dtype)
        text = text.to(x.device, teacher.dtype)
        one = self.config.cross_attention == "row0" and rows > 1
        texts = self.text_keys(text[:1], rows, 1) if one else self.text_keys(text)
        causal = BlockCausal(self.scales.lengths[:count], self.attention)
        return self.run(x, Span(tuple(range(count))), repeat(causal), texts, branches)

    def forward(
        self,
        teacher: Tensor,
        text: TextFeatures,
        *,
        branches: Branches | None = None,
        scales: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(logits [R, L, V] float32, features [R, L, C]): token i of a scale predicts the code at its own place; see
        `features`.
        """
        features = self.features(teacher, text, branches=branches, scales=scales)
        return self.head(features), features

    def _check(self, teacher: Tensor, text: TextFeatures, scales: int) -> None:
        if not 1 <= scales <= len(self.scales):
            raise InputError(f"this model has 1 to {len(self.scales)} scales, asked for {scales}")
        expected = (sum(self.scales.lengths[:scales]) - 1, self.config.latent_channels)
        if teacher.ndim != 3 or teacher.shape[1:] != expected:
            raise InputError(
                f"the teacher's latents must be [R, {expected[0]}, {expected[1]}] for scales "
                f"{list(self.scales.sides[:scales])}, got {list(teacher.shape)}"
            )
        check_text(text, self.config)
        if len(teacher) % len(text):
            raise InputError(f"{len(text)} texts cannot be shared out evenly to {len(teacher)} rows")


def check_text(text: TextFeatures, config: STARConfig) -> None:
    """Raises InputError for text of another width than the model's."""
    if text.hidden.shape[2] != config.text_width:
        raise InputError(
            f"the text is {text.hidden.shape[2]} wide and the model was trained with {config.text_width}: "
            "use the text encoder that belongs to it"
        )


def scale_codes(embedding: nn.Module, scales: Scales, chosen: tuple[int, ...]) -> Tensor:
    """A row of `embedding` for each token of the chosen scales, one after the other [N, C]."""
    rows = torch.tensor(chosen, device=embedding.weight.device)
    lengths = torch.tensor([scales.lengths[s] for s in chosen], device=rows.device)
    total = sum(scales.lengths[s] for s in chosen)
    return embedding(rows).repeat_interleave(lengths, dim=0, output_size=total)


def reset_modules(module: nn.Module, config: STARConfig, generator: torch.Generator | None) -> None:
    """STAR's first weights of all linears and embeddings in `module`: normal with variance 1/(3C), biases 0, and
    attention at its first sharpness.
    """
    std = (3 * config.width) ** -0.5
    for each in module.modules():
        for name, value in each.named_parameters(recurse=False):
            if name == "weight":
                value.normal_(std=std, generator=generator)
            elif name == "scale_mul_1H11":
                value.fill_(float(torch.tensor(4.0).log()))
            else:
                value.zero_()
