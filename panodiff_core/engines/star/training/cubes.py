"""Training on cubes: the FaceRay adapters beside a frozen generator, and the cubemap's masked sampler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ....data.cubemap_worlds import face_caption
from ....layers.attention import plain_attention
from ....runtime.errors import InputError
from ..checkpoint import FACERAY, SAMPLER, SAMPLER_FACERAY, ModelSource, fill_generator, split_sampler
from ..config import FaceRayConfig
from ..faceray import (
    FaceRayGenerator,
    FaceRaySampler,
    face_loss,
    freeze_backbone,
    seam_loss,
    seam_rule,
    seam_weight,
)
from ..faceray.branches import add_adapters
from ..faceray.losses import PAIRINGS
from ..masked_sampler import hidden_loss
from ..scales import Scales
from ..text import TextFeatures, TextTower
from ..vqvae import VQVAE
from .corrections import with_wrong_starts
from .single import CoarseFirst, teacher_input

CAPTIONS = ("scene", "face")
SAMPLER_BLOCKS = 3
FACES = 6


@dataclass(frozen=True)
class FaceRayTraining:
    """How the adapters learn: L_face + λ·L_seam, λ rising to `lambda_seam` over the first `seam_warmup_ratio` of the
    optimiser steps; `pairing` of the seam loss. `unfreeze` names modules or parameters of the generator that learn,
    too. `wrong_starts` is the share of faces that begin with wrong coarse codes (`corrections`), `coarse` teaches the
    coarse scales first. Raises InputError for a value out of range.
    """

    lambda_seam: float = 0.1
    seam_warmup_ratio: float = 0.1
    pairing: str = "opposite"
    unfreeze: tuple[str, ...] = ()
    wrong_starts: float = 0.0
    coarse: CoarseFirst = field(default_factory=CoarseFirst)

    def __post_init__(self) -> None:
        if not 0.0 <= self.lambda_seam < float("inf"):
            raise InputError(f"lambda_seam must be a finite number of at least 0, got {self.lambda_seam!r}")
        if not 0.0 <= self.seam_warmup_ratio <= 1.0:
            raise InputError(f"seam_warmup_ratio must lie in 0..1, got {self.seam_warmup_ratio!r}")
        if not 0.0 <= self.wrong_starts <= 1.0:
            raise InputError(f"wrong_starts must lie in 0..1, got {self.wrong_starts!r}")
        if self.pairing not in PAIRINGS:
            raise InputError(f"pairing must be one of {', '.join(PAIRINGS)}, got {self.pairing!r}")


class CubeTeacher:
    """The frozen parts around what learns: text tower, autoencoder, and how a batch of cubes is fed to the generator.

    `captions`: "scene" gives all faces the prompt of their scene, "face" names each face's direction in it, in the
    words of `data.cubemap_worlds`. Raises InputError for another.
    """

    def __init__(self, tower: TextTower, vqvae: VQVAE, captions: str = "scene") -> None:
        if captions not in CAPTIONS:
            raise InputError(f"captions must be one of {', '.join(CAPTIONS)}, got {captions!r}")
        self.tower, self.vqvae, self.captions = tower, vqvae, captions
        for module in (tower.model, vqvae):
            module.requires_grad_(False).train(False)

    def to(self, device: torch.device | str) -> None:
        """Move everything."""
        self.tower.model.to(device)
        self.vqvae.to(device)

    @torch.no_grad()
    def codes(self, batch: Mapping[str, Any]) -> Tensor:
        """Codes [B·6, L]: those of the batch, or of its faces [B, 6, 3, S, S] in 0..1."""
        if "codes" in batch:
            return batch["codes"].flatten(0, 1)
        faces = batch["faces"].flatten(0, 1)
        with torch.autocast(
            faces.device.type, enabled=False
        ):  # one rounded coarse code changes all finer ones
            return torch.cat(self.vqvae.encode(faces), dim=1)

    @torch.no_grad()
    def text(self, captions: list[str], device: torch.device) -> TextFeatures:
        """The generator's text of these scenes: one row per scene, or six."""
        if self.captions == "face":
            captions = [face_caption(face, text) for text in captions for face in range(FACES)]
        return self.encode(captions, device)

    @torch.no_grad()
    def encode(self, texts: list[str], device: torch.device) -> TextFeatures:
        """The texts as the engine encodes them, in float32 whatever the training computes in."""
        with torch.autocast(device.type, enabled=False):
            return self.tower.encode(texts, device)

    def teacher_input(self, codes: Tensor, scales: int | None = None) -> Tensor:
        """What the generator sees of codes [B·6, L] while it is taught the first `scales` scales (None: all)."""
        length = sum(self.vqvae.scales.lengths[:scales])
        return teacher_input(self.vqvae.quantize, codes[:, :length], scales)


