"""Recipe `star`: the small STAR generator and its text tower, on single coded faces whose captions name directions."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...data.cube_tokens import CubeTokens
from ...data.cubemap_worlds import FACE_TEXTS, FACE_WORDS, face_caption
from ...data.token_batches import TokenFaces, reading_classes
from ...data.worlds import split_words, vocabulary
from ...engines.star.config import STARConfig
from ...engines.star.generator import STARGenerator
from ...engines.star.inference import generate
from ...engines.star.options import GenerationOptions
from ...engines.star.text import TextTower
from ...engines.star.training.single import CoarseFirst, STARModule
from ...engines.star.training.text import TowerConfig, new_text_tower
from ...engines.star.vqvae import VQVAE
from ...runtime.errors import InputError
from ..card import RunFacts
from ..pictures import picture_grid
from ..star_card import Stage, data_facts, star_card
from ..star_folder import StarParts, check_tokens, read_vqvae, write_star
from .star_options import add_coarse_options, add_token_options, coarse_first, star_optimizers, token_options

log = logging.getLogger(__name__)

NAME = "star"
HELP = "small STAR generator with its text tower, on single coded faces"
DEFAULTS = {"learning_rate": 2e-3, "steps": 10000, "picture_every": 1000, "ema_decay": 0.998, "warmup": 100}

SMALL_STAR = STARConfig(
    depth=8,
    width=224,
    heads=7,
    text_width=128,
    text_tokens=48,
    class_rows=0,
    cross_attention="per_row",
)
"""Our small generator; scales and codes are those of its autoencoder."""

PROMPTS = (
    "a calm sea at sunset with sailing boats, the sun ahead",
    "a meadow with flowers by a lake, with distant mountains, by day",
    "a city skyline at night under a starry sky",
    "a living room with a sofa, blue walls and a wooden floor, the window on the right",
)
"""What the pictures of a run show: the six faces of each."""


@dataclass(frozen=True)
class STARTraining:
    """What the generator is taught with; see `STARModule` and `TokenFaces`."""

    reading_weight: float = 0.1
    dropout: float = 0.1
    plain: float = 0.25
    repeat_rooms: int = 1
    name_often: Mapping[str, float] = field(default_factory=dict)
    coarse: CoarseFirst = field(default_factory=CoarseFirst)


class STARRecipe:
    """See `training.loop.Recipe`. Raises InputError where codes and autoencoder do not belong together."""

    name = NAME

    def __init__(
        self,
        config: STARConfig,
        tower: TowerConfig,
        plan: STARTraining,
        tokens: CubeTokens,
        vqvae: VQVAE,
        batch_size: int,
        seed: int,
        optimizer: str = "muon",
    ) -> None:
        check_tokens(tokens, vqvae)
        self.config = config.changed(
            patch_nums=tokens.patch_nums,
            vocab=vqvae.config.vocab,
            latent_channels=vqvae.config.latent_channels,
            text_width=tower.width,
            text_tokens=tower.max_length,
        )
        self.tower_config, self.plan = tower, plan
        self.tokens, self.vqvae = tokens, vqvae
        self.batch_size, self.seed, self.optimizer = batch_size, seed, optimizer

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        generator = STARGenerator(self.config)
        generator.reset_parameters()
        tower = new_text_tower(self.tower_config, words_of(self.tokens))
        log.info(
            "%.2f M parameters in the generator, %.2f M in the text tower",
            *(sum(p.numel() for p in each.parameters()) / 1e6 for each in (generator, tower.model)),
        )
        classes, plan = reading_classes(), self.plan
        quantizer = self.vqvae.quantize
        return STARModule(generator, tower, quantizer, classes, plan.reading_weight, plan.coarse)

    def batches(self) -> Dataset:
        plan = self.plan
        return TokenFaces(
            self.tokens,
            self.batch_size,
            self.seed,
            dropout=plan.dropout,
            plain=plan.plain,
            repeat={"room": plan.repeat_rooms},
            name_often=plan.name_often,
        )

    def optimizers(self, module: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
        return star_optimizers(module, learning_rate, self.optimizer, _is_hidden_matrix)

    def pictures(self, module: STARModule) -> Tensor:
        """The six faces of PROMPTS, each drawn by itself, one row per prompt."""
        texts = [face_caption(face, prompt) for prompt in PROMPTS for face in range(6)]
        return picture_grid(self.draw(module, texts), columns=6)

    @torch.no_grad()
    def draw(self, module: STARModule, texts: list[str], seed: int = 0) -> Tensor:
        """Faces [len(texts), 3, S, S] in 0..1, with guidance 2."""
        device = next(module.parameters()).device
        vqvae = self.vqvae.to(device)
        text, empty = (module.tower.encode(each, device) for each in (texts, [""]))
        options = GenerationOptions(cfg=2.0, top_k=0, top_p=0.95)
        latents = generate(module.generator, vqvae.quantize, text, empty, options, seed=seed)
        return vqvae.decode(latents)

    def export(self, module: STARModule, folder: Path, run: RunFacts) -> None:
        """Write a whole model folder, in half precision."""
        tower = TextTower(module.tower.tokenizer, module.text)
        parts = StarParts(self.config, self.vqvae, module.generator, tower=tower, face_texts=FACE_TEXTS)
        write_star(folder, parts, star_card(parts, self._stage(run)))

    def _stage(self, run: RunFacts) -> Stage:
        data, options = data_facts(self.batches())
        config, tower, plan = self.config, self.tower_config, self.plan
        options |= {
            "vqvae": "VQVAE",
            "depth": config.depth,
            "width": config.width,
            "heads": config.heads,
            "text-width": tower.width,
            "text-layers": tower.layers,
            "optimizer": self.optimizer,
            "reading-weight": plan.reading_weight,
            "plain": plan.plain,
            "coarse-until": plan.coarse.until,
            "coarse-scales": plan.coarse.scales,
        }
        return Stage(NAME, "The generator and the text encoder", f"single faces of {data}", options, run)


def words_of(tokens: CubeTokens) -> tuple[str, ...]:
    """The words that captions of these scenes can hold, sorted: those of worlds, of directions and of other prompts."""
    words = {*vocabulary(), *FACE_WORDS.values()}
    for scene in range(len(tokens)):
        words.update(split_words(tokens.prompt(scene)))
    return tuple(sorted(words))


def _is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and name.startswith("generator.blocks.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    small, tower, plan = SMALL_STAR, TowerConfig(), STARTraining()
    parser.add_argument("--tokens", type=Path, required=True, help="folder from `train star-tokens`")
    parser.add_argument("--vqvae", type=Path, required=True, help="folder of the autoencoder that made them")
    parser.add_argument("--batch-size", type=int, default=16, help="faces per step (default 16)")
    parser.add_argument("--depth", type=int, default=small.depth)
    parser.add_argument("--width", type=int, default=small.width)
    parser.add_argument("--heads", type=int, default=small.heads)
    parser.add_argument("--text-width", type=int, default=tower.width)
    parser.add_argument("--text-layers", type=int, default=tower.layers)
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument(
        "--reading-weight",
        type=float,
        default=plan.reading_weight,
        help="of the loss that has the text's pooled vector tell what a caption states; 0 for none",
    )
    parser.add_argument(
        "--plain", type=float, default=plan.plain, help="share of captions without the face's direction"
    )
    add_coarse_options(parser)
    add_token_options(parser)


def build(args: argparse.Namespace) -> STARRecipe:
    """The recipe that the command line describes."""
    if not 0.0 <= args.reading_weight < float("inf"):
        raise InputError(f"--reading-weight must be at least 0, got {args.reading_weight}")
    config = SMALL_STAR.changed(depth=args.depth, width=args.width, heads=args.heads)
    tower = TowerConfig(width=args.text_width, layers=args.text_layers)
    tokens, vqvae = CubeTokens(args.tokens), read_vqvae(args.vqvae)
    coarse = coarse_first(args, tokens.patch_nums)
    weights = {"reading_weight": args.reading_weight, "plain": args.plain}
    plan = STARTraining(**weights, coarse=coarse, **token_options(args))
    return STARRecipe(config, tower, plan, tokens, vqvae, args.batch_size, args.seed, args.optimizer)
