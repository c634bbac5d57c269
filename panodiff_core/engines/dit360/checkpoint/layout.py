"""Where the parts of a model lie: a diffusers folder, single files, or a mixture of both."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....io.checkpoints.entries import Entry
from ....io.checkpoints.quantised import dequantised
from ....io.checkpoints.safetensors_files import open_safetensors, weight_files
from ....io.json_file import read_json
from ....runtime.errors import CheckpointError, InputError
from .absent import refuse_absent
from .configurations import clip_config, t5_config, transformer_config, vae_config
from .formats import CLIP, T5, TRANSFORMER, VAE, FoundPart, read_parts, text_names
from .sources import where_to_get

SOURCE = (
    "get the diffusers layout of black-forest-labs/FLUX.1-dev from huggingface.co (its licence applies): "
    "model_index.json, scheduler, text_encoder, text_encoder_2, tokenizer, tokenizer_2, transformer and vae"
)
WEIGHTS = (TRANSFORMER, VAE, CLIP, T5)
TOKENIZERS = ("tokenizer", "tokenizer_2")
PARTS = (*WEIGHTS, *TOKENIZERS)
"""What a model consists of, by the names of the diffusers layout."""

_STEMS = {TRANSFORMER: "diffusion_pytorch_model", VAE: "diffusion_pytorch_model", CLIP: "model", T5: "model"}
_LAYOUT_FORMATS = {TRANSFORMER: "diffusers keys", VAE: "diffusers keys", CLIP: "CLIP", T5: "T5"}
_READERS: Mapping[str, Callable[..., dict[str, Any]]] = {
    TRANSFORMER: transformer_config,
    VAE: vae_config,
    CLIP: clip_config,
    T5: t5_config,
}
KINDS = {
    TRANSFORMER: ("_class_name", "FluxTransformer2DModel"),
    VAE: ("_class_name", "AutoencoderKL"),
    CLIP: ("model_type", "clip_text_model"),
    T5: ("model_type", "t5"),
}
"""The field of a part's config.json that says what it is, and what it must say."""


@dataclass(frozen=True)
class PartSource:
    """One part, found but not read: its tensors under the module's names, its configuration, and where it came from.

    `file_bytes` is the size of the single file that holds it, 0 for a folder.
    """

    name: str
    format: str
    where: str
    entries: dict[str, Entry]
    config: dict[str, Any]
    file_bytes: int = 0


@dataclass(frozen=True)
class ModelSource:
    """All parts of one model. `tokenizers` are folders; `folder` is the diffusers folder, if there is one."""

    parts: dict[str, PartSource]
    tokenizers: dict[str, Path]
    folder: Path | None


def find_model(
    model: Path,
    parts: Mapping[str, Path] | None = None,
    configs: Mapping[str, Mapping[str, Any]] | None = None,
) -> ModelSource:
    """Find all parts of a model from headers alone.

    `model` is a diffusers folder or a weight file; `parts` (names of `PARTS` → file or folder) take precedence over
    what it holds. `configs` (part → fields of its config.json) says what shapes cannot. Raises CheckpointError when a
    part is missing, damaged or another model's, InputError for a part that does not exist.
    """
    parts, given = given_parts(parts), configs or {}
    refuse_absent(model, parts)
    sources = {
        name: find_part(path, name, given.get(name)) for name, path in parts.items() if name in WEIGHTS
    }
    tokenizers = {name: path for name, path in parts.items() if name in TOKENIZERS}
    folder = None
    if model.is_file():
        for name, found in read_parts([model]).items():
            if name not in sources:
                sources[name] = _from_file(model, found, given.get(name))
        _refuse_missing(model, [name for name in PARTS if name not in {*sources, *tokenizers}])
    else:
        folder = model
        _check_folder(folder, parts)
        for name in WEIGHTS:
            if name not in sources:
                sources[name] = find_part(folder / name, name, given.get(name))
    return ModelSource(
        {name: sources[name] for name in WEIGHTS},
        {name: tokenizers.get(name) or model / name for name in TOKENIZERS},
        folder,
    )


def given_parts(parts: Mapping[str, str | Path] | None) -> dict[str, Path]:
    """What a person gave for single parts, as paths. Raises InputError for a part that does not exist."""
    unknown = sorted((parts or {}).keys() - set(PARTS))
    if unknown:
        raise InputError(f"unknown part {unknown[0]!r}: there are {', '.join(PARTS)}")
    return {name: Path(path).expanduser() for name, path in (parts or {}).items()}


