"""The viewer's modes in 20 random poses each: what the browser draws, the core renders and Node computes.

    python -m tests.web.view_vectors     writes tests/vectors/viewer/views.json

Each case has a window, a pose and, at some of its pixels, what the core finds there in float64: the direction
and how much of the pixel is covered. The tests compute those afresh, so the file cannot go stale unnoticed.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from panodiff_core.geometry import VIEW_MODES, View, view_coverage, view_directions
from panodiff_core.geometry.projections import BENDS, CELLS

PATH = Path(__file__).resolve().parents[1] / "vectors" / "viewer" / "views.json"
POSES = 20
POINTS = 3
# Even heights: in an odd one the middle row of a whole 3 x 2 cubemap lies exactly on its two rows' border.
WINDOWS = ((160, 96), (96, 160), (121, 120), (150, 102), (97, 128))
# What the viewer allows in about square windows; wider than it allows costs nothing here.
FOV_RANGES = {
    "perspective": (10, 120), "flat": (10, 400), "seam": (5, 400), "zenith": (10, 120), "nadir": (10, 120),
    "planet": (40, 330), "fisheye": (30, 320), "pannini": (30, 220), "cubemap_cross": (60, 450),
    "cubemap_3x2": (60, 350),
}  # fmt: skip


def case(mode: str, draw: random.Random) -> dict:
    """One window and pose; the pitch of a planet is near a pole in every other case."""
    width, height = draw.choice(WINDOWS)
    pitch = draw.uniform(-90, 90)
    if mode == "planet" and draw.random() < 0.5:
        pitch = draw.choice((-90.0, 90.0))
    return {
        "mode": mode, "width": width, "height": height,
        "fov_deg": round(draw.uniform(*FOV_RANGES[mode]), 3), "yaw_deg": round(draw.uniform(-180, 180), 3),
        "pitch_deg": round(pitch, 3), "roll_deg": round(draw.choice((0.0, draw.uniform(-180, 180))), 3),
    }  # fmt: skip


def view_of(case: dict) -> View:
    return View(**{name: value for name, value in case.items() if name != "points"})


def points(view: View, draw: random.Random) -> list[dict]:
    """What some pixels see; directions mean nothing where nothing is covered and are left out there."""
    directions, covered = view_directions(view), view_coverage(view)
    found = []
    for _ in range(POINTS):
        column, row = draw.randrange(view.width), draw.randrange(view.height)
        share = covered[row, column].item()
        direction = [round(value, 12) for value in directions[row, column].tolist()]
        found.append(
            {"pixel": [column, row], "covered": round(share, 9), "direction": direction if share else None}
        )
    return found


def vectors() -> dict:
    cases = []
    for mode in VIEW_MODES:
        draw = random.Random(f"viewer {mode}")
        made = [case(mode, draw) for _ in range(POSES)]
        cases += [{**one, "points": points(view_of(one), draw)} for one in made]
    modes = {
        name: {
            "projection": mode.projection, "yaw_deg": mode.yaw_deg, "pitch_deg": mode.pitch_deg,
            "bend": BENDS.get(mode.projection), "cells": CELLS.get(mode.projection),
        }
        for name, mode in VIEW_MODES.items()
    }  # fmt: skip
    return {"modes": modes, "cases": cases}


if __name__ == "__main__":
    made = vectors()
    lines = ",\n".join(json.dumps(one) for one in made["cases"])
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(f'{{"modes": {json.dumps(made["modes"])},\n"cases": [\n{lines}\n]}}\n', encoding="utf-8")
