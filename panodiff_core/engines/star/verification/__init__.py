"""STAR and FaceRay against golden vectors: one module per part of the model, each yielding rows of measured errors.

`verify(folder)` runs all groups on any folder of this layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ....verification import Group, Outcome, measure
from . import faceray, faceray_geometry, generator, sampling, vqvae
from .folder import StarVectors

__all__ = ["GROUPS", "StarVectors", "verify"]

GROUPS: tuple[Group, ...] = (
    *vqvae.GROUPS,
    *generator.GROUPS,
    *sampling.GROUPS,
    *faceray_geometry.GROUPS,
    *faceray.GROUPS,
)


def verify(folder: Path) -> Iterator[tuple[str, Outcome]]:
    """Measure group after group: (title, rows), or (title, Absent) where a file is missing.

    A file that does not load, or lacks a tensor, gives a failed row that says so. Raises InputError when there is no
    such folder.
    """
    return measure(GROUPS, StarVectors(folder))
