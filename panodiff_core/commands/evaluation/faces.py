"""Figures of cubes: their twelve edges, the outer pixels of their faces, and what is read on each face."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor

from ...geometry.cubemap import FACES
from ...metrics.cube import cube_edge_ratios, gradient_energy
from ...metrics.ring import DISTANCES
from .attributes import LIGHT, score

BORDER = 4
"""Outer pixels of a face in which the energy of gradients is measured."""
PART = 16

Readings = Sequence[Sequence[Mapping[str, str]]]
"""For every cube six readings, F R B L U D: attribute → value."""


def edge_figures(cubes: Tensor) -> dict[str, dict[str, float]]:
    """Edge ratios of cubes [N,6,3,S,S], mean and 95th percentile over all edges of all cubes, and the mean energy of
    gradients in the outer `BORDER` pixels of the faces and inside.
    """
    ratios: dict[int, list[Tensor]] = {distance: [] for distance in DISTANCES}
    energies = []
    for some in cubes.split(PART):
        found, _ = cube_edge_ratios(some)
        for distance in DISTANCES:
            ratios[distance].append(found[distance].flatten())
        energies.append(torch.stack(gradient_energy(some, BORDER)).flatten(1))
    figures = {}
    for distance in DISTANCES:
        values = torch.cat(ratios[distance]).double()
        figures[f"ratio_{distance}"] = {"mean": float(values.mean()), "p95": float(values.quantile(0.95))}
    border, inside = torch.cat(energies, dim=1).double().mean(dim=1).tolist()
    return {**figures, "gradient": {"border": border, "inside": inside}}


def excess(figures: Mapping, worlds: Mapping, distance: int, statistic: str = "mean") -> float:
    """By how much an edge ratio of `edge_figures` is above that of the worlds."""
    return figures[f"ratio_{distance}"][statistic] - worlds[f"ratio_{distance}"][statistic]


def excess_left(on: Mapping, off: Sequence[Mapping], worlds: Mapping, distance: int) -> float:
    """What is left of the excess of the best of `off`; NaN where that has none, and nothing could be taken away."""
    best = min(excess(each, worlds, distance) for each in off)
    return excess(on, worlds, distance) / best if best > 0.0 else math.nan


def face_scores(
    stated: Sequence[Mapping[str, str]], readings: Readings, counts: Callable[[int, str], bool]
) -> dict[str, object]:
    """How well faces show what is `stated` of each cube's scene (attribute → value, the place among them).

    `counts` (face, attribute) says whether an attribute can be told from a face; what cannot is not asked. Nor is the
    light, whose direction is that of the scene: one face alone does not tell it. Per face the scores of
    `attributes.score`; `accuracy` and `mean` (chance-corrected) are means over the faces, NaN where nothing counts.
    """
    faces: dict[str, dict] = {}
    questions = 0
    for face, letter in enumerate(FACES):
        asked = [
            (name, said["place"], value, seen[face][name])
            for said, seen in zip(stated, readings, strict=True)
            for name, value in said.items()
            if name != LIGHT and counts(face, name)
        ]
        if asked:
            faces[letter] = score(asked)
            questions += len(asked)
    over = {
        key: fmean(each[key] for each in faces.values()) if faces else math.nan
        for key in ("accuracy", "mean")
    }
    return {"faces": faces, "questions": questions, **over}
