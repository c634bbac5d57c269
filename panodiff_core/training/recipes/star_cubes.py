"""What the recipes `star-faceray` and `star-sampler` share: their model, their cubes, their options."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...data.cube_tokens import CubeTokens
from ...data.cubemap_scenes import CubemapScenes
from ...data.cubemap_worlds import FACE_TEXTS, WorldCubemaps
from ...data.token_batches import SceneCubes, TokenCubes
from ...engines.star.checkpoint import ModelSource, find_model, load_vqvae
from ...engines.star.config import FaceRayConfig
from ...engines.star.faceray import FaceRayGenerator, FaceRaySampler
from ...engines.star.inference import generate
from ...engines.star.options import GenerationOptions
from ...engines.star.presets import PRESETS
from ...engines.star.scales import Scales
from ...engines.star.text import load_text_tower
from ...engines.star.training.cubes import CAPTIONS, FACES, SAMPLER_BLOCKS, CubeTeacher, check_source
from ...runtime.errors import InputError
from ..card import RunFacts
from ..pictures import picture_grid
from ..star_card import Stage, data_facts
from ..star_folder import check_tokens
from .star_options import add_token_options, token_options, whole_numbers

SMALL_FACERAY = FaceRayConfig(adapter_dim=60, heads=4, head_dim=15, ray_subdim=12)
"""Adapters of our small model, scaled down with its width."""
SMALL_SAMPLER_BLOCKS = 2
SMALL_WIDTH = 1024
"""Narrower generators get those by default; wider ones the published sizes."""

PROMPTS = (
    "a calm sea at sunset with sailing boats, the sun ahead",
    "a city skyline at night under a starry sky",
    "a living room with a sofa, blue walls and a wooden floor, the window on the right",
)


@dataclass(frozen=True)
class CubeModel:
    """The model that is trained further, with the frozen parts around it; `text` is the folder of the tower."""

    source: ModelSource
    teacher: CubeTeacher
    text: Path

    @property
    def kind(self) -> str:
        """ "small" for ours, "star" for the published ones."""
        return self.source.config.kind

    @property
    def face_texts(self) -> dict[str, str]:
        """Words around the texts of faces, for the model that comes out: those that its captions had."""
        return FACE_TEXTS if self.teacher.captions == "face" else {}

    @property
    def defaults(self) -> GenerationOptions:
        """How the model that comes out samples: as before, but its adapters say how text is heard."""
        return replace(self.source.config.defaults, cross_attention=None)


def adapter_config(source: ModelSource, asked: FaceRayConfig | None) -> FaceRayConfig:
    """Settings of the adapters: the source's own, else those asked for, else by the generator's width.

    Raises InputError where the source's own are others than those asked for.
    """
    own = source.config.faceray
    if own is not None and asked is not None and asked != own:
        wrong = (each.name for each in fields(own) if getattr(own, each.name) != getattr(asked, each.name))
        told = ", ".join(f"{name} {getattr(own, name)}, asked {getattr(asked, name)}" for name in wrong)
        raise InputError(
            f"{source.where} has adapters of other settings: {told}. Leave these options out, or start from a generator "
            "without adapters"
        )
    default = SMALL_FACERAY if source.config.generator.width < SMALL_WIDTH else FaceRayConfig()
    return own or asked or default


def sampler_blocks(source: ModelSource, asked: int | None) -> int:
    """Blocks of the masked sampler: the source's own, else those asked for, else by the generator's width.

    Raises InputError for none, or others than the source's own.
    """
    own = source.config.generator.sampler_blocks
    if asked is not None and asked < 1:
        raise InputError(f"--sampler-blocks must be at least 1, got {asked}")
    if own and asked not in (None, own):
        raise InputError(
            f"{source.where} has a masked sampler of {own} blocks, asked {asked}: leave --sampler-blocks out, or start from "
            "a model without one"
        )
    small = source.config.generator.width < SMALL_WIDTH
    return own or asked or (SMALL_SAMPLER_BLOCKS if small else SAMPLER_BLOCKS)


def add_cube_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of both recipes. Names with an underscore are those of the method's own scripts."""
    add = parser.add_argument
    add(
        "--gen_ckpt",
        type=Path,
        required=True,
        help="generator to start from: a model folder, or a published .pth or .safetensors file",
    )
    add(
        "--vae_ckpt", type=Path, help="weight file of the autoencoder, where --gen_ckpt is a file without one"
    )
    add(
        "--text_encoder",
        type=Path,
        help="folder with text_encoder/ and tokenizer/, where --gen_ckpt has none",
    )
    add(
        "--preset", choices=tuple(PRESETS), help="which published model --gen_ckpt is (default: told from it)"
    )
    add("--depth", type=int, help="the depth that --gen_ckpt must have")
    add("--patch_nums", type=whole_numbers, help="the scale list that --gen_ckpt must have, e.g. 1,2,3,4,6,9")
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--data_root", type=Path, help="folder of cubemap scenes of the model's face size")
    data.add_argument(
        "--tokens",
        type=Path,
        help="folder from `train star-tokens`; with neither, worlds are rendered on the way",
    )
    add("--skip-bad", action="store_true", help="leave out scenes of --data_root that cannot be read")
    add("--batch_size", "--batch-size", type=int, default=1, help="cubes per step (default 1)")
    add(
        "--captions",
        choices=CAPTIONS,
        help='"scene": all six faces hear the prompt of the scene; "face": each hears it with its direction named '
        "(default: as --gen_ckpt was trained)",
    )
    add("--checkpointing", action="store_true", help="compute activations again instead of keeping them")
    add_token_options(parser)


