"""The golden vectors of STAR in this checkout, copies of them that are wrong, and files made out of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from panodiff_core.engines.star.verification import StarVectors

FOLDER = Path(__file__).resolve().parent.parent / "vectors" / "star"
PATCH_NUMS = (1, 2, 3, 4, 6, 8)


class Folder(StarVectors):
    """The vectors; `changed` tensors replace those of one name in every file of results."""

    def __init__(self, changed: Mapping[str, torch.Tensor] | None = None) -> None:
        super().__init__(FOLDER)
        self.changed = dict(changed or {})

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        return {key: self.changed.get(key, value) for key, value in super().tensors(name).items()}


def weights(file: str = "weights") -> dict[str, torch.Tensor]:
    """All tensors of a file of weights, with the prefixes that they have there."""
    return load_file(FOLDER / f"{file}.safetensors")


def part(name: str, file: str = "weights") -> dict[str, torch.Tensor]:
    """The tensors of "var_wo_ddp" or "vae_local" under the names of that part."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): t for key, t in weights(file).items() if key.startswith(prefix)}
