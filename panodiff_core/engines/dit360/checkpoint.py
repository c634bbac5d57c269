"""DiT360 models on disk, read strictly: the diffusers folder of FLUX.1-dev, or the single files that people own.

`layout` finds the parts, `formats` tells their format by header keys, `keys` maps their names, `configurations` reads
sizes from shapes; here they become modules. What is missing, damaged or of another family is said before any tensor is
read, and tensors are read one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...conditioning.text import LONGEST_PROMPT, TextEncoder
from ...io.checkpoints.filling import check_shapes, fill
from ...io.json_file import read_json
from ...layers.ring import PATCH
from ...runtime.errors import CheckpointError, InputError
from ...schedulers.flow_matching import FlowMatchConfig
from .config import DiT360Config, read_config
from .formats import CLIP, T5, T5_COPY, T5_EMBEDDING, TRANSFORMER, VAE, refuse_relatives
from .layout import KINDS, SOURCE, ModelSource, PartSource, find_model, find_part
from .model import build_transformer, check_transformer_config
from .precision import tensor_types, time_in_float32


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

    Weights take `dtype`, with the exceptions of `precision.tensor_types`, among them fp8 `storage`. Raises CheckpointError when
    anything is missing, corrupt, of another family, of the wrong shape, or not finite.
    """
    source = find_model(model, parts, configs)
    _check_configs(source.parts)
    scheduler, config = _read_settings(source)
    modules = {name: _build(part) for name, part in source.parts.items()}
    text = TextEncoder(
        read_tokenizer(
            source.tokenizers["tokenizer"], source.parts[CLIP].config.get("max_position_embeddings")
        ),
        modules[CLIP],
        read_tokenizer(source.tokenizers["tokenizer_2"]),
        modules[T5],
    )
    _check_vocabulary(source, text)
    for name, part in source.parts.items():
        _check(modules[name], part)
    for name, part in source.parts.items():
        _fill(modules[name], part, dtype, storage)
    formats = {name: part.format for name, part in source.parts.items()}
    return Components(modules[TRANSFORMER], modules[VAE], text, scheduler, config, formats)


def load_part(
    path: Path, name: str, dtype: torch.dtype, config: Mapping[str, Any] | None = None
) -> nn.Module:
    """One of "transformer", "vae", "text_encoder" and "text_encoder_2", frozen, on the CPU.

    `path` is a model folder with a sub-folder of that name, or a weight file. Raises CheckpointError as
    `load_components` does.
    """
    part = find_part(path if path.is_file() else path / name, name, config)
    _check_kind(part)
    module = _build(part)
    _check(module, part)
    _fill(module, part, dtype)
    return module


def _read_settings(source: ModelSource) -> tuple[FlowMatchConfig, DiT360Config]:
    if source.folder is None:
        return FlowMatchConfig(), DiT360Config()
    return _read_scheduler(source.folder / "scheduler" / "scheduler_config.json"), read_config(source.folder)


def _check_kind(part: PartSource) -> None:
    """Raise CheckpointError when the configuration is another family's."""
    if part.name == TRANSFORMER:
        refuse_relatives(part.entries, part.config, part.where)
        return check_transformer_config(part.config, part.where)
    key, value = KINDS[part.name]
    found = part.config.get(key)
    if found != value:
        raise CheckpointError(f"{part.where}/config.json has {key} {found!r}, expected {value!r}: {SOURCE}")
    return None


def _check_configs(parts: Mapping[str, PartSource]) -> None:
    try:
        for part in parts.values():
            _check_kind(part)
    except TypeError as error:
        raise CheckpointError(
            f"{part.where} has a config.json with a value of the wrong type ({error})"
        ) from error
    transformer, vae = parts[TRANSFORMER].config, parts[VAE].config
    for what, left, right, other in (
        (
            "joint_attention_dim",
            transformer.get("joint_attention_dim", 4096),
            parts[T5].config.get("d_model"),
            T5,
        ),
        (
            "pooled_projection_dim",
            transformer.get("pooled_projection_dim", 768),
            parts[CLIP].config.get("hidden_size"),
            CLIP,
        ),
        ("in_channels", transformer.get("in_channels", 64), PATCH**2 * vae.get("latent_channels", 4), VAE),
    ):
        if left != right:
            raise CheckpointError(
                f"{parts[TRANSFORMER].where} has {what} {left}, {parts[other].where} gives {right}: "
                "the parts come from different models"
            )


def _check_vocabulary(source: ModelSource, text: TextEncoder) -> None:
    for part, encoder, tokenizer in (
        ("tokenizer", CLIP, text.tokenizer),
        ("tokenizer_2", T5, text.tokenizer_2),
    ):
        folder, config = source.tokenizers[part], source.parts[encoder].config
        room, words = config.get("vocab_size"), len(tokenizer)
        if room is not None and words > room:
            raise CheckpointError(
                f"{folder} has {words} tokens, {encoder} has {room} embeddings: they belong to different models"
            )
        positions = config.get("max_position_embeddings")
        if positions is not None and tokenizer.model_max_length > positions:
            raise CheckpointError(
                f"{folder}: model_max_length {tokenizer.model_max_length} exceeds the {positions} positions of {encoder}"
            )


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


def _build(part: PartSource) -> nn.Module:
    """A module without memory behind its weights, ready to be compared with the files and filled."""
    from accelerate import init_empty_weights

    kinds = {TRANSFORMER: build_transformer, VAE: _build_vae, CLIP: _build_clip, T5: _build_t5}
    try:
        with init_empty_weights(include_buffers=False):
            return kinds[part.name](dict(part.config))
    except Exception as error:  # the libraries raise whatever a contradictory config leads them to
        raise CheckpointError(
            f"{part.where}: its configuration describes no model that can be built ({error}): {SOURCE}"
        ) from error


def _build_vae(config: dict[str, Any]) -> nn.Module:
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_config(config)


def _build_clip(config: dict[str, Any]) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig.from_dict(config))


def _build_t5(config: dict[str, Any]) -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config.from_dict(config))


def _named(module: nn.Module, part: PartSource) -> dict[str, Any]:
    """The entries as this version of the library names them: CLIP's prefix `text_model.` comes and goes."""
    if part.name == CLIP and any(name.startswith("text_model.") for name in module.state_dict()):
        return {f"text_model.{name}": entry for name, entry in part.entries.items()}
    return part.entries


def _check(module: nn.Module, part: PartSource) -> None:
    entries = _named(module, part)
    if part.name == T5 and T5_EMBEDDING in entries:
        entries = {**entries, T5_COPY: entries[T5_EMBEDDING]}
    check_shapes(module, entries, part.where)


def _fill(module: nn.Module, part: PartSource, dtype: torch.dtype, storage: str | None = None) -> None:
    types = tensor_types(part.name, module, dtype, storage)
    fill(module, _named(module, part), types, {T5_COPY: T5_EMBEDDING} if part.name == T5 else None)
    if part.name == T5:
        # One parameter under two names, so that moving it moves it once.
        module.encoder.set_input_embeddings(module.shared)
    if part.name == TRANSFORMER and dtype.itemsize == 2:
        time_in_float32(module)
