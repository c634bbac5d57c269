"""`evaluate`: how good an engine's pictures are, on held-out worlds, written as a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..io.atomic import check_writable
from ..runtime.errors import InputError
from .evaluation import EVALUATIONS
from .evaluation.report import verdict_table, write_report
from .evaluation.sheet import SHEET_PICTURES
from .options import ENGINE_OPTIONS, add_engine_options, load_engine, refuse_foreign

# Pictures are seeded with 100,000 × this and more, in 64 bits.
MAX_SEED = 10**12
_COUNTS = {
    "prompts": (
        *(64, SHEET_PICTURES),
        f"held-out prompts, at least {SHEET_PICTURES}; more are added until every attribute is asked often enough",
    ),
    "seed": (0, 0, "which scenes and which noise"),
    "batch": (8, 1, "pictures made at once"),
}
"""Option → default, least, help."""


def add_parser(commands) -> None:
    """Add `evaluate` to the command line."""
    parser = commands.add_parser(
        "evaluate",
        help="measure an engine on held-out prompts",
        description="Make panoramas for captions of held-out worlds and measure seams, attributes and what else matters "
        "for the engine against the worlds themselves. Writes evaluation.json and .md, grid.png and all pictures; "
        "pictures that are already there are used again.",
    )
    add, names = parser.add_argument, tuple(EVALUATIONS)
    add("engine", choices=names, metavar="ENGINE", help=f"one of {', '.join(names)}")
    add("--out", type=Path, default=Path("evaluation"), metavar="DIR", help="default: evaluation")
    for name, (default, _, words) in _COUNTS.items():
        add(f"--{name}", type=int, default=default, metavar="N", help=f"{words} (default: {default})")
    add(
        "--reader",
        type=Path,
        metavar="PATH",
        help="attribute reader (default: the one that ships with the engine)",
    )
    add("--no-attributes", action="store_true", help="leave the attributes out; no reader is needed")
    for evaluation in EVALUATIONS.values():
        evaluation.add_options(parser)
    add_engine_options(parser)
    parser.set_defaults(run=run)


def check_request(args: argparse.Namespace):
    """The evaluation that the options ask for (`evaluation`), with a folder to write to.

    Raises `InputError`, or `CheckpointError` for the model, before one loads.
    """
    refuse_foreign(
        args, {name: (*own.LOADING, *EVALUATIONS[name].OPTIONS) for name, own in ENGINE_OPTIONS.items()}
    )
    for name, (_, least, _) in _COUNTS.items():
        if getattr(args, name) < least:
            raise InputError(f"--{name} must be at least {least}, got {getattr(args, name)}.")
    if args.seed > MAX_SEED:
        raise InputError(f"--seed must be at most {MAX_SEED}, got {args.seed}.")
    evaluation = EVALUATIONS[args.engine](args)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(
            f"cannot make the folder {args.out}: {problem.strerror}; choose another --out."
        ) from problem
    check_writable(args.out / "evaluation.json")
    return evaluation


def run(args: argparse.Namespace) -> int:
    """Generate, measure, write; exit code 0 whatever the figures say, they are the result."""
    evaluation = check_request(args)
    reader = None if args.no_attributes else evaluation.load_reader(args.reader)
    figures, criteria = evaluation.measure(load_engine(args), reader)
    data, text = write_report(args.out, figures, criteria, evaluation.words)
    print(verdict_table(criteria))
    print(f"\nreport  {text}\nfigures {data}\ngrid    {args.out / 'grid.png'}")
    return 0