class FaceRayModule(nn.Module):
    """The adapters of a generator to train. Its state holds what learns and nothing else, under the generator's names
    with "/" for ".", since no parameter's name may have a dot.
    """

    def __init__(self, generator: FaceRayGenerator, teacher: CubeTeacher, plan: FaceRayTraining) -> None:
        super().__init__()
        self.plan, self.names = plan, freeze_backbone(generator, plan.unfreeze)
        weights = dict(generator.named_parameters())
        self.learned = nn.ParameterDict({name.replace(".", "/"): weights[name] for name in self.names})
        generator.attention = plain_attention
        for block in generator.blocks:
            block.drop_path = 0.0  # of a frozen backbone, the adapters should see what they will see in use
        self._frozen = (
            generator,
            teacher,
        )  # a tuple hides them from state_dict, the optimizer and the average

    @property
    def generator(self) -> FaceRayGenerator:
        """The generator with the adapters."""
        return self._frozen[0]

    @property
    def teacher(self) -> CubeTeacher:
        """The frozen parts."""
        return self._frozen[1]

    def forward(self, batch: Mapping[str, Any], progress: float) -> dict[str, Tensor]:
        generator, teacher, plan = self.generator, self.teacher, self.plan
        device = next(self.learned.parameters()).device
        generator.to(device).train(self.training)
        teacher.to(device)
        codes, scales, count = teacher.codes(batch), generator.scales, plan.coarse.count(progress)
        given = asked = codes
        if plan.wrong_starts:
            given, asked = with_wrong_starts(teacher.vqvae.quantize, codes, plan.wrong_starts)
        text = teacher.text(batch["captions"], device)
        logits, features = generator(teacher.teacher_input(given, count), text, scales=count)
        weight = self.seam_weight(progress)
        last = features[:, scales.slice((count or len(scales)) - 1)]
        seam = seam_loss(last, seam_rule(generator.faceray), plan.pairing)
        face = face_loss(logits, asked[:, : logits.shape[1]])
        parts = {"face": face, "seam": seam, "seam_weight": seam.new_tensor(weight)}
        return {"loss": face + weight * seam, **parts}

    def seam_weight(self, progress: float) -> float:
        """λ at `progress`, the share of the optimiser steps that are done."""
        return seam_weight(progress, 1, self.plan.lambda_seam, self.plan.seam_warmup_ratio)


class SamplerModule(nn.Module):
    """The cubemap's masked sampler to train, with the frozen generator beside it (it is not part of the state)."""

    def __init__(self, sampler: FaceRaySampler, generator: FaceRayGenerator, teacher: CubeTeacher) -> None:
        super().__init__()
        self.sampler = sampler.requires_grad_(True)
        generator.requires_grad_(False).train(False)
        for each in (sampler, generator):
            each.attention = plain_attention
        self._frozen = (generator, teacher)

    @property
    def generator(self) -> FaceRayGenerator:
        """The frozen generator."""
        return self._frozen[0]

    @property
    def teacher(self) -> CubeTeacher:
        """The frozen parts."""
        return self._frozen[1]

    def forward(self, batch: Mapping[str, Any], progress: float) -> dict[str, Tensor]:
        generator, teacher = self.generator, self.teacher
        device = self.sampler.pos_start_last.device
        generator.to(device)
        teacher.to(device)
        codes = teacher.codes(batch)
        last = generator.scales.slice(len(generator.scales) - 1)
        with torch.no_grad():
            text = teacher.text(batch["captions"], device)
            features = generator.features(teacher.teacher_input(codes), text)[:, last]
            pooled = teacher.encode(batch["captions"], device).pooled
            embedded = teacher.vqvae.quantize.codes(codes[:, last])
        logits, keep = self.sampler.predict_hidden(embedded, features, pooled)
        targets = codes[:, last].reshape(keep.shape)
        right = (logits.detach().argmax(dim=-1) == targets)[~keep]
        parts = {"loss": hidden_loss(logits, targets, keep), "hidden": (~keep).float().mean()}
        return {**parts, "right": right.float().mean()} if len(right) else parts


def cube_generator(source: ModelSource, faceray: FaceRayConfig | None = None) -> FaceRayGenerator:
    """The generator of `source` for six faces, in float32; every row reads its own text.

    Where the source has no adapters they are made of `faceray`, and add nothing yet. Raises CheckpointError for weights
    that do not fit, InputError for adapters of other settings than the source's.
    """
    found = source.config.faceray
    if found is not None and faceray is not None and faceray != found:
        raise InputError(f"{source.where} has adapters of other settings: {found}, asked {faceray}")
    config = replace(source.config.generator, cross_attention="per_row")
    faceray = found or faceray or FaceRayConfig()
    of_generator, _ = split_sampler(source.generator)
    with torch.device("meta"):
        generator = FaceRayGenerator(config, faceray)
    add_adapters(generator.blocks, config.width, faceray)  # these have numbers
    fill_generator(generator, of_generator, source.where, new=(FACERAY,))
    return generator


def cube_sampler(
    source: ModelSource, generator: FaceRayGenerator, blocks: int = SAMPLER_BLOCKS
) -> FaceRaySampler:
    """The masked sampler of `source` for cubes, or a fresh one of so many `blocks` where it has none; it serves the
    last scale alone. Raises CheckpointError for weights that do not fit.
    """
    config = replace(
        generator.config, sampler_blocks=generator.config.sampler_blocks or blocks, from_idx=None
    )
    sampler = FaceRaySampler(config, generator.faceray)
    sampler.reset_parameters()
    _, of_sampler = split_sampler(source.generator)
    fill_generator(sampler, of_sampler, source.where, new=(SAMPLER, SAMPLER_FACERAY))
    return sampler


def check_source(source: ModelSource, depth: int | None, patch_nums: Iterable[int] | None) -> None:
    """Raises InputError where a checkpoint has another depth or scale list than was asked for."""
    config = source.config.generator
    asked = {"depth": depth, "patch_nums": None if patch_nums is None else Scales(tuple(patch_nums)).sides}
    for name, value in asked.items():
        if value is not None and value != getattr(config, name):
            raise InputError(
                f"{source.where} has {name} {getattr(config, name)}, asked {value}: give the checkpoint that you mean, "
                f"or leave {name} out"
            )
