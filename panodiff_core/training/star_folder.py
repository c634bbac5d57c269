"""What the STAR recipes hand to one another: an autoencoder by itself, and whole model folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.cube_tokens import CubeTokens
from ..engines.star.checkpoint import ModelConfig, load_vqvae, read_config, write_model
from ..engines.star.checkpoint.folder import CONFIG_FILE, VQVAE_STEM
from ..engines.star.config import FaceRayConfig, STARConfig, VQVAEConfig
from ..engines.star.generator import STARGenerator
from ..engines.star.masked_sampler import MaskedSampler
from ..engines.star.options import GenerationOptions
from ..engines.star.scales import Scales
from ..engines.star.text import TextTower
from ..engines.star.training.codebook import fingerprint
from ..engines.star.vqvae import VQVAE
from ..io.atomic import write_text
from ..io.checkpoints.entries import Entry
from ..io.checkpoints.safetensors_files import open_safetensors, weight_files
from ..io.checkpoints.torch_files import tensor_entry
from ..io.checkpoints.writing import write_safetensors
from ..io.json_file import read_json
from ..runtime.errors import CheckpointError, InputError
from .model_folder import save_half

VQVAE_CONFIG = "vqvae.json"


def entries_of(module: nn.Module, where: str) -> dict[str, Entry]:
    """A module's parameters and buffers as entries, to be written."""
    return {
        name: tensor_entry(value.cpu(), f"{where}, {name}") for name, value in module.state_dict().items()
    }


def write_vqvae(folder: Path, vqvae: VQVAE) -> None:
    """Write vqvae.safetensors and vqvae.json ({"vqvae": {…}, "patch_nums": […]}) into `folder`.

    Rounded to half precision here already, so that a small model holds exactly the autoencoder that made its codes.
    """
    entries = entries_of(vqvae, "the trained autoencoder")
    write_safetensors(folder / f"{VQVAE_STEM}.safetensors", entries, lambda name: torch.float16)
    config = {"vqvae": asdict(vqvae.config), "patch_nums": list(vqvae.scales.sides)}
    write_text(folder / VQVAE_CONFIG, json.dumps(config, indent=2) + "\n")


def read_vqvae(folder: Path) -> VQVAE:
    """The autoencoder that `write_vqvae` wrote, or that of a whole model folder; frozen, float32, on the CPU.

    Raises CheckpointError where there is none, or it is damaged.
    """
    folder = Path(folder)
    config, scales = _vqvae_config(folder)
    weights, _ = open_safetensors(weight_files(folder, VQVAE_STEM))
    return load_vqvae(dict(weights), config, scales, str(folder)).train(False)


def _vqvae_config(folder: Path) -> tuple[VQVAEConfig, Scales]:
    path = folder / VQVAE_CONFIG
    if not path.is_file():
        if not (folder / CONFIG_FILE).is_file():
            raise CheckpointError(
                f"{folder} has no {VQVAE_CONFIG}: train an autoencoder first (train star-vqvae)"
            )
        said = read_config(folder)
        return said.vqvae, Scales(said.generator.patch_nums)
    values: dict[str, Any] = read_json(path)
    try:
        return VQVAEConfig().changed(**values["vqvae"]), Scales(values["patch_nums"])
    except (InputError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} does not describe an autoencoder ({error}): export it again"
        ) from error


def check_tokens(tokens: CubeTokens, vqvae: VQVAE) -> None:
    """Raises InputError where codes on disk are not those of the autoencoder."""
    if tokens.autoencoder != fingerprint(vqvae) or tokens.patch_nums != vqvae.scales.sides:
        raise InputError(
            f"{tokens.folder} was encoded with another autoencoder; encode it again (train star-tokens)"
        )


@dataclass(frozen=True)
class StarParts:
    """What a model folder is written of. `config` is the generator's; `carried` are weights of a sampler that stay as
    they were; `face_texts`, `defaults`, `kind` and `dtype` as in `checkpoint.write_model`. A small model's autoencoder is stored in `dtype`, too.
    """

    config: STARConfig
    vqvae: VQVAE
    generator: STARGenerator
    sampler: MaskedSampler | None = None
    faceray: FaceRayConfig | None = None
    tower: TextTower | None = None
    carried: Mapping[str, Entry] = field(default_factory=dict)
    face_texts: Mapping[str, str] = field(default_factory=dict)
    defaults: GenerationOptions = field(default_factory=GenerationOptions)
    kind: str = "small"
    dtype: torch.dtype = torch.float16


def write_star(folder: Path, parts: StarParts, card: str | None = None) -> None:
    """Write a model folder: weights, config.json, the text tower where there is one, and `card` as README.md."""
    weights = {**parts.carried, **entries_of(parts.generator, "the trained generator")}
    if parts.sampler is not None:
        weights |= entries_of(parts.sampler, "the trained sampler")
    config = ModelConfig(
        parts.config, parts.vqvae.config, parts.faceray, parts.kind, parts.defaults, parts.face_texts
    )
    vqvae = entries_of(parts.vqvae, "the autoencoder")
    vqvae_dtype = parts.dtype if parts.kind == "small" else torch.float32
    write_model(folder, config, weights, vqvae, parts.dtype, vqvae_dtype=vqvae_dtype)
    if parts.tower is not None:
        save_half(parts.tower.model, folder / "text_encoder")
        parts.tower.tokenizer.save_pretrained(folder / "tokenizer")
    if card is not None:
        write_text(folder / "README.md", card)
