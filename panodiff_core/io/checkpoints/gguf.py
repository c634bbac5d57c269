"""GGUF files: header, and tensors read by rows (GGUF specification, versions 2 and 3, little-endian)."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ...runtime.errors import CheckpointError
from .entries import Entry
from .gguf_blocks import BLOCK_TYPES, BlockType

MAGIC = b"GGUF"
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONGEST = 1 << 24


@dataclass(frozen=True)
class GGUFFile:
    """The tensors of a GGUF file, and its key-value pairs (`general.architecture` among them)."""

    entries: dict[str, Entry]
    fields: dict[str, Any]


def is_gguf(path: Path) -> bool:
    """Whether the file starts with GGUF's magic bytes. Raises CheckpointError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(4) == MAGIC
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error


def open_gguf(path: Path) -> GGUFFile:
    """Read the header; tensors are read later, from the mapped file.

    Raises CheckpointError for a file that is cut off, of another version, or with a block type that is not read.
    """
    try:
        with path.open("rb") as file:
            fields, infos, start = _read_header(path, file)
    except (struct.error, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise _damaged(path, str(error)) from error
    data = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)
    mapped = torch.tensor([], dtype=torch.uint8).set_(data)
    return GGUFFile({name: _entry(path, mapped, name, start, *info) for name, info in infos.items()}, fields)


def _read_header(path: Path, file: BinaryIO) -> tuple[dict[str, Any], dict[str, tuple], int]:
    if file.read(4) != MAGIC:
        raise CheckpointError(f"{path} is not a GGUF file")
    (version,) = _unpack(file, "<I")
    if version not in (2, 3):
        raise CheckpointError(
            f"{path} is GGUF version {version}, versions 2 and 3 are read: get a newer file"
        )
    tensors, pairs = _unpack(file, "<QQ")
    fields = {}
    for _ in range(pairs):
        name = _text(file)
        fields[name] = _value(file, _unpack(file, "<I")[0])
    infos = {}
    for _ in range(tensors):
        name = _text(file)
        axes = _unpack(file, f"<{_unpack(file, '<I')[0]}Q")
        infos[name] = (tuple(reversed(axes)), *_unpack(file, "<IQ"))  # GGUF names the fastest axis first
    alignment = fields.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1:
        raise _damaged(path, f"general.alignment is {alignment!r}")
    return fields, infos, math.ceil(file.tell() / alignment) * alignment


def _unpack(file: BinaryIO, form: str) -> tuple:
    size = struct.calcsize(form)
    if size > _LONGEST:
        raise struct.error(f"a header field of {size} bytes")
    return struct.unpack(form, file.read(size))


def _text(file: BinaryIO) -> str:
    (length,) = _unpack(file, "<Q")
    return _unpack(file, f"<{length}s")[0].decode("utf-8")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind in _NUMBERS:
        return _unpack(file, "<" + _NUMBERS[kind])[0]
    if kind == _STRING:
        return _text(file)
    if kind == _ARRAY:
        inner, count = _unpack(file, "<IQ")
        return [_value(file, inner) for _ in range(count)]
    raise struct.error(f"unknown value type {kind}")


def _entry(path: Path, mapped: Tensor, name: str, start: int, shape: tuple, kind: int, offset: int) -> Entry:
    block = BLOCK_TYPES.get(kind)
    if block is None:
        known = ", ".join(b.name for b in BLOCK_TYPES.values())
        raise CheckpointError(
            f"{path}: tensor {name!r} has ggml type {kind}, which is not read: get a file with {known}"
        )
    if not shape or shape[-1] % block.elements:
        raise _damaged(path, f"tensor {name!r} of shape {list(shape)} in blocks of {block.elements}")
    row_bytes = math.prod(shape[1:]) // block.elements * block.bytes if len(shape) > 1 else 0
    total = math.prod(shape) // block.elements * block.bytes
    first = start + offset
    if first + total > len(mapped):
        raise _damaged(path, f"tensor {name!r} ends {first + total - len(mapped)} bytes after the file")

    def read_rows(low: int, high: int) -> Tensor:
        if len(shape) == 1:
            return _decode(mapped[first : first + total], block, shape)[low:high]
        part = mapped[first + low * row_bytes : first + high * row_bytes]
        return _decode(part, block, (high - low, *shape[1:]))

    return Entry(shape, torch.float32, f"{path}: tensor {name!r}", read_rows)


def _decode(raw: Tensor, block: BlockType, shape: tuple[int, ...]) -> Tensor:
    return block.decode(raw.view(-1, block.bytes)).reshape(shape)


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a complete GGUF file ({why}): it is corrupt or its download broke off, fetch it again"
    )
