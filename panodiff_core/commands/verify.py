"""`verify`: the engine against golden vectors, or a report on a user's own weights."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.atomic import write_text
from ..runtime.errors import InputError
from .console import Progress, say
from .engines import table
from .options import add_engine_options, load_engine

if TYPE_CHECKING:
    from ..engines.dit360.engine import DiT360Engine
    from ..engines.dit360.verification import Absent, Row

# How the height of the trial picture is chosen: small enough for any machine, large enough for a seam.
TRIAL_HEIGHT, TRIAL_STEPS = 256, 2
INCOMPLETE = 2


def add_parser(commands) -> None:
    """Add `verify` to the command line."""
    parser = commands.add_parser(
        "verify",
        help="check the engine against golden vectors, or a model of yours",
        description="With --vectors: compare every number with those of the reference implementations. Exit code 1 "
        "when a bound is missed, 2 when files are absent. With --model: load your weights, make two steps, and print "
        "a report to paste into an issue.",
    )
    parser.add_argument("engine", choices=("dit360",), help="which engine")
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
    from ..engines.dit360.verification import Absent, verify

    results = []
    for title, outcome in verify(args.vectors):
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


def _lines(results: list[tuple[str, Any]], every: bool) -> list[tuple[str, ...]]:
    from ..engines.dit360.verification import Absent

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


def _records(results: list[tuple[str, list[Row] | Absent]]) -> list[dict[str, object]]:
    from ..engines.dit360.verification import Absent

    records: list[dict[str, object]] = []
    for title, outcome in results:
        if isinstance(outcome, Absent):
            records.append({"group": title, "absent": outcome.file})
        else:
            records += [{"group": title, **vars(row), "met": row.met} for row in outcome]
    return records


def report(args: argparse.Namespace) -> list[tuple[str, str]]:
    """What a model is and whether it works: formats, sizes, time, NaN (an error), seam and memory."""
    from ..metrics.seams import seam_report
    from ..runtime.memory import weight_bytes

    start = time.monotonic()
    engine = load_engine(args)
    loaded = time.monotonic() - start
    rows = [("model", str(args.model))]
    rows += [(f"{name}, format", form) for name, form in (engine.formats or {}).items()]
    config = engine.transformer.config
    blocks = f"{config.num_layers} double and {config.num_single_layers} single blocks"
    rows.append(
        ("transformer", f"width {engine.transformer.inner_dim}, {blocks}, {engine.transformer.dtype}")
    )
    rows += [(f"{name}, weights", f"{weight_bytes(m) / 2**30:.2f} GiB") for name, m in engine.stages.items()]
    for weights in () if engine.loras is None else engine.loras.adapters:
        rows.append(("LoRA", f"{weights.file.name}, alpha/r {weights.scale:g}, {engine.loras.mode}"))
    rows += _placement_rows(engine)
    start = time.monotonic()
    condition = engine.encode(args.prompt)
    size = {"height": TRIAL_HEIGHT, "width": 2 * TRIAL_HEIGHT, "steps": TRIAL_STEPS, "roll": "off"}
    latents = engine.sample(condition, on_step=Progress("step"), **size)
    picture = engine.decode(latents)
    made = time.monotonic() - start
    seam = seam_report(picture)
    spread = picture.pixels.std().item()
    rows += [
        ("loaded in", f"{loaded:.1f} s"),
        (f"{TRIAL_STEPS} steps at {2 * TRIAL_HEIGHT}x{TRIAL_HEIGHT}", f"{made:.1f} s, all numbers finite"),
        ("picture", f"mean {picture.pixels.mean().item():.3f}, standard deviation {spread:.3f}"),
        (
            "seam ratio at 1, 2, 8, 16 px",
            f"{seam.ratio_1:.2f}, {seam.ratio_2:.2f}, {seam.ratio_8:.2f}, {seam.ratio_16:.2f}",
        ),
        ("peak memory", _peak_memory()),
    ]
    return rows


def _placement_rows(engine: DiT360Engine) -> list[tuple[str, str]]:
    """Device and mode, and what a picture of the model's own size needs under each mode."""
    from ..runtime.memory import gigabytes

    placement, defaults = engine.placement, engine.config.defaults
    rows = [("device", f"{placement.device}, offload {placement.mode!r}")]
    for each in engine.estimate():
        free = (
            "" if each.free is None else f" of {gigabytes(each.free)}: {'fits' if each.fits else each.advice}"
        )
        rows.append(
            (
                f"{defaults.width}x{defaults.height}, offload {each.mode!r}",
                f"{gigabytes(each.needed)} ({each.stage}: weights {gigabytes(each.weights)}){free}",
            )
        )
    return rows


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
