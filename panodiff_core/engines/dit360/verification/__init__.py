"""DiT360 against golden vectors: one module per group of files, each yielding rows of measured errors.

`verify(folder)` runs all groups of the dit360 spec's section 11 on any folder of this layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ....runtime.errors import PanoDiffError
from . import (
    editing,
    formats,
    forward,
    host,
    image_to_image,
    losses,
    padding,
    schedules,
    text,
    trajectories,
    vae,
)
from .folder import VectorFolder
from .rows import Row

__all__ = ["GROUPS", "Absent", "Group", "Row", "VectorFolder", "verify"]


@dataclass(frozen=True)
class Group:
    """One line of the acceptance table: what it is called and how its rows are measured."""

    title: str
    check: Callable[[VectorFolder], Iterator[Row]]


@dataclass(frozen=True)
class Absent:
    """A group that could not be measured because the folder lacks a file."""

    title: str
    file: str


GROUPS = (
    Group("formats: every file loads and computes", formats.check),
    Group("one forward, all intermediates", forward.check),
    Group("sigmas and mu", schedules.check),
    Group("trajectories: CFG off and on, LoRA", trajectories.check),
    Group("circular padding and its equivalents", padding.check),
    Group("autoencoder: decode, encode, ring, tiles", vae.check),
    Group("yaw, cube and losses", losses.check),
    Group("inversion, editing, masks", editing.check),
    Group("image to image, inpainting", image_to_image.check),
    Group("text encoders", text.check),
    Group("host behaviour", host.check),
)


def verify(folder: Path) -> Iterator[tuple[str, list[Row] | Absent]]:
    """Measure group after group: (title, rows), or (title, Absent) where a file is missing.

    A file that does not load, or lacks a tensor, gives a failed row that says so. Raises InputError when there is no
    such folder.
    """
    vectors = VectorFolder(folder)
    for group in GROUPS:
        yield group.title, _measure(group, vectors)


def _measure(group: Group, vectors: VectorFolder) -> list[Row] | Absent:
    rows: list[Row] = []
    try:
        rows.extend(group.check(vectors))
    except FileNotFoundError as missing:
        return Absent(group.title, str(missing))
    except PanoDiffError as error:
        rows.append(Row("error", str(error), float("inf"), 0.0))
    except KeyError as missing:
        rows.append(Row("error", f"the vectors lack {missing}", float("inf"), 0.0))
    return rows
