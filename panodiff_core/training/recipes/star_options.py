"""Options that several STAR recipes read."""

from __future__ import annotations

import argparse
from typing import Any

from ...runtime.errors import InputError
from ..arguments import attribute_shares


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
