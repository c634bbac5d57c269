"""Paths that were given and are not there: all of them named at once, with where such files come from and go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ....runtime.errors import CheckpointError
from .sources import where_to_get, where_to_get_all

_WEIGHTS = (".safetensors", ".sft", ".gguf")


def refuse_absent(
    model: Path | None = None, parts: Mapping[str, Path] | None = None, loras: Iterable[Path] = ()
) -> None:
    """Raise CheckpointError unless everything exists: a model folder or file, parts by the names of the diffusers layout,
    LoRAs.
    """
    missing: dict[str, str] = {}
    if model is not None and not model.exists():
        single = model.suffix.lower() in _WEIGHTS
        missing[f"model folder or file {model}"] = (
            where_to_get("transformer", "comfyui") if single else where_to_get_all()
        )
    for name, path in (parts or {}).items():
        if not path.exists():
            single = path.suffix.lower() in _WEIGHTS and not name.startswith("tokenizer")
            layout = "comfyui" if single else "diffusers"
            missing[f"{name} at {path}"] = where_to_get(name, layout)
    missing |= {f"LoRA {path}": where_to_get("lora") for path in loras if not path.exists()}
    if missing:
        told = (
            f"there is no {', no '.join(missing)}. Any path may be given; where such files come from and go:"
        )
        raise CheckpointError("\n".join([told, *dict.fromkeys(missing.values())]))
