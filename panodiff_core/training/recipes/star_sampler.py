"""Recipe `star-sampler`: the masked sampler of cubes, which draws the last scale in steps, beside a frozen generator."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...engines.star.training.cubes import SamplerModule, cube_generator, cube_sampler
from ..card import RunFacts
from ..star_card import star_card
from ..star_folder import StarParts, write_star
from .star_cubes import (
    CubeModel,
    adapter_config,
    add_cube_arguments,
    cube_batches,
    cube_model,
    cube_stage,
    draw_cubes,
    sampler_blocks,
)
from .star_options import star_optimizers

log = logging.getLogger(__name__)

NAME = "star-sampler"
HELP = "masked sampler for cubes, beside a frozen STAR generator, best one with FaceRay adapters"
DEFAULTS = {"learning_rate": 1e-4, "steps": 1000, "picture_every": 0, "ema_decay": 0.99, "warmup": 20}


class SamplerRecipe:
    """See `training.loop.Recipe`. `batches`: {"codes": [B, 6, L]} or {"faces": [B, 6, 3, S, S]}, with "captions"."""

    name = NAME

    def __init__(
        self,
        model: CubeModel,
        batches: Dataset,
        seed: int,
        blocks: int | None = None,
        optimizer: str = "adamw",
        checkpointing: bool = False,
    ) -> None:
        self.model, self.data, self.seed = model, batches, seed
        self.blocks = sampler_blocks(model.source, blocks)
        self.faceray = adapter_config(model.source, None)
        self.optimizer, self.checkpointing = optimizer, checkpointing

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        generator = cube_generator(self.model.source, self.faceray)
        sampler = cube_sampler(self.model.source, generator, self.blocks)
        sampler.checkpointing = self.checkpointing
        log.info("%.2f M parameters learn", sum(p.numel() for p in sampler.parameters()) / 1e6)
        return SamplerModule(sampler, generator, self.model.teacher)

    def batches(self) -> Dataset:
        return self.data

    def optimizers(self, module: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
        return star_optimizers(module, learning_rate, self.optimizer, _is_hidden_matrix)

    def pictures(self, module: SamplerModule) -> Tensor:
        """The six faces of some prompts, drawn together, the last scale in steps."""
        return draw_cubes(module.generator, module.teacher, sampler=module.sampler)

    def export(self, module: SamplerModule, folder: Path, run: RunFacts) -> None:
        """Write a whole model folder."""
        parts = StarParts(
            module.sampler.config,
            module.teacher.vqvae,
            module.generator,
            sampler=module.sampler,
            faceray=self.faceray,
            tower=module.teacher.tower if self.model.kind == "small" else None,
            face_texts=self.model.face_texts,
            defaults=self.model.defaults,
            kind=self.model.kind,
        )
        options = {"sampler-blocks": module.sampler.config.sampler_blocks, "optimizer": self.optimizer}
        stage = cube_stage(NAME, "The masked sampler", self.model, self.data, options, run)
        write_star(folder, parts, star_card(parts, stage))


def _is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and name.startswith("sampler.feat_extract_blocks.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    add_cube_arguments(parser)
    parser.add_argument(
        "--sampler-blocks",
        type=int,
        help="of a fresh sampler (default: the published 3, or 2 for a small generator)",
    )
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="adamw")


def build(args: argparse.Namespace) -> SamplerRecipe:
    """The recipe that the command line describes."""
    model = cube_model(args)
    batches = cube_batches(args, model.teacher)
    return SamplerRecipe(model, batches, args.seed, args.sampler_blocks, args.optimizer, args.checkpointing)
