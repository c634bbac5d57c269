"""`generate`: a prompt to a picture with GPano metadata and a page to look around in it."""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..engines import ENGINES
from ..engines.dit360.presets import PRESETS, with_preset
from ..engines.dit360.upscale import FACTORS, STRENGTH
from ..io.atomic import check_writable
from ..io.images import check_output, save_panorama
from ..io.page import ENTRY_MODULE, link_modules, write_viewer_page
from ..runtime.errors import InputError
from .console import Progress, say
from .options import (
    add_engine_options,
    add_sampling_options,
    check_plan,
    load_engine,
    planned,
    planned_config,
    sampling_values,
)
from .source import Source, add_source_options, read_source

if TYPE_CHECKING:
    from torch import Tensor

VIEWER = Path(__file__).resolve().parents[2] / "web" / "viewer"


@dataclass(frozen=True)
class Targets:
    """Where the results go: one picture and, unless pages are off, one page per panorama of the batch."""

    pictures: tuple[Path, ...]
    pages: tuple[Path, ...]
    viewer: Path


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
        "--polar-filter",
        action=argparse.BooleanOptionalAction,
        help="take the pinch off zenith and nadir (default: what the model was made for)",
    )
    presets = "; ".join(f"{each.name}: {each.summary}" for each in PRESETS.values())
    parser.add_argument("--preset", metavar="NAME", help=f"sampling options by one name. {presets}")
    parser.add_argument("--negative", metavar="PROMPT", help="what to keep away from; needs --cfg above 1")
    add_source_options(parser)
    _add_output_options(parser)
    _add_upscale_options(parser)
    add_sampling_options(parser)
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


def _add_upscale_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("second pass")
    group.add_argument(
        "--upscale", type=int, choices=FACTORS, help="make the picture so many times as large, in tiles"
    )
    group.add_argument(
        "--upscale-strength",
        type=float,
        metavar="S",
        help=f"how much the second pass makes anew, above 0 to 1 (default: {STRENGTH})",
    )
    group.add_argument(
        "--memory-gb",
        type=float,
        metavar="GB",
        help="what the autoencoder may take beside its weights (default: what is free); less is slower, not worse",
    )


def _numbered(path: Path, count: int) -> tuple[Path, ...]:
    if count == 1:
        return (path,)
    return tuple(path.with_name(f"{path.stem}_{index + 1}{path.suffix}") for index in range(count))


