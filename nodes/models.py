"""Which model folders and files the load nodes offer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import comfy.utils
import folder_paths

from ..panodiff_core.runtime.errors import InputError

BUNDLED = "dit360-small (bundled)"
NO_LORA = "none"
MODEL_FOLDERS = ("diffusers", "diffusion_models")
MAX_DEPTH = 3

FROM_CHECKPOINT = "from the checkpoint"
"""The choice for a part that the transformer's file holds, too."""
CHECKPOINT_PREFIX = "checkpoints/"
SUFFIXES = (".safetensors", ".sft")
"""What the core reads of what ComfyUI lists; the others are pickles."""
TOKENIZERS = {"tokenizer": "sd1_tokenizer", "tokenizer_2": "text_encoders/t5_tokenizer"}
"""Those of CLIP-L and T5 among ComfyUI's own files, below its package `comfy`."""


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


def transformer_choices() -> list[str]:
    """Weight files of ComfyUI's diffusion_models, then those of its checkpoints with "checkpoints/" before the name."""
    models = [*_weight_files("diffusion_models"), *_gguf_files()]
    return [*models, *(CHECKPOINT_PREFIX + name for name in _weight_files("checkpoints"))]


def transformer_path(choice: str) -> Path:
    """The file of a choice. Raises FileNotFoundError if it is gone."""
    checkpoint = choice.removeprefix(CHECKPOINT_PREFIX)
    if checkpoint != choice and choice not in _weight_files("diffusion_models"):
        return Path(folder_paths.get_full_path_or_raise("checkpoints", checkpoint))
    return Path(folder_paths.get_full_path_or_raise("diffusion_models", choice))


def part_choices(kind: str) -> list[str]:
    """The checkpoint's own part, then the weight files of one of ComfyUI's folders, "vae" or "text_encoders"."""
    return [FROM_CHECKPOINT, *_weight_files(kind)]


def part_path(kind: str, choice: str) -> Path | None:
    """The file of a choice, None for the checkpoint's own part. Raises FileNotFoundError if it is gone."""
    if choice == FROM_CHECKPOINT:
        return None
    return Path(folder_paths.get_full_path_or_raise(kind, choice))


def tokenizer_folders() -> dict[str, Path]:
    """The tokenizers that every ComfyUI has, by the names of the diffusers layout."""
    package = Path(comfy.utils.__file__).parent
    return {part: package / folder for part, folder in TOKENIZERS.items()}


def _weight_files(kind: str) -> list[str]:
    return [name for name in folder_paths.get_filename_list(kind) if name.lower().endswith(SUFFIXES)]


def _gguf_files() -> list[str]:
    """GGUF files of diffusion_models, which ComfyUI does not list itself."""
    found: set[str] = set()
    for base in folder_paths.get_folder_paths("diffusion_models"):
        names, _ = folder_paths.recursive_search(base, excluded_dir_names=[".git"])
        found.update(name for name in names if name.lower().endswith(".gguf"))
    return sorted(found)


def folders_below(kinds: Iterable[str], holds: Callable[[Path], bool]) -> dict[str, Path]:
    """Folders below ComfyUI's model folders of these kinds for which `holds`, by relative path.

    They are looked for at most `MAX_DEPTH` levels down, and not inside of one another; the first of a name counts.
    """
    found: dict[str, Path] = {}
    for kind in kinds:
        for base in map(Path, folder_paths.get_folder_paths(kind)):
            for folder in _below(base, holds, MAX_DEPTH):
                found.setdefault(folder.relative_to(base).as_posix(), folder)
    return found


def _found() -> dict[str, Path]:
    return folders_below(MODEL_FOLDERS, lambda folder: (folder / "model_index.json").is_file())


def _below(folder: Path, holds: Callable[[Path], bool], depth: int) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for child in folder.iterdir():
        if not child.is_dir():
            continue
        if holds(child):
            yield child
        elif depth > 1:
            yield from _below(child, holds, depth - 1)