def cube_model(args: argparse.Namespace) -> CubeModel:
    """The model that the options name. Raises CheckpointError or InputError where it cannot be had."""
    source = find_model(args.gen_ckpt, args.vae_ckpt, args.preset)
    check_source(source, args.depth, args.patch_nums)
    folder = args.text_encoder or args.gen_ckpt
    if not folder.is_dir():
        raise InputError(
            f"{folder} is no folder with a text encoder: give --text_encoder, the folder that holds text_encoder/ and "
            "tokenizer/"
        )
    tower = load_text_tower(folder, source.config.generator.text_width)
    scales = Scales(source.config.generator.patch_nums)
    captions = args.captions or CAPTIONS[bool(source.config.face_texts)]
    vqvae = load_vqvae(source.vqvae, source.config.vqvae, scales, source.where)
    return CubeModel(source, CubeTeacher(tower, vqvae, captions), folder)


def cube_batches(args: argparse.Namespace, teacher: CubeTeacher) -> Dataset:
    """The cubes that the options name. Raises InputError where they do not fit the model."""
    size, options = teacher.vqvae.pixel_side, token_options(args)
    if args.tokens is not None:
        tokens = CubeTokens(args.tokens)
        check_tokens(tokens, teacher.vqvae)
        return TokenCubes(
            tokens,
            args.batch_size,
            args.seed,
            options["dropout"],
            repeat={"room": options["repeat_rooms"]},
            name_often=options["name_often"],
        )
    if options["repeat_rooms"] != 1 or options["name_often"]:
        raise InputError("--repeat-rooms and --name-often need --tokens of worlds")
    if args.data_root is not None:
        scenes = CubemapScenes(args.data_root, size, skip_bad=args.skip_bad)
        return SceneCubes(scenes, args.batch_size, args.seed, options["dropout"])
    return WorldCubemaps(size, args.batch_size, args.seed, dropout=options["dropout"])


def cube_stage(
    recipe: str, what: str, model: CubeModel, batches: Dataset, options: dict[str, object], run: RunFacts
) -> Stage:
    """What the README tells of a run of these recipes; `options` are the recipe's own."""
    data, asked = data_facts(batches)
    asked |= {"gen_ckpt": "MODEL", "captions": model.teacher.captions}
    return Stage(recipe, what, data, {**asked, **options}, run, Path(model.source.where))


@torch.no_grad()
def draw_cubes(
    generator: FaceRayGenerator,
    teacher: CubeTeacher,
    prompts: tuple[str, ...] = PROMPTS,
    sampler: FaceRaySampler | None = None,
    seed: int = 0,
) -> Tensor:
    """One picture: the six faces of each prompt in a row, drawn together, with guidance 2."""
    device = generator.pos_start.device
    teacher.to(device)
    faces = []
    options = GenerationOptions(cfg=2.0, top_k=0, top_p=0.95, sampler="off" if sampler is None else "new")
    for number, prompt in enumerate(prompts):
        text, empty = (teacher.tower.encode([each], device) for each in (prompt, ""))
        latents = generate(
            generator,
            teacher.vqvae.quantize,
            text,
            empty,
            options,
            seed=seed + number,
            group=FACES,
            sampler=sampler,
            row_text=teacher.text([prompt], device) if teacher.captions == "face" else None,
        )
        faces.append(teacher.vqvae.decode(latents))
    return picture_grid(torch.cat(faces), columns=FACES)
