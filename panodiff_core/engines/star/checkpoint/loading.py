"""A found model as modules on the CPU; all names and shapes are checked before the first tensor is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ....io.checkpoints.entries import Entry
from ....io.checkpoints.filling import check_shapes
from ....layers.attention import Attention
from ....runtime.errors import CheckpointError, InputError
from ..faceray import FaceRayGenerator, FaceRaySampler
from ..generator import STARGenerator
from ..masked_sampler import MaskedSampler
from ..scales import Scales
from ..vqvae import VQVAE
from .filling import SAMPLER_FACERAY, added_part, fill_generator, load_vqvae, split_sampler, vqvae_entries
from .folder import ModelConfig
from .source import ModelSource


@dataclass(frozen=True)
class Components:
    """The loaded parts of one model. With adapters the generator is a `FaceRayGenerator`; `sampler` may be absent."""

    generator: STARGenerator
    sampler: MaskedSampler | None
    vqvae: VQVAE
    config: ModelConfig
    form: str


def load_components(
    source: ModelSource,
    dtype: torch.dtype = torch.float32,
    *,
    attention: Attention | None = None,
    operations: Any = nn,
) -> Components:
    """Read a model: generator and sampler in `dtype`, the autoencoder in float32, as it decodes; all frozen.

    Raises CheckpointError when anything is missing, unexpected, of another shape, or not finite.
    """
    generator, sampler = _checked_modules(source, attention, operations)
    of_generator, of_sampler = split_sampler(source.generator)
    fill_generator(generator, of_generator, source.where, dtype)
    if sampler is not None:
        fill_generator(sampler, of_sampler, source.where, dtype)
    config, scales = source.config, Scales(source.config.generator.patch_nums)
    vqvae = load_vqvae(source.vqvae, config.vqvae, scales, source.where, operations=operations)
    return Components(generator, sampler, vqvae, config, source.form)


def check_model(source: ModelSource) -> None:
    """Raise CheckpointError unless names and shapes are exactly those of the model that the configuration describes."""
    _checked_modules(source, None, nn)


def _checked_modules(
    source: ModelSource, attention: Attention | None, operations: Any
) -> tuple[STARGenerator, MaskedSampler | None]:
    """Generator and sampler without numbers, which the files fit."""
    of_generator, of_sampler = split_sampler(source.generator)
    options = {"attention": attention, "operations": operations}
    scales = Scales(source.config.generator.patch_nums)
    try:
        with torch.device("meta"):
            generator, sampler = _build(source.config, of_sampler, options)
            vqvae = VQVAE(source.config.vqvae, scales, operations)
    except InputError as error:
        raise CheckpointError(f"{source.where}: {error}") from error
    check_shapes(generator, of_generator, source.where)
    if sampler is not None:
        check_shapes(sampler, of_sampler, source.where)
    check_shapes(vqvae, vqvae_entries(source.vqvae, source.config.vqvae, scales), source.where)
    return generator, sampler


def _build(
    config: ModelConfig, of_sampler: dict[str, Entry], options: dict[str, Any]
) -> tuple[STARGenerator, MaskedSampler | None]:
    star, faceray = config.generator, config.faceray
    if faceray is None:
        generator = STARGenerator(star, **options)
    else:
        generator = FaceRayGenerator(star, faceray, **options)
    if not star.sampler_blocks:
        return generator, None
    # The published sampler knows no cubes, also beside a generator that does.
    if faceray is not None and any(added_part(name) == SAMPLER_FACERAY for name in of_sampler):
        return generator, FaceRaySampler(star, faceray, **options)
    return generator, MaskedSampler(star, **options)