def find_part(path: Path, name: str, config: Mapping[str, Any] | None = None) -> PartSource:
    """One part from a sub-folder of the diffusers layout, or from a weight file; see `find_model`."""
    if path.is_file():
        found = read_parts([path])
        if name not in found:
            raise CheckpointError(f"{path} holds {' and '.join(found)}, not a {name}")
        return _from_file(path, found[name], config)
    refuse_absent(parts={name: path})
    config = dict(config or read_json(path / "config.json"))
    files = weight_files(path, _STEMS[name])
    entries, metadata = open_safetensors(files)
    entries = dequantised(entries, metadata, str(path))
    if name in (CLIP, T5):
        entries = text_names(entries)
    return PartSource(name, "diffusers folder", str(path), entries, config)


def missing_files(folder: Path) -> list[str]:
    """What a model folder lacks, as paths relative to it; empty when nothing does. Reads no weights."""
    return _lacking(folder, ())


def _lacking(folder: Path, elsewhere: tuple[str, ...]) -> list[str]:
    needed: dict[str, list[tuple[str, ...]]] = {"scheduler": [("scheduler_config.json",)]}
    needed |= {name: [("config.json",), _weight_names(name)] for name in WEIGHTS}
    needed["tokenizer"] = [("tokenizer_config.json",), ("tokenizer.json", "vocab.json")]
    needed["tokenizer_2"] = [("tokenizer_config.json",), ("tokenizer.json", "spiece.model")]
    lacking = [] if (folder / "model_index.json").is_file() else ["model_index.json"]
    for part in sorted(needed.keys() - set(elsewhere)):
        if not (folder / part).is_dir():
            lacking.append(f"{part}/")
            continue
        lacking += [
            f"{part}/{names[0]}"
            for names in needed[part]
            if not any((folder / part / n).is_file() for n in names)
        ]
    return lacking


def _weight_names(part: str) -> tuple[str, ...]:
    return f"{_STEMS[part]}.safetensors", f"{_STEMS[part]}.safetensors.index.json"


def _check_folder(folder: Path, elsewhere: Mapping[str, Path]) -> None:
    lacking = _lacking(folder, tuple(elsewhere))
    if lacking:
        for part in WEIGHTS:
            if part not in elsewhere and (folder / part).is_dir() and any((folder / part).glob("*.bin")):
                weight_files(folder / part, _STEMS[part])  # says why pickled weights do not count as weights
        wanted = dict.fromkeys(where_to_get(path, "diffusers") for path in lacking)
        raise CheckpointError("\n".join([f"{folder} lacks {', '.join(lacking)}.", *wanted]))


def _from_file(path: Path, found: FoundPart, given: Mapping[str, Any] | None) -> PartSource:
    known = {**_neighbour(path, found), **(given or {})}
    config = {**_READERS[found.name](found.entries, known, found.where), **(given or {})}
    return PartSource(found.name, found.format, found.where, found.entries, config, found.file_bytes)


def _neighbour(path: Path, found: FoundPart) -> dict[str, Any]:
    """The config.json beside a weight file, if it is the file's: both from a sub-folder of the diffusers layout.

    It says what weights cannot; where they do, they win (`configurations`).
    """
    stem, beside = _STEMS[found.name], path.parent / "config.json"
    named = re.fullmatch(rf"{stem}(\.\w+)?(-\d+-of-\d+)?(\.\w+)?\.safetensors", path.name)
    if named is None or not found.format.startswith(_LAYOUT_FORMATS[found.name]) or not beside.is_file():
        return {}
    values = read_json(beside)
    key, kind = KINDS[found.name]
    return values if values.get(key) == kind else {}


def _refuse_missing(model: Path, lacking: list[str]) -> None:
    if lacking:
        wanted = dict.fromkeys(
            where_to_get(part, "diffusers" if part in TOKENIZERS else "comfyui") for part in lacking
        )
        first = (
            f"{model.name} is one part of a model, without {', '.join(lacking)}: choose a file for each of them in the "
            f"load node; in Python parts={{{lacking[0]!r}: PATH, …}}, on the command line --part {lacking[0]}=PATH."
        )
        raise CheckpointError("\n".join([first, *wanted]))
