"""What `generate` writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ...pictures import CubeFaces


@dataclass(frozen=True)
class Made:
    """Panoramas [B, 3, H, 2H] in 0..1, the settings that made them, and the cubes that they were stitched from, if any."""

    pixels: Tensor
    settings: dict[str, object]
    cubes: CubeFaces | None = None
