"""`worlds-round-trips`: panoramas as the trained autoencoder gives them back."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ...data.panoramas import PanoramaCache
from ...data.round_trips import round_trip_cache
from ..model_folder import load_vae

log = logging.getLogger(__name__)

NAME = "worlds-round-trips"
HELP = "send rendered panoramas through the trained autoencoder, for training the reader"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this preparation."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the panoramas")
    parser.add_argument("--model", type=Path, required=True, help="folder with the trained vae/")
    parser.add_argument("--cache", type=Path, required=True, help="folder from `train worlds-cache`")
    parser.add_argument("--count", type=int, default=1000)


def run(args: argparse.Namespace) -> int:
    """Make what is missing."""
    vae = load_vae(args.model).train(False)
    round_trip_cache(
        args.out,
        PanoramaCache(args.cache),
        vae,
        args.count,
        on_shard=lambda done, total: log.info("%d of %d round trips", done, total),
    )
    return 0
