"""Files of `torch.save`, read as tensors and plain containers only: nothing in them is ever run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...runtime.errors import CheckpointError
from .entries import Entry

_ZIP, _LEGACY = b"PK\x03\x04", b"\x80"


def open_torch(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU; tensors of the zip format stay in the file until they are read.

    Raises CheckpointError for a file that is missing, cut off, not of torch, or that asks for anything but tensors and
    plain values (which could be code).
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error
    if not head.startswith((_ZIP, _LEGACY)):
        raise CheckpointError(
            f"{path} is no file of torch.save: it is empty or of another kind, fetch it again"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=head == _ZIP)
    except MemoryError:
        raise
    except (
        Exception
    ) as error:  # torch raises OSError, EOFError, RuntimeError or pickle's own, by what is damaged
        raise _refusal(path, str(error)) from error


def tensor_entries(state: Mapping[str, Any], where: str) -> dict[str, Entry]:
    """The tensors of a state dict as entries. Raises CheckpointError where a value is no tensor."""
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{where}: {name!r} is no tensor but {type(value).__name__}: not a state dict"
            )
    return {name: tensor_entry(value, f"{where}: tensor {name!r}") for name, value in state.items()}


def tensor_entry(tensor: Tensor, origin: str) -> Entry:
    """A tensor that is in memory, or mapped into it, as an entry."""
    tensor = tensor.detach()
    shape = tuple(tensor.shape)
    return Entry(shape, tensor.dtype, origin, lambda low, high: tensor[low:high] if shape else tensor)


def _refusal(path: Path, reason: str) -> CheckpointError:
    if match := re.search(r"GLOBAL (\S+)", reason):
        return CheckpointError(
            f"{path} asks for {match[1]} when it is opened: it holds more than tensors and could run code. "
            "Get a file with weights alone, in safetensors"
        )
    return CheckpointError(
        f"{path} is not a complete file of torch.save: it is corrupt or its download broke off, fetch it again"
    )
