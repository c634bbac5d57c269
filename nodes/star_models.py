"""Which models, autoencoders and text encoders Load STAR offers."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ..panodiff_core.engines.star.sources import where_to_get
from ..panodiff_core.runtime.errors import InputError
from .models import CHECKPOINT_PREFIX, MODEL_FOLDERS, folders_below

BUNDLED = "star-small (bundled)"
FROM_MODEL = "from the model"
"""The choice for a part that comes with the model: in its file, in its folder, or beside its file."""
SUFFIXES = (".safetensors", ".pth", ".pt")
"""Files of torch.save are read without running code in them."""
TEXT_FOLDERS = (*MODEL_FOLDERS, "text_encoders")


def star_choices() -> list[str]:
    """The bundled small model, model folders of ours, then weight files of diffusion_models, then of checkpoints with
    "checkpoints/" before.
    """
    files = [*_files("diffusion_models"), *(CHECKPOINT_PREFIX + name for name in _files("checkpoints"))]
    return [BUNDLED, *sorted(_star_folders()), *files]


def star_path(choice: str) -> Path | None:
    """The folder or file of a choice, None for the bundled model. Raises InputError, with where to get one, if it is
    gone.
    """
    if choice == BUNDLED:
        return None
    folder = _star_folders().get(choice)
    if folder is not None:
        return folder
    below = choice.removeprefix(CHECKPOINT_PREFIX)
    if below != choice and choice not in _files("diffusion_models"):
        return _file("checkpoints", below, "model")
    return _file("diffusion_models", choice, "model")


def vqvae_choices() -> list[str]:
    """The model's own, then ComfyUI's VAE files."""
    return [FROM_MODEL, *_files("vae")]


def vqvae_path(choice: str) -> Path | None:
    """The file of a choice, None for the model's own. Raises InputError, with where to get one, if it is gone."""
    return None if choice == FROM_MODEL else _file("vae", choice, "vqvae")


def text_choices() -> list[str]:
    """The model's own, then folders that hold text_encoder/ and tokenizer/."""
    return [FROM_MODEL, *sorted(_text_folders())]


def text_path(choice: str) -> Path | None:
    """The folder of a choice, None for the model's own. Raises InputError, with where to get one, if it is gone."""
    if choice == FROM_MODEL:
        return None
    folder = _text_folders().get(choice)
    if folder is None:
        raise InputError(
            f"text: there is no folder {choice!r} with text_encoder/ and tokenizer/ in "
            f"{', '.join(f'models/{name}' for name in TEXT_FOLDERS)}. {where_to_get()}"
        )
    return folder


def _file(kind: str, name: str, option: str) -> Path:
    found = folder_paths.get_full_path(kind, name)
    if found is None:
        raise InputError(f"{option}: there is no file {name!r} in models/{kind}. {where_to_get()}")
    return Path(found)


def _files(kind: str) -> list[str]:
    return [name for name in folder_paths.get_filename_list(kind) if name.lower().endswith(SUFFIXES)]


def _star_folders() -> dict[str, Path]:
    return folders_below(MODEL_FOLDERS, lambda folder: any(folder.glob("star.safetensors*")))


def _text_folders() -> dict[str, Path]:
    return folders_below(
        TEXT_FOLDERS, lambda folder: all((folder / part).is_dir() for part in ("text_encoder", "tokenizer"))
    )
