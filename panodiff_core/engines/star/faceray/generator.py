"""STAR's generator with FaceRay: six faces of a cube as six rows, which look at one another in every block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from ....layers.attention import Attention
from ..attention import TextKeys
from ..blocks import Branches
from ..config import FaceRayConfig, STARConfig
from ..generator import STARGenerator
from ..span import Span
from .branches import WithAdapters, add_adapters


class FaceRayGenerator(WithAdapters, STARGenerator):
    """STAR's generator with an adapter in every block (`blocks.{i}.faceray_adapter.*` in the state dict).

    Rows are always cubes: six consecutive ones, F R B L U D. With fresh adapters it computes what STAR computes, bit
    for bit. Where no `branches` are given the adapters work at full strength; `branches(0.0)` switches them off.
    """

    def __init__(
        self,
        config: STARConfig,
        faceray: FaceRayConfig,
        *,
        attention: Attention | None = None,
        operations: Any = nn,
    ) -> None:
        super().__init__(config, attention=attention, operations=operations)
        self.faceray = faceray
        add_adapters(self.blocks, config.width, faceray, operations)

    def run(
        self,
        x: Tensor,
        span: Span,
        attends: Iterable[Attention],
        texts: Iterable[TextKeys],
        branches: Branches | None = None,
    ) -> Tensor:
        """Tokens x [6·cubes, N, C] of `span` through all blocks → features [6·cubes, N, C]."""
        return super().run(x, span, attends, texts, branches or self.branches())
