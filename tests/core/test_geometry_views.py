"""The viewer's modes in the core: what lies where, against the core's other reprojections and by hand."""

import math
import random
from dataclasses import replace

import pytest
import torch

from panodiff_core import geometry as geo
from panodiff_core.geometry.projections import MAX_FOV_DEG, PROJECTIONS, project, reach, unproject
from panodiff_core.runtime.errors import InputError

F64 = torch.float64
MODES = tuple(geo.VIEW_MODES)
CAMERAS = ("perspective", "planet", "fisheye", "pannini")
FLAT = ("flat", "seam")


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(
        torch.as_tensor(a, dtype=F64), torch.as_tensor(b, dtype=F64), atol=tolerance, rtol=0
    )


def poses(mode: str, count: int = 20) -> list[geo.View]:
    """Views of odd and even sizes in any direction, from close to as wide as the mode allows."""
    draw = random.Random(f"views {mode}")
    widest = min(MAX_FOV_DEG.get(geo.VIEW_MODES[mode].projection, 400.0) * 0.9, 400.0)
    return [
        geo.View(mode, draw.randint(20, 50), draw.randint(20, 50), draw.uniform(15, widest),
                 draw.uniform(-400, 400), draw.uniform(-90, 90), draw.uniform(-180, 180))
        for _ in range(count)
    ]  # fmt: skip


def picture(height: int = 32) -> torch.Tensor:
    return torch.rand((1, 3, height, 2 * height), generator=torch.Generator().manual_seed(1), dtype=F64)


@pytest.mark.parametrize("mode", CAMERAS + FLAT)
def test_the_middle_of_the_window_shows_yaw_and_pitch(mode):
    for yaw, pitch, roll in ((0, 0, 0), (30, 20, 0), (-170, -65, 40)):
        view = geo.View(mode, 21, 33, 70.0, yaw, pitch, roll)
        expected = geo.rotation_matrix(180 if mode == "seam" else yaw, pitch)[:, 2]
        close(geo.view_directions(view)[10, 16], expected)


@pytest.mark.parametrize(("mode", "pole"), [("zenith", 1.0), ("nadir", -1.0)])
def test_zenith_and_nadir_keep_their_pole_in_the_middle(mode, pole):
    view = geo.View(mode, 21, 21, 70.0, 33.0, 10.0, 5.0)
    close(geo.view_directions(view)[10, 10], [0.0, pole, 0.0])
    assert view.angles == (33.0, 90.0 * pole, 5.0)


@pytest.mark.parametrize("mode", ["perspective", "zenith", "nadir"])
def test_perspective_is_the_cores_perspective(mode):
    for view in poses(mode):
        angles = view.angles
        expected = geo.perspective_directions(view.height, view.width, view.fov_deg, *angles, dtype=F64)
        close(geo.view_directions(view), expected)


def test_flat_is_the_picture_itself_and_yaw_rolls_it():
    pixels = picture()
    close(geo.equirect_to_view(pixels, geo.View("flat", 32, 64, 360.0)), pixels, 1e-9)
    rolled = geo.equirect_to_view(pixels, geo.View("flat", 32, 64, 360.0, 45.0))
    close(rolled, geo.rotate_equirect(pixels, 45.0), 1e-9)
    behind = geo.equirect_to_view(pixels, geo.View("seam", 32, 64, 360.0, 12.0))
    close(behind, pixels.roll(32, -1), 1e-9)


def test_flat_moves_down_by_the_pitch_and_turns_by_the_roll():
    pixels = picture()
    whole = geo.View("flat", 32, 64, 360.0)
    up = geo.equirect_to_view(pixels, geo.View("flat", 32, 64, 360.0, pitch_deg=22.5), background=-1.0)
    close(up[..., 4:, :], pixels[..., :-4, :], 1e-9)
    assert torch.equal(up[..., :4, :], torch.full((1, 3, 4, 64), -1.0, dtype=F64))
    turned = geo.view_directions(geo.View("flat", 64, 32, 180.0, roll_deg=90.0))
    close(turned.rot90(-1), geo.view_directions(whole))  # a camera rolled clockwise sees it counterclockwise


