"""DiT360 models on disk: the diffusers folder layout of FLUX.1-dev, read strictly.

Layout: model_index.json, scheduler/, text_encoder/ (CLIP), text_encoder_2/ (T5), tokenizer/, tokenizer_2/,
transformer/ and vae/. What is missing, damaged or of another family is said before any tensor is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...conditioning.text import TextEncoder
from ...layers.ring import PATCH
from ...runtime.errors import CheckpointError, InputError
from ...runtime.weights import check_shapes, load_weights, read_json, read_shapes, weight_files
from ...schedulers.flow_matching import FlowMatchConfig
from .config import DiT360Config, read_config
from .model import build_transformer, check_transformer_config

SOURCE = (
    "get the diffusers layout of black-forest-labs/FLUX.1-dev from huggingface.co (its licence applies): "
    "model_index.json, scheduler, text_encoder, text_encoder_2, tokenizer, tokenizer_2, transformer and vae"
)
DIFFUSERS_STEM, TRANSFORMERS_STEM = "diffusion_pytorch_model", "model"
EMBEDDING, EMBEDDING_COPY = "shared.weight", "encoder.embed_tokens.weight"


@dataclass(frozen=True)
class Components:
    """The loaded parts of one model folder, on the CPU."""

    transformer: nn.Module
    vae: nn.Module
    text: TextEncoder
    scheduler: FlowMatchConfig
    config: DiT360Config


@dataclass(frozen=True)
class _Part:
    """One set of weights: where it lies and how its names map onto the module."""

    folder: Path
    module: nn.Module
    files: list[Path]
    dtype_of: Callable[[str], torch.dtype]
    rename: Callable[[str], str | None] = lambda name: name
    ties: Mapping[str, str] | None = None

    def check(self) -> None:
        shapes = read_shapes(self.files, self.rename)
        for name, source in (self.ties or {}).items():
            if source in shapes:
                shapes[name] = shapes[source]
        check_shapes(self.module, shapes, self.folder)

    def load(self) -> None:
        load_weights(self.module, self.files, self.dtype_of, self.rename, self.ties)


def missing_files(folder: Path) -> list[str]:
    """What a model folder lacks, as paths relative to it; empty when nothing does. Reads no weights."""
    needed = {
        "scheduler": [("scheduler_config.json",)],
        "text_encoder": [("config.json",), _weights(TRANSFORMERS_STEM)],
        "text_encoder_2": [("config.json",), _weights(TRANSFORMERS_STEM)],
        "tokenizer": [("tokenizer_config.json",), ("tokenizer.json", "vocab.json")],
        "tokenizer_2": [("tokenizer_config.json",), ("tokenizer.json", "spiece.model")],
        "transformer": [("config.json",), _weights(DIFFUSERS_STEM)],
        "vae": [("config.json",), _weights(DIFFUSERS_STEM)],
    }
    lacking = [] if (folder / "model_index.json").is_file() else ["model_index.json"]
    for part, groups in needed.items():
        if not (folder / part).is_dir():
            lacking.append(f"{part}/")
            continue
        lacking += [
            f"{part}/{names[0]}" for names in groups if not any((folder / part / n).is_file() for n in names)
        ]
    return lacking


def load_components(folder: Path, dtype: torch.dtype) -> Components:
    """Read a model folder. Weights take `dtype`, except where float16 would overflow (VAE, T5's output
    layers).

    Raises CheckpointError when anything is missing, corrupt, of another family, of the wrong shape, or not
    finite.
    """
    _check_layout(folder)
    configs = {
        part: read_json(folder / part / "config.json")
        for part in ("transformer", "vae", "text_encoder", "text_encoder_2")
    }
    try:
        _check_configs(folder, configs)
    except TypeError as error:
        raise CheckpointError(
            f"{folder} has a config.json with a value of the wrong type ({error})"
        ) from error
    config = read_config(folder)
    scheduler = _read_scheduler(folder / "scheduler" / "scheduler_config.json")
    parts = {name: _open_part(folder, name, configs[name], dtype) for name in configs}
    text = TextEncoder(
        read_tokenizer(folder / "tokenizer"),
        parts["text_encoder"].module,
        read_tokenizer(folder / "tokenizer_2"),
        parts["text_encoder_2"].module,
    )
    _check_vocabulary(folder, text, configs)
    for part in parts.values():
        part.check()
    for part in parts.values():
        part.load()
    _share_embeddings(text.t5)
    return Components(parts["transformer"].module, parts["vae"].module, text, scheduler, config)


def load_part(folder: Path, name: str, dtype: torch.dtype) -> nn.Module:
    """One of "transformer", "vae", "text_encoder" and "text_encoder_2" of a model folder, frozen, on the CPU.

    Raises CheckpointError as `load_components` does.
    """
    part = _open_part(folder, name, read_json(folder / name / "config.json"), dtype)
    part.check()
    part.load()
    if name == "text_encoder_2":
        _share_embeddings(part.module)
    return part.module


def _weights(stem: str) -> tuple[str, ...]:
    return f"{stem}.safetensors", f"{stem}.safetensors.index.json"


def _check_layout(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"there is no model folder {folder}: {SOURCE}")
    lacking = missing_files(folder)
    if lacking:
        for part, stem in (("transformer", DIFFUSERS_STEM), ("vae", DIFFUSERS_STEM)):
            _explain_pickles(folder / part, stem)
        for part in ("text_encoder", "text_encoder_2"):
            _explain_pickles(folder / part, TRANSFORMERS_STEM)
        raise CheckpointError(f"{folder} lacks {', '.join(lacking)}: {SOURCE}")


def _explain_pickles(folder: Path, stem: str) -> None:
    """Let `weight_files` say why pickled weights do not count as weights."""
    if folder.is_dir() and any(folder.glob("*.bin")):
        weight_files(folder, stem)


def _check_configs(folder: Path, configs: Mapping[str, Mapping[str, Any]]) -> None:
    transformer, vae = configs["transformer"], configs["vae"]
    check_transformer_config(transformer, str(folder / "transformer" / "config.json"))
    for part, key, value in (
        ("vae", "_class_name", "AutoencoderKL"),
        ("text_encoder", "model_type", "clip_text_model"),
        ("text_encoder_2", "model_type", "t5"),
    ):
        found = configs[part].get(key)
        if found != value:
            raise CheckpointError(
                f"{folder / part / 'config.json'} has {key} {found!r}, expected {value!r}: {SOURCE}"
            )
    for what, left, right in (
        (
            "joint_attention_dim",
            transformer.get("joint_attention_dim", 4096),
            configs["text_encoder_2"].get("d_model"),
        ),
        (
            "pooled_projection_dim",
            transformer.get("pooled_projection_dim", 768),
            configs["text_encoder"].get("hidden_size"),
        ),
        ("in_channels", transformer.get("in_channels", 64), PATCH**2 * vae.get("latent_channels", 4)),
    ):
        if left != right:
            raise CheckpointError(
                f"{folder}: the transformer's {what} is {left}, the other parts give {right}: "
                "the sub-folders come from different models"
            )


def _check_vocabulary(folder: Path, text: TextEncoder, configs: Mapping[str, Mapping[str, Any]]) -> None:
    for part, encoder, tokenizer in (
        ("tokenizer", "text_encoder", text.tokenizer),
        ("tokenizer_2", "text_encoder_2", text.tokenizer_2),
    ):
        room, words = configs[encoder].get("vocab_size"), len(tokenizer)
        if room is not None and words > room:
            raise CheckpointError(
                f"{folder / part} has {words} tokens, {encoder} has {room} embeddings: "
                "they belong to different models"
            )
        positions = configs[encoder].get("max_position_embeddings")
        if positions is not None and tokenizer.model_max_length > positions:
            raise CheckpointError(
                f"{folder / part}: model_max_length {tokenizer.model_max_length} exceeds "
                f"the {positions} positions of {encoder}"
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


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder. Raises CheckpointError when it cannot be read."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the library raises whatever its parsers raise
        raise CheckpointError(f"{folder} cannot be read as a tokenizer ({error}): {SOURCE}") from error


def _open_part(folder: Path, name: str, config: Mapping[str, Any], dtype: torch.dtype) -> _Part:
    """A module without memory behind its weights, ready to be compared with the files and filled."""
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    kinds = {
        "transformer": build_transformer,
        "vae": AutoencoderKL.from_config,
        "text_encoder": lambda config: CLIPTextModel(CLIPTextConfig.from_dict(config)),
        "text_encoder_2": lambda config: T5EncoderModel(T5Config.from_dict(config)),
    }
    with init_empty_weights(include_buffers=False):
        module = _construct(kinds[name], folder / name / "config.json", config)
    half = dtype == torch.float16

    def part(stem: str, dtype_of=lambda name: dtype, **names) -> _Part:
        return _Part(folder / name, module, weight_files(folder / name, stem), dtype_of, **names)

    if name == "transformer":
        return part(DIFFUSERS_STEM)
    if name == "vae":
        return part(DIFFUSERS_STEM, lambda name: torch.float32 if half else dtype)
    if name == "text_encoder":
        return part(TRANSFORMERS_STEM, rename=_clip_names(module))
    return part(
        TRANSFORMERS_STEM,
        lambda name: torch.float32 if half and name.endswith(".wo.weight") else dtype,
        ties={EMBEDDING_COPY: EMBEDDING},
        rename=_rename_t5,
    )


def _share_embeddings(t5: nn.Module) -> None:
    # One parameter under two names, so that moving it moves it once.
    t5.encoder.set_input_embeddings(t5.shared)


def _construct(kind: Callable[[dict], nn.Module], path: Path, config: Mapping[str, Any]) -> nn.Module:
    try:
        return kind(dict(config))
    except Exception as error:  # the libraries raise whatever a contradictory config leads them to
        raise CheckpointError(f"{path} describes no model that can be built ({error}): {SOURCE}") from error


def _rename_t5(name: str) -> str | None:
    return None if name == EMBEDDING_COPY else name


def _clip_names(clip: nn.Module) -> Callable[[str], str | None]:
    """Files and library versions differ in the prefix `text_model.`; position ids are computed, not read."""
    prefix = "text_model." if any(name.startswith("text_model.") for name in clip.state_dict()) else ""

    def rename(name: str) -> str | None:
        plain = name.removeprefix("text_model.")
        return None if plain == "embeddings.position_ids" else prefix + plain

    return rename
