"""Named settings for FLUX weights: how to sample, and how to load on a card of a given size.

Sizes, steps and memory follow from arithmetic (dit360 spec, section 8; `runtime.memory`). Nobody has judged the
pictures of "best" and "8k" with the real weights yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ...runtime.errors import InputError


@dataclass(frozen=True)
class Preset:
    """A name for fields of `SamplingOptions`: `flux` with FLUX weights, `small` with our small model, which keeps its
    own size (None: not for it).

    `upscale` is the factor of a second pass (`engine.upscale`) that the preset stands for, and `memory_gb` what that
    pass and decoding may take beside the weights (`engine.decode`); 1 and None mean none and no limit.
    """

    name: str
    summary: str
    flux: Mapping[str, object]
    small: Mapping[str, object] | None
    upscale: int = 1
    memory_gb: float | None = None


@dataclass(frozen=True)
class Card:
    """For a device with at least `vram_gb` (2³⁰ bytes): options of `load`, and `memory_gb` of `decode`."""

    vram_gb: int
    load: Mapping[str, object]
    memory_gb: float | None = None


def _preset(name: str, summary: str, flux: dict, small: dict | None, **more) -> Preset:
    return Preset(
        name, summary, MappingProxyType(flux), None if small is None else MappingProxyType(small), **more
    )


_TRAINED = {"height": 1024, "width": 2048, "padding": 1, "solver": "euler"}

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        each.name: each
        for each in (
            _preset(
                "draft",
                "half the size and half the steps: a ninth of the work",
                {**_TRAINED, "height": 512, "width": 1024, "steps": 14, "roll": "off"},
                {"steps": 12},
            ),
            _preset("balanced", "what DiT360 was made for", {**_TRAINED, "steps": 28, "roll": "off"}, {}),
            _preset(
                "best",
                "more steps, and the ring turned in the later half of them",
                {**_TRAINED, "steps": 50, "roll": "late"},
                {"steps": 48},
            ),
            _preset(
                "8k",
                "balanced, then a second pass in tiles at four times the size: 4096×8192",
                {**_TRAINED, "steps": 28, "roll": "off"},
                None,
                upscale=4,
                memory_gb=8.0,
            ),
        )
    }
)


def _card(vram_gb: int, memory_gb: float | None, **load: object) -> Card:
    return Card(vram_gb, MappingProxyType({"dtype": "bfloat16", **load}), memory_gb)


CARDS: tuple[Card, ...] = (
    _card(48, None, offload="none"),
    _card(32, None, offload="stage"),
    _card(16, 8.0, offload="stage", storage="float8_e4m3fn"),
    _card(12, 6.0, offload="group"),
    _card(8, 4.0, offload="group", storage="float8_e4m3fn"),
)
"""From large to small. They keep FLUX's own precision where it fits; int8 and int4 (torchao) are not among them."""


def find_preset(name: str, kind: str = "flux") -> Preset:
    """The preset of that name. Raises InputError for an unknown one, or one that is not for this kind of model."""
    preset = PRESETS.get(name) if isinstance(name, str) else None
    if preset is None:
        raise InputError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    if kind == "small" and preset.small is None:
        known = ", ".join(each.name for each in PRESETS.values() if each.small is not None)
        raise InputError(
            f"preset {name!r} is for FLUX weights; with the small model there are {known}, and for larger pictures the "
            "second pass: --upscale 2 or 4 on the command line, engine.upscale in Python"
        )
    return preset


def with_preset(name: str | None, kind: str, options: Mapping[str, object], sized: bool = False) -> dict:
    """`options` of `SamplingOptions` over those of a preset; what is None counts as not given.

    A height or a width among the options, or latents that fix the size (`sized`), replace the preset's size.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if name is None:
        return given
    preset = find_preset(name, kind)
    values = dict(preset.small if kind == "small" else preset.flux)
    if sized or "height" in given or "width" in given:
        values = {key: value for key, value in values.items() if key not in ("height", "width")}
    return {**values, **given}


def find_card(vram_gb: float) -> Card:
    """The settings for a device with so much memory. Raises InputError below the smallest card of the table."""
    for card in CARDS:
        if vram_gb >= card.vram_gb:
            return card
    raise InputError(
        f"FLUX needs a device with {CARDS[-1].vram_gb} GB or more for these settings, got {vram_gb:g}: load with "
        "offload='sequential' and small pictures, or on the CPU"
    )