@pytest.mark.parametrize(("mode", "grid"), [("cubemap_cross", (3, 4)), ("cubemap_3x2", (2, 3))])
def test_cubemaps_are_the_cores_faces_in_their_cells(mode, grid):
    size, rows, columns = 8, *grid
    angles = (25.0, -40.0, 70.0)
    view = geo.View(mode, rows * size, columns * size, 90.0 * columns, *angles)
    shown = geo.equirect_to_view(picture(), view, background=-1.0)
    faces = geo.equirect_to_cubemap(picture(), size, antialias=False, yaw_deg=angles[0],
                                    pitch_deg=angles[1], roll_deg=angles[2])[0]  # fmt: skip
    layout = {"cubemap_cross": ".U..LFRB.D..", "cubemap_3x2": "FRBLUD"}[mode]
    for cell, name in enumerate(layout):
        top, left = cell // columns * size, cell % columns * size
        found = shown[0, :, top : top + size, left : left + size]
        expected = torch.full_like(found, -1.0) if name == "." else faces[geo.FACES.index(name)]
        close(found, expected, 1e-9)


def test_a_close_cubemap_shows_the_front_face():
    for mode in ("cubemap_cross", "cubemap_3x2"):
        view = geo.View(mode, 9, 9, 90.0, 20.0, 10.0)
        close(geo.view_directions(view), geo.perspective_directions(9, 9, 90.0, 20.0, 10.0, dtype=F64))


def test_known_angles_at_the_edge_of_the_window():
    """The pixel at the right end of the central row is half the field of view away, less half a pixel."""
    for mode, angle in (
        ("fisheye", lambda x: math.radians(60) * x),
        ("pannini", lambda x: 2 * math.atan(math.tan(math.radians(30)) * x)),
        ("planet", lambda x: 2 * math.atan(math.tan(math.radians(30)) * x)),
        ("perspective", lambda x: math.atan(math.tan(math.radians(60)) * x)),
    ):
        directions = geo.view_directions(geo.View(mode, 11, 101, 120.0))
        x = 100 / 101
        close(directions[5, 100], [math.sin(angle(x)), 0.0, math.cos(angle(x))])


def test_stereographic_is_conformal_and_shows_the_horizon_of_a_planet_as_a_circle():
    view = geo.View("planet", 101, 101, 240.0, pitch_deg=-90.0)
    x, y, inside = geo.view_positions(view, geo.lonlat_to_directions(
        torch.linspace(-3, 3, 9, dtype=F64), torch.zeros(9, dtype=F64)))  # fmt: skip
    radius = 2 * math.tan(math.pi / 4) / view.plane_per_pixel
    close(torch.hypot(x - 50, y - 50) / radius, torch.ones(9), 1e-9)
    assert inside.all()
    d = geo.view_directions(view)
    right, down = d[:-1, 1:] - d[:-1, :-1], d[1:, :-1] - d[:-1, :-1]
    ratio = right.norm(dim=-1) / down.norm(dim=-1)
    assert (ratio - 1).abs().max() < 0.03


def test_pannini_keeps_verticals_and_radial_lines_straight():
    view = geo.View("pannini", 61, 101, 200.0)
    d = geo.view_directions(view)
    lon = torch.atan2(d[..., 0], d[..., 2])
    close(lon - lon[30], torch.zeros(61, 101))  # a column is a meridian
    # The diagonal through the middle is the picture of a great circle's plane through the view point: with
    # d = 1, tan(latitude) / sin(longitude / 2) / cos(longitude / 2) is constant along it.
    diagonal = torch.stack([d[30 - k, 50 + k] for k in range(1, 31)])
    slope = diagonal[:, 1] / diagonal[:, 0]
    close(slope, torch.ones(30))


