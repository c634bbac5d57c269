"""`worlds`: look at rendered worlds, as a contact sheet or a single panorama with its caption."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..runtime.errors import InputError
from .console import say


def add_parser(commands) -> None:
    """Add `worlds` to the command line."""
    parser = commands.add_parser(
        "worlds",
        help="render a contact sheet of the worlds that the small models are trained on",
        description="Render a contact sheet of worlds. One world is a panorama of its own; many fill a sheet.",
    )
    parser.add_argument("--out", type=Path, default=Path("worlds.jpg"), help="picture to write (.jpg, .png)")
    parser.add_argument("--count", type=int, default=48, help="scenes on the sheet (default 48)")
    parser.add_argument("--columns", type=int, default=6, help="scenes per row (default 6)")
    parser.add_argument(
        "--height", type=int, default=128, help="height of each in pixels; twice as wide (default 128)"
    )
    parser.add_argument("--seed", type=int, default=0, help="number of the first scene (default 0)")
    parser.add_argument("--split", choices=("train", "held_out", "all"), default="all")
    parser.add_argument("--captions", action="store_true", help="also print a caption of each scene")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Render the sheet; returns the exit code. Raises InputError for sizes below 1 or an unwritable path."""
    import torch

    from ..data.worlds import caption, render_equirect, sample_scene
    from ..io.atomic import atomic_file
    from ..io.images import to_bytes_image
    from ..training.pictures import picture_grid

    for name in ("count", "columns", "height"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} is {getattr(args, name)}; it must be at least 1.")
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if args.out.suffix.lower() not in formats:
        raise InputError(f"--out is {args.out}; give it one of the endings {', '.join(formats)}.")
    pictures = []
    with atomic_file(args.out) as file:
        for seed in range(args.seed, args.seed + args.count):
            scene = sample_scene(seed, split=args.split)
            pictures.append(render_equirect(scene, args.height, 2 * args.height))
            if args.captions:
                say(f"{seed}: {caption(scene, seed).text}")
        sheet = picture_grid(torch.stack(pictures), columns=min(args.columns, args.count))
        to_bytes_image(sheet).save(file, formats[args.out.suffix.lower()])
    say(
        f"wrote {args.out}: {args.count} scenes, {args.split} split, seeds {args.seed}…{args.seed + args.count - 1}"
    )
    return 0
