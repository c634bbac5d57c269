"""The masked sampler of a cubemap: one sequence [text; F R B L U D] per cube at the last scale.

Its attention keeps the faces apart (`attention.SeparateGrids`: six blocks and the text token, no mask of 6N+1 by 6N+1
tokens); the adapters are the only way between them. Hidden tokens are drawn at random, nothing couples them at seams.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ....layers.attention import Attention
from ....runtime.errors import InputError
from ..blocks import Branches
from ..config import FaceRayConfig, STARConfig
from ..masked_sampler import MaskedSampler, draw_keep
from .branches import WithAdapters, add_adapters

FACES = 6


class FaceRaySampler(WithAdapters, MaskedSampler):
    """STAR's masked sampler with an adapter in every block (`feat_extract_blocks.{i}.faceray_adapter.*`).

    Rows are always cubes. Where no `branches` are given the adapters work at full strength. Raises InputError for a
    configuration whose sampler serves more than the last scale.
    """

    def __init__(
        self,
        config: STARConfig,
        faceray: FaceRayConfig,
        *,
        attention: Attention | None = None,
        operations: Any = nn,
    ) -> None:
        if config.sampler_from != len(config.patch_nums) - 1:
            raise InputError(
                f"from_idx is {config.from_idx}; the masked sampler of a cubemap serves the last scale alone: "
                f"set it to {len(config.patch_nums) - 1}, or leave it out"
            )
        super().__init__(config, attention=attention, operations=operations)
        self.faceray = faceray
        add_adapters(self.feat_extract_blocks, config.width, faceray, operations)

    def features(
        self,
        codes: Tensor,
        features: Tensor,
        pooled: Tensor,
        scales: Iterable[int],
        branches: Branches | None = None,
    ) -> Tensor:
        """Last hidden states [cubes, 6N, C] of the image tokens."""
        return super().features(codes, features, pooled, scales, branches or self.branches())

    def predict_hidden(
        self,
        codes: Tensor,
        features: Tensor,
        pooled: Tensor,
        keep: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        branches: Branches | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One pass of training: (logits [cubes, 6N, V], float32, and which tokens were visible [cubes, 6N], bool).

        `codes` [cubes·6, N, Cv]: the true codes of the last scale. `features` [cubes·6, N, C]: the generator's at this
        scale. `pooled` [cubes, D]: pooled text of each cube. `keep` None draws the visible tokens, one share per cube,
        from `generator`.
        """
        side = self.scales.last_side**2
        codes, features = (join_faces(each, side) for each in (codes, features))
        if keep is None:
            keep = draw_keep(*codes.shape[:2], generator=generator)
        keep = keep.to(codes.device).bool()
        last = (len(self.scales) - 1,) * FACES
        return self(codes * keep.unsqueeze(-1), features, pooled, last, branches=branches), keep


def join_faces(x: Tensor, tokens: int) -> Tensor:
    """Rows of faces [cubes·6, N, C] as rows of cubes [cubes, 6N, C]. Raises InputError for another shape."""
    if x.ndim != 3 or x.shape[0] % FACES or x.shape[1] != tokens:
        raise InputError(f"six rows of {tokens} tokens per cube are needed, got {list(x.shape)}")
    return x.unflatten(0, (-1, FACES)).flatten(1, 2)