@pytest.mark.parametrize("mode", MODES)
def test_directions_come_back_to_their_pixels(mode):
    for view in poses(mode):
        directions = geo.view_directions(view)
        close(directions.norm(dim=-1), torch.ones(view.height, view.width))
        x, y, inside = geo.view_positions(view, 2.0 * directions)
        covered = (geo.view_coverage(view) > 0.6) & ~geo.view_discontinuities(view)
        columns = torch.arange(view.width, dtype=F64).expand(view.height, -1)
        rows = torch.arange(view.height, dtype=F64)[:, None].expand(-1, view.width)
        assert covered.any() and inside[covered].all()
        close(x[covered], columns[covered], 1e-6)
        close(y[covered], rows[covered], 1e-6)


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_planes_and_rays_are_inverse(projection):
    half = 0.49 * min(reach(projection, MAX_FOV_DEG.get(projection, 180.0) * 0.9), 3.0)
    x, y = torch.meshgrid(*[torch.linspace(-half, half, 12, dtype=F64)] * 2, indexing="ij")
    plane = unproject(projection, x, y)
    rays = plane.rays / plane.rays.norm(dim=-1, keepdim=True)
    back_x, back_y, held = project(projection, rays)
    inside = plane.border > 0
    assert inside.any() and held[inside].all()
    close(back_x[inside], x[inside], 1e-9)
    close(back_y[inside], y[inside], 1e-9)


def test_what_a_plane_does_not_hold_is_not_inside():
    behind = torch.tensor([0.1, 0.2, -1.0], dtype=F64)
    assert not geo.view_positions(geo.View("perspective", 50, 50, 90.0), behind)[2]
    assert not geo.view_positions(geo.View("fisheye", 50, 50, 360.0), behind)[2]
    assert geo.view_positions(geo.View("planet", 50, 50, 350.0), behind)[2]


def test_coverage_is_the_share_of_the_area():
    """Summed over the window, the covered part has the area of the figure: a disc, a rectangle, cells."""
    for mode, fov, area in (
        ("fisheye", 200.0, math.pi / 4 * (180 / 200) ** 2),
        ("flat", 400.0, (360 / 400) * (180 / 400)),
        ("cubemap_cross", 400.0, 6 / 16 * (360 / 400) ** 2),
        ("cubemap_3x2", 400.0, 6 / 16 * (360 / 400) ** 2),
        ("perspective", 120.0, 1.0),
    ):
        covered = geo.view_coverage(geo.View(mode, 400, 400, fov))
        assert covered.mean().item() == pytest.approx(area, rel=2e-3), mode
        soft = ((covered > 0) & (covered < 1)).double().mean().item()
        assert soft < 0.02, mode


@pytest.mark.parametrize("mode", MODES)
def test_discontinuities_are_few_and_only_where_something_jumps(mode):
    views = [replace(view, height=2 * view.height, width=2 * view.width) for view in poses(mode)]
    masks = [geo.view_discontinuities(view) for view in views]
    share = sum(mask.double().mean().item() for mask in masks) / len(masks)
    assert share < 0.005
    wide = geo.view_discontinuities(geo.View(mode, 60, 90, 90.0), margin=0.6)
    whole = geo.view_discontinuities(geo.View(mode, 60, 90, 270.0), margin=0.6) if mode not in (
        "perspective", "zenith", "nadir") else wide  # fmt: skip
    if mode == "cubemap_3x2":
        assert whole[29:31].all() and whole[40, [29, 30, 59, 60]].all() and not whole[15].any()
    else:
        assert whole.double().mean() < 1e-3


def test_the_pole_is_masked():
    mask = geo.view_discontinuities(geo.View("zenith", 21, 21, 90.0))
    assert mask[10, 10] and mask.sum() == 1


def test_pixels_keep_their_kind_and_the_background_its_value():
    view = geo.View("fisheye", 20, 40, 180.0 * 2.2)
    shown = geo.equirect_to_view(picture().float(), view, background=0.25)
    assert shown.dtype == torch.float32 and shown.shape == (1, 3, 20, 40)
    assert (shown[..., :, 0] == 0.25).all() and (shown[..., 10, 20] != 0.25).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "mercator"}, "mode is 'mercator'; use one of perspective, flat"),
        ({"height": 0}, "height is 0"),
        ({"yaw_deg": math.nan}, "yaw_deg is nan"),
        ({"fov_deg": 180.0}, "fov_deg is 180; in the mode 'perspective' it must be above 0 and below 180"),
        ({"mode": "planet", "fov_deg": 360.0}, "above 0 and below 359.99"),
        ({"mode": "flat", "fov_deg": 0.0}, "must be above 0"),
    ],
)
def test_a_view_that_cannot_be_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        geo.View(**{"mode": "perspective", "height": 4, "width": 4, "fov_deg": 90.0, **changes})
