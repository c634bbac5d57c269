"""STAR on the command line: how its parts are found, and how it samples."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..engines import ENGINES
from ..engines.star.checkpoint import ModelConfig, find_model
from ..engines.star.config import CROSS_ATTENTION
from ..engines.star.masked_steps import VERSIONS
from ..engines.star.options import GenerationOptions
from ..engines.star.presets import PRESETS
from ..geometry.checks import check_fade
from ..geometry.cubemap import FACES
from ..runtime.errors import CheckpointError, InputError

LOADING = ("vqvae", "text", "published")
"""Options of `add_loading_options`, as argparse calls them."""
SAMPLING = ("cfg", "top_k", "top_p", "more_smooth", "sampler", "cross_attention")
"""Fields of `GenerationOptions` among the options; --cfg is one of DiT360's, too."""
MAKING = (*SAMPLING, "adapter_strength", "face_prompt", "height", "fade", "faces", "memory_gb")
"""All options that say how a picture is made with STAR."""


def add_loading_options(parser: argparse.ArgumentParser) -> None:
    """--vqvae, --text, --published."""
    group = parser.add_argument_group("model of STAR")
    group.add_argument(
        "--vqvae", type=Path, metavar="FILE", help="weight file of the autoencoder, where --model holds none"
    )
    group.add_argument(
        "--text",
        type=Path,
        metavar="DIR",
        help="folder with text_encoder/ and tokenizer/ (default: that of the model)",
    )
    group.add_argument(
        "--published",
        choices=tuple(PRESETS),
        help="which published model the weight file is (default: told from the file)",
    )


def loading_values(args: argparse.Namespace) -> dict[str, object]:
    """What the person set of these, as the engine's `load` takes it."""
    return {"vqvae": args.vqvae, "text": args.text, "preset": args.published}


def add_drawing_options(group) -> None:
    """How codes are drawn and how far faces see one another, for a group of options; every default is the model's own."""
    add = group.add_argument
    add(
        "--top-k",
        type=int,
        metavar="N",
        help="draw among the N likeliest codes; 0: all, 1: always the likeliest",
    )
    add("--top-p", type=float, metavar="P", help="draw among the likeliest codes that hold a share P; 0: all")
    add("--more-smooth", action="store_const", const=True, help="mixtures of codes instead of single ones")
    add(
        "--sampler", choices=VERSIONS, help="how fine scales are drawn: in one pass, or by the masked sampler"
    )
    add(
        "--adapter-strength",
        type=float,
        metavar="S",
        help="how much faces learn of each other, from 0 to 4; 1: as trained (default), 0: nothing",
    )
    add(
        "--fade",
        type=int,
        metavar="PIXELS",
        help="spread what jumps at an edge of the cube over so many pixels of each face (default: 0)",
    )


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """Those of `add_drawing_options`, and what faces show and where they go."""
    group = parser.add_argument_group("sampling with STAR (and --cfg, where 0 is off; --height)")
    add_drawing_options(group)
    add = group.add_argument
    add("--cross-attention", choices=CROSS_ATTENTION, help="which text a row hears (default: the model's)")
    add(
        "--face-prompt",
        action="append",
        default=[],
        metavar="FACE=TEXT",
        help=f"a text of its own for one of {', '.join(FACES)}; {{prompt}} in it is the scene's; repeatable",
    )
    add("--faces", type=Path, metavar="DIR", help="also write the six faces there, as a scene: faces/F.png …")


def sampling_values(args: argparse.Namespace) -> dict[str, object]:
    """What the person set of `GenerationOptions`, by name, as far as the command has it."""
    return {name: getattr(args, name) for name in SAMPLING if getattr(args, name, None) is not None}


def planned_config(args: argparse.Namespace) -> ModelConfig:
    """What the model says about itself, without its weights; sets `args.model` where it is the small one.

    Raises `CheckpointError` where there is no such model.
    """
    if args.model is None:
        entry = ENGINES[args.engine]
        if entry.small_model is None:
            raise CheckpointError(
                f"this version has no small model of {entry.title}: give --model {entry.files}"
            )
        args.model = entry.small_model
    vqvae = None if args.vqvae is None else args.vqvae.expanduser()
    return find_model(args.model.expanduser(), vqvae, args.published).config


def check_drawing(config: ModelConfig, used: GenerationOptions, fade: int) -> None:
    """Raise `InputError` for what the model cannot do, or a fade that its faces do not hold."""
    if used.sampler != "off" and not config.generator.sampler_blocks:
        raise InputError(f"--sampler {used.sampler}: this model has no masked sampler; leave it out.")
    config.check(used)
    check_fade("--fade", fade, face_side(config))


def face_side(config: ModelConfig) -> int:
    """Pixels of a face's side."""
    return config.generator.patch_nums[-1] * config.vqvae.downsampling


def face_prompts(args: argparse.Namespace) -> dict[str, str] | None:
    """The texts of single faces by name, None without any. Raises `InputError` for a broken or repeated one."""
    texts: dict[str, str] = {}
    for value in args.face_prompt:
        name, separator, text = value.partition("=")
        if not separator or name not in FACES or not text.strip():
            raise InputError(
                f"--face-prompt takes FACE=TEXT with a face of {', '.join(FACES)}, got {value!r}"
            )
        if name in texts:
            raise InputError(f"--face-prompt {name} was given twice")
        texts[name] = text
    return texts or None
