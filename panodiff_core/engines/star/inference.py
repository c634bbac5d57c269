"""From text to latents, scale by scale, with guidance, filters and the masked sampler.

A *unit* is what belongs together: one picture, or the six faces of a cube (`group` rows). Rows of the network are
[units, halves, group], the halves being the conditional and, with guidance, the unconditional text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...runtime.errors import NumericalError
from ...runtime.progress import OnStep, Step
from .attention import TextKeys
from .blocks import Branches
from .cache import KVCache
from .draws import RandomSource, SeededDraws
from .filters import sample_codes, smooth_temperature, soft_one_hot
from .generator import STARGenerator
from .masked_sampler import MaskedSampler
from .masked_steps import LONG_FROM, MaskedStep, draw_in_steps, reveal_counts, step_count
from .options import GenerationOptions, check_parts
from .parts import pictures_together, times, units_together
from .span import Span
from .text import TextFeatures
from .vqvae.quantizer import Quantizer


@dataclass(frozen=True)
class Watch:
    """Functions that look on, for checks and tests: `logits(network, scale, features, guided)` gets what a head was
    given before guidance, [rows, N, C] as the network returns it, and the guided logits [units·group, N, V], part by
    part; `drawn(scale, indices)` the codes of a plain scale [units·group, N]; `masked(scale, step)` a sampler step.
    """

    logits: Callable[[STARGenerator | MaskedSampler, int, Tensor, Tensor], None] | None = None
    drawn: Callable[[int, Tensor], None] | None = None
    masked: Callable[[int, MaskedStep], None] | None = None


@torch.no_grad()
def generate(
    generator: STARGenerator,
    quantizer: Quantizer,
    text: TextFeatures,
    unconditional: TextFeatures | None = None,
    options: GenerationOptions | None = None,
    *,
    row_text: TextFeatures | None = None,
    seed: int = 0,
    group: int = 1,
    sampler: MaskedSampler | None = None,
    branches: Branches | None = None,
    draws: RandomSource | None = None,
    on_step: OnStep | None = None,
    watch: Watch | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Latents [units·group, Cv, P, P], float32, for the quantizer's decoder, of one unit per text.

    Runs where `text` lies, in `dtype` (None: that of the weights). `unconditional` is the encoded empty prompt, one for
    all or one per text; needed unless guidance is off. `row_text` [units·group] gives each row of a unit a text of its
    own in the generator; the masked sampler still hears the unit's `text`. `draws` replaces the numbers of `seed`. `on_step` is told every
    finished scale, and every step of the masked sampler; its latents are what is there of the picture. Raises
    InputError before any work when things do not fit, NumericalError when logits stop being finite, and whatever
    `on_step` raises.
    """
    options = options or GenerationOptions()
    check_parts(generator, quantizer, text, unconditional, options, group, sampler, row_text)
    run = _Run(generator, quantizer, options, group, sampler, branches, on_step, watch or Watch())
    run.listen(text, unconditional, row_text, dtype or generator.dtype)
    return run.generate(draws or SeededDraws(seed, len(text), group))


