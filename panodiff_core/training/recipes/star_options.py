"""Options that several STAR recipes read."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ...engines.star.training.single import CoarseFirst
from ...runtime.errors import InputError
from ..arguments import attribute_shares
from ..optimizers import matrices_and_rest

NOT_DECAYED = ("pos_start", "lvl_embed", "scale_mul")


def star_optimizers(
    module: nn.Module, learning_rate: float, kind: str, hidden: Callable[[str, nn.Parameter], bool]
) -> list[torch.optim.Optimizer]:
    """Optimizers as the reference's: weights decay by 0.05, but no biases, positions, codes of scales and sharpness of
    heads; AdamW's betas 0.9 and 0.95. `kind`, `hidden`: see `matrices_and_rest`.
    """
    return matrices_and_rest(
        module, learning_rate, kind, hidden=hidden, weight_decay=0.05, decays=_decays, betas=(0.9, 0.95)
    )


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and not any(part in name for part in NOT_DECAYED)


def whole_numbers(text: str) -> tuple[int, ...]:
    """ "1,2,3" as a tuple, for argparse."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 1,2,3") from None


def add_token_options(parser: argparse.ArgumentParser) -> None:
    """Options of batches of coded worlds."""
    parser.add_argument(
        "--dropout", type=float, default=0.1, help="share of empty captions, for guidance (default 0.1)"
    )
    parser.add_argument(
        "--repeat-rooms", type=int, default=1, help="show rooms so many times as often (default 1)"
    )
    parser.add_argument(
        "--name-often",
        nargs="*",
        default=[],
        metavar="NAME=SHARE",
        help="attributes stated in that share of the captions, 0 to 1, whatever else they say",
    )


def add_coarse_options(parser: argparse.ArgumentParser) -> None:
    """Options of teaching the coarse scales first."""
    default = CoarseFirst()
    parser.add_argument(
        "--coarse-until",
        type=float,
        default=default.until,
        help="progress 0..1 until which only the coarse scales are taught, at a fraction of the work",
    )
    parser.add_argument(
        "--coarse-scales", type=int, default=default.scales, help=f"how many (default {default.scales})"
    )


def coarse_first(args: argparse.Namespace, patch_nums: Sequence[int]) -> CoarseFirst:
    """What was given for it, for a model of these scales. Raises InputError."""
    if not 0.0 <= args.coarse_until <= 1.0:
        raise InputError(f"--coarse-until is a progress from 0 to 1, got {args.coarse_until}")
    if args.coarse_until and not 2 <= args.coarse_scales <= len(patch_nums):
        raise InputError(f"--coarse-scales must be 2 to {len(patch_nums)}, got {args.coarse_scales}")
    return CoarseFirst(args.coarse_until, args.coarse_scales)


def token_options(args: argparse.Namespace) -> dict[str, Any]:
    """What was given for them. Raises InputError for values that make no sense."""
    if args.repeat_rooms < 1:
        raise InputError(f"--repeat-rooms must be at least 1, got {args.repeat_rooms}")
    if not 0.0 <= args.dropout <= 1.0:
        raise InputError(f"--dropout is a share from 0 to 1, got {args.dropout}")
    return {
        "dropout": args.dropout,
        "repeat_rooms": args.repeat_rooms,
        "name_often": attribute_shares(args.name_often),
    }
