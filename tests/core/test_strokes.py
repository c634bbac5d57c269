"""Brush strokes on the sphere as masks: areas, lines, order, the seam, the poles, and texts that are refused."""

from __future__ import annotations

import json
import math

import pytest
import torch

from panodiff_core import geometry as geo
from panodiff_core.geometry import Stroke, mask_from_strokes, parse_strokes
from panodiff_core.runtime.errors import InputError

F64 = torch.float64
HEIGHT = 512


def area(mask):
    """Solid angle of a mask [1,1,H,2H]."""
    height = mask.shape[-2]
    lat = (0.5 - (torch.arange(height, dtype=F64) + 0.5) / height) * math.pi
    return float((mask[0, 0].double() * lat.cos()[:, None]).sum()) * (math.pi / height) ** 2


def directions(height=HEIGHT):
    return geo.equirect_directions(height, 2 * height, F64)


def ray(lon_deg, lat_deg):
    return geo.lonlat_to_directions(*(torch.tensor(math.radians(a), dtype=F64) for a in (lon_deg, lat_deg)))


def away(lon_deg, lat_deg, height=HEIGHT):
    """Angle [H,2H] of every pixel to a point."""
    return (directions(height) @ ray(lon_deg, lat_deg)).clamp(-1, 1).acos()


def hard(distance, radius_deg, height):
    """The strength of a hard brush at a distance in radians."""
    return (0.5 + (math.radians(radius_deg) - distance) * height / math.pi).clamp(0, 1)


def worst(mask, exact):
    return float((mask[0, 0].double() - exact).abs().max())


@pytest.mark.parametrize("lat", [0.0, 60.0, -60.0, 89.0, 90.0, -90.0])
@pytest.mark.parametrize("lon", [0.0, 45.3, 180.0, -179.9])
@pytest.mark.parametrize("radius", [3.0, 20.0, 90.0])
def test_a_dot_is_a_cap_of_the_sphere(lon, lat, radius):
    mask = mask_from_strokes([Stroke("paint", radius, ((lon, lat),))], HEIGHT)
    assert mask.shape == (1, 1, HEIGHT, 2 * HEIGHT) and mask.dtype == torch.float32
    assert area(mask) == pytest.approx(2 * math.pi * (1 - math.cos(math.radians(radius))), rel=0.01)
    assert worst(mask, hard(away(lon, lat), radius, HEIGHT)) < 1e-5


@pytest.mark.parametrize("height", [1, 7, 63, 64, 65, 100])
def test_any_height(height):
    mask = mask_from_strokes([Stroke("paint", 40.0, ((170.0, 30.0),))], height)
    assert worst(mask, hard(away(170.0, 30.0, height), 40.0, height)) < 1e-5


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ((-30.0, 0.0), (50.0, 0.0)),
        ((150.0, -20.0), (-140.0, 40.0)),
        ((10.0, 70.0), (170.0, 75.0)),
        ((0.0, -88.0), (180.0, -80.0)),
    ],
    ids=["equator", "seam", "near a pole", "over a pole"],
)
def test_a_line_is_a_capsule_along_the_great_circle(start, end):
    """Against the distance to 4000 points along the line, which is too long by at most a quarter of a step squared."""
    radius, a, b = 6.0, ray(*start), ray(*end)
    angle = float((a @ b).acos())
    t = torch.linspace(0, angle, 4001, dtype=F64)[:, None]
    line = (torch.sin(angle - t) * a + torch.sin(t) * b) / math.sin(angle)
    height = 256
    cosine = torch.stack([(row @ line.T).amax(-1) for row in directions(height)])
    mask = mask_from_strokes([Stroke("paint", radius, (start, end))], height)
    assert worst(mask, hard(cosine.clamp(-1, 1).acos(), radius, height)) < 1e-3
    r = math.radians(radius)
    exact = 2 * math.pi * (1 - math.cos(r)) + 2 * math.sin(r) * angle  # two half caps and a band
    assert area(mask) == pytest.approx(exact, rel=0.01)


def test_a_stroke_is_the_union_of_its_pieces():
    generator = torch.Generator().manual_seed(5)
    lon = torch.linspace(120, 260, 60, dtype=F64) + torch.rand(60, generator=generator)
    lat = 60 * torch.sin(torch.linspace(0, 7, 60, dtype=F64))
    points = tuple(zip(lon.tolist(), lat.tolist(), strict=True))
    for softness in (0.0, 0.7):
        whole = mask_from_strokes([Stroke("paint", 5.0, points, softness)], 300)
        pieces = [Stroke("paint", 5.0, points[i : i + 2], softness) for i in range(59)]
        torch.testing.assert_close(whole, mask_from_strokes(pieces, 300), atol=1e-6, rtol=0)


@pytest.mark.parametrize("softness", [0.0, 0.5])
def test_a_turned_stroke_is_the_rolled_mask(softness):
    height = 384
    points = ((10.0, 20.0), (31.0, -40.0), (33.0, -41.0), (100.0, 85.0), (-170.0, 80.0))
    mask = mask_from_strokes([Stroke("paint", 4.0, points, softness)], height)
    for pixels in (1, 100, 384, -501):
        turned = tuple((lon + pixels * 180 / height, lat) for lon, lat in points)
        moved = mask_from_strokes([Stroke("paint", 4.0, turned, softness)], height)
        torch.testing.assert_close(moved, mask.roll(pixels, -1), atol=1e-6, rtol=0)


