"""Which model folders the load nodes offer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import folder_paths

from ..panodiff_core.runtime.errors import InputError

BUNDLED = "dit360-small (bundled)"
NO_LORA = "none"
MODEL_FOLDERS = ("diffusers", "diffusion_models")
MAX_DEPTH = 3


def model_choices() -> list[str]:
    """The bundled small model, then every diffusers-layout folder below ComfyUI's model folders, by relative path."""
    return [BUNDLED, *sorted(_found())]


def model_path(choice: str) -> Path | None:
    """The folder of a choice, None for the bundled model. Raises `InputError` if it is gone or was never offered."""
    if choice == BUNDLED:
        return None
    found = _found()
    if choice not in found:
        raise InputError(
            f"the model folder {choice!r} is not there. Put a diffusers folder (with model_index.json) into ComfyUI's "
            f"models/diffusers, then refresh the node definitions (R). Found: {', '.join(found) or 'none'}."
        )
    return found[choice]


def lora_choices() -> list[str]:
    """No LoRA, then ComfyUI's LoRA files."""
    return [NO_LORA, *folder_paths.get_filename_list("loras")]


def lora_path(choice: str) -> Path:
    """The file of a choice other than `NO_LORA`. Raises FileNotFoundError if it is gone."""
    return Path(folder_paths.get_full_path_or_raise("loras", choice))


def _found() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for kind in MODEL_FOLDERS:
        for base in map(Path, folder_paths.get_folder_paths(kind)):
            for folder in _diffusers_folders(base, MAX_DEPTH):
                found.setdefault(folder.relative_to(base).as_posix(), folder)
    return found


def _diffusers_folders(folder: Path, depth: int) -> Iterator[Path]:
    """Folders with a model_index.json, at most `depth` levels down; nothing is looked for inside such a folder."""
    if not folder.is_dir():
        return
    for child in folder.iterdir():
        if not child.is_dir():
            continue
        if (child / "model_index.json").is_file():
            yield child
        elif depth > 1:
            yield from _diffusers_folders(child, depth - 1)
