"""The golden vectors of this checkout, and copies of them that are wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from panodiff_core.engines.dit360.verification import DiT360Vectors
from panodiff_core.verification import Row
from tests.core import dit360_vectors


class Folder(DiT360Vectors):
    """The vectors; `changed` tensors replace those of one name in every file."""

    def __init__(self, changed: Mapping[str, torch.Tensor] | None = None) -> None:
        super().__init__(dit360_vectors.FOLDER)
        self.changed = dict(changed or {})

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        return {key: self.changed.get(key, value) for key, value in super().tensors(name).items()}


def results(name: str) -> set[str]:
    """Every tensor of a file that is not an input."""
    return {key for key in dit360_vectors.tensors(name) if not key.startswith("in.")}


def unmet(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if not row.met]
