"""Recipe `star-reader`: a network that reads attributes back from single cube faces, trained on worlds only."""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...data.cubemap_scenes import CubemapScenes
from ...data.face_readings import FaceReadings, WorldScenes
from ...data.readings import READ, options_of
from ...data.worlds import ATTRIBUTES
from ...geometry.cubemap import FACES
from ...metrics.attributes import chance_corrected
from ...metrics.face_attributes import (
    COUNTED_FROM,
    KINDS,
    SIZE,
    FaceReader,
    FaceReaderConfig,
    kind_of,
    new_network,
    save_face_reader,
)
from ...runtime.errors import InputError
from ..card import RunFacts
from ..reading import reader_optimizers, reading_losses

log = logging.getLogger(__name__)

NAME = "star-reader"
HELP = (
    "attribute reader of cube faces for `evaluate star`, trained on worlds and their autoencoder round trips"
)
DEFAULTS = {"learning_rate": 2e-3, "steps": 3000, "picture_every": 0, "ema_decay": 0.995, "warmup": 50}


class FaceReaderModule(nn.Module):
    """The network and its loss."""

    def __init__(self, config: FaceReaderConfig) -> None:
        super().__init__()
        self.network = new_network(config)

    def forward(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        logits, _ = self.network(batch["pixels"])
        loss, accuracy = reading_losses(logits, batch["classes"])
        return {"loss": loss, "accuracy": accuracy}


class FaceReaderRecipe:
    """See `training.loop.Recipe`. `check` are held-out worlds: what can be read on them is what `evaluate` will count."""

    name = NAME

    def __init__(
        self, folders: tuple[WorldScenes, ...], check: WorldScenes, batch_size: int, seed: int
    ) -> None:
        self.folders, self.check, self.batch_size, self.seed = folders, check, batch_size, seed
        attributes = {name: ATTRIBUTES[name] for name in READ}
        self.config = FaceReaderConfig(attributes, {kind: {} for kind in KINDS}, len(check))

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        return FaceReaderModule(self.config)

    def batches(self) -> Dataset:
        return FaceReadings(self.folders, self.batch_size, self.seed)

    def optimizers(self, module: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
        return reader_optimizers(module, learning_rate)

    def pictures(self, module: nn.Module) -> None:
        return None

    def export(self, module: nn.Module, folder: Path, run: RunFacts) -> None:
        """Measure the reader on the worlds to check, save it with its scores, and tell them."""
        config = replace(self.config, scores=face_scores(FaceReader(module.network, self.config), self.check))
        save_face_reader(module.network, config, folder)
        for kind, scores in config.scores.items():
            told = ", ".join(
                f"{name} {value:.3f}{'' if value < COUNTED_FROM else ' *'}" for name, value in scores.items()
            )
            log.info("%s, chance-corrected (* counts): %s", kind, told)


def face_scores(reader: FaceReader, worlds: WorldScenes) -> dict[str, dict[str, float]]:
    """Chance-corrected accuracy per kind of face and attribute, over all faces of all worlds."""
    answers: dict[tuple[str, str], list[tuple[bool, float]]] = defaultdict(list)
    for index in range(len(worlds)):
        (readings,) = reader.read(worlds.cube(index)[None])
        for face, name, right, chance in _answers(worlds, index, readings):
            answers[kind_of(face), name].append((right, chance))
    scores: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
    for kind, name in sorted(answers, key=lambda key: READ.index(key[1])):
        rights, chances = zip(*answers[kind, name], strict=True)
        accuracy, chance = sum(rights) / len(rights), sum(chances) / len(chances)
        scores[kind][name] = round(chance_corrected(accuracy, chance), 4)
    return scores


def _answers(worlds: WorldScenes, index: int, readings) -> Iterator[tuple[int, str, bool, float]]:
    """(face, attribute, whether it was read right, the chance of a blind guess) of everything that a world has."""
    known = worlds.worlds[index].attributes()
    for face in range(len(FACES)):
        for name in READ:
            if known[name] is not None:
                right = readings[face][name] == known[name]
                yield face, name, right, 1.0 / options_of(known["place"], name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    add = parser.add_argument
    add(
        "--scenes",
        type=Path,
        required=True,
        action="append",
        help=f"folder of worlds with faces of {SIZE} pixels, from `train cubemap-scenes`; give several (plain ones and "
        "round trips) to mix them evenly",
    )
    add(
        "--check",
        type=Path,
        required=True,
        help="folder of held-out worlds (--split held_out): they decide which attributes count on which faces",
    )
    add("--skip-bad", action="store_true", help="leave out scenes that cannot be read")
    add("--batch-size", type=int, default=32, help="faces per step (default 32)")


def build(args: argparse.Namespace) -> FaceReaderRecipe:
    """The recipe that the command line describes."""
    *folders, check = (
        WorldScenes(CubemapScenes(folder, SIZE, skip_bad=args.skip_bad))
        for folder in (*args.scenes, args.check)
    )
    if not check.held_out:
        raise InputError(
            f"--check {args.check} holds worlds that were trained on, or round trips: render held-out ones with "
            "`train cubemap-scenes --split held_out`"
        )
    return FaceReaderRecipe(tuple(folders), check, args.batch_size, args.seed)
