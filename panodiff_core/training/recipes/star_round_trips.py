"""`star-round-trips`: cubemap scenes as STAR's trained autoencoder gives them back."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from torch import Tensor

from ...data.cubemap_scenes import CubemapScenes
from ...data.cubemap_writing import write_round_trips
from ..star_folder import read_vqvae

log = logging.getLogger(__name__)

NAME = "star-round-trips"
HELP = "send cubemap scenes through STAR's trained autoencoder, for training the reader of faces"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this preparation."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the scenes")
    parser.add_argument(
        "--vqvae", type=Path, required=True, help="folder from `train star-vqvae --export`, or a model folder"
    )
    parser.add_argument(
        "--scenes",
        type=Path,
        required=True,
        help="folder from `train cubemap-scenes`, of the autoencoder's picture size",
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out scenes that cannot be read")
    parser.add_argument("--count", type=int, default=750)


def run(args: argparse.Namespace) -> int:
    """Make what is missing."""
    start, vqvae = time.monotonic(), read_vqvae(args.vqvae)

    def trip(faces: Tensor) -> Tensor:
        return vqvae.decode_indices(vqvae.encode(faces))

    def report(done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            log.info("%d of %d scenes, %.0f s", done, total, time.monotonic() - start)

    scenes = CubemapScenes(args.scenes, vqvae.pixel_side, skip_bad=args.skip_bad)
    write_round_trips(args.out, scenes, trip, args.count, on_scene=report)
    return 0
