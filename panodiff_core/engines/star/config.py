"""Settings of STAR: the autoencoder, the generator with its masked sampler, and the FaceRay adapters.

Defaults are those of the published 512-pixel model (depth 30). Sizes are read from the shapes of a checkpoint
(`shapes`); what no tensor tells (scale list, rotary constants, norm of the head) comes from a preset or a config.json.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

from ...runtime.errors import InputError

CROSS_ATTENTION = ("cond_shared", "per_row", "row0")
ADAPTER_INPUTS = ("normed", "raw")
SCALES_512 = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)


@dataclass(frozen=True)
class VQVAEConfig:
    """The multi-scale autoencoder `vae_ch160v4096z32`, which serves all published STAR models.

    `channels` times `multipliers` is the width of each level, from full resolution down; each level but the last
    halves the picture. `blocks`: residual blocks per level of the encoder (the decoder has one more). `vocab` codes
    of `latent_channels` numbers. `phi_convs` convolutions smooth the upsampled codes, `phi_ratio` is their share;
    `beta` weighs the commitment loss. Raises InputError for a value out of range.
    """

    channels: int = 160
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    latent_channels: int = 32
    vocab: int = 4096
    phi_convs: int = 4
    phi_ratio: float = 0.5
    beta: float = 0.25
    norm_groups: int = 32
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "latent_channels", "vocab", "phi_convs", "norm_groups"):
            _integer(name, getattr(self, name), 1)
        object.__setattr__(self, "multipliers", _integers("multipliers", self.multipliers, 1))
        _number("phi_ratio", self.phi_ratio, 0.0, 1.0)
        _number("beta", self.beta, 0.0, 100.0)
        _number("norm_eps", self.norm_eps, 0.0, 1.0)
        for width in self.widths:
            if width % self.norm_groups:
                raise InputError(
                    f"a level of {width} channels is not divisible into {self.norm_groups} normalisation groups: "
                    "change channels, multipliers or norm_groups"
                )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, from full resolution down."""
        return tuple(self.channels * each for each in self.multipliers)

    @property
    def downsampling(self) -> int:
        """Pixels per latent and axis."""
        return 2 ** (len(self.multipliers) - 1)

    def changed(self, /, **options: Any) -> VQVAEConfig:
        """A copy with the `options` that are not None. Raises InputError for an unknown or bad one."""
        return _changed(self, options)


@dataclass(frozen=True)
class STARConfig:
    """The generator, and the masked sampler where `sampler_blocks` is not 0 (the published one has 3).

    `depth` blocks of `width` channels in `heads` heads; `patch_nums`: sides of the scales, coarse to fine.
    `text_width`, `text_tokens`: of the text encoder. `vocab`, `latent_channels`: of the autoencoder. `class_rows`:
    rows of `class_emb`, which nothing uses but official files hold (0: leave it out). `mlp_ratio`: hidden width of the
    feed-forward by `width`. `rope_norm`, `rope_theta`: every scale spans `rope_norm` positions. `logit_norm`:
    LayerNorm before the head. `from_idx`: first scale of the masked sampler, None is the last one.
    `cross_attention`: which text a row gets, its own ("per_row"), the conditional one for both halves of guidance
    ("cond_shared", what STAR computes for one image), or that of the first row for all ("row0", the literal reference).
    Rotary constants and `logit_norm` belong to a checkpoint but are not stored in it. Raises InputError for a value
    out of range.
    """

    depth: int = 30
    width: int = 1920
    heads: int = 30
    patch_nums: tuple[int, ...] = SCALES_512
    text_width: int = 1024
    text_tokens: int = 77
    vocab: int = 4096
    latent_channels: int = 32
    class_rows: int = 1001
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-6
    rope_norm: float = 64.0
    rope_theta: float = 10000.0
    logit_norm: bool = True
    sampler_blocks: int = 0
    from_idx: int | None = None
    cross_attention: str = "cond_shared"

    def __post_init__(self) -> None:
        for name in ("depth", "width", "heads", "text_width", "text_tokens", "vocab", "latent_channels"):
            _integer(name, getattr(self, name), 1)
        for name in ("class_rows", "sampler_blocks"):
            _integer(name, getattr(self, name), 0)
        object.__setattr__(self, "patch_nums", check_sides(self.patch_nums))
        for name in ("mlp_ratio", "rope_norm", "rope_theta"):
            _number(name, getattr(self, name), 1e-6, 1e9)
        _number("norm_eps", self.norm_eps, 0.0, 1.0)
        _choice("cross_attention", self.cross_attention, CROSS_ATTENTION)
        if not isinstance(self.logit_norm, bool):
            raise InputError(f"logit_norm must be true or false, got {self.logit_norm!r}")
        if self.width % self.heads or self.head_dim % 4:
            raise InputError(
                f"width {self.width} in {self.heads} heads: a head must be a whole multiple of 4 channels wide"
            )
        if self.from_idx is not None:
            _integer("from_idx", self.from_idx, 0)
            if self.from_idx >= len(self.patch_nums):
                raise InputError(
                    f"from_idx {self.from_idx} is no scale: there are {len(self.patch_nums)}, counted from 0"
                )

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.width // self.heads

    @property
    def hidden(self) -> int:
        """Hidden width of the feed-forward."""
        return round(self.width * self.mlp_ratio)

    @property
    def sampler_from(self) -> int:
        """The first scale that the masked sampler takes over."""
        return len(self.patch_nums) - 1 if self.from_idx is None else self.from_idx

    def changed(self, /, **options: Any) -> STARConfig:
        """A copy with the `options` that are not None. Raises InputError for an unknown or bad one."""
        return _changed(self, options)


