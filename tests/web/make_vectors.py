"""Numbers that the Python core and the viewer's JavaScript must agree on, computed by the core in float64.

    python -m tests.web.make_vectors     writes tests/web/vectors.json

The tests compute them afresh and compare, so the file cannot go stale unnoticed.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from panodiff_core.geometry.perspective import perspective_directions
from panodiff_core.geometry.rotation import rotation_matrix
from panodiff_core.geometry.sphere import (
    directions_to_lonlat,
    equirect_directions,
    equirect_pixels_to_lonlat,
    lonlat_to_equirect_pixels,
)

PATH = Path(__file__).with_name("vectors.json")
POSES = (  # width, height, fov, yaw, pitch, roll
    (64, 32, 90.0, 0.0, 0.0, 0.0),
    (64, 36, 75.0, 180.0, 0.0, 0.0),
    (40, 40, 100.0, -135.0, 30.0, 0.0),
    (33, 21, 60.0, 12.5, -47.25, 20.0),
    (50, 80, 40.0, 200.0, 90.0, 0.0),
    (50, 30, 110.0, -20.0, -90.0, -35.0),
    (21, 13, 20.0, 89.9, 5.0, 170.0),
)
SPHERE_SIZES = ((8, 4), (1024, 512), (2048, 1024))


def perspective_cases() -> list[dict]:
    """For some pixels of each pose: direction, longitude and latitude, position in a 1024 × 512 picture."""
    cases = []
    for width, height, *angles in POSES:
        directions = perspective_directions(height, width, *angles, dtype=torch.float64)
        lon, lat = directions_to_lonlat(directions)
        x, y = lonlat_to_equirect_pixels(lon, lat, 512, 1024)
        for row, column in (
            (0, 0),
            (0, width - 1),
            (height - 1, 0),
            (height // 2, width // 2),
            (height // 3, 2),
        ):
            cases.append(
                {
                    "window": [width, height],
                    "pose": dict(zip(("fovDeg", "yawDeg", "pitchDeg", "rollDeg"), angles, strict=True)),
                    "pixel": [column, row],
                    "direction": directions[row, column].tolist(),
                    "lonlat": [lon[row, column].item(), lat[row, column].item()],
                    "position": [x[row, column].item(), y[row, column].item()],
                }
            )
    return cases


def sphere_cases() -> list[dict]:
    """Pixel centres of equirectangular pictures: longitude, latitude, direction."""
    cases = []
    for width, height in SPHERE_SIZES:
        directions = equirect_directions(height, width, torch.float64)
        for row, column in ((0, 0), (height - 1, width - 1), (height // 2, width // 2), (1, width - 2)):
            lon, lat = equirect_pixels_to_lonlat(
                torch.tensor(column, dtype=torch.float64),
                torch.tensor(row, dtype=torch.float64),
                height,
                width,
            )
            cases.append(
                {
                    "size": [width, height],
                    "pixel": [column, row],
                    "lonlat": [lon.item(), lat.item()],
                    "direction": directions[row, column].tolist(),
                }
            )
    return cases


def rotation_cases() -> list[dict]:
    """Camera-to-world matrices, row by row."""
    return [
        {"angles": list(angles), "matrix": rotation_matrix(*angles).tolist()}
        for angles in ((0, 0, 0), (90, 0, 0), (0, 45, 0), (0, 0, 30), (-130.5, 62.25, -17.0), (275, -88, 190))
    ]


def vectors() -> dict[str, list[dict]]:
    return {"rotation": rotation_cases(), "perspective": perspective_cases(), "sphere": sphere_cases()}


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n", encoding="utf-8")
