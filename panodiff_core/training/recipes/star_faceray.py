"""Recipe `star-faceray`: adapters that let the faces of a cube see one another, beside a frozen STAR generator."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...engines.star.checkpoint import split_sampler
from ...engines.star.config import FaceRayConfig
from ...engines.star.faceray.losses import PAIRINGS
from ...engines.star.training.cubes import FaceRayModule, FaceRayTraining, cube_generator
from ..card import RunFacts
from ..star_card import Stage, star_card
from ..star_folder import StarParts, write_star
from .star_cubes import (
    CubeModel,
    adapter_config,
    add_cube_arguments,
    cube_batches,
    cube_model,
    cube_stage,
    draw_cubes,
)
from .star_options import add_coarse_options, coarse_first, star_optimizers

log = logging.getLogger(__name__)

NAME = "star-faceray"
HELP = "FaceRay adapters on cubes, beside a frozen STAR generator"
DEFAULTS = {
    "learning_rate": 5e-5,
    "steps": 1000,
    "picture_every": 0,
    "ema_decay": 0.99,
    "warmup": 20,
    "grad_accumulation": 4,
}


class FaceRayRecipe:
    """See `training.loop.Recipe`. `batches`: {"codes": [B, 6, L]} or {"faces": [B, 6, 3, S, S]}, with "captions"."""

    name = NAME

    def __init__(
        self,
        model: CubeModel,
        faceray: FaceRayConfig | None,
        plan: FaceRayTraining,
        batches: Dataset,
        seed: int,
        optimizer: str = "adamw",
        checkpointing: bool = False,
    ) -> None:
        self.model, self.plan, self.data, self.seed = model, plan, batches, seed
        self.faceray = adapter_config(model.source, faceray)
        self.optimizer, self.checkpointing = optimizer, checkpointing

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        generator = cube_generator(self.model.source, self.faceray)
        generator.checkpointing = self.checkpointing
        module = FaceRayModule(generator, self.model.teacher, self.plan)
        counts = [sum(p.numel() for p in each.parameters()) / 1e6 for each in (module, generator)]
        log.info("%.2f M parameters learn, of %.2f M", *counts)
        return module

    def batches(self) -> Dataset:
        return self.data

    def optimizers(self, module: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
        return star_optimizers(module, learning_rate, self.optimizer, lambda name, p: p.ndim == 2)

    def pictures(self, module: FaceRayModule) -> Tensor:
        """The six faces of some prompts, drawn together."""
        return draw_cubes(module.generator.train(False), module.teacher)

    def export(self, module: FaceRayModule, folder: Path, run: RunFacts) -> None:
        """Write a whole model folder; a sampler that the source had stays as it was."""
        source, generator = self.model.source, module.generator
        _, of_sampler = split_sampler(source.generator)
        parts = StarParts(
            generator.config,
            module.teacher.vqvae,
            generator,
            faceray=self.faceray,
            tower=module.teacher.tower if self.model.kind == "small" else None,
            carried=of_sampler,
            face_texts=self.model.face_texts,
            defaults=self.model.defaults,
            kind=self.model.kind,
        )
        write_star(folder, parts, star_card(parts, self._stage(run)))

    def _stage(self, run: RunFacts) -> Stage:
        plan, faceray = self.plan, self.faceray
        options = {
            "lambda_seam": plan.lambda_seam,
            "seam_warmup_ratio": plan.seam_warmup_ratio,
            "pairing": plan.pairing,
            "wrong_starts": plan.wrong_starts,
            "coarse-until": plan.coarse.until,
            "coarse-scales": plan.coarse.scales,
            "adapter-dim": faceray.adapter_dim,
            "adapter-heads": faceray.heads,
            "ray-subdim": faceray.ray_subdim,
            "adapter-input": faceray.adapter_input,
            "optimizer": self.optimizer,
        }
        if plan.unfreeze:
            options["unfreeze"] = " ".join(plan.unfreeze)
        if faceray.depth_matched:
            options["depth-matched"] = ""
        return cube_stage(NAME, "The FaceRay adapters", self.model, self.data, options, run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    plan, adapter = FaceRayTraining(), FaceRayConfig()
    add_cube_arguments(parser)
    add = parser.add_argument
    add("--lambda_seam", type=float, default=plan.lambda_seam, help="weight of the seam loss (default 0.1)")
    add(
        "--seam_warmup_ratio",
        type=float,
        default=plan.seam_warmup_ratio,
        help="share of the steps over which that weight rises from 0 (default 0.1)",
    )
    add(
        "--wrong_starts",
        type=float,
        default=plan.wrong_starts,
        help="share of faces that begin with wrong coarse codes, which the adapters learn to correct (default 0)",
    )
    add_coarse_options(parser)
    add("--pairing", choices=PAIRINGS, default=plan.pairing, help="which tokens the seam loss compares")
    add(
        "--unfreeze",
        nargs="*",
        default=[],
        metavar="NAME",
        help="modules or parameters of the generator that learn, too, e.g. encoder_proj blocks.29.ffn",
    )
    add(
        "--adapter-dim",
        type=int,
        help="width of the adapters (default: the published 240, or 60 for a small generator)",
    )
    add("--adapter-heads", type=int)
    add("--ray-subdim", type=int, help="channels of a head that turn with the ray, a multiple of 3")
    add("--depth-matched", action="store_true", help="look as far behind an edge as a token lies before it")
    add("--adapter-input", choices=("normed", "raw"), help=f"default {adapter.adapter_input}")
    add("--optimizer", choices=("muon", "adamw"), default="adamw")


def build(args: argparse.Namespace) -> FaceRayRecipe:
    """The recipe that the command line describes."""
    model = cube_model(args)
    coarse = coarse_first(args, model.source.config.generator.patch_nums)
    plan = FaceRayTraining(
        args.lambda_seam,
        args.seam_warmup_ratio,
        args.pairing,
        tuple(args.unfreeze),
        args.wrong_starts,
        coarse,
    )
    batches = cube_batches(args, model.teacher)
    faceray = _adapters(args, model)
    return FaceRayRecipe(model, faceray, plan, batches, args.seed, args.optimizer, args.checkpointing)


def _adapters(args: argparse.Namespace, model: CubeModel) -> FaceRayConfig:
    """The default adapters with the options that were given."""
    base = adapter_config(model.source, None)
    dim = base.adapter_dim if args.adapter_dim is None else args.adapter_dim
    heads = base.heads if args.adapter_heads is None else args.adapter_heads
    return base.changed(
        adapter_dim=dim,
        heads=heads,
        head_dim=max(1, dim) // max(1, heads),
        ray_subdim=args.ray_subdim,
        depth_matched=args.depth_matched or None,
        adapter_input=args.adapter_input,
    )
