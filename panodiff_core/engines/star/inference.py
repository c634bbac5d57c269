"""From text to latents, scale by scale, with guidance, filters and the masked sampler.

A *unit* is what belongs together: one picture, or the six faces of a cube (`group` rows). How the generator is asked for
their features is in `rows`; here codes are drawn from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...runtime.errors import NumericalError
from ...runtime.progress import OnStep, Step
from .blocks import Branches
from .draws import RandomSource, SeededDraws
from .filters import sample_codes, smooth_temperature, soft_one_hot
from .generator import STARGenerator
from .masked_sampler import MaskedSampler
from .masked_steps import LONG_FROM, MaskedStep, draw_in_steps, reveal_counts, step_count
from .options import GenerationOptions, check_parts
from .parts import pictures_together, times
from .rows import CachedRows
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
    rows = CachedRows(
        generator, options, text, unconditional, row_text, group, branches, dtype or generator.dtype
    )
    run = _Run(rows, quantizer, sampler, on_step, watch or Watch())
    return run.generate(draws or SeededDraws(seed, len(text), group))


class _Run:
    """One generation: what stays the same over its scales, and the latents so far."""

    def __init__(
        self,
        rows: CachedRows,
        quantizer: Quantizer,
        sampler: MaskedSampler | None,
        on_step: OnStep | None,
        watch: Watch,
    ) -> None:
        self.rows, self.generator, self.options = rows, rows.generator, rows.options
        self.quantizer, self.sampler, self.on_step, self.watch = quantizer, sampler, on_step, watch
        self.scales, self.group, self.halves = rows.generator.scales, rows.group, rows.halves
        options = rows.options
        self.first_masked = len(self.scales) if options.sampler == "off" else sampler.config.sampler_from
        masked = range(self.first_masked, len(self.scales))
        self.counts = {
            s: reveal_counts(self.scales.lengths[s], step_count(s, options.sampler)) for s in masked
        }
        self.total = self.first_masked + sum(map(len, self.counts.values()))
        self.done = 0

    def generate(self, draws: RandomSource) -> Tensor:
        """All scales, coarse to fine."""
        self.draws = draws
        self.latents = self.quantizer.start(self.rows.units * self.group).to(self.rows.device)
        for scale in range(len(self.scales)):
            codes = self._masked(scale) if scale >= self.first_masked else self._plain(scale)
            self.latents = self.quantizer.add_scale(self.latents, codes, scale)
            if scale < self.first_masked:
                self._tell()
        return self.latents

    def _plain(self, scale: int) -> Tensor:
        """The codes of a scale in one pass, part by part."""
        numbers, codes = self._numbers(scale), []
        for units in self.rows.parts(self.scales.lengths[scale]):
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
            given = None if numbers is None else numbers[place].flatten(0, 1).to(self.rows.device)
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
        seen = None
        if scale:
            seen = self.quantizer.next_input(self.latents[times(units, self.group)], scale)
        return self.rows.features(scale, units, seen)

    def _masked(self, scale: int) -> Tensor:
        """The codes of a scale in the masked sampler's steps."""
        length, options, device = self.scales.lengths[scale], self.options, self.rows.device
        parts = list(self.rows.parts(length))
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
            uniform = None if top_k == 1 else self.draws.tokens(length).to(device)
            return sample_codes(logits, uniform, top_k, options.top_p)

        def told(step: MaskedStep) -> None:
            if self.watch.masked is not None:
                self.watch.masked(scale, step)
            self._tell(step.codes, scale)

        shape = (self.rows.units * self.group, length, self.quantizer.config.latent_channels)
        return draw_in_steps(
            self.counts[scale],
            given,
            predict,
            draw,
            lambda: self.draws.confidences(length).to(device),
            self.quantizer.codes,
            torch.zeros(shape, device=device),
            told,
        )

    def _sampler_logits(self, scale: int, units: slice, features: Tensor, known: Tensor) -> Tensor:
        """Guided logits of the masked sampler; the rows of a unit are one sequence."""
        width = self.group * self.scales.lengths[scale]
        codes = known[times(units, self.group)].to(self.rows.dtype).reshape(-1, 1, width, known.shape[-1])
        codes = codes.expand(-1, self.halves, -1, -1).flatten(0, 1)
        joined = features.reshape(len(codes), width, -1)
        pooled = self.rows.scene_pooled[times(units, self.halves)]
        out = self.sampler.features(codes, joined, pooled, (scale,) * self.group, self.rows.branches)
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
            mixed = torch.lerp(normed[:, 1].float(), mixed.float(), 1.0 + weight).to(self.rows.dtype)
        logits = network.head_output(mixed.flatten(0, 1))
        if not torch.isfinite(logits.amax()):
            raise NumericalError(
                f"the logits of scale {scale + 1} of {len(self.scales)} have NaN or infinite values: "
                "use float32 or bfloat16"
            )
        return logits

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
