"""Settings of the DiT360 engine, and the `panodiff.json` of a model folder that changes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from ...io.json_file import read_json
from ...runtime.errors import CheckpointError, InputError
from ...schedulers.flow_matching import GRIDS, SOLVERS

ROLLS = ("off", "alternate", "late", "random")
MU_RULES = ("padded", "unpadded")
MOST_OFFSETS = 2
"""Turns of the ring that may have a step cache each; "alternate" and "late" have two, "random" a new one every step."""
SETTINGS_FILE = "panodiff.json"
SETTINGS_VERSION = 1


@dataclass(frozen=True)
class SamplingOptions:
    """How a panorama is sampled; the defaults are those of DiT360 on FLUX.1-dev (dit360 spec, section 2.6).

    `height`, `width`: pixels. `guidance`: distilled guidance, an input of the network. `cfg`: true
    classifier-free guidance, 1 is off and anything else doubles the work. `padding`: circular padding in
    token columns; the model was trained with 1. `roll`: turn the ring before each network call, "off",
    "alternate" (0 and half the width in turn), "late" (the same, but only in the second half of the steps:
    the first ones lay out the picture, and a turned network would put what the prompt wants on the left on the right),
    "random" (drawn from the seed), or one offset in token columns per step. `mu`: the shift exponent by the "padded"
    or "unpadded" token count, or a number. `grid`: noise levels before the shift. `solver`: "euler", or "heun" with
    two calls per step. `step_cache`: relative change of the first block below which the other blocks are not computed
    again (`sampling.step_cache`), 0 is off. `prompt_prefix` is put before prompts that do not begin with it. Raises InputError for a value out of range.
    """

    height: int = 1024
    width: int = 2048
    steps: int = 28
    guidance: float = 2.8
    cfg: float = 1.0
    padding: int = 1
    roll: str | tuple[int, ...] = "off"
    mu: str | float = "padded"
    grid: str = "linear"
    solver: str = "euler"
    step_cache: float = 0.0
    prompt_prefix: str = "This is a panorama image. The image depicts "

    def __post_init__(self) -> None:
        for name in ("height", "width", "steps"):
            _integer(name, getattr(self, name), 1)
        _integer("padding", self.padding, 0)
        for name in ("guidance", "cfg"):
            _number(name, getattr(self, name), 0.0, 100.0)
        _number("step_cache", self.step_cache, 0.0, 1.0)
        if not isinstance(self.prompt_prefix, str):
            raise InputError(f"prompt_prefix must be a text, got {self.prompt_prefix!r}")
        _choice("grid", self.grid, GRIDS)
        _choice("solver", self.solver, SOLVERS)
        self._check_roll()
        if isinstance(self.mu, str):
            _choice("mu", self.mu, MU_RULES, "or a number")
        else:
            _number("mu", self.mu, -60.0, 60.0)

    def _check_roll(self) -> None:
        if isinstance(self.roll, str):
            return _choice("roll", self.roll, ROLLS, "or one offset in token columns per step")
        if not isinstance(self.roll, Sequence) or any(
            isinstance(o, bool) or not isinstance(o, int) for o in self.roll
        ):
            raise InputError(
                f"roll must be one of {', '.join(ROLLS)} or whole token columns, got {self.roll!r}"
            )
        if len(self.roll) != self.steps:
            raise InputError(f"roll has {len(self.roll)} offsets for {self.steps} steps: give one per step")
        object.__setattr__(self, "roll", tuple(self.roll))
        return None

    def changed(self, **options) -> SamplingOptions:
        """A copy with the `options` that are not None. Raises InputError for an unknown or bad one."""
        given = {name: value for name, value in options.items() if value is not None}
        unknown = sorted(given.keys() - {f.name for f in fields(self)})
        if unknown:
            raise InputError(
                f"unknown option {unknown[0]!r}: there are {', '.join(f.name for f in fields(self))}"
            )
        return replace(self, **given)


@dataclass(frozen=True)
class DiT360Config:
    """What a model folder says about itself beside its weights.

    `kind` is "flux" for real FLUX.1-dev weights and "small" for our model on rendered worlds. `polar_filter` is
    whether `decode` calms the poles when it is not told (`geometry.polar_filter`); the reference does not.
    """

    kind: str = "flux"
    polar_filter: bool = False
    defaults: SamplingOptions = field(default_factory=SamplingOptions)


def read_config(folder: Path) -> DiT360Config:
    """The folder's `panodiff.json`, or the defaults of DiT360 where there is none.

    Format: {"panodiff": 1, "kind": "small", "polar_filter": true, "defaults": {any field of `SamplingOptions`}}.
    Raises CheckpointError naming the file and the key for an unknown version, key or value.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return DiT360Config()
    settings = read_json(path)
    unknown = sorted(settings.keys() - {"panodiff", "kind", "polar_filter", "defaults"})
    if unknown:
        raise CheckpointError(
            f"{path}: unknown key {unknown[0]!r}; it may hold panodiff, kind, polar_filter and defaults"
        )
    if settings.get("panodiff") != SETTINGS_VERSION:
        raise CheckpointError(
            f'{path}: "panodiff" is {settings.get("panodiff")!r}, this version reads {SETTINGS_VERSION}: '
            "update PanoDiff, or set it if you wrote the file"
        )
    kind, defaults = settings.get("kind", "flux"), settings.get("defaults", {})
    if kind not in ("flux", "small"):
        raise CheckpointError(f'{path}: "kind" must be "flux" or "small", got {kind!r}')
    if not isinstance(defaults, dict):
        raise CheckpointError(f'{path}: "defaults" must be an object')
    calm = settings.get("polar_filter", False)
    if not isinstance(calm, bool):
        raise CheckpointError(f'{path}: "polar_filter" must be true or false, got {calm!r}')
    base = SamplingOptions(prompt_prefix="") if kind == "small" else SamplingOptions()
    try:
        return DiT360Config(kind=kind, polar_filter=calm, defaults=base.changed(**defaults))
    except InputError as error:
        raise CheckpointError(f"{path}, defaults: {error}") from error


def _integer(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(f"{name} must be a whole number of at least {low}, got {value!r}")


def _number(name: str, value: object, low: float, high: float) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not low <= value <= high:
        raise InputError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")


def _choice(name: str, value: object, choices: Sequence[str], more: str = "") -> None:
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)} {more}".rstrip() + f", got {value!r}")
