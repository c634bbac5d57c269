"""`cubemap-scenes`: folders of cube faces with prompts, from rendered worlds or from panoramas on disk."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from ...data.cubemap_writing import write_panorama_scenes, write_world_scenes

log = logging.getLogger(__name__)

NAME = "cubemap-scenes"
HELP = "write scenes of six cube faces and a prompt, rendered or cut from panoramas (more can be added later)"
WORLDS = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this preparation."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the scenes")
    parser.add_argument("--count", type=int, help=f"how many in all (default {WORLDS} worlds, all panoramas)")
    parser.add_argument("--size", type=int, default=512, help="side of a face in pixels (default 512)")
    parser.add_argument(
        "--panoramas",
        type=Path,
        help="take the pictures of this folder, NAME.txt holding the prompt of NAME.*",
    )
    parser.add_argument(
        "--split", choices=("train", "held_out", "all"), default="train", help="of the worlds"
    )
    parser.add_argument("--first-seed", type=int, default=0, help="of the worlds")
    parser.add_argument("--workers", type=int, default=2, help="processes that render worlds")


def run(args: argparse.Namespace) -> int:
    """Write what is missing."""
    start = time.monotonic()

    def report(done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            log.info("%d of %d scenes, %.0f s", done, total, time.monotonic() - start)

    if args.panoramas is not None:
        write_panorama_scenes(args.out, args.panoramas, args.size, count=args.count, on_scene=report)
        return 0
    write_world_scenes(
        args.out,
        WORLDS if args.count is None else args.count,
        args.size,
        split=args.split,
        first_seed=args.first_seed,
        workers=args.workers,
        on_scene=report,
    )
    return 0
