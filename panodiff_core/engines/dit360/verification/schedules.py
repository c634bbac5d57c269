"""schedules.json: the shift exponent and the noise levels for many sizes, paddings and step counts."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ....schedulers.flow_matching import GRIDS, FlowMatchScheduler
from ....verification import Row, compare
from .folder import DiT360Vectors

NAME = "schedules"
BOUND = 2e-7


def check(vectors: DiT360Vectors) -> Iterator[Row]:
    """mu by token count, shifted noise levels, and the unshifted grids."""
    rows = vectors.json("schedules.json")
    for row in rows["official"]:
        scheduler = FlowMatchScheduler(vectors.scheduler())
        what = f"{row['width']}x{row['height']}, padding {row['pad_columns']}, {row['steps']} steps"
        tokens = row["n_h"] * (row["n_w"] + 2 * row["pad_columns"])
        yield Row(NAME, f"{what}: tokens", abs(tokens - row["image_tokens"]), 0.0)
        mu = scheduler.mu(tokens)
        yield Row(NAME, f"{what}: mu", abs(mu - row["mu"]), BOUND)
        scheduler.set_timesteps(row["steps"], mu)
        expected = torch.tensor(row["sigmas"], dtype=torch.float64)
        yield compare(NAME, f"{what}: sigmas", scheduler.sigmas, expected, BOUND)
    for row in rows.get("derived_document_schedules", []):
        for grid in (name for name in GRIDS if name in row):
            scheduler = FlowMatchScheduler()
            scheduler.set_timesteps(row["steps"], method=grid)
            expected = torch.tensor(row[grid], dtype=torch.float64)
            what = f"{grid}, {row['steps']} steps"
            yield compare(NAME, what, scheduler.sigmas[: len(expected)], expected, BOUND)
