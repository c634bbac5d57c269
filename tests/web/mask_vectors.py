"""Masks that the core rasterises from strokes, for the viewer's own drawing; `python -m tests.web.mask_vectors` writes them."""

from __future__ import annotations

import json
from pathlib import Path

from panodiff_core.geometry import mask_from_strokes

PATH = Path(__file__).with_name("mask_vectors.json")
HEIGHT, STEP = 96, 29
CASES = {
    "dot": [{"mode": "paint", "radius_deg": 9, "points": [[20, -10]]}],
    "soft line across the seam": [
        {"mode": "paint", "radius_deg": 12, "softness": 0.6, "points": [[150, 20], [-165, -5], [-140, 40]]}
    ],
    "pole": [{"mode": "paint", "radius_deg": 15, "softness": 0.3, "points": [[0, 80], [180, 82], [90, 89]]}],
    "below a pixel": [{"mode": "paint", "radius_deg": 0.5, "points": [[0, 0], [33, -71]]}],
    "erased": [
        {"mode": "paint", "radius_deg": 60, "points": [[-100, -50]]},
        {"mode": "erase", "radius_deg": 8, "softness": 1, "points": [[-100, -50], [100, -60]]},
        {"mode": "paint", "radius_deg": 3, "points": [[-100, -50], [-100, -50]]},
    ],
    "half of the sphere": [{"mode": "paint", "radius_deg": 90, "softness": 0.1, "points": [[77, 33]]}],
}


def vectors() -> dict:
    """For each case its strokes and every STEPth value of the mask, of 0..1."""
    made = {}
    for name, strokes in CASES.items():
        text = json.dumps({"version": 1, "strokes": strokes})
        values = mask_from_strokes(text, HEIGHT).flatten()[::STEP]
        made[name] = {"text": text, "values": [round(value, 5) for value in values.tolist()]}
    return {"height": HEIGHT, "step": STEP, "cases": made}


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors()) + "\n", encoding="utf-8")
