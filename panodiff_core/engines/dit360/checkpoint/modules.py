"""A part becomes a module: built without memory, compared with its files, filled one tensor at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ....io.checkpoints.filling import check_shapes, fill
from ....runtime.errors import CheckpointError
from ....runtime.memory import gigabytes
from ....runtime.storage import DTYPE, EIGHT_BIT
from ..model import build_transformer
from .formats import CLIP, GGUF, T5, T5_COPY, T5_EMBEDDING, TRANSFORMER, VAE
from .layout import SOURCE, PartSource
from .precision import packed_weights, tensor_types, time_in_float32

log = logging.getLogger(__name__)

_SHARE = {2: "halves that", 4: "quarters that"}


def build_module(part: PartSource) -> nn.Module:
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


def check_module(module: nn.Module, part: PartSource) -> None:
    """Raise CheckpointError when tensors are missing, left over or of another shape."""
    entries = _named(module, part)
    if part.name == T5 and T5_EMBEDDING in entries:
        entries = {**entries, T5_COPY: entries[T5_EMBEDDING]}
    check_shapes(module, entries, part.where)


def fill_module(module: nn.Module, part: PartSource, dtype: torch.dtype, storage: str | None = DTYPE) -> None:
    """Read the part's tensors into the module, keeping weights of blocks in `storage` (see `runtime.storage`).

    Raises CheckpointError for values that are not finite.
    """
    entries, types = _named(module, part), tensor_types(part.name, dtype)
    packed = packed_weights(part.name, module, part.entries, storage)
    if part.format.endswith(GGUF) and not packed:
        _log_expansion(module, part, types, dtype, storage)
    fill(module, entries, types, {T5_COPY: T5_EMBEDDING} if part.name == T5 else None, packed)
    if part.name == T5:
        # One parameter under two names, so that moving it moves it once.
        module.encoder.set_input_embeddings(module.shared)
    if part.name == TRANSFORMER and dtype.itemsize == 2:
        time_in_float32(module)


def _log_expansion(
    module: nn.Module,
    part: PartSource,
    types: Callable[[str], torch.dtype],
    dtype: torch.dtype,
    storage: str | None,
) -> None:
    memory = sum(t.numel() * types(name).itemsize for name, t in module.state_dict().items())
    log.info(
        "%s: %s in the file, %s as %s%s",
        part.where,
        gigabytes(part.file_bytes),
        gigabytes(memory),
        str(dtype).removeprefix("torch."),
        f"; storage={EIGHT_BIT!r} {_SHARE[dtype.itemsize]}" if storage is None else "",
    )
