"""Training STAR on single pictures: cross-entropy over the codes of all scales, taught with the true coarser ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....layers.attention import plain_attention
from ..generator import STARGenerator
from ..scales import Scales
from ..text import TextTower
from ..vqvae import Quantizer

UNKNOWN = -100
"""Class of what a caption's reading is not asked for."""


@dataclass(frozen=True)
class CoarseFirst:
    """Until the progress `until` (0..1) only the first `scales` scales are taught: layout and text are learnt there, at a
    fraction of the work. 0 teaches all from the start.
    """

    until: float = 0.0
    scales: int = 6

    def count(self, progress: float) -> int | None:
        """How many scales to teach at `progress`; None for all."""
        return self.scales if progress < self.until else None


class STARModule(nn.Module):
    """Generator and text tower to train, with the frozen quantizer beside them (it is not part of the state).

    `classes`: how many classes each thing has that a caption can state. The tower's pooled vector is read by one linear
    map per thing, with weight `reading_weight`: what a caption says then stands in the text from early on. These heads
    are thrown away after training.
    """

    def __init__(
        self,
        generator: STARGenerator,
        tower: TextTower,
        quantizer: Quantizer,
        classes: Sequence[int] = (),
        reading_weight: float = 0.0,
        coarse: CoarseFirst = CoarseFirst(),
    ) -> None:
        super().__init__()
        self.generator, self.text = generator, tower.model
        self.reading = nn.Linear(tower.width, sum(classes)) if reading_weight else None
        self.classes, self.reading_weight, self.coarse = tuple(classes), reading_weight, coarse
        self.tower = tower  # no module: the model in it is `text`
        generator.attention = plain_attention
        quantizer.requires_grad_(False).train(False)
        self._frozen = (quantizer,)  # a tuple hides it from state_dict, the optimizer and the average

    def forward(self, batch: Mapping[str, Any], progress: float) -> dict[str, Tensor]:
        codes = batch["codes"]
        text = self.tower.encode(batch["captions"], codes.device)
        scales, count = self.generator.scales, self.coarse.count(progress)
        codes = codes[:, : sum(scales.lengths[:count])]
        taught = teacher_input(self.quantizer(codes.device), codes, count)
        logits, _ = self.generator(taught, text, scales=count)
        parts = code_losses(logits, codes, scales)
        if self.reading is not None:
            parts["reading"] = self._read(text.pooled, batch["targets"])
            parts["loss"] = parts["loss"] + self.reading_weight * parts["reading"]
        return parts

    def quantizer(self, device: torch.device) -> Quantizer:
        """The frozen quantizer."""
        return self._frozen[0].to(device)

    def _read(self, pooled: Tensor, targets: Tensor) -> Tensor:
        logits = self.reading(pooled).float().split(self.classes, dim=-1)
        known = (targets != UNKNOWN).sum().clamp_min(1)
        pairs = zip(logits, targets.unbind(dim=1), strict=True)
        return sum(F.cross_entropy(x, t, ignore_index=UNKNOWN, reduction="sum") for x, t in pairs) / known


def teacher_input(quantizer: Quantizer, codes: Tensor, scales: int | None = None) -> Tensor:
    """What the generator sees while it is taught the first `scales` scales (at least 2; None: all): codes [R, L] of
    these → [R, L−1, Cv].
    """
    lengths = quantizer.scales.lengths[:scales]
    return quantizer.teacher_input(codes.split(lengths, dim=1)[:-1])


def code_losses(logits: Tensor, codes: Tensor, scales: Scales) -> dict[str, Tensor]:
    """Cross-entropy of logits [R, L, V] against codes [R, L]: "loss", the mean over all tokens, and the means over the
    coarser half of the scales, over the finer half if it is taught, and the share of codes that are predicted right.
    """
    each = F.cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="none").view(codes.shape)
    middle = scales.offsets[len(scales) // 2]
    parts = {
        "loss": each.mean(),
        "coarse": each[:, :middle].detach().mean(),
        "right": (logits.detach().argmax(dim=-1) == codes).float().mean(),
    }
    if each.shape[1] > middle:
        parts["fine"] = each[:, middle:].detach().mean()
    return parts