def check_request(args: argparse.Namespace) -> Targets:
    """Everything that can be refused before a model loads. Raises `InputError`, or `CheckpointError` for the
    model.
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
    plan = planned(args.engine, args.model, _values(args))
    check_plan(plan)
    if args.negative and plan.cfg == 1.0:
        raise InputError(
            f"--negative has no effect at cfg 1; add --cfg 3, or leave it out ({args.negative!r})."
        )
    _second_pass_of_preset(args)
    _check_upscale(args)
    targets = _targets(args)
    height, width = ((args.upscale or 1) * side for side in (plan.height, plan.width))
    for path in targets.pictures:
        check_output(path, height, width)
    for path in targets.pages:
        check_writable(path, need_bytes=4 * height * width)
    if targets.pages:
        _check_viewer(targets.viewer)
    return targets


def _values(args: argparse.Namespace) -> dict[str, object]:
    """The sampling options that were given, over those of --preset. Raises `InputError`, also for the preset."""
    values = sampling_values(args)
    if args.preset is None:
        return values
    return with_preset(args.preset, planned_config(args.engine, args.model).kind, values)


def _second_pass_of_preset(args: argparse.Namespace) -> None:
    """What --preset says about the second pass, where the person says nothing."""
    preset = PRESETS.get(args.preset)
    if preset is not None and preset.upscale > 1 and args.upscale is None:
        args.upscale = preset.upscale
    if preset is not None and args.memory_gb is None:
        args.memory_gb = preset.memory_gb


def _check_upscale(args: argparse.Namespace) -> None:
    if args.memory_gb is not None and not 0.0 < args.memory_gb < math.inf:
        raise InputError(f"--memory-gb must be a number above 0, got {args.memory_gb}.")
    if args.upscale_strength is None:
        return
    if args.upscale is None:
        raise InputError(
            "--upscale-strength without --upscale has no effect; leave it out, or add --upscale 2."
        )
    if not 0.0 < args.upscale_strength <= 1.0:
        raise InputError(f"--upscale-strength must be above 0 and at most 1, got {args.upscale_strength}.")


def _targets(args: argparse.Namespace) -> Targets:
    page = args.page or args.out.with_suffix(".html")
    if args.no_page and args.page:
        raise InputError("--page and --no-page contradict each other; leave one out.")
    if page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"the page {page.name!r} should end in .html.")
    pages = () if args.no_page else _numbered(page, args.batch)
    return Targets(_numbered(args.out, args.batch), pages, args.viewer)


def _check_viewer(folder: Path) -> None:
    if not (folder / ENTRY_MODULE).is_file():
        raise InputError(
            f"the viewer's modules are not in {folder}; give their folder with --viewer DIR (web/viewer of a "
            "checkout), or use --no-page."
        )
    link_modules(folder, ENTRY_MODULE)


def run(args: argparse.Namespace) -> int:
    """Check, load, encode, sample, decode, write. Results on stdout, progress and warnings on stderr."""
    source = read_source(args)
    targets = check_request(args)
    start = time.monotonic()
    engine = load_engine(args)
    loaded = time.monotonic()
    pixels, used = _make(engine, args, source)
    say(f"loaded in {loaded - start:.1f} s, made in {time.monotonic() - loaded:.1f} s")
    _write(pixels, targets, args, used)
    return 0


def _make(engine, args: argparse.Namespace, source: Source | None) -> tuple[Tensor, dict[str, object]]:
    values = _values(args)
    used = engine.config.defaults.changed(**values)
    negative = args.negative if args.negative is not None or used.cfg == 1.0 else ""
    condition = engine.encode(args.prompt, negative)
    begin = {} if source is None else source.sampling(engine, args.memory_gb)
    latents = engine.sample(
        condition, seed=args.seed, batch_size=args.batch, on_step=Progress("step"), **values, **begin
    )
    if args.upscale:
        latents = _enlarge(engine, latents, condition, args, values)
    coding = {"polar_filter": args.polar_filter, "memory_gb": args.memory_gb}
    pixels = engine.decode(latents, **coding).to_equirect().pixels
    settings = {"prompt": args.prompt, "negative": args.negative, "engine": args.engine, "seed": args.seed}
    # Names, not paths: a picture that is passed on should not tell how its maker's disk is laid out.
    settings |= {"model": engine.folder.name, "lora": None if args.lora is None else args.lora.name}
    settings |= {"lora_strength": args.lora_strength}
    calm = engine.config.polar_filter if args.polar_filter is None else args.polar_filter
    settings |= {"polar_filter": calm}
    settings |= {name: getattr(used, name) for name in used.__dataclass_fields__}
    if source is not None:
        mask = None if args.mask is None else args.mask.name
        settings |= {"image": args.image.name, "strength": source.strength, "mask": mask}
    if args.upscale:
        settings |= {"upscale": args.upscale, "upscale_strength": args.upscale_strength or STRENGTH}
    return pixels, settings


def _enlarge(
    engine, latents: Tensor, condition, args: argparse.Namespace, values: dict[str, object]
) -> Tensor:
    """The second pass, with the first one's options but for the size."""
    return engine.upscale(
        latents,
        condition,
        factor=args.upscale,
        strength=args.upscale_strength or STRENGTH,
        seed=args.seed,
        memory_gb=args.memory_gb,
        on_step=Progress("second pass, step"),
        **{name: value for name, value in values.items() if name not in ("height", "width", "step_cache")},
    )


def _write(pixels: Tensor, targets: Targets, args: argparse.Namespace, settings: dict[str, object]) -> None:
    from .. import __version__
    from ..metrics.seams import seam_report

    for index, path in enumerate(targets.pictures):
        text = {
            "Software": f"PanoDiff {__version__}",
            "Description": args.prompt,
            "panodiff": json.dumps({**settings, "index": index}),
        }
        save_panorama(pixels[index], path, text, heading_deg=args.heading, quality=args.quality)
        print(f"picture  {path}")
        if targets.pages:
            write_viewer_page(path, targets.pages[index], targets.viewer, args.prompt)
            print(f"page     {targets.pages[index]}")
        print(seam_report(pixels[index]).summary(), flush=True)
