"""Command-line options that every recipe shares."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..data.worlds import ATTRIBUTES
from ..runtime.errors import InputError
from .config import PRECISIONS, SCHEDULES, LoopConfig


def add_loop_arguments(parser: argparse.ArgumentParser, defaults: dict[str, Any]) -> None:
    """Add one option per field of LoopConfig; `defaults` are the recipe's own."""
    base = {**LoopConfig.__dataclass_fields__}

    def default(name: str) -> Any:
        return defaults.get(name, base[name].default)

    group = parser.add_argument_group("training loop")
    group.add_argument(
        "--out", type=Path, required=True, help="run folder: checkpoints, log.jsonl, pictures/"
    )
    group.add_argument(
        "--steps", type=int, default=defaults["steps"], help="optimizer steps in all, across resumes"
    )
    group.add_argument("--minutes", type=float, help="stop this sitting cleanly after so many minutes")
    group.add_argument("--seed", type=int, default=0)
    group.add_argument(
        "--init", type=Path, help="start from these weights: run folder, checkpoint or safetensors"
    )
    group.add_argument("--learning-rate", "--lr", type=float, default=default("learning_rate"))
    group.add_argument("--warmup", type=int, default=default("warmup"), help="steps of rising learning rate")
    group.add_argument("--schedule", choices=SCHEDULES, default=default("schedule"))
    group.add_argument(
        "--final-lr-ratio", type=float, default=default("final_lr_ratio"), help="end of the cosine"
    )
    group.add_argument("--grad-accumulation", type=int, default=default("grad_accumulation"))
    group.add_argument("--grad-clip", type=float, default=default("grad_clip"))
    group.add_argument("--ema-decay", type=float, default=default("ema_decay"))
    group.add_argument("--precision", choices=PRECISIONS, default=default("precision"))
    group.add_argument("--workers", type=int, default=default("workers"), help="data processes")
    group.add_argument("--log-every", type=int, default=default("log_every"))
    group.add_argument("--picture-every", type=int, default=default("picture_every"), help="0 for none")
    group.add_argument("--checkpoint-every", type=int, default=default("checkpoint_every"))
    group.add_argument(
        "--keep", type=int, default=default("keep"), help="newest checkpoints that stay on disk"
    )
    group.add_argument("--channels-last", action="store_true")
    group.add_argument("--export", type=Path, help="model folder to write when the sitting ends")


def loop_config(args: argparse.Namespace) -> LoopConfig:
    """LoopConfig of parsed options. Raises InputError for values that make no sense."""
    return LoopConfig(**{name: getattr(args, name) for name in LoopConfig.__dataclass_fields__})


def attribute_shares(values: list[str]) -> dict[str, float]:
    """NAME=SHARE of each attribute. Raises InputError for another name, or a share outside 0..1."""
    shares: dict[str, float] = {}
    for value in values:
        name, _, share = value.partition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            shares[name] = -1.0
        if name not in ATTRIBUTES or not 0.0 <= shares[name] <= 1.0:
            raise InputError(
                f"--name-often takes NAME=SHARE with a share of 0 to 1 and a name of {', '.join(ATTRIBUTES)}, got {value!r}"
            )
    return shares