@dataclass(frozen=True)
class FaceRayConfig:
    """The adapters that let neighbouring cube faces see one another.

    `adapter_dim` = `heads` · `head_dim`; the first `ray_subdim` channels of a head are vectors that turn with the ray.
    `strip_w`: tokens at an edge that take part; `k`: neighbours to each side of the nearest; `depth_matched`: look as
    far behind the edge as a token lies before it, not always at the first row. `adapter_input`: "normed" takes what
    self-attention takes, "raw" the residual stream. Raises InputError for a value out of range.
    """

    adapter_dim: int = 240
    heads: int = 8
    head_dim: int = 30
    ray_subdim: int = 24
    strip_w: int = 2
    k: int = 2
    depth_matched: bool = False
    adapter_input: str = "normed"

    def __post_init__(self) -> None:
        for name in ("adapter_dim", "heads", "head_dim", "strip_w"):
            _integer(name, getattr(self, name), 1)
        for name in ("ray_subdim", "k"):
            _integer(name, getattr(self, name), 0)
        if not isinstance(self.depth_matched, bool):
            raise InputError(f"depth_matched must be true or false, got {self.depth_matched!r}")
        _choice("adapter_input", self.adapter_input, ADAPTER_INPUTS)
        if self.adapter_dim != self.heads * self.head_dim:
            raise InputError(
                f"adapter_dim {self.adapter_dim} must be heads times head_dim, {self.heads}·{self.head_dim}"
            )
        if self.ray_subdim % 3 or self.ray_subdim > self.head_dim:
            raise InputError(
                f"ray_subdim {self.ray_subdim} must be a multiple of 3 and at most head_dim {self.head_dim}"
            )

    def changed(self, /, **options: Any) -> FaceRayConfig:
        """A copy with the `options` that are not None. Raises InputError for an unknown or bad one."""
        return _changed(self, options)


def check_sides(sides: Sequence[int]) -> tuple[int, ...]:
    """A scale list as a tuple: whole numbers from 1 upwards, each larger than the one before. Raises InputError."""
    sides = _integers("patch_nums", sides, 1)
    if sides[0] != 1 or any(b <= a for a, b in pairwise(sides)):
        raise InputError(f"patch_nums must begin with 1 and grow, got {list(sides)}")
    return sides


def _changed(config: Any, options: Mapping[str, Any]) -> Any:
    given = {name: value for name, value in options.items() if value is not None}
    names = [each.name for each in fields(config)]
    unknown = sorted(given.keys() - set(names))
    if unknown:
        raise InputError(f"unknown setting {unknown[0]!r}: there are {', '.join(names)}")
    return replace(config, **given)


def _integer(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(f"{name} must be a whole number of at least {low}, got {value!r}")


def _integers(name: str, values: object, low: int) -> tuple[int, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise InputError(f"{name} must be a list of whole numbers, got {values!r}")
    for value in values:
        _integer(f"each of {name}", value, low)
    return tuple(values)


def _number(name: str, value: object, low: float, high: float) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not low <= value <= high:
        raise InputError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")


def _choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
