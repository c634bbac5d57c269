"""The golden vectors of DiT360 and modules filled from them, shared by the tests."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file

from panodiff_core.engines.dit360.checkpoint import Components
from panodiff_core.engines.dit360.config import DiT360Config, SamplingOptions
from panodiff_core.engines.dit360.engine import DiT360Engine
from panodiff_core.engines.dit360.model import build_transformer
from panodiff_core.io.checkpoints.filling import check_shapes
from panodiff_core.io.checkpoints.filling import fill as fill_module
from panodiff_core.io.checkpoints.safetensors_files import open_safetensors
from panodiff_core.runtime.placement import Resident
from panodiff_core.schedulers.flow_matching import FlowMatchConfig

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "dit360"


@functools.cache
def tensors(name: str) -> dict[str, torch.Tensor]:
    return load_file(FOLDER / f"{name}.safetensors")


def read(name: str) -> dict:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def fill(module: torch.nn.Module, name: str, rename=lambda name: name, ties=None) -> torch.nn.Module:
    opened, _ = open_safetensors([FOLDER / f"{name}.safetensors"])
    entries = {rename(key): entry for key, entry in opened.items() if rename(key) is not None}
    check_shapes(module, {**entries, **{k: entries[v] for k, v in (ties or {}).items()}}, FOLDER)
    fill_module(module, entries, lambda name: torch.float32, ties)
    return module


@functools.cache
def transformer() -> torch.nn.Module:
    return fill(build_transformer(read("transformer_config.json")), "transformer_diffusers")


@functools.cache
def vae() -> torch.nn.Module:
    from diffusers import AutoencoderKL

    return fill(AutoencoderKL.from_config(read("vae_config.json")), "vae_diffusers")


@functools.cache
def engine() -> DiT360Engine:
    """An engine without tokenizers, on the weights of the vectors and the settings they were made with."""
    text = SimpleNamespace(clip=torch.nn.Identity(), t5=torch.nn.Identity())
    options = SamplingOptions(height=64, width=128, steps=4, guidance=2.8)
    parts = Components(transformer(), vae(), text, FlowMatchConfig(), DiT360Config(defaults=options))
    return DiT360Engine(parts, Resident("cpu"))


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a.double() - b.double()).abs().max().item()
