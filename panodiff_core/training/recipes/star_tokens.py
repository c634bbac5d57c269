"""`star-tokens`: encode cubemaps once with the trained autoencoder, for the generator's and the adapters' training."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import torch
from torch import Tensor

from ...data.cube_tokens import encode_cubes, scenes_source, worlds_source
from ...data.cubemap_scenes import CubemapScenes
from ...engines.star.training.codebook import fingerprint
from ..star_folder import read_vqvae

log = logging.getLogger(__name__)

NAME = "star-tokens"
HELP = "encode cubemaps of worlds, or of scenes on disk, to codes on disk"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this preparation."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the codes")
    parser.add_argument(
        "--vqvae", type=Path, required=True, help="folder from `train star-vqvae --export`, or a model folder"
    )
    parser.add_argument(
        "--scenes",
        type=Path,
        help="folder from `train cubemap-scenes`, of the autoencoder's picture size; without it, worlds are rendered",
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out scenes that cannot be read")
    parser.add_argument("--count", type=int, default=4000, help="worlds to render (default 4000)")
    parser.add_argument("--first-seed", type=int, default=0, help="of the worlds")
    parser.add_argument(
        "--split", choices=("train", "held_out", "all"), default="train", help="of the worlds"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that render or read")


def run(args: argparse.Namespace) -> int:
    """Encode what is missing."""
    start = time.monotonic()
    vqvae = read_vqvae(args.vqvae)
    size = vqvae.pixel_side
    if args.scenes is not None:
        source = scenes_source(CubemapScenes(args.scenes, size, skip_bad=args.skip_bad))
    else:
        source = worlds_source(size, args.count, args.first_seed, args.split)

    def encode(faces: Tensor) -> Tensor:
        return torch.cat(vqvae.encode(faces), dim=1)

    def report(done: int, total: int) -> None:
        log.info("%d of %d scenes, %.0f s", done, total, time.monotonic() - start)

    encode_cubes(
        args.out,
        source,
        encode,
        patch_nums=vqvae.scales.sides,
        vocab=vqvae.config.vocab,
        autoencoder=fingerprint(vqvae),
        workers=args.workers,
        on_shard=report,
    )
    return 0
