"""The generator asked scale after scale: what its rows hear, what they have seen, and which of them pass together.

A *unit* is what belongs together: one picture, or the six faces of a cube (`group` rows). Rows of the network are
[units, halves, group], the halves being the conditional and, with guidance, the unconditional text.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .attention import TextKeys
from .blocks import Branches
from .cache import KVCache
from .generator import STARGenerator
from .options import GenerationOptions
from .parts import times, units_together
from .span import Span
from .text import TextFeatures


class CachedRows:
    """All rows of a generation: everything that is computed of their text, once, and the keys and values of the scales
    that are already there. Scales are asked for one after the other, each for all units.

    `text` has a row per unit, which has it for all its rows unless `row_text` gives each of them one of its own;
    `scene_pooled` is of `text` in either case, with the unconditional half. Runs where `text` lies, in `dtype`.
    """

    def __init__(
        self,
        generator: STARGenerator,
        options: GenerationOptions,
        text: TextFeatures,
        unconditional: TextFeatures | None,
        row_text: TextFeatures | None,
        group: int,
        branches: Branches | None,
        dtype: torch.dtype,
    ) -> None:
        self.generator, self.options, self.group, self.branches = generator, options, group, branches
        self.halves = 2 if options.cfg else 1
        self.device, self.dtype, self.units = text.hidden.device, dtype, len(text)
        self.spread = 1 if row_text is None else group  # texts of a unit and half
        self.mode = options.cross_attention or generator.config.cross_attention
        scene = text.to(self.device, dtype)
        own = both = scene if row_text is None else row_text.to(self.device, dtype)
        if self.halves == 2:
            empty = unconditional.repeat(self.units).to(self.device, dtype)
            both = own.interleave(empty.each(self.spread), self.spread)
            scene = scene.interleave(empty)
        self.pooled, self.scene_pooled = both.pooled, scene.pooled
        self.keys = list(self._text_keys(own, both))
        config, rows = generator.config, self.units * self.halves * group
        sizes = (config.depth, rows, config.heads, config.head_dim)
        self.cache = KVCache(generator.scales, *sizes, dtype=dtype, device=self.device)

    def _text_keys(self, own: TextFeatures, both: TextFeatures) -> Iterator[TextKeys]:
        """Keys and values of each block for the conditional texts, or those of both halves."""
        if self.mode == "row0":
            return self.generator.text_keys(own[:1], self.units * self.halves * self.group, 1)
        if self.mode == "cond_shared":
            return self.generator.text_keys(own, self.halves, self.group)
        return self.generator.text_keys(both)

    def parts(self, length: int) -> Iterator[slice]:
        """Units of `length` tokens per row that pass together. In mode "row0" all do, since they hear the first row."""
        tokens = self.halves * self.group * length
        most = self.units * tokens if self.mode == "row0" else self.options.part_tokens
        return units_together(self.units, tokens, most)

    def features(self, scale: int, units: slice, seen: Tensor | None) -> Tensor:
        """Features of some units at a scale [rows, N, C]; `seen` [units·group, N, Cv] are the accumulated latents as the
        scale sees them, None at the first.
        """
        if seen is None:
            x = self.generator.start(self.pooled[times(self._text_rows(units), self.spread)])
            x = x.unflatten(0, (-1, self.halves, self.spread)).expand(-1, -1, self.group, -1, -1)
        else:
            x = self.generator.embed(seen.to(self.dtype), (scale,)).unflatten(0, (-1, 1, self.group))
            x = x.expand(-1, self.halves, -1, -1, -1)
        rows = times(units, self.halves * self.group)
        attends = self.cache.attends(scale, self.generator.attention, rows)
        return self.generator.run(x.flatten(0, 2), Span((scale,)), attends, self._texts(units), self.branches)

    def _texts(self, units: slice) -> Iterator[TextKeys]:
        if units == slice(0, self.units):
            return iter(self.keys)
        rows = self._text_rows(units) if self.mode == "per_row" else units
        return (keys.part(times(rows, self.spread)) for keys in self.keys)

    def _text_rows(self, units: slice) -> slice:
        return times(units, self.halves)
