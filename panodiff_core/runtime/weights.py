"""Read safetensors into a module, strictly: nothing missing, nothing left over, no wrong shape, no NaN.

Everything that headers and configs can tell is checked before the first byte of a tensor is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from .errors import CheckpointError

Rename = Callable[[str], str | None]
"""Name in the file → name in the module, or None for a tensor that the module computes itself."""

LISTED = 8


def weight_files(folder: Path, stem: str) -> list[Path]:
    """The safetensors files of a library-layout folder: `stem`.safetensors, or the shards its index names.

    Raises CheckpointError naming what is missing; pickled weights are refused.
    """
    single = folder / f"{stem}.safetensors"
    index = folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        mapping = read_json(index).get("weight_map")
        if not isinstance(mapping, dict) or not mapping:
            raise CheckpointError(f"{index} has no weight_map: download it again")
        files = [folder / name for name in sorted(set(mapping.values()))]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise CheckpointError(
                f"{folder} lacks {', '.join(missing)}, which {index.name} names: download them"
            )
        return files
    pickled = sorted(p.name for pattern in ("*.bin", "*.pt", "*.ckpt", "*.pth") for p in folder.glob(pattern))
    hint = f"; {', '.join(pickled)} are pickles, only safetensors are read" if pickled else ""
    raise CheckpointError(f"{folder} lacks {single.name} (or {index.name} with its shards){hint}")


def read_json(path: Path) -> dict:
    """A JSON object from disk. Raises CheckpointError when it is missing, not JSON, or not an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}): download it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, found {type(value).__name__}")
    return value


def read_shapes(files: list[Path], rename: Rename = lambda name: name) -> dict[str, tuple[int, ...]]:
    """Names (after `rename`) and shapes of all tensors, from the headers alone.

    Raises CheckpointError for a truncated or corrupt file, or for a name that two files give.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        with open_weights(file) as handle:
            for name in handle.keys():  # noqa: SIM118 - not a dict
                target = rename(name)
                if target is None:
                    continue
                if target in shapes:
                    raise CheckpointError(
                        f"{file} gives {target!r} a second time: remove the file that is left over"
                    )
                shapes[target] = tuple(handle.get_slice(name).get_shape())
    return shapes


def open_weights(file: Path):
    """`safetensors.safe_open` on the CPU, with a clear CheckpointError for a file that is not safetensors or
    cut off.
    """
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(str(file), framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} is not a complete safetensors file ({error}): "
            "it is corrupt or its download broke off, fetch it again"
        ) from error


def check_shapes(module: nn.Module, shapes: Mapping[str, tuple[int, ...]], where: Path | str) -> None:
    """Compare a file's names and shapes with a module's parameters and persistent buffers.

    Raises CheckpointError listing missing and unexpected names, and wrong shapes side by side.
    """
    expected = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    missing = sorted(expected.keys() - shapes.keys())
    unexpected = sorted(shapes.keys() - expected.keys())
    wrong = [
        f"{name}: file {list(shapes[name])}, model {list(shape)}"
        for name, shape in sorted(expected.items())
        if name in shapes and shapes[name] != shape
    ]
    lines = [
        f"  {title} ({len(names)}): {_some(names)}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", wrong))
        if names
    ]
    if lines:
        raise CheckpointError(
            f"{where} does not fit {type(module).__name__} as its config.json describes it:\n"
            + "\n".join(lines)
            + "\n  weights and config belong to different models, or a file is damaged: fetch both again"
        )


def _some(names: list[str]) -> str:
    more = f", … and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def load_weights(
    module: nn.Module,
    files: list[Path],
    dtype_of: Callable[[str], torch.dtype],
    rename: Rename = lambda name: name,
    ties: Mapping[str, str] | None = None,
) -> None:
    """Put the tensors of `files` into `module` (which may sit on the meta device), one tensor at a time.

    `dtype_of(name)` is the storage type of each tensor; `ties` says which names take the tensor of another
    name. Names and shapes must have passed `check_shapes`. Raises CheckpointError naming file and tensor when
    a value is NaN or infinite, in the file or after the cast.
    """
    state: dict[str, Tensor] = {}
    for file in files:
        with open_weights(file) as handle:
            for name in handle.keys():  # noqa: SIM118
                target = rename(name)
                if target is not None:
                    state[target] = _checked(handle.get_tensor(name), dtype_of(target), file, name)
    for name, source in (ties or {}).items():
        state[name] = state[source]
    module.load_state_dict(state, strict=True, assign=True)
    module.train(False).requires_grad_(False)


def _checked(tensor: Tensor, dtype: torch.dtype, file: Path, name: str) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    if not _finite(tensor):
        raise CheckpointError(
            f"{file}: tensor {name!r} has NaN or infinite values: the file is damaged, fetch it again"
        )
    cast = tensor.to(dtype)
    if cast is not tensor and not _finite(cast):
        raise CheckpointError(
            f"{file}: tensor {name!r} overflows {dtype}: load with dtype bfloat16 or float32"
        )
    return cast


def _finite(tensor: Tensor) -> bool:
    if tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)  # one pass, nothing allocated; NaN wins in both
    return math.isfinite(low.item()) and math.isfinite(high.item())
