"""`generate`: a prompt to a picture with GPano metadata and a page to look around in it."""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engines import ENGINES
from ..io.atomic import check_writable
from ..io.images import check_output, save_panorama
from ..io.page import ENTRY_MODULE, link_modules, write_viewer_page
from ..runtime.errors import InputError
from .console import say
from .generation import MAKINGS, Made
from .options import ENGINE_OPTIONS, add_engine_options, load_engine, refuse_foreign

VIEWER = Path(__file__).resolve().parents[2] / "web" / "viewer"


@dataclass(frozen=True)
class Targets:
    """Where the results go: one picture and, unless pages are off, one page per panorama of the batch; folders for the
    faces of cubes, where they are asked for.
    """

    pictures: tuple[Path, ...]
    pages: tuple[Path, ...]
    viewer: Path
    scenes: tuple[Path, ...] = ()


def add_parser(commands) -> None:
    """Add `generate` to the command line."""
    parser = commands.add_parser(
        "generate",
        help="make a panorama from a prompt",
        description="Make a 360° panorama from a prompt: a picture that photo viewers recognise, and a "
        "self-contained page that opens in any browser, offline, to look around in it.",
    )
    parser.add_argument("prompt", metavar="PROMPT", help="what the panorama shows, in quotes")
    parser.add_argument("--engine", choices=sorted(ENGINES), default="dit360", help="default: dit360")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="start of the noise (default: 0)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="how many; files are numbered")
    parser.add_argument(
        "--negative", metavar="PROMPT", help="what to keep away from; needs guidance, see --cfg"
    )
    _add_output_options(parser)
    for making in MAKINGS.values():
        making.add_options(parser)
    add_engine_options(parser)
    parser.set_defaults(run=run)


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("results")
    add, out = group.add_argument, Path("pano.png")
    add("--out", type=Path, default=out, metavar="FILE", help=f".png, .jpg or .webp (default: {out})")
    add("--page", type=Path, metavar="FILE", help="the page (default: the picture's name with .html)")
    add("--no-page", action="store_true", help="write the picture only")
    add(
        "--viewer",
        type=Path,
        default=VIEWER,
        metavar="DIR",
        help="modules for the page (default: web/viewer)",
    )
    add("--quality", type=int, default=95, metavar="1-100", help="for .jpg and .webp (default: 95)")
    add("--heading", type=float, default=0.0, metavar="DEGREES", help="compass heading of the centre")


def _numbered(path: Path, count: int) -> tuple[Path, ...]:
    if count == 1:
        return (path,)
    return tuple(path.with_name(f"{path.stem}_{index + 1}{path.suffix}") for index in range(count))


def check_request(args: argparse.Namespace) -> tuple[Any, Targets]:
    """Everything that can be refused before a model loads; returns how the pictures are made (`generation`) and where
    they go. Raises `InputError`, or `CheckpointError` for the model.
    """
    if not args.prompt.strip():
        raise InputError(
            'the prompt is empty; describe what the panorama shows, e.g. "a calm sea at sunset".'
        )
    if not 0 <= args.seed < 2**64:
        raise InputError(f"--seed must be from 0 to 2^64 - 1, got {args.seed}.")
    for name, low, high in (("batch", 1, 256), ("quality", 1, 100)):
        if not low <= getattr(args, name) <= high:
            raise InputError(f"--{name} must be from {low} to {high}, got {getattr(args, name)}.")
    if not math.isfinite(args.heading):
        raise InputError(f"--heading must be a finite number of degrees, got {args.heading}.")
    names = {engine: (*own.LOADING, *MAKINGS[engine].OPTIONS) for engine, own in ENGINE_OPTIONS.items()}
    refuse_foreign(args, names)
    making = MAKINGS[args.engine](args)
    targets = _targets(args)
    height, width = making.size
    for path in targets.pictures:
        check_output(path, height, width)
    for folder in targets.scenes:
        _check_scene(folder)
    for path in targets.pages:
        check_writable(path, need_bytes=4 * height * width)
    if targets.pages:
        _check_viewer(targets.viewer)
    return making, targets


