"""Put weights into a module, strictly: nothing missing, nothing left over, no wrong shape, no NaN.

Everything that headers and configs can tell is checked before the first byte of a tensor is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ...runtime.errors import CheckpointError
from ...runtime.float8 import quantised_rows, replace_linear
from .entries import Entry, all_finite

LISTED = 8


def check_shapes(module: nn.Module, entries: Mapping[str, Entry], where: Path | str) -> None:
    """Compare names and shapes with a module's parameters and persistent buffers.

    Raises CheckpointError listing missing and unexpected names, and wrong shapes side by side.
    """
    expected = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    wrong = [
        f"{name}: file {list(entries[name].shape)}, model {list(shape)}"
        for name, shape in sorted(expected.items())
        if name in entries and entries[name].shape != shape
    ]
    refuse_differences(
        f"{where} does not fit {type(module).__name__} as its configuration describes it",
        sorted(expected.keys() - entries.keys()),
        sorted(entries.keys() - expected.keys()),
        wrong,
    )


def refuse_differences(
    what: str, missing: list[str], unexpected: list[str], wrong: list[str] | None = None
) -> None:
    """Raise CheckpointError with these lists, unless all are empty."""
    lines = [
        f"  {title} ({len(names)}): {some(names)}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", wrong or []))
        if names
    ]
    if lines:
        raise CheckpointError(
            f"{what}:\n"
            + "\n".join(lines)
            + "\n  weights and configuration belong to different models, or a file is damaged: fetch both again"
        )


def some(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f", … and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def fill(
    module: nn.Module,
    entries: Mapping[str, Entry],
    dtype_of: Callable[[str], torch.dtype],
    ties: Mapping[str, str] | None = None,
    packed: Collection[str] = (),
) -> None:
    """Put the entries into `module` (which may sit on the meta device), one tensor at a time.

    `dtype_of(name)` is the type of each tensor; `ties` says which names take the tensor of another name; `packed`
    names weights of linear layers that are kept in 8 bits (`runtime.float8`). Names and shapes must have passed
    `check_shapes`. Raises CheckpointError naming file and tensor when a value is NaN or infinite, in the file or after
    the cast.
    """
    state = {}
    for name, entry in entries.items():
        if name not in packed:
            state[name] = checked(entry, dtype_of(name))
            continue
        layer = name.removesuffix(".weight")
        state[name], scale = packed_weight(entry)
        replace_linear(module, layer, state[name], scale)
        if scale is not None:
            state[f"{layer}.scale"] = scale
    for name, source in (ties or {}).items():
        state[name] = state[source]
    module.load_state_dict(state, strict=True, assign=True)
    module.train(False).requires_grad_(False)


def packed_weight(entry: Entry) -> tuple[Tensor, Tensor | None]:
    """A matrix in 8-bit floats and its scale, as `runtime.float8.Float8Linear` takes them: those of the file bit for
    bit, where it has them, otherwise quantised by rows. Raises CheckpointError as `checked` does.
    """
    if not entry.is_float8:
        return quantised_rows(checked(entry, torch.float32))
    numbers, scale = entry.factors or (entry, None)
    weight = checked(numbers, numbers.dtype)
    return weight, None if scale is None else checked(scale, torch.float32).reshape(-1, 1)


def checked(entry: Entry, dtype: torch.dtype) -> Tensor:
    """The tensor in `dtype` (integers keep theirs). Raises CheckpointError naming file and tensor when a value is NaN
    or infinite, in the file or after the cast.
    """
    tensor = entry.read()
    if not tensor.is_floating_point():
        return tensor
    if not entry.is_finite(tensor):
        raise CheckpointError(
            f"{entry.origin} has NaN or infinite values: the file is damaged, fetch it again"
        )
    cast = tensor.to(dtype)
    narrower = torch.finfo(dtype).max < torch.finfo(tensor.dtype).max
    if narrower and not all_finite(cast):
        raise CheckpointError(f"{entry.origin} overflows {dtype}: load with dtype bfloat16 or float32")
    return cast
