"""DiT360 against golden vectors: one module per group of files, each yielding rows of measured errors.

`verify(folder)` runs all groups of the dit360 spec's section 11 on any folder of this layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ....verification import Group, Outcome, measure
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
from .folder import DiT360Vectors

__all__ = ["GROUPS", "DiT360Vectors", "verify"]


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


def verify(folder: Path) -> Iterator[tuple[str, Outcome]]:
    """Measure group after group: (title, rows), or (title, Absent) where a file is missing.

    A file that does not load, or lacks a tensor, gives a failed row that says so. Raises InputError when there is no
    such folder.
    """
    return measure(GROUPS, DiT360Vectors(folder))