class _Run:
    """One generation: what stays the same over its scales, and the latents so far."""

    def __init__(
        self,
        generator: STARGenerator,
        quantizer: Quantizer,
        options: GenerationOptions,
        group: int,
        sampler: MaskedSampler | None,
        branches: Branches | None,
        on_step: OnStep | None,
        watch: Watch,
    ) -> None:
        self.generator, self.quantizer, self.options = generator, quantizer, options
        self.scales, self.group, self.sampler = generator.scales, group, sampler
        self.branches, self.on_step, self.watch = branches, on_step, watch
        self.halves = 2 if options.cfg else 1
        self.first_masked = len(self.scales) if options.sampler == "off" else sampler.config.sampler_from
        masked = range(self.first_masked, len(self.scales))
        self.counts = {
            s: reveal_counts(self.scales.lengths[s], step_count(s, options.sampler)) for s in masked
        }
        self.total = self.first_masked + sum(map(len, self.counts.values()))
        self.done = 0

    def listen(
        self,
        text: TextFeatures,
        unconditional: TextFeatures | None,
        row_text: TextFeatures | None,
        dtype: torch.dtype,
    ) -> None:
        """Everything that is computed of the text, once: the pooled rows, and each block's keys and values.

        A unit has one text for all its rows, or `spread` of them.
        """
        self.device, self.dtype, self.units = text.hidden.device, dtype, len(text)
        self.spread = 1 if row_text is None else self.group
        scene = text.to(self.device, dtype)
        text = both = scene if row_text is None else row_text.to(self.device, dtype)
        if self.halves == 2:
            empty = unconditional.repeat(self.units).to(self.device, dtype)
            both = text.interleave(empty.each(self.spread), self.spread)
            scene = scene.interleave(empty)
        self.pooled, self.scene_pooled = both.pooled, scene.pooled
        self.mode = self.options.cross_attention or self.generator.config.cross_attention
        rows = self.units * self.halves * self.group
        if self.mode == "row0":
            keys = self.generator.text_keys(text[:1], rows, 1)
        elif self.mode == "cond_shared":
            keys = self.generator.text_keys(text, self.halves, self.group)
        else:
            keys = self.generator.text_keys(both)
        self.keys = list(keys)
        config = self.generator.config
        self.cache = KVCache(
            self.scales, config.depth, rows, config.heads, config.head_dim, dtype=dtype, device=self.device
        )

    def generate(self, draws: RandomSource) -> Tensor:
        """All scales, coarse to fine."""
        self.draws = draws
        self.latents = self.quantizer.start(self.units * self.group).to(self.device)
        for scale in range(len(self.scales)):
            codes = self._masked(scale) if scale >= self.first_masked else self._plain(scale)
            self.latents = self.quantizer.add_scale(self.latents, codes, scale)
            if scale < self.first_masked:
                self._tell()
        return self.latents

    def _plain(self, scale: int) -> Tensor:
        """The codes of a scale in one pass, part by part."""
        numbers, codes = self._numbers(scale), []
        for units in self._parts(self.scales.lengths[scale]):
            drawn = self._drawn(scale, units, None if numbers is None else numbers[units])
            if self.watch.drawn is not None and not self.options.more_smooth:
                self.watch.drawn(scale, drawn)
            codes.append(drawn if self.options.more_smooth else self.quantizer.codes(drawn))
        return torch.cat(codes)

    def _numbers(self, scale: int) -> Tensor | None:
        """Random numbers [units, group, N, …] to draw the codes of a scale, where any are needed."""
        length, numbers = self.scales.lengths[scale], None
        if self.options.more_smooth:
            numbers = self.draws.mixtures(length, self.quantizer.config.vocab)
        elif self._top_k(scale) != 1:
            numbers = self.draws.tokens(length)
        return None if numbers is None else numbers.unflatten(0, (-1, self.group))

    def _drawn(self, scale: int, units: slice, numbers: Tensor | None) -> Tensor:
        """Indices [rows, N] of some units at a scale, or soft mixtures of codes [rows, N, Cv]: a few pictures at a time,
        since their logits are what takes most memory.
        """
        halves, weight = self._halves(self._features(scale, units), scale), self._ramp(scale)
        each = 4 * self.scales.lengths[scale] * self.generator.config.vocab
        drawn, seen = [], []
        for place in pictures_together(len(halves), self.group, each):
            logits = self._guided(scale, halves[place[0], :, place[1]], self.generator, weight)
            given = None if numbers is None else numbers[place].flatten(0, 1).to(self.device)
            drawn.append(self._choice(scale, logits, given))
            if self.watch.logits is not None:
                seen.append(logits)
        if seen:
            self.watch.logits(self.generator, scale, halves.flatten(0, 2), torch.cat(seen))
        return torch.cat(drawn)

    def _choice(self, scale: int, logits: Tensor, numbers: Tensor | None) -> Tensor:
        if self.options.more_smooth:
            return self._mixed(scale, logits, numbers)
        if self._top_k(scale) == 1:  # nobody asks for its probability, a pass over all logits
            return logits.argmax(dim=-1)
        return sample_codes(logits, numbers, self._top_k(scale), self.options.top_p)[0]

    def _mixed(self, scale: int, logits: Tensor, exponential: Tensor) -> Tensor:
        progress = self._progress(scale)
        weights = soft_one_hot((1.0 + progress) * logits, exponential, smooth_temperature(progress))
        return weights @ self.quantizer.codebook().to(weights)

    def _features(self, scale: int, units: slice) -> Tensor:
        """The generator's features of some units at a scale [rows, N, C]."""
        if scale == 0:
            x = self.generator.start(self.pooled[times(self._text_rows(units), self.spread)])
            x = x.unflatten(0, (-1, self.halves, self.spread)).expand(-1, -1, self.group, -1, -1)
        else:
            seen = self.quantizer.next_input(self.latents[self._image_rows(units)], scale)
            x = self.generator.embed(seen.to(self.dtype), (scale,)).unflatten(0, (-1, 1, self.group))
            x = x.expand(-1, self.halves, -1, -1, -1)
        span, rows = Span((scale,)), self.halves * self.group
        attends = self.cache.attends(
            scale, self.generator.attention, slice(units.start * rows, units.stop * rows)
        )
        return self.generator.run(x.flatten(0, 2), span, attends, self._texts(units), self.branches)

    def _texts(self, units: slice) -> Iterator[TextKeys]:
        if units == slice(0, self.units):
            return iter(self.keys)
        rows = self._text_rows(units) if self.mode == "per_row" else units
        return (keys.part(times(rows, self.spread)) for keys in self.keys)

    def _masked(self, scale: int) -> Tensor:
        """The codes of a scale in the masked sampler's steps."""
        length, options = self.scales.lengths[scale], self.options
        parts = list(self._parts(length))
        features = [self._features(scale, units) for units in parts]
        given = None
        if options.sampler == "1024" and scale < LONG_FROM:
            weight = self._ramp(scale)
            given = torch.cat([self._told(scale, each, self.generator, weight) for each in features])

        def predict(known: Tensor) -> Tensor:
            pairs = zip(parts, features, strict=True)
            return torch.cat([self._sampler_logits(scale, units, each, known) for units, each in pairs])

        def draw(logits: Tensor) -> tuple[Tensor, Tensor]:
            top_k = self._top_k(scale)
            uniform = None if top_k == 1 else self.draws.tokens(length).to(self.device)
            return sample_codes(logits, uniform, top_k, options.top_p)

        def told(step: MaskedStep) -> None:
            if self.watch.masked is not None:
                self.watch.masked(scale, step)
            self._tell(step.codes, scale)

        shape = (self.units * self.group, length, self.quantizer.config.latent_channels)
        return draw_in_steps(
            self.counts[scale],
            given,
            predict,
            draw,
            lambda: self.draws.confidences(length).to(self.device),
            self.quantizer.codes,
            torch.zeros(shape, device=self.device),
            told,
        )

    def _sampler_logits(self, scale: int, units: slice, features: Tensor, known: Tensor) -> Tensor:
        """Guided logits of the masked sampler; the rows of a unit are one sequence."""
        width = self.group * self.scales.lengths[scale]
        codes = known[self._image_rows(units)].to(self.dtype).reshape(-1, 1, width, known.shape[-1])
        codes = codes.expand(-1, self.halves, -1, -1).flatten(0, 1)
        joined = features.reshape(len(codes), width, -1)
        pooled = self.scene_pooled[self._text_rows(units)]
        out = self.sampler.features(codes, joined, pooled, (scale,) * self.group, self.branches)
        return self._told(scale, out, self.sampler, self.options.cfg)

    def _halves(self, features: Tensor, scale: int) -> Tensor:
        """Features as a network returns them → [units, halves, group, N, C]."""
        return features.reshape(-1, self.halves, self.group, self.scales.lengths[scale], features.shape[-1])

    def _told(
        self, scale: int, features: Tensor, network: STARGenerator | MaskedSampler, weight: float
    ) -> Tensor:
        """Guided logits of all that features hold, which whoever watches is told of."""
        logits = self._guided(scale, self._halves(features, scale), network, weight)
        if self.watch.logits is not None:
            self.watch.logits(network, scale, features, logits)
        return logits

    def _guided(
        self, scale: int, halves: Tensor, network: STARGenerator | MaskedSampler, weight: float
    ) -> Tensor:
        """Features [units, halves, pictures, N, C] → logits [units·pictures, N, V], float32, by
        (1 + w)·conditional − w·unconditional.

        That is linear, and so is the head after its norm: mixed before it, the head is asked once instead of twice.
        """
        normed = network.head_input(halves)
        mixed = normed[:, 0]
        if self.halves == 2 and weight:
            mixed = torch.lerp(normed[:, 1].float(), mixed.float(), 1.0 + weight).to(self.dtype)
        logits = network.head_output(mixed.flatten(0, 1))
        if not torch.isfinite(logits.amax()):
            raise NumericalError(
                f"the logits of scale {scale + 1} of {len(self.scales)} have NaN or infinite values: "
                "use float32 or bfloat16"
            )
        return logits

    def _parts(self, length: int) -> Iterator[slice]:
        """Units that pass together. In mode "row0" all do, since they hear the first row."""
        tokens = self.halves * self.group * length
        most = self.units * tokens if self.mode == "row0" else self.options.part_tokens
        return units_together(self.units, tokens, most)

    def _text_rows(self, units: slice) -> slice:
        return times(units, self.halves)

    def _image_rows(self, units: slice) -> slice:
        return times(units, self.group)

    def _progress(self, scale: int) -> float:
        return scale / max(1, len(self.scales) - 1)

    def _ramp(self, scale: int) -> float:
        return self.options.cfg * self._progress(scale)

    def _top_k(self, scale: int) -> int:
        top_k = self.options.top_k
        return top_k[scale] if isinstance(top_k, tuple) else top_k

    def _tell(self, codes: Tensor | None = None, scale: int = 0) -> None:
        """Report a step; `codes` are those of an unfinished scale, to be seen in the preview."""
        self.done += 1
        if self.on_step is not None:
            latents = self.latents
            if codes is not None:
                latents = self.quantizer.add_scale(latents, codes, scale)
            self.on_step(Step(self.done, self.total, 1.0 - self.done / self.total, latents, latents))
