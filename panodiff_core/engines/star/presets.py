"""The published generators, by depth and picture size."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .config import STARConfig

SCALES_256 = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
SCALES_1024 = (1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64)

PRESETS: Mapping[str, STARConfig] = MappingProxyType(
    {
        "d30-512": STARConfig(),
        "d30-256": STARConfig(patch_nums=SCALES_256),
        "d30-1024": STARConfig(patch_nums=SCALES_1024, from_idx=9),
        "d30-1024-sampler": STARConfig(patch_nums=SCALES_1024, sampler_blocks=3, from_idx=9),
        "d16-256": STARConfig(depth=16, width=1024, heads=16, patch_nums=SCALES_256),
    }
)
