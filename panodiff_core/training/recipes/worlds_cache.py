"""`worlds-cache`: render panoramas once, so that training need not wait for the renderer."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from ...data.panoramas import render_cache

log = logging.getLogger(__name__)

NAME = "worlds-cache"
HELP = "render panoramas of many worlds to disk (more can be added later)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this preparation."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the panoramas")
    parser.add_argument("--count", type=int, default=2000, help="how many in all (default 2000)")
    parser.add_argument("--height", type=int, default=256, help="panorama height; the width is twice that")
    parser.add_argument("--split", choices=("train", "held_out", "all"), default="train")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)


def run(args: argparse.Namespace) -> int:
    """Render what is missing."""
    start = time.monotonic()

    def report(done: int, total: int) -> None:
        log.info("%d of %d panoramas, %.0f s", done, total, time.monotonic() - start)

    render_cache(
        args.out,
        args.count,
        args.height,
        split=args.split,
        first_seed=args.first_seed,
        workers=args.workers,
        on_shard=report,
    )
    return 0
