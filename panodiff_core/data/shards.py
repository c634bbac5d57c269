"""Folders of numbered arrays with an index, which grow shard by shard and survive being interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..io.atomic import atomic_file, write_text
from ..runtime.errors import InputError
from .folders import make_folder

INDEX = "index.json"


def read_index(folder: Path) -> dict[str, Any] | None:
    """The index of a folder of shards, None if there is none. Raises InputError if it cannot be read."""
    path = Path(folder) / INDEX
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}. Delete the folder and make it again.") from error


def open_index(folder: Path, wanted: dict[str, Any], what: str) -> dict[str, Any]:
    """The index of `folder` for adding shards of `what` with the settings `wanted`; new with 0 shards if need be.

    Raises InputError if the folder holds shards made with other settings, or cannot be written.
    """
    make_folder(folder)
    index = read_index(folder) or {**wanted, "shards": 0}
    different = [f"{k} {index.get(k)} (asked {v})" for k, v in wanted.items() if index.get(k) != v]
    if different:
        raise InputError(f"{folder} holds other {what}: {', '.join(different)}. Choose another folder.")
    return index


def append_shard(folder: Path, index: dict[str, Any], name: str, array: np.ndarray) -> None:
    """Write `array` as `folder/name`, then count it in `index`, in memory and on disk. Raises InputError as above."""
    with atomic_file(folder / name) as file:
        np.save(file, array)
    index["shards"] += 1
    write_text(folder / INDEX, json.dumps(index))
