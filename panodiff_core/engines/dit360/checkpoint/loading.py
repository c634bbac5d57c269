"""Make a DiT360 model ready: read its parts, store the weights as asked, put attention and LoRAs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ....layers.attention import Attention, choose_attention
from ....runtime.placement import Placement, parse_device
from ....runtime.precision import parse_dtype
from ....runtime.storage import TORCHAO, parse_storage, store
from ..model import LoraStack, use_attention
from .absent import refuse_absent
from .components import Components, load_components
from .layout import given_parts
from .lora import LoraChoice, parse_loras, read_lora


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for an engine: its parts, the LoRAs on it, and where it computes."""

    parts: Components
    loras: LoraStack | None
    device: torch.device


def read_model(
    model: Path,
    *,
    parts: Mapping[str, str | Path] | None = None,
    dtype: str | torch.dtype | None = None,
    storage: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    offload: str | Placement | None = None,
    attention: Attention | str | None = None,
    lora: LoraChoice | list[LoraChoice] | None = None,
    lora_mode: str | None = None,
) -> LoadedModel:
    """Everything of `engine.load` but the engine.

    `parts` gives files or folders for single parts, by the names of the diffusers layout: "transformer", "vae",
    "text_encoder" (CLIP-L), "text_encoder_2" (T5-XXL), "tokenizer" and "tokenizer_2". `dtype` is the type of the
    computation, None suits the device; `storage` that of the blocks of the transformer and of T5 between calls: None
    as in the file, "dtype" the same as `dtype`, "float8_e4m3fn", or for the transformer "int8" and "int4" by torchao
    (`runtime.storage`). `attention` is "sdpa",
    "xformers", "flash", "sliced" or a function (q, k, v) (`layers.attention`); None leaves the choice of its kernel to
    torch. `lora` is a path, (path, strength) or a list of them, `lora_mode` "fused" or "side" (None suits the weights).
    Raises CheckpointError or InputError before anything is computed, unusable options before weights are read.
    """
    target = parse_device(device)
    compute = parse_dtype(dtype, target)
    stored = parse_storage(storage, compute, target, offload)
    attend = choose_attention(attention, compute, target)
    chosen, parts = parse_loras(lora), given_parts(parts)
    refuse_absent(model, parts, [Path(path).expanduser() for path, _ in chosen])
    adapters = [(read_lora(path), strength) for path, strength in chosen]
    components = load_components(model, compute, parts, storage=stored)
    if attend is not None:
        use_attention(components.transformer, attend)
    if stored in TORCHAO:
        store(components.transformer, stored, compute, target)
    loras = None
    if adapters:
        loras = LoraStack(components.transformer, *zip(*adapters, strict=True), mode=lora_mode)
    return LoadedModel(components, loras, target)
