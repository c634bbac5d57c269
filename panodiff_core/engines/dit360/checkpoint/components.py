"""The parts of a model, read strictly: what is missing, damaged or of another family is said before a tensor is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ....conditioning.text import LONGEST_PROMPT, TextEncoder
from ....io.json_file import read_json
from ....runtime.errors import CheckpointError, InputError
from ....schedulers.flow_matching import FlowMatchConfig
from ..config import DiT360Config, read_config
from .agreement import check_configs, check_kind, check_vocabulary
from .formats import CLIP, T5, TRANSFORMER, VAE
from .layout import SOURCE, ModelSource, find_model, find_part
from .modules import build_module, check_module, fill_module


@dataclass(frozen=True)
class Components:
    """The loaded parts of one model, on the CPU. `formats` says per part in which format it was found."""

    transformer: nn.Module
    vae: nn.Module
    text: TextEncoder
    scheduler: FlowMatchConfig
    config: DiT360Config
    formats: Mapping[str, str] | None = None


def load_components(
    model: Path,
    dtype: torch.dtype,
    parts: Mapping[str, Path] | None = None,
    configs: Mapping[str, Mapping[str, Any]] | None = None,
    storage: str | None = None,
) -> Components:
    """Read a model: a diffusers folder or a weight file, with `parts` from elsewhere (see `layout.find_model`).

    Weights take `dtype`, with the exceptions of `precision`; `storage` is that of the blocks of the transformer and of
    T5 (`runtime.storage`), of which int8 and int4 are left to `storage.store`. Raises CheckpointError when anything is missing, corrupt, of another family, of the wrong shape, or not finite.
    """
    source = find_model(model, parts, configs)
    check_configs(source.parts)
    scheduler, config = _read_settings(source)
    modules = {name: build_module(part) for name, part in source.parts.items()}
    text = TextEncoder(
        read_tokenizer(
            source.tokenizers["tokenizer"], source.parts[CLIP].config.get("max_position_embeddings")
        ),
        modules[CLIP],
        read_tokenizer(source.tokenizers["tokenizer_2"]),
        modules[T5],
    )
    check_vocabulary(source, text)
    for name, part in source.parts.items():
        check_module(modules[name], part)
    for name, part in source.parts.items():
        fill_module(modules[name], part, dtype, storage)
    formats = {name: part.format for name, part in source.parts.items()}
    return Components(modules[TRANSFORMER], modules[VAE], text, scheduler, config, formats)


def load_part(
    path: Path, name: str, dtype: torch.dtype, config: Mapping[str, Any] | None = None
) -> nn.Module:
    """One of "transformer", "vae", "text_encoder" and "text_encoder_2", frozen, on the CPU, all of it in `dtype`.

    `path` is a model folder with a sub-folder of that name, or a weight file. Raises CheckpointError as
    `load_components` does.
    """
    part = find_part(path if path.is_file() else path / name, name, config)
    check_kind(part)
    module = build_module(part)
    check_module(module, part)
    fill_module(module, part, dtype)
    return module


def _read_settings(source: ModelSource) -> tuple[FlowMatchConfig, DiT360Config]:
    if source.folder is None:
        return FlowMatchConfig(), DiT360Config()
    return _read_scheduler(source.folder / "scheduler" / "scheduler_config.json"), read_config(source.folder)


def _read_scheduler(path: Path) -> FlowMatchConfig:
    values = read_json(path)
    name = values.get("_class_name", "FlowMatchEulerDiscreteScheduler")
    if name != "FlowMatchEulerDiscreteScheduler":
        raise CheckpointError(f"{path} is for {name}, expected FlowMatchEulerDiscreteScheduler: {SOURCE}")
    known = {f.name for f in fields(FlowMatchConfig)}
    try:
        return FlowMatchConfig(**{key: value for key, value in values.items() if key in known})
    except InputError as error:
        raise CheckpointError(f"{path}: {error}") from error


def read_tokenizer(folder: Path, positions: int | None = None) -> Any:
    """The tokenizer in a folder. Raises CheckpointError when it cannot be read.

    `positions` is how many tokens its encoder has positions for: the limit where the folder states none of use, as in
    the copy of CLIP's tokenizer that comes with ComfyUI.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the library raises whatever its parsers raise
        raise CheckpointError(f"{folder} cannot be read as a tokenizer ({error}): {SOURCE}") from error
    if positions is not None and tokenizer.model_max_length > LONGEST_PROMPT:
        tokenizer.model_max_length = positions
    return tokenizer
