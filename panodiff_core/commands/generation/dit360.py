"""`generate` with DiT360."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from ...engines.dit360.presets import PRESETS, with_preset
from ...engines.dit360.upscale import FACTORS, STRENGTH
from ...runtime.errors import InputError
from ..console import Progress
from ..dit360_options import (
    SAMPLING,
    add_sampling_options,
    check_plan,
    planned,
    planned_config,
    sampling_values,
)
from ..source import add_source_options, read_source
from .made import Made

if TYPE_CHECKING:
    from torch import Tensor


class DiT360Making:
    """One request: `size` is that of the pictures, the second pass included.

    Raises InputError, or CheckpointError for the model, for what can be refused without its weights. Sets what a preset
    says, and what a picture to start from implies, in `args`.
    """

    OPTIONS = (
        *SAMPLING,
        *("preset", "polar_filter", "image", "strength", "mask", "upscale", "upscale_strength", "memory_gb"),
    )

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.source = args, read_source(args)
        self.values = _values(args)
        plan = planned(args.engine, args.model, self.values)
        check_plan(plan)
        if args.negative and plan.cfg == 1.0:
            raise InputError(
                f"--negative has no effect at cfg 1; add --cfg 3, or leave it out ({args.negative!r})."
            )
        _second_pass_of_preset(args)
        _check_upscale(args)
        self.size = tuple((args.upscale or 1) * side for side in (plan.height, plan.width))

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """Everything of `OPTIONS`."""
        parser.add_argument(
            "--polar-filter",
            action=argparse.BooleanOptionalAction,
            help="take the pinch off zenith and nadir (default: what the model was made for)",
        )
        presets = "; ".join(f"{each.name}: {each.summary}" for each in PRESETS.values())
        parser.add_argument("--preset", metavar="NAME", help=f"sampling options by one name. {presets}")
        add_source_options(parser)
        _add_upscale_options(parser)
        add_sampling_options(parser)

    def make(self, engine) -> Made:
        """The pictures and all that made them."""
        args, values = self.args, self.values
        used = engine.config.defaults.changed(**values)
        negative = args.negative if args.negative is not None or used.cfg == 1.0 else ""
        condition = engine.encode(args.prompt, negative)
        begin = {} if self.source is None else self.source.sampling(engine, args.memory_gb)
        latents = engine.sample(
            condition, seed=args.seed, batch_size=args.batch, on_step=Progress("step"), **values, **begin
        )
        if args.upscale:
            latents = self._enlarge(engine, latents, condition)
        coding = {"polar_filter": args.polar_filter, "memory_gb": args.memory_gb}
        pixels = engine.decode(latents, **coding).to_equirect().pixels
        return Made(pixels, self._settings(engine, used))

    def _settings(self, engine, used) -> dict[str, object]:
        args = self.args
        # Names, not paths: a picture that is passed on should not tell how its maker's disk is laid out.
        settings = {"lora": None if args.lora is None else args.lora.name}
        settings |= {"lora_strength": args.lora_strength}
        calm = engine.config.polar_filter if args.polar_filter is None else args.polar_filter
        settings |= {"polar_filter": calm}
        settings |= {name: getattr(used, name) for name in used.__dataclass_fields__}
        if self.source is not None:
            mask = None if args.mask is None else args.mask.name
            settings |= {"image": args.image.name, "strength": self.source.strength, "mask": mask}
        if args.upscale:
            settings |= {"upscale": args.upscale, "upscale_strength": args.upscale_strength or STRENGTH}
        return settings

    def _enlarge(self, engine, latents: Tensor, condition) -> Tensor:
        """The second pass, with the first one's options but for the size."""
        args = self.args
        firsts = ("height", "width", "step_cache")
        return engine.upscale(
            latents,
            condition,
            factor=args.upscale,
            strength=args.upscale_strength or STRENGTH,
            seed=args.seed,
            memory_gb=args.memory_gb,
            on_step=Progress("second pass, step"),
            **{name: value for name, value in self.values.items() if name not in firsts},
        )


def _values(args: argparse.Namespace) -> dict[str, object]:
    """The sampling options that were given, over those of --preset. Raises `InputError`, also for the preset."""
    values = sampling_values(args)
    if args.preset is None:
        return values
    return with_preset(args.preset, planned_config(args.engine, args.model).kind, values)


def _second_pass_of_preset(args: argparse.Namespace) -> None:
    """What --preset says about the second pass, where the person says nothing."""
    preset = PRESETS.get(args.preset)
    if preset is not None and preset.upscale > 1 and args.upscale is None:
        args.upscale = preset.upscale
    if preset is not None and args.memory_gb is None:
        args.memory_gb = preset.memory_gb


def _check_upscale(args: argparse.Namespace) -> None:
    if args.memory_gb is not None and not 0.0 < args.memory_gb < math.inf:
        raise InputError(f"--memory-gb must be a number above 0, got {args.memory_gb}.")
    if args.upscale_strength is None:
        return
    if args.upscale is None:
        raise InputError(
            "--upscale-strength without --upscale has no effect; leave it out, or add --upscale 2."
        )
    if not 0.0 < args.upscale_strength <= 1.0:
        raise InputError(f"--upscale-strength must be above 0 and at most 1, got {args.upscale_strength}.")


def _add_upscale_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("second pass, with DiT360")
    group.add_argument(
        "--upscale", type=int, choices=FACTORS, help="make the picture so many times as large, in tiles"
    )
    group.add_argument(
        "--upscale-strength",
        type=float,
        metavar="S",
        help=f"how much the second pass makes anew, above 0 to 1 (default: {STRENGTH})",
    )
    group.add_argument(
        "--memory-gb",
        type=float,
        metavar="GB",
        help="what the autoencoder may take beside its weights (default: what is free); less is slower, not worse",
    )
