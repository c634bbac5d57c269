"""DiT360 on the command line: how its parts are found, and how it samples."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..engines import ENGINES
from ..engines.dit360.checkpoint import PARTS
from ..engines.dit360.config import ROLLS, DiT360Config, SamplingOptions, read_config
from ..layers.ring import check_padding
from ..runtime.errors import InputError
from ..schedulers.flow_matching import GRIDS, SOLVERS
from .console import nearest

# Its latents are at 1/8 scale and its transformer reads 2 x 2 of them at once.
SIZE_MULTIPLE = 16
LOADING = ("part", "lora", "lora_strength")
"""Options of `add_loading_options`, as argparse calls them."""
SAMPLING = ("steps", "height", "guidance", "cfg", "padding", "roll", "grid", "mu", "solver", "step_cache")
"""Options of `add_sampling_options`: fields of `SamplingOptions`."""


def add_loading_options(parser: argparse.ArgumentParser) -> None:
    """--part, --lora, --lora-strength."""
    group = parser.add_argument_group("model of DiT360")
    group.add_argument(
        "--part",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="take transformer, vae, text_encoder, text_encoder_2, tokenizer or tokenizer_2 from there; repeatable",
    )
    group.add_argument(
        "--lora", type=Path, metavar="FILE", help="LoRA in PEFT's format, such as DiT360's own"
    )
    group.add_argument(
        "--lora-strength", type=float, metavar="S", help="how much of it is added (default: 1)"
    )


def loading_values(args: argparse.Namespace) -> dict[str, object]:
    """What the person set of these, as the engine's `load` takes it. Raises `InputError` for an unusable one."""
    return {"parts": _parts(args.part), "lora": _lora(args)}


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """--steps, --height, --guidance, --cfg, --padding, --roll and the schedule; every default is the model's
    own.
    """
    group = parser.add_argument_group("sampling with DiT360 (default: what the model was made for)")
    group.add_argument("--steps", type=int, metavar="N", help="sampling steps")
    group.add_argument("--height", type=int, metavar="PIXELS", help="height; the width is twice that")
    group.add_argument(
        "--guidance", type=float, metavar="G", help="distilled guidance, an input of the network"
    )
    group.add_argument(
        "--cfg", type=float, metavar="C", help="true guidance away from the negative prompt; 1 is off"
    )
    group.add_argument(
        "--padding", type=int, metavar="COLUMNS", help="circular padding, in token columns; 0 is off"
    )
    roll = group.add_mutually_exclusive_group()
    roll.add_argument(
        "--roll", choices=[name for name in ROLLS if name != "off"], help="turn the ring before each step"
    )
    roll.add_argument(
        "--no-roll", dest="roll", action="store_const", const="off", help="do not turn the ring"
    )
    group.add_argument("--grid", choices=GRIDS, help="spacing of the noise levels")
    group.add_argument(
        "--mu",
        type=_shift,
        metavar="RULE",
        help="shift of the noise levels: padded, unpadded, or a number (1.865 is that of 2048x1024)",
    )
    group.add_argument("--solver", choices=SOLVERS, help="heun takes two network calls per step")
    group.add_argument(
        "--step-cache",
        type=float,
        metavar="CHANGE",
        help="skip most of a step whose first block changed less than this, such as 0.1; 0 is off",
    )


def _shift(text: str) -> str | float:
    """The argument of --mu; the engine's options refuse what is neither a rule nor a number in range."""
    try:
        return float(text)
    except ValueError:
        return text


def check_plan(plan: SamplingOptions) -> None:
    """Refuse what can be told from the numbers alone. Raises `InputError`."""
    check_padding(plan.padding, plan.width // SIZE_MULTIPLE)


def sampling_values(args: argparse.Namespace) -> dict[str, object]:
    """What the person set of `SamplingOptions`, by name. Raises `InputError` for an impossible height."""
    values = {name: getattr(args, name) for name in SAMPLING if getattr(args, name) is not None}
    height = values.get("height")
    if height is not None:
        if height < 1 or height % SIZE_MULTIPLE:
            near = max(SIZE_MULTIPLE, round(height / SIZE_MULTIPLE) * SIZE_MULTIPLE)
            raise InputError(
                f"height {height} cannot be made: it must be a multiple of {SIZE_MULTIPLE}; "
                f"the nearest is {near} ({2 * near} x {near} pixels)."
            )
        values["width"] = 2 * height
    return values


def planned(engine: str, model: Path | None, values: dict[str, object]) -> SamplingOptions:
    """How the model in that folder will sample with these values; reads one small file, no weights.

    Raises `InputError` for a value out of range and `CheckpointError` for a broken settings file.
    """
    return planned_config(engine, model).defaults.changed(**values)


def planned_config(engine: str, model: Path | None) -> DiT360Config:
    """What the model's folder says about it, without its weights. Raises `CheckpointError` for a broken file."""
    folder = model if model is not None else ENGINES[engine].small_model
    return read_config(Path(folder).expanduser())


def _parts(values: list[str]) -> dict[str, Path]:
    parts: dict[str, Path] = {}
    for value in values:
        name, separator, path = value.partition("=")
        if not separator or not path or name not in PARTS:
            raise InputError(
                f"--part takes NAME=PATH with a name of {', '.join(PARTS)}, got {value!r}{nearest(name, PARTS)}"
            )
        if name in parts:
            raise InputError(f"--part {name} was given twice")
        parts[name] = Path(path)
    return parts


def _lora(args: argparse.Namespace) -> tuple[Path, float] | None:
    if args.lora is None:
        if args.lora_strength is not None:
            raise InputError(
                "--lora-strength without --lora has no effect; leave it out, or add --lora FILE."
            )
        return None
    return args.lora, 1.0 if args.lora_strength is None else args.lora_strength
