"""Make a STAR model ready: find and check its files, read its parts, store the weights as asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ...layers.attention import Attention, choose_attention
from ...runtime.placement import Placement, parse_device
from ...runtime.precision import parse_dtype
from ...runtime.storage import parse_storage, store
from .checkpoint import Components, check_model, find_model, load_components
from .text import TextTower, load_text_tower


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for an engine: its parts, its text tower, and where it computes."""

    parts: Components
    text: TextTower
    device: torch.device


def read_model(
    model: Path,
    *,
    vqvae: str | Path | None = None,
    text: str | Path | None = None,
    preset: str | None = None,
    dtype: str | torch.dtype | None = None,
    storage: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    offload: str | Placement | None = None,
    attention: Attention | str | None = None,
) -> LoadedModel:
    """Everything of `engine.load` but the engine.

    Beside a weight file, `vqvae` is that of the autoencoder, where the file holds none, and `preset` names the published
    model (`presets`), where the file does not tell. `text` is a folder with text_encoder/ and tokenizer/, by default the
    model's, or the one that a weight file lies in. `dtype` is the type of generator and sampler, None suits the device;
    text encoder and autoencoder compute in float32, as the reference does. `storage` is how the weights of the blocks
    are kept between calls (`runtime.storage`), None as they compute. `attention`: see `layers.attention`.
    Raises CheckpointError or InputError before anything is computed, unusable options before weights are read.
    """
    target = parse_device(device)
    compute = parse_dtype(dtype, target)
    stored = parse_storage(storage, compute, target, offload)
    attend = choose_attention(attention, compute, target)
    source = find_model(model, None if vqvae is None else Path(vqvae).expanduser(), preset)
    check_model(source)
    folder = model if model.is_dir() else model.parent
    if text is not None:
        folder = Path(text).expanduser()
    tower = load_text_tower(folder, source.config.generator.text_width)
    parts = load_components(source, compute, attention=attend)
    for network in (parts.generator, parts.sampler):
        if stored is not None and network is not None:
            store(network, stored, compute, target)
    return LoadedModel(parts, tower, target)
