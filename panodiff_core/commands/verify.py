"""`verify`: an engine against golden vectors, or a report on a user's own weights."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from ..engines import ENGINES
from ..io.atomic import write_text
from ..runtime.errors import InputError
from ..verification import Absent, Outcome, Row
from .console import Progress, say
from .engines import table
from .options import add_engine_options, load_engine

INCOMPLETE = 2


def add_parser(commands) -> None:
    """Add `verify` to the command line."""
    parser = commands.add_parser(
        "verify",
        help="check an engine against golden vectors, or a model of yours",
        description="With --vectors: compare every number with those of the reference implementations. Exit code 1 "
        "when a bound is missed, 2 when files are absent. With --model: load your weights, make two steps, and print "
        "a report to paste into an issue.",
    )
    parser.add_argument("engine", choices=tuple(ENGINES), help="which engine")
    parser.add_argument("--vectors", type=Path, metavar="DIR", help="folder of golden vectors")
    parser.add_argument("--all", action="store_true", help="with --vectors: one line per comparison")
    parser.add_argument("--json", type=Path, metavar="FILE", help="with --vectors: all comparisons as JSON")
    parser.add_argument("--prompt", default="a calm sea at sunset", help="with --model: what to try")
    add_engine_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a table or a report. Raises `InputError` unless exactly one of the two things is asked for."""
    if args.vectors is None:
        if args.model is None:
            raise InputError("say what to verify: --vectors DIR, or --model PATH for weights of your own")
        if args.all or args.json is not None:
            raise InputError("--all and --json belong to --vectors; leave them out")
        print(table(report(args)))
        return 0
    if args.model is not None:
        raise InputError("--vectors and --model are two different checks; give one of them")
    return _check_vectors(args)


def _check_vectors(args: argparse.Namespace) -> int:
    results = []
    for title, outcome in ENGINES[args.engine].verify(args.vectors):
        say(f"{title}: {'absent' if isinstance(outcome, Absent) else len(outcome)}")
        results.append((title, outcome))
    print(table([("TEST", "COMPARED", "LARGEST ERROR", "BOUND", ""), *_lines(results, args.all)]))
    if args.json is not None:
        write_text(args.json, json.dumps(_records(results), indent=1) + "\n")
    rows = [row for _, outcome in results if not isinstance(outcome, Absent) for row in outcome]
    absent = any(isinstance(outcome, Absent) or not outcome for _, outcome in results)
    failed = sum(not row.met for row in rows)
    print(f"{len(rows)} comparisons, {failed} failed" + (", groups absent" if absent else ""))
    return INCOMPLETE if absent else int(failed > 0)


def _lines(results: list[tuple[str, Outcome]], every: bool) -> list[tuple[str, ...]]:
    lines = []
    for title, outcome in results:
        if isinstance(outcome, Absent):
            lines.append((title, "absent", f"no {outcome.file}", "", "ABSENT"))
            continue
        controls = [row for row in outcome if row.above]
        plain = [row for row in outcome if not row.above]
        lines.append(_summary(title, plain))
        if controls:
            lines.append(_summary(f"{title}: negative controls", controls))
        shown = outcome if every else [row for row in outcome if not row.met]
        lines += [
            (f"  {row.what}", "", f"{row.error:.2e}", _bound(row), "" if row.met else "FAILED")
            for row in shown
        ]
    return lines


def _summary(title: str, rows: list[Row]) -> tuple[str, ...]:
    if not rows:
        return (title, "0", "", "", "FAILED")
    # Groups mix bounds: the row that comes nearest to its own says most.
    worst = min(rows, key=lambda r: r.error) if rows[0].above else max(rows, key=_share_of_bound)
    passed = all(row.met for row in rows)
    return (title, str(len(rows)), f"{worst.error:.2e}", _bound(worst), "ok" if passed else "FAILED")


def _share_of_bound(row: Row) -> float:
    return row.error / row.bound if row.bound else (float("inf") if row.error else -1.0)


def _bound(row: Row) -> str:
    return f"{'>' if row.above else '≤'} {row.bound:g}"


def _records(results: list[tuple[str, Outcome]]) -> list[dict[str, object]]:
    records: list[dict[str, object]] = []
    for title, outcome in results:
        if isinstance(outcome, Absent):
            records.append({"group": title, "absent": outcome.file})
        else:
            records += [{"group": title, **vars(row), "met": row.met} for row in outcome]
    return records


def report(args: argparse.Namespace) -> list[tuple[str, str]]:
    """What a model is and whether it works, as (what, value): how long it loads, what its engine says, peak memory."""
    start = time.monotonic()
    engine = load_engine(args)
    rows = [("model", str(args.model)), ("loaded in", f"{time.monotonic() - start:.1f} s")]
    rows += ENGINES[args.engine].report(engine, args.prompt, Progress("step"))
    return [*rows, ("peak memory", _peak_memory())]


def _peak_memory() -> str:
    import torch

    parts = []
    if torch.cuda.is_available():
        parts.append(f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB on the GPU")
    try:
        import resource
        import sys

        unit = 1 if sys.platform == "darwin" else 1024
        parts.append(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.2f} GiB in RAM")
    except ImportError:  # Windows has no such call
        pass
    return ", ".join(parts) or "unknown here"
