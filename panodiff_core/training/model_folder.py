"""Reading parts of, and finishing, a small model folder in diffusers layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..engines.dit360.checkpoint import load_part, read_tokenizer
from ..io.atomic import write_text
from ..runtime.errors import CheckpointError

PARTS = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler", "transformer")

MODEL_INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.35.0",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "tokenizer_2": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}

SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "_diffusers_version": "0.35.0",
    "base_image_seq_len": 256,
    "base_shift": 0.5,
    "max_image_seq_len": 4096,
    "max_shift": 1.15,
    "num_train_timesteps": 1000,
    "shift": 3.0,
    "use_dynamic_shifting": True,
}


def load_vae(folder: Path) -> nn.Module:
    """The autoencoder of a model folder in float32, frozen. Raises CheckpointError if it is not there or damaged."""
    return _load(folder, "vae")


def load_text(folder: Path) -> tuple[Any, nn.Module, Any, nn.Module]:
    """(tokenizer, CLIP, tokenizer_2, T5) of a model folder in float32, frozen. Raises CheckpointError likewise."""
    clip, t5 = _load(folder, "text_encoder"), _load(folder, "text_encoder_2")
    return read_tokenizer(Path(folder) / "tokenizer"), clip, read_tokenizer(Path(folder) / "tokenizer_2"), t5


def _load(folder: Path, part: str) -> nn.Module:
    if not (Path(folder) / part).is_dir():
        raise CheckpointError(f"{folder} has no {part}/: train it first (recipes dit360-vae and dit360-text)")
    return load_part(Path(folder), part, torch.float32)


def save_half(model: nn.Module, folder: Path) -> None:
    """Save a diffusers or transformers model in bf16 without touching the one in memory."""
    kind = type(model)
    if hasattr(
        kind, "from_config"
    ):  # diffusers; its private entries tell where on this disk a model came from
        config = {name: value for name, value in model.config.items() if not name.startswith("_")}
        copy = kind.from_config(config).to(torch.bfloat16)
    else:
        copy = kind(model.config).to(torch.bfloat16)
    copy.load_state_dict({name: value.detach() for name, value in model.state_dict().items()})
    copy.save_pretrained(folder, safe_serialization=True)


def finish_folder(folder: Path, source: Path, settings: dict[str, Any], card: str) -> None:
    """Complete `folder` around a transformer already saved in it.

    Copies the other parts from `source` and writes model_index.json, the scheduler's configuration,
    panodiff.json (`settings`) and README.md (`card`).
    """
    for part in PARTS:
        if part not in ("scheduler", "transformer"):
            shutil.copytree(source / part, folder / part, dirs_exist_ok=True)
    (folder / "scheduler").mkdir(exist_ok=True)
    write_text(folder / "scheduler" / "scheduler_config.json", json.dumps(SCHEDULER, indent=2) + "\n")
    write_text(folder / "model_index.json", json.dumps(MODEL_INDEX, indent=2) + "\n")
    write_text(folder / "panodiff.json", json.dumps(settings, indent=2) + "\n")
    write_text(folder / "README.md", card)
