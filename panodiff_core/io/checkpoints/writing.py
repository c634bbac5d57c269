"""Safetensors files written one tensor at a time, so that a model of any size passes through little memory."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from ..atomic import atomic_file, check_writable
from .entries import Entry
from .filling import checked
from .safetensors_files import DTYPES

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_safetensors(
    path: Path,
    entries: Mapping[str, Entry],
    dtype_of: Callable[[str], torch.dtype],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the entries, sorted by name, floating-point ones as `dtype_of(name)` says (safetensors format: an 8-byte
    length, a JSON header, the numbers).

    The file appears when it is complete. Raises InputError when it cannot be written, CheckpointError for NaN or
    infinite values.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    types = {n: dtype_of(n) if e.dtype.is_floating_point else e.dtype for n, e in sorted(entries.items())}
    end = 0
    for name, kind in types.items():
        start, end = end, end + math.prod(entries[name].shape) * kind.itemsize
        header[name] = {
            "dtype": _NAMES[kind],
            "shape": list(entries[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    check_writable(path, need_bytes=len(text) + end)
    with atomic_file(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name, kind in types.items():
            tensor = checked(entries[name], kind).contiguous()
            file.write(tensor.reshape(-1).view(torch.uint8).numpy())
