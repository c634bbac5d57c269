"""`dit360-latents`: encode worlds once with the trained autoencoder."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from ...data.latents import encode_cache
from ...data.panoramas import PanoramaCache
from ..model_folder import load_vae

log = logging.getLogger(__name__)

NAME = "dit360-latents"
HELP = "encode worlds to latents on disk, from a panorama cache or rendered on the way"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this preparation."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the latents")
    parser.add_argument("--model", type=Path, required=True, help="folder with the trained vae/")
    parser.add_argument("--cache", type=Path, help="panoramas of the same height, used where they reach")
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--height", type=int, default=256, help="panorama height in pixels")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--split", choices=("train", "held_out", "all"), default="train")
    parser.add_argument("--workers", type=int, default=1, help="processes that render")


def run(args: argparse.Namespace) -> int:
    """Encode what is missing."""
    start = time.monotonic()

    def report(done: int, total: int) -> None:
        log.info("%d of %d latents, %.0f s", done, total, time.monotonic() - start)

    encode_cache(
        args.out,
        load_vae(args.model).train(False),
        args.count,
        args.height,
        pictures=None if args.cache is None else PanoramaCache(args.cache),
        first_seed=args.first_seed,
        split=args.split,
        workers=args.workers,
        on_shard=report,
    )
    return 0
