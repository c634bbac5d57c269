"""Recipe `dit360-reader`: a network that reads attributes back from panoramas, trained on worlds only."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...data.panoramas import PanoramaCache
from ...data.readings import READ, ReadingBatches
from ...data.worlds import ATTRIBUTES, values_of
from ...metrics.attributes import ReaderConfig, save_reader
from ...metrics.reader_network import ReaderNetwork
from ..card import RunFacts
from ..reading import reader_optimizers, reading_hits, reading_losses

log = logging.getLogger(__name__)

NAME = "dit360-reader"
HELP = "attribute reader for `evaluate`, trained on rendered worlds and their autoencoder round trips"
DEFAULTS = {"learning_rate": 2e-3, "steps": 1500, "picture_every": 0, "ema_decay": 0.995, "warmup": 50}


class ReaderModule(nn.Module):
    """The network and its losses."""

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.network = ReaderNetwork(config.classes())

    def forward(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        logits, direction = self.network(batch["pixels"])
        classes, accuracy = reading_losses(logits, batch["classes"])
        light = batch["light"]
        there = light[:, 2]
        gap = (direction - light[:, :2]).square().sum(dim=-1)
        azimuth = (gap * there).sum() / there.sum().clamp(min=1.0)
        return {
            "loss": classes + azimuth,
            "classes": classes,
            "azimuth": azimuth,
            "accuracy": accuracy,
            "azimuth_error_deg": mean_angle_deg(direction, light),
        }


def mean_angle_deg(direction: Tensor, light: Tensor) -> Tensor:
    """Mean angle between directions [B, 2] and those lights [B, 3] that are there, in degrees."""
    dot = (direction * light[:, :2]).sum(dim=-1)
    cross = direction[:, 0] * light[:, 1] - direction[:, 1] * light[:, 0]
    angle = torch.rad2deg(torch.atan2(cross.abs(), dot))
    return (angle * light[:, 2]).sum() / light[:, 2].sum().clamp(min=1.0)


class ReaderRecipe:
    """See `training.loop.Recipe`."""

    name = NAME

    def __init__(
        self,
        caches: tuple[PanoramaCache, ...],
        batch_size: int,
        seed: int,
        check: PanoramaCache | None = None,
        check_batches: int = 16,
    ) -> None:
        self.caches, self.batch_size, self.seed = caches, batch_size, seed
        self.check, self.check_batches = check, check_batches
        possible = {
            place: {name: values for name in ATTRIBUTES if (values := values_of(place, name))}
            for place in ATTRIBUTES["place"]
        }
        self.config = ReaderConfig(dict(ATTRIBUTES), possible)

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        return ReaderModule(self.config)

    def batches(self) -> Dataset:
        return ReadingBatches(self.caches, self.batch_size, self.seed)

    def optimizers(self, module: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
        return reader_optimizers(module, learning_rate)

    def pictures(self, module: nn.Module) -> None:
        return None

    def export(self, module: nn.Module, folder: Path, run: RunFacts) -> None:
        """Save the reader; with a cache to check on, print its accuracy per attribute there."""
        save_reader(module.network, self.config, folder)
        if self.check is not None:
            log.info("on the panoramas to check: %s", json.dumps(self.evaluate(module)))

    @torch.no_grad()
    def evaluate(self, module: nn.Module) -> dict[str, float]:
        """Accuracy per attribute and mean azimuth error in degrees on undisturbed panoramas of `check`."""
        device = next(module.parameters()).device
        data = ReadingBatches((self.check,), 16, self.seed + 1, disturb=False)
        hits, asked = torch.zeros(len(READ)), torch.zeros(len(READ))
        angles = []
        for index in range(self.check_batches):
            batch = {key: value.to(device) for key, value in data[index].items()}
            logits, direction = module.network(batch["pixels"])
            right, there = reading_hits(logits, batch["classes"])
            hits, asked = hits + right.cpu(), asked + there.cpu()
            angles.append(float(mean_angle_deg(direction.float(), batch["light"])))
        figures = {
            name: round(float(h / max(1.0, float(a))), 4)
            for name, h, a in zip(READ, hits, asked, strict=True)
        }
        return {
            **figures,
            "all": round(float(hits.sum() / asked.sum()), 4),
            "azimuth_deg": sum(angles) / len(angles),
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    parser.add_argument(
        "--cache",
        type=Path,
        required=True,
        action="append",
        help="folder of panoramas, 256 high; give several (plain ones and round trips) to mix them evenly",
    )
    parser.add_argument(
        "--check", type=Path, help="folder of held-out round trips to measure the accuracy on"
    )
    parser.add_argument("--batch-size", type=int, default=16)


def build(args: argparse.Namespace) -> ReaderRecipe:
    """The recipe that the command line describes."""
    caches = tuple(PanoramaCache(folder) for folder in args.cache)
    check = None if args.check is None else PanoramaCache(args.check)
    return ReaderRecipe(caches, args.batch_size, args.seed, check)