def test_a_mirrored_stroke_is_the_mirrored_mask():
    points = ((-20.0, 70.0), (60.0, 88.0), (170.0, 60.0))
    mask = mask_from_strokes([Stroke("paint", 5.0, points)], 200)
    under = mask_from_strokes([Stroke("paint", 5.0, tuple((lon, -lat) for lon, lat in points))], 200)
    torch.testing.assert_close(under, mask.flip(-2), atol=1e-6, rtol=0)


def test_soft_brushes_fade_inwards():
    mask = mask_from_strokes([Stroke("paint", 20.0, ((180.0, 50.0),), 0.5)], HEIGHT)
    distance, pixel = away(180.0, 50.0), math.pi / HEIGHT
    r = math.radians(20.0)
    exact = ((r + pixel / 2 - distance) / (pixel + r / 2)).clamp(0, 1)
    assert worst(mask, exact) < 1e-5
    assert (mask[0, 0][distance < r / 2 - pixel] == 1).all() and (mask[0, 0][distance > r + pixel] == 0).all()


def test_order_matters_and_painting_twice_does_not():
    dot = ((180.0, 10.0),)
    paint, erase = Stroke("paint", 20.0, dot), Stroke("erase", 8.0, dot)
    ring = mask_from_strokes([paint, erase], HEIGHT)
    exact = torch.minimum(hard(away(180.0, 10.0), 20.0, HEIGHT), 1 - hard(away(180.0, 10.0), 8.0, HEIGHT))
    assert worst(ring, exact) < 1e-5
    assert torch.equal(mask_from_strokes([erase, paint], HEIGHT), mask_from_strokes([paint, paint], HEIGHT))
    assert not mask_from_strokes([paint, Stroke("erase", 21.0, dot)], HEIGHT).any()


def test_doubled_points_change_nothing():
    points = ((20.0, 20.0), (20.0, 20.0), (60.0, 10.0), (60.0, 10.0 + 1e-12))
    doubled = mask_from_strokes([Stroke("paint", 5.0, points)], 200)
    plain = mask_from_strokes([Stroke("paint", 5.0, (points[0], points[2]))], 200)
    torch.testing.assert_close(doubled, plain, atol=1e-6, rtol=0)


def text(**change):
    stroke = {"mode": "paint", "radius_deg": 4, "points": [[0, 0], [10.5, -3]]} | change
    good = {"mode": "erase", "radius_deg": 2.5, "softness": 0.25, "points": [[190, 90]]}
    kept = {name: value for name, value in stroke.items() if value is not None}
    return json.dumps({"version": 1, "strokes": [good, kept]})


def test_texts_are_read():
    strokes = parse_strokes(text())
    assert strokes == (
        Stroke("erase", 2.5, ((190, 90),), 0.25),
        Stroke("paint", 4, ((0, 0), (10.5, -3)), 0.0),
    )
    assert torch.equal(mask_from_strokes(text(), 64), mask_from_strokes(strokes, 64))
    for empty in ("", " \n", '{"version": 1, "strokes": []}'):
        assert parse_strokes(empty) == () and not mask_from_strokes(empty, 8).any()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ('{"version": 1, "strokes": [', "no JSON.*clear the mask"),
        ("[]", 'must be {"version": 1'),
        ('{"version": 1, "strokes": {}}', 'must be {"version": 1'),
        ('{"version": 2, "strokes": []}', "version 2; this PanoDiff reads version 1"),
        ('{"strokes": []}', "version None"),
        ('{"version": 1, "strokes": [3]}', r"strokes\[0\]: expected an object, got int"),
        (text(mode="smear"), r"strokes\[1\]: mode is 'smear'; use one of paint, erase"),
        (text(mode=None), r"strokes\[1\]: mode is missing"),
        (text(hardness=1), r"strokes\[1\]: hardness is unknown"),
        (text(radius_deg=0), r"strokes\[1\]: radius_deg is 0"),
        (text(radius_deg=91), r"strokes\[1\]: radius_deg is 91.*at most 90"),
        (text(radius_deg="4"), r"strokes\[1\]: radius_deg is '4'"),
        (text(radius_deg=True), r"strokes\[1\]: radius_deg is True"),
        (text(softness=1.5), r"strokes\[1\]: softness is 1.5"),
        (text(softness=math.nan), r"strokes\[1\]: softness is nan"),
        (text(points=[]), r"strokes\[1\]: points is empty"),
        (text(points=5), r"strokes\[1\]: points must be a list"),
        (text(points=[1, 2]), r"strokes\[1\]: points must be a list"),
        (text(points=[[0, 0], [1]]), r"strokes\[1\]: points\[1\] is \[1\]"),
        (text(points=[[0, 91]]), r"strokes\[1\]: points\[0\] is \[0, 91\].*latitude from -90 to 90"),
        (text(points=[["a", 0]]), r"strokes\[1\]: points\[0\]"),
        (text(points=[[0, 10], [180, -10]]), r"strokes\[1\]: points\[0\] and points\[1\] lie opposite"),
    ],
)
def test_bad_texts_are_refused_by_name(wrong, words):
    with pytest.raises(InputError, match=words):
        mask_from_strokes(wrong, 64)


def test_bad_heights_are_refused():
    with pytest.raises(InputError, match="height is 0"):
        mask_from_strokes("", 0)