def _targets(args: argparse.Namespace) -> Targets:
    page = args.page or args.out.with_suffix(".html")
    if args.no_page and args.page:
        raise InputError("--page and --no-page contradict each other; leave one out.")
    if page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"the page {page.name!r} should end in .html.")
    pages = () if args.no_page else _numbered(page, args.batch)
    scenes = () if args.faces is None else _numbered(args.faces, args.batch)
    return Targets(_numbered(args.out, args.batch), pages, args.viewer, scenes)


def _check_scene(folder: Path) -> None:
    """Raise InputError unless a scene can be written there: a new folder, an empty one, or a scene from before."""
    from ..data.cubemap_scenes import PROMPTS_FILE

    if folder.exists() and not folder.is_dir():
        raise InputError(f"--faces: {folder} is a file; give a folder for the six faces.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PROMPTS_FILE).is_file():
        raise InputError(f"--faces: {folder} holds other things; give a new folder, or a scene to replace.")
    check_writable(folder / PROMPTS_FILE if folder.is_dir() else folder)


def _check_viewer(folder: Path) -> None:
    if not (folder / ENTRY_MODULE).is_file():
        raise InputError(
            f"the viewer's modules are not in {folder}; give their folder with --viewer DIR (web/viewer of a "
            "checkout), or use --no-page."
        )
    link_modules(folder, ENTRY_MODULE)


def run(args: argparse.Namespace) -> int:
    """Check, load, encode, sample, decode, write. Results on stdout, progress and warnings on stderr."""
    making, targets = check_request(args)
    start = time.monotonic()
    engine = load_engine(args)
    loaded = time.monotonic()
    made = making.make(engine)
    say(f"loaded in {loaded - start:.1f} s, made in {time.monotonic() - loaded:.1f} s")
    _write(made, targets, args, engine)
    return 0


def _write(made: Made, targets: Targets, args: argparse.Namespace, engine) -> None:
    from .. import __version__
    from ..metrics.seams import seam_report

    # A name, not a path: a picture that is passed on should not tell how its maker's disk is laid out.
    common = {"prompt": args.prompt, "negative": args.negative, "engine": args.engine, "seed": args.seed}
    common |= {"model": engine.folder.name, **made.settings}
    for index, path in enumerate(targets.pictures):
        text = {
            "Software": f"PanoDiff {__version__}",
            "Description": args.prompt,
            "panodiff": json.dumps({**common, "index": index}),
        }
        save_panorama(made.pixels[index], path, text, heading_deg=args.heading, quality=args.quality)
        print(f"picture  {path}")
        if targets.pages:
            write_viewer_page(path, targets.pages[index], targets.viewer, args.prompt)
            print(f"page     {targets.pages[index]}")
        # Beside the edges of a cube, two verdicts stand: each says what it is about.
        label = "" if made.cubes is None else "Panorama, back meridian: "
        print(f"{label}{seam_report(made.pixels[index]).summary()}", flush=True)
        if made.cubes is not None:
            scenes = targets.scenes[index : index + 1]
            _write_cube(made.cubes.pixels[index], scenes, args.prompt, made.settings["fade"])


def _write_cube(faces, folders: tuple[Path, ...], prompt: str, fade: int) -> None:
    """The faces [6, 3, S, S] of one cube as a scene, where that is asked for, and what its edges look like, which the
    panorama alone has faded.
    """
    from ..data.cubemap_writing import SourceScene, write_scene
    from ..metrics.cube import MIN_FACE_SIZE
    from ..metrics.seams import seam_report
    from ..pictures import CubeFaces

    for folder in folders:
        write_scene(folder, SourceScene(faces, prompt, "generate"))
        print(f"faces    {folder}")
    if faces.shape[-1] >= MIN_FACE_SIZE:
        before = f", before the fade over {fade} px" if fade else ""
        print(f"Cube, 12 edges{before}: {seam_report(CubeFaces(faces[None])).summary()}", flush=True)
