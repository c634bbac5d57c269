"""Readers of attributes on disk: the weights of a network, and what they need beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..io.atomic import write_bytes, write_text
from ..runtime.errors import CheckpointError, InputError

WEIGHTS, CONFIG = "reader.safetensors", "reader.json"

Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)


def read_reader(
    folder: Path, training: str, configure: Callable[[dict], Config], build: Callable[[Config], Network]
) -> tuple[Network, Config]:
    """The network and the configuration that `write_reader` wrote.

    `configure` makes the configuration of reader.json's content and `build` a network for it. Raises CheckpointError
    when the reader is absent (`training` is the command that trains one), unreadable, not finite or does not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for file in (folder / CONFIG, folder / WEIGHTS):
        if not file.is_file():
            raise CheckpointError(
                f"the attribute reader lacks {file.name}, which belongs at {file}; train one with `python -m "
                f"panodiff_core {training} --export {folder}`"
            )
    try:
        config = configure(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        network = build(config)
        weights = {name: value.float() for name, value in load_file(folder / WEIGHTS).items()}
        network.load_state_dict(weights)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"the attribute reader in {folder} cannot be loaded: {error}") from error
    broken = sorted(name for name, value in weights.items() if not torch.isfinite(value).all())
    if broken:
        raise CheckpointError(
            f"{folder / WEIGHTS} has NaN or infinite values in {', '.join(broken)}: the file is damaged, train or "
            "fetch it again"
        )
    return network, config


def write_reader(folder: Path, network: nn.Module, config: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Write reader.safetensors in `dtype` and reader.json into `folder`, each whole or not at all. Raises InputError."""
    from safetensors.torch import save

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {error}. Choose another one.") from error
    weights = {
        name: value.detach().to(dtype).contiguous().cpu() for name, value in network.state_dict().items()
    }
    write_bytes(folder / WEIGHTS, save(weights))
    write_text(folder / CONFIG, json.dumps(config, indent=1) + "\n")
