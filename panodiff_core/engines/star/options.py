"""Settings of a generation, and whether they and the parts of a model fit together."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from ...runtime.errors import InputError
from .config import CROSS_ATTENTION, STARConfig
from .filters import check_filters
from .generator import STARGenerator, check_text
from .masked_sampler import MaskedSampler
from .masked_steps import VERSIONS
from .text import TextFeatures
from .vqvae.quantizer import Quantizer

PART_TOKENS = 4096
"""Tokens that pass through the blocks together; units that hold more together go one after the other."""


@dataclass(frozen=True)
class GenerationOptions:
    """How codes are drawn; defaults are those of STAR's demos.

    `cfg`: guidance, growing from 0 at the first scale to this at the last; 0 is off and halves the work. `top_k`,
    `top_p`: see `filters`; `top_k` may be one number per scale, and 1 is greedy. `more_smooth`: soft mixtures of codes
    instead of single ones. `sampler`: "off", or the masked sampler's version "1024" or "new". `cross_attention`: None
    is the model's own. `part_tokens`: most tokens that pass together, where a unit allows. Raises InputError for a
    value out of range.
    """

    cfg: float = 4.0
    top_k: int | tuple[int, ...] = 600
    top_p: float = 0.8
    more_smooth: bool = False
    sampler: str = "off"
    cross_attention: str | None = None
    part_tokens: int = PART_TOKENS

    def __post_init__(self) -> None:
        number = isinstance(self.cfg, (int, float)) and not isinstance(self.cfg, bool)
        if not number or not 0.0 <= self.cfg <= 100.0:
            raise InputError(f"cfg must be a number from 0 to 100, got {self.cfg!r}")
        for top_k in self.top_k if isinstance(self.top_k, tuple) else (self.top_k,):
            check_filters(top_k, self.top_p)
        if not isinstance(self.more_smooth, bool):
            raise InputError(f"more_smooth must be true or false, got {self.more_smooth!r}")
        if self.sampler not in VERSIONS:
            raise InputError(f"sampler must be one of {', '.join(VERSIONS)}, got {self.sampler!r}")
        if self.cross_attention not in (None, *CROSS_ATTENTION):
            raise InputError(
                f"cross_attention must be one of {', '.join(CROSS_ATTENTION)}, got {self.cross_attention!r}"
            )
        if (
            isinstance(self.part_tokens, bool)
            or not isinstance(self.part_tokens, int)
            or self.part_tokens < 1
        ):
            raise InputError(f"part_tokens must be a whole number of at least 1, got {self.part_tokens!r}")

    def changed(self, /, **options: Any) -> GenerationOptions:
        """A copy with the `options` that are not None; a list of top_k is taken, too. Raises InputError for an unknown or
        bad one.
        """
        given = {name: value for name, value in options.items() if value is not None}
        names = [each.name for each in fields(self)]
        unknown = sorted(given.keys() - set(names))
        if unknown:
            raise InputError(f"unknown option {unknown[0]!r}: there are {', '.join(names)}")
        if isinstance(given.get("top_k"), list):
            given["top_k"] = tuple(given["top_k"])
        return replace(self, **given)


def check_choice(
    options: GenerationOptions, config: STARConfig, *, sampler: bool, adapters: bool = False
) -> None:
    """Raises InputError for what a model of this configuration cannot do; `sampler`, `adapters`: whether it has them."""
    own, scales = config.cross_attention, len(config.patch_nums)
    if adapters and options.cross_attention not in (None, own):
        raise InputError(
            f"cross_attention {options.cross_attention!r} is not what the adapters of this model were trained with: "
            f"choose {own!r}, or the model default"
        )
    if options.sampler != "off" and not sampler:
        raise InputError(
            f'sampler {options.sampler!r} needs a model with a masked sampler: use "off", or load one'
        )
    if isinstance(options.top_k, tuple) and len(options.top_k) != scales:
        raise InputError(
            f"top_k has {len(options.top_k)} numbers for {scales} scales: give one per scale, or one"
        )


def _check_row_text(text: TextFeatures, rows: int, mode: str) -> None:
    if len(text) != rows:
        raise InputError(f"{len(text)} texts for {rows} rows: give each row one, or all one text")
    if mode == "row0":
        raise InputError(
            'with cross_attention "row0" all rows hear the first one\'s text: a text for each needs "per_row"'
        )


def check_parts(
    generator: STARGenerator,
    quantizer: Quantizer,
    text: TextFeatures,
    unconditional: TextFeatures | None,
    options: GenerationOptions,
    group: int,
    sampler: MaskedSampler | None,
    row_text: TextFeatures | None = None,
) -> None:
    """Raises InputError, before any work, for parts that do not belong together or cannot do what is asked."""
    if generator.training or (sampler is not None and sampler.training):
        raise InputError(
            "the model is in training mode, where blocks are left out at random: call eval() first"
        )
    if isinstance(group, bool) or not isinstance(group, int) or group < 1:
        raise InputError(f"group must be a whole number of at least 1, got {group!r}")
    check_text(text, generator.config)
    if row_text is not None:
        _check_row_text(
            row_text, len(text) * group, options.cross_attention or generator.config.cross_attention
        )
        check_text(row_text, generator.config)
    if options.cfg:
        if unconditional is None:
            raise InputError(
                'guidance needs the encoded empty prompt "" as unconditional text; or set cfg to 0'
            )
        check_text(unconditional, generator.config)
        unconditional.repeat(len(text))
    check_choice(options, generator.config, sampler=sampler is not None)
    if quantizer.scales != generator.scales:
        raise InputError(f"the autoencoder has {quantizer.scales} and the generator {generator.scales}")
