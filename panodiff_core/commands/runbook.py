"""`runbook`: a method's own list of checks, run on this machine without files or downloads."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path


def add_parser(commands) -> None:
    """Add `runbook` to the command line."""
    parser = commands.add_parser(
        "runbook",
        help="run a method's own checks on a model made on the way",
        description="Run the checks of FaceRay-STAR: data, geometry, adapters that start as nothing, one training step, "
        "masked sampler, cached inference. Scenes and a small random model with the real scales and codebook are made "
        "in a temporary folder. Takes one or two minutes on two CPU cores.",
    )
    parser.add_argument("engine", choices=("star",), metavar="ENGINE", help="star")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print every check with its figures; returns 0 when all passed, else 1."""
    from tempfile import TemporaryDirectory

    from ..training.star_runbook import runbook

    logging.getLogger("panodiff_core.training").setLevel(logging.WARNING)
    start, failed, total = time.monotonic(), 0, 0
    with TemporaryDirectory(prefix="panodiff-runbook-") as folder:
        for check in runbook(Path(folder)):
            total, failed = total + 1, failed + (not check.passed)
            print(f"{'pass' if check.passed else 'FAIL'}  {check.title:<44} {check.figures}", flush=True)
    print(f"{total - failed} of {total} passed, {time.monotonic() - start:.0f} s")
    return 1 if failed else 0
