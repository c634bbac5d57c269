"""`convert`: published weight files as a model folder of ours, in safetensors."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..engines.star.presets import PRESETS
from ..runtime.errors import InputError
from .console import say

DTYPES = ("float32", "float16", "bfloat16")


def add_parser(commands) -> None:
    """Add `convert` to the command line."""
    parser = commands.add_parser(
        "convert",
        help="make a model folder in safetensors out of published .pth files",
        description="Read a generator of STAR as its authors publish it, check it tensor by tensor, and write a folder "
        "with config.json, star.safetensors and vqvae.safetensors. Nothing in the file is run.",
    )
    add = parser.add_argument
    add("engine", choices=("star",), metavar="ENGINE", help="star")
    add("input", type=Path, metavar="IN", help="weight file of the generator (.pth or .safetensors)")
    add("output", type=Path, metavar="OUT", help="folder to write")
    add(
        "--vqvae",
        type=Path,
        metavar="FILE",
        help="weight file of the autoencoder, where IN holds none (vae_ch160v4096z32.pth)",
    )
    add("--preset", choices=tuple(PRESETS), help="which published model IN is (default: told from the file)")
    add(
        "--dtype", choices=DTYPES, default="float16", help="type of the generator's weights (default float16)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert; returns the exit code. Raises InputError for a folder that is in use, CheckpointError for weights that
    cannot be had.
    """
    import torch

    from ..data.folders import staged
    from ..engines.star.checkpoint import check_model, find_model, write_model

    if args.output.exists() and not args.output.is_dir():
        raise InputError(f"{args.output} is a file: give a new folder")
    if args.output.is_dir() and any(args.output.iterdir()):
        raise InputError(f"{args.output} is not empty: choose a new folder, or remove it first")
    vqvae = None if args.vqvae is None else args.vqvae.expanduser()
    source = find_model(args.input.expanduser(), vqvae, args.preset)
    check_model(source)
    generator = source.config.generator
    say(
        f"{source.form}: depth {generator.depth}, width {generator.width}, scales {list(generator.patch_nums)}"
    )
    with staged(args.output) as work:
        write_model(work, source.config, source.generator, source.vqvae, getattr(torch, args.dtype))
    say(f"wrote {args.output}: {len(source.generator)} + {len(source.vqvae)} tensors")
    return 0
