"""Our layout of a STAR model: a folder with config.json, star.safetensors and vqvae.safetensors, official names inside.

config.json: {"panodiff": 1, "engine": "star", "kind": "star" | "small", "generator": {…}, "vqvae": {…}, "faceray": {…},
"defaults": {…}, "face_texts": {…}}; the objects hold fields of `STARConfig`, `VQVAEConfig`, `FaceRayConfig` (only where there
are adapters), `GenerationOptions` (what sampling does unless told otherwise; may be left out) and what frames the texts of faces
(`ModelConfig.face_texts`; may be left out).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ....io.atomic import write_text
from ....io.checkpoints.entries import Weights
from ....io.checkpoints.safetensors_files import open_safetensors, weight_files
from ....io.checkpoints.writing import write_safetensors
from ....io.json_file import read_json
from ....runtime.errors import CheckpointError, InputError
from ..config import FaceRayConfig, STARConfig, VQVAEConfig
from ..face_texts import check_frames
from ..options import GenerationOptions, check_choice
from .filling import storage_type

CONFIG_FILE, GENERATOR_STEM, VQVAE_STEM = "config.json", "star", "vqvae"
KINDS = ("star", "small")
VERSION = 1
_SECTIONS = ("panodiff", "engine", "kind", "generator", "vqvae", "faceray", "defaults", "face_texts")


@dataclass(frozen=True)
class ModelConfig:
    """What a folder says about its weights. `kind`: "star" for the published ones, "small" for our own. `defaults`: how
    it samples unless told otherwise. `face_texts`: for a model whose faces were trained with captions that name their
    direction, the words around the text of each face, as {"U": "up, {prompt}", …}.
    """

    generator: STARConfig
    vqvae: VQVAEConfig
    faceray: FaceRayConfig | None = None
    kind: str = "star"
    defaults: GenerationOptions = field(default_factory=GenerationOptions)
    face_texts: Mapping[str, str] = field(default_factory=dict)

    def check(self, options: GenerationOptions) -> None:
        """Raises InputError for options that such a model cannot do."""
        sampler, adapters = self.generator.sampler_blocks > 0, self.faceray is not None
        check_choice(options, self.generator, sampler=sampler, adapters=adapters)


def missing_files(folder: Path) -> list[str]:
    """What a model folder lacks, relative to it."""
    lacking = [] if (folder / CONFIG_FILE).is_file() else [CONFIG_FILE]
    for stem in (GENERATOR_STEM, VQVAE_STEM):
        file = folder / f"{stem}.safetensors"
        if not file.is_file() and not file.with_name(f"{file.name}.index.json").is_file():
            lacking.append(file.name)
    return lacking


def read_config(folder: Path) -> ModelConfig:
    """The folder's config.json. Raises CheckpointError naming the file and the key for an unknown version, key or value."""
    path = folder / CONFIG_FILE
    values = read_json(path)
    unknown = sorted(values.keys() - set(_SECTIONS))
    if unknown:
        raise CheckpointError(f"{path}: unknown key {unknown[0]!r}; it may hold {', '.join(_SECTIONS)}")
    for key, choices in (("panodiff", (VERSION,)), ("engine", ("star",)), ("kind", KINDS)):
        if values.get(key) not in choices:
            wanted = " or ".join(repr(choice) for choice in choices)
            raise CheckpointError(f'{path}: "{key}" is {values.get(key)!r}, this version reads {wanted}')
    config = ModelConfig(
        _section(path, values, "generator", STARConfig()),
        _section(path, values, "vqvae", VQVAEConfig()),
        _section(path, values, "faceray", FaceRayConfig()) if "faceray" in values else None,
        values["kind"],
        _section(path, values, "defaults", GenerationOptions())
        if "defaults" in values
        else GenerationOptions(),
        _face_texts(path, values.get("face_texts", {})),
    )
    try:
        config.check(config.defaults)
    except InputError as error:
        raise CheckpointError(f"{path}, defaults: {error}") from error
    return config


def write_config(folder: Path, config: ModelConfig) -> None:
    """Write config.json. Raises InputError when it cannot be written."""
    values: dict[str, Any] = {"panodiff": VERSION, "engine": "star", "kind": config.kind}
    values |= {"generator": asdict(config.generator), "vqvae": asdict(config.vqvae)}
    if config.faceray is not None:
        values["faceray"] = asdict(config.faceray)
    if config.defaults != GenerationOptions():
        values["defaults"] = asdict(config.defaults)
    if config.face_texts:
        values["face_texts"] = dict(config.face_texts)
    write_text(folder / CONFIG_FILE, json.dumps(values, indent=2) + "\n")


def read_weights(folder: Path) -> tuple[Weights, Weights]:
    """The entries of (generator, autoencoder). Raises CheckpointError for what is missing or damaged."""
    generator, _ = open_safetensors(weight_files(folder, GENERATOR_STEM))
    vqvae, _ = open_safetensors(weight_files(folder, VQVAE_STEM))
    return generator, vqvae


def write_model(
    folder: Path,
    config: ModelConfig,
    generator: Weights,
    vqvae: Weights,
    dtype: torch.dtype,
    vqvae_dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model folder, config.json last; the generator in `dtype`, the autoencoder in float32, as it decodes,
    unless its file is to be small.

    Raises InputError when the folder cannot be made or written, CheckpointError for NaN or infinite weights.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder} ({error}): choose another") from error
    write_safetensors(folder / f"{VQVAE_STEM}.safetensors", vqvae, lambda name: vqvae_dtype)
    write_safetensors(folder / f"{GENERATOR_STEM}.safetensors", generator, storage_type(dtype))
    write_config(folder, config)


def _face_texts(path: Path, texts: Any) -> dict[str, str]:
    try:
        check_frames(texts)
    except InputError as error:
        raise CheckpointError(f"{path}, face_texts: {error}") from error
    return texts


def _section(path: Path, values: dict[str, Any], name: str, base: Any) -> Any:
    section = values.get(name)
    if not isinstance(section, dict):
        raise CheckpointError(f'{path}: "{name}" must be an object with its settings')
    try:
        return base.changed(**section)
    except InputError as error:
        raise CheckpointError(f"{path}, {name}: {error}") from error
