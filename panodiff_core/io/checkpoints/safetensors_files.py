"""Safetensors files: which ones a folder holds, and their tensors as entries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...runtime.errors import CheckpointError
from ..json_file import read_json
from .entries import Entry
from .glance import CAN_FILL, Glance

PICKLES = ("*.bin", "*.pt", "*.ckpt", "*.pth")
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def weight_files(folder: Path, stem: str) -> list[Path]:
    """The safetensors files of a library-layout folder: `stem`.safetensors, or the shards its index names.

    Raises CheckpointError naming what is missing; pickled weights are refused.
    """
    single = folder / f"{stem}.safetensors"
    index = folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        files = [folder / name for name in _shards(index)]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise CheckpointError(
                f"{folder} lacks {', '.join(missing)}, which {index.name} names: download them"
            )
        return files
    pickled = sorted(p.name for pattern in PICKLES for p in folder.glob(pattern))
    hint = f"; {', '.join(pickled)} are pickles, only safetensors are read" if pickled else ""
    raise CheckpointError(f"{folder} lacks {single.name} (or {index.name} with its shards){hint}")


def _shards(index: Path) -> list[str]:
    """The file names in an index. Raises CheckpointError for what is no plain name: it could point anywhere."""
    mapping = read_json(index).get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise CheckpointError(f"{index} has no weight_map: download it again")
    for name in mapping.values():
        if not isinstance(name, str) or name in ("", ".", "..") or any(sign in name for sign in "/\\:\0"):
            raise CheckpointError(f"{index} names {name!r}, which is no plain file name: download it again")
    return sorted(set(mapping.values()))


def open_file(file: Path) -> Any:
    """`safetensors.safe_open` on the CPU, with a clear CheckpointError for a file that is not safetensors or
    cut off.
    """
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(str(file), framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} is not a complete safetensors file ({error}): "
            "it is corrupt or its download broke off, fetch it again"
        ) from error


def open_safetensors(files: list[Path]) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors of all `files`, from their headers alone, and the headers' metadata.

    Raises CheckpointError for a truncated or corrupt file, or for a name that two files give.
    """
    entries: dict[str, Entry] = {}
    metadata: dict[str, str] = {}
    for file in files:
        handle = open_file(file)
        glance = Glance(file) if CAN_FILL else None
        metadata.update(handle.metadata() or {})
        for name in handle.keys():  # noqa: SIM118 - not a dict
            if name in entries:
                raise CheckpointError(
                    f"{file} gives {name!r} a second time: remove the file that is left over"
                )
            entries[name] = _entry(file, handle, name, glance)
    return entries, metadata


def _entry(file: Path, handle: Any, name: str, glance: Glance | None) -> Entry:
    view = handle.get_slice(name)
    shape, kind = tuple(view.get_shape()), view.get_dtype()
    if kind not in DTYPES:
        raise CheckpointError(f"{file}: tensor {name!r} has element type {kind}, which is not read")

    def read_rows(low: int, high: int) -> Tensor:
        whole = not shape or (low, high) == (0, shape[0])
        return handle.get_tensor(name) if whole else handle.get_slice(name)[low:high]

    dtype = DTYPES[kind]
    finite_rows = glance.finite(name, shape, dtype) if glance and dtype.is_floating_point else None
    return Entry(shape, dtype, f"{file}: tensor {name!r}", read_rows, finite_rows=finite_rows)
