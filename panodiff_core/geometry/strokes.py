"""Brush strokes on the sphere, as they are kept in a workflow.

    {"version": 1, "strokes": [{"mode": "paint", "radius_deg": 4, "softness": 0.3, "points": [[12.5, -3], [13.1, -2.8]]}]}

Points are [longitude, latitude] in degrees: 0, 0 is the centre of the picture, longitude grows to the right and may go
beyond ±180, latitude grows upwards. Each is joined to the next by the shortest way on the sphere; a single point is a
dot. `radius_deg` is the brush's radius on the sphere, `softness` the share of it over which the brush fades out
(0 by default). Strokes apply in order. An empty text is no strokes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from ..runtime.errors import InputError

FORMAT_VERSION = 1
MODES = ("paint", "erase")
LARGEST_RADIUS_DEG = 90.0

# Neighbouring points farther apart than this have no shortest way between them worth the name.
_FARTHEST_DEG = 179.9

Point = tuple[float, float]


@dataclass(frozen=True)
class Stroke:
    """One stroke: `points` are (longitude, latitude) in degrees. Raises `InputError` naming the field that is wrong."""

    mode: str
    radius_deg: float
    points: tuple[Point, ...]
    softness: float = 0.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode is {self.mode!r}; use one of {', '.join(MODES)}")
        if not _is_number(self.radius_deg) or not 0.0 < self.radius_deg <= LARGEST_RADIUS_DEG:
            raise InputError(
                f"radius_deg is {self.radius_deg!r}; pass more than 0 and at most {LARGEST_RADIUS_DEG:g} degrees"
            )
        if not _is_number(self.softness) or not 0.0 <= self.softness <= 1.0:
            raise InputError(f"softness is {self.softness!r}; pass a number from 0 (hard) to 1")
        _check_points(self.points)


def parse_strokes(text: str) -> tuple[Stroke, ...]:
    """The strokes of a text in the format above.

    Raises `InputError` for what is no such text, naming the stroke: `strokes[2]: radius_deg is …`.
    """
    if not text.strip():
        return ()
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the strokes are no JSON: {error}; clear the mask and paint it again") from error
    if not isinstance(data, dict) or not isinstance(data.get("strokes"), list):
        raise InputError('the strokes must be {"version": 1, "strokes": […]}')
    if data.get("version") != FORMAT_VERSION:
        raise InputError(
            f"the strokes are of version {data.get('version')!r}; this PanoDiff reads version {FORMAT_VERSION}: update it"
        )
    return tuple(_stroke(index, entry) for index, entry in enumerate(data["strokes"]))


def _stroke(index: int, entry: Any) -> Stroke:
    try:
        if not isinstance(entry, dict):
            raise InputError(f"expected an object, got {type(entry).__name__}")
        missing = {"mode", "radius_deg", "points"} - set(entry)
        if missing:
            raise InputError(f"{', '.join(sorted(missing))} is missing")
        unknown = set(entry) - {"mode", "radius_deg", "points", "softness"}
        if unknown:
            raise InputError(f"{', '.join(sorted(unknown))} is unknown")
        points = entry["points"]
        if not isinstance(points, list) or not all(isinstance(p, list) for p in points):
            raise InputError("points must be a list of [longitude, latitude]")
        return Stroke(**{**entry, "points": tuple(tuple(p) for p in points)})
    except InputError as error:
        raise InputError(f"strokes[{index}]: {error}") from error


def _check_points(points: tuple[Point, ...]) -> None:
    if not points:
        raise InputError("points is empty; a stroke needs one at least")
    before = None
    for index, point in enumerate(points):
        if len(point) != 2 or not all(map(_is_number, point)) or not -90.0 <= point[1] <= 90.0:
            raise InputError(
                f"points[{index}] is {list(point)!r}; pass [longitude, latitude] in degrees, latitude from -90 to 90"
            )
        if before is not None and _distance_deg(before, point) > _FARTHEST_DEG:
            raise InputError(
                f"points[{index - 1}] and points[{index}] lie opposite each other on the sphere; add one between them"
            )
        before = point


def _distance_deg(a: Point, b: Point) -> float:
    turn = math.radians(b[0] - a[0])
    low, high = math.radians(a[1]), math.radians(b[1])
    cosine = math.sin(low) * math.sin(high) + math.cos(low) * math.cos(high) * math.cos(turn)
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # whole numbers have no limit
        return False
