"""Checkpoints of a training run: safetensors and JSON only, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..data.folders import clear_write_errors
from ..runtime.errors import CheckpointError

PREFIX = "checkpoint-"


def split_optimizer(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's `state_dict()` → (tensors by flat name, everything else as JSON)."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value.detach().contiguous()
            else:
                plain.setdefault(str(index), {})[key] = value
    return tensors, {"state": plain, "param_groups": state["param_groups"]}


def join_optimizer(tensors: dict[str, Tensor], rest: dict[str, Any]) -> dict[str, Any]:
    """Inverse of `split_optimizer`."""
    state: dict[int, dict[str, Any]] = {int(i): dict(entries) for i, entries in rest["state"].items()}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    return {"state": state, "param_groups": rest["param_groups"]}


def save_checkpoint(
    folder: Path, step: int, tensors: dict[str, dict[str, Tensor]], meta: dict[str, Any], keep: int
) -> Path:
    """Write `folder/checkpoint-<step>` with one safetensors file per entry of `tensors` and `state.json`.

    Everything goes to a folder beside it that is renamed at the end: a killed run never leaves half a checkpoint under
    the final name, and a complete one of the same step stays as it is. Only the newest `keep` checkpoints stay.
    Returns the checkpoint's path. Raises InputError where it cannot be written.
    """
    final = folder / f"{PREFIX}{step:08d}"
    if not _is_complete(final):
        with clear_write_errors(final):
            _write(final, tensors, meta)
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def _write(final: Path, tensors: dict[str, dict[str, Tensor]], meta: dict[str, Any]) -> None:
    work = final.with_name(f".{final.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        for name, group in tensors.items():
            copies = {k: v.detach().cpu().contiguous().clone() for k, v in group.items()}
            save_file(copies, work / f"{name}.safetensors")
        (work / "state.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)  # at most the rest of one that lost its state.json
        os.replace(work, final)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _is_complete(checkpoint: Path) -> bool:
    return (checkpoint / "state.json").is_file()


def list_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints of a run, oldest first."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if p.name.startswith(PREFIX) and _is_complete(p)]
    return sorted(found, key=lambda p: p.name)


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read what `save_checkpoint` wrote. Raises CheckpointError, naming the file, if any part cannot be read."""
    try:
        meta = json.loads((path / "state.json").read_text(encoding="utf-8"))
        tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read: {error}. Delete it to use the one before it."
        ) from error
    return tensors, meta


EXPORTED = "diffusion_pytorch_model.safetensors"
"""The file that diffusers writes a model's weights to."""


def load_weights(path: Path, module: torch.nn.Module) -> None:
    """Fill `module` from earlier weights: a run folder (its newest checkpoint's average), a checkpoint, a file, or an
    exported model folder, whose `transformer/` or `vae/` fills the part of that name.

    Raises CheckpointError with missing, unexpected and differently shaped names if they do not fit.
    """
    if path.is_dir():
        checkpoints = list_checkpoints(path)
        path = checkpoints[-1] if checkpoints else path
        average, plain = path / "ema.safetensors", path / "model.safetensors"
        exported = [path / name / EXPORTED for name, _ in module.named_children()]
        part = next((file for file in exported if file.is_file()), None)
        if part is not None:
            module, path = getattr(module, part.parent.name), part
        else:
            path = average if average.is_file() else plain
    if not path.is_file():
        raise CheckpointError(f"no weights found at {path}")
    try:
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    except RuntimeError as error:  # torch lists missing, unexpected and differently shaped names
        raise CheckpointError(
            f"{path} does not fit the model: {error}\nGive the sizes that its run was given, or other weights."
        ) from error
