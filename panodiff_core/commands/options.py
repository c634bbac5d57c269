"""The options that several commands share: the engine's model, where it runs, and whose options are whose."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engines import ENGINES
from ..runtime.errors import InputError
from ..runtime.memory import MODES
from ..runtime.precision import DTYPES
from ..runtime.storage import STORAGES
from . import dit360_options, star_options
from .console import say

ENGINE_OPTIONS = {"dit360": dit360_options, "star": star_options}
"""For each engine the module of its own options: LOADING, add_loading_options, loading_values."""


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """--model, --device, --dtype, --storage, --offload, and what single engines load beside them."""
    group = parser.add_argument_group("model and machine")
    group.add_argument(
        "--model",
        type=Path,
        metavar="PATH",
        help="model folder, or a weight file (default: the engine's small model)",
    )
    group.add_argument("--device", help="cpu, cuda, cuda:1, mps … (default: the best there is)")
    group.add_argument("--dtype", choices=sorted(DTYPES), help="number type (default: what suits the device)")
    group.add_argument(
        "--storage",
        choices=STORAGES,
        help="how the weights of the blocks are kept between calls: as they compute (dtype), or smaller; int8 and int4 "
        "need torchao (default: fp8 files as they are, others as they compute)",
    )
    group.add_argument(
        "--offload",
        choices=MODES,
        help="what waits in RAM, from fast to frugal: nothing, the stages not in use, all blocks but the next, all "
        "layers but one (default: the first that fits)",
    )
    for own in ENGINE_OPTIONS.values():
        own.add_loading_options(parser)


def load_engine(args: argparse.Namespace) -> Any:
    """Load what the options of `add_engine_options` ask for; the parser has checked `args.engine`.

    Raises `InputError` for an unusable option or one of another engine, `CheckpointError` for a model or LoRA that does
    not load.
    """
    from ..engines import load

    refuse_foreign(args, {name: own.LOADING for name, own in ENGINE_OPTIONS.items()})
    values = ENGINE_OPTIONS[args.engine].loading_values(args)
    say(f"loading {args.engine} …")
    return load(
        args.engine,
        args.model,
        dtype=args.dtype,
        storage=args.storage,
        device=args.device,
        offload=args.offload,
        **values,
    )


def refuse_foreign(args: argparse.Namespace, owners: Mapping[str, Sequence[str]]) -> None:
    """Raise `InputError` for an option that was given and belongs to other engines than `args.engine` alone.

    `owners` names the options of each engine as argparse calls them; what none of them names is everybody's.
    """
    own = owners[args.engine]
    for engine, names in owners.items():
        for name in names:
            if name not in own and getattr(args, name) not in (None, []):
                raise InputError(
                    f"{_spelled(name)} is an option of engine {engine}, and engine {args.engine} has none such: leave it "
                    f"out. {ENGINES[args.engine].title} has {', '.join(map(_spelled, own))}."
                )


def _spelled(name: str) -> str:
    return f"--{name.replace('_', '-')}"
