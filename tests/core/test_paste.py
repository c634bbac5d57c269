"""Perspective pictures put back into panoramas: what is replaced, where, how softly, and that nothing else changes."""

from __future__ import annotations

import math

import pytest
import torch

from panodiff_core import geometry as geo
from panodiff_core.geometry.bounds import equirect_windows
from panodiff_core.runtime.errors import InputError

F64 = torch.float64
HEIGHT = 96
POSES = {
    "front": (90.0, 0.0, 0.0, 0.0),
    "seam": (75.0, 180.0, 10.0, 0.0),
    "beside the seam": (60.0, -151.3, -20.0, 33.0),
    "rolled": (90.0, 37.0, 21.0, 57.0),
    "zenith": (100.0, 12.0, 90.0, 0.0),
    "nadir": (60.0, 0.0, -90.0, 20.0),
    "pole inside, near the border": (90.0, 140.0, 56.5, 0.0),
    "pole just outside": (90.0, 140.0, 54.5, 0.0),
    "upside down": (80.0, 5.0, -60.0, 180.0),
    "wide": (170.0, 100.0, -30.0, 10.0),
    "narrow": (4.0, 179.0, 80.0, -45.0),
}
each_pose = pytest.mark.parametrize("pose", POSES.values(), ids=POSES)


def noise(batch=1, channels=3, low=0.0, height=HEIGHT):
    generator = torch.Generator().manual_seed(batch * 10 + channels)
    return low + (1 - low) * torch.rand(batch, channels, height, 2 * height, generator=generator)


def size_of(pose, height=HEIGHT):
    """(height, width) 2:3 at which a view is as fine as the panorama, so that every pixel is read once."""
    width = max(6, 2 * round(math.tan(math.radians(pose[0]) / 2) / (math.pi / height)))
    return round(width / 1.5), width


def take(panorama, pose, mode="bilinear", size=None):
    return geo.equirect_to_perspective(panorama, *(size or size_of(pose)), *pose, mode=mode)


def seen(pose, size, height=HEIGHT):
    """Whose pixels' centres the camera sees [H,2H]."""
    directions = geo.equirect_directions(height, 2 * height, F64)
    return geo.perspective_pixels(directions, *size, *pose)[2]


def smooth(directions, warmth=0.0):
    x, y, z = directions.unbind(-1)
    wave = torch.stack([torch.sin(2 * x + y) + 0.3 * z, 2 * x * y * z + y, torch.cos(3 * z + x) * y])
    return 0.5 + 0.2 * wave + warmth * torch.stack([1 + x, y, -z])


@each_pose
@pytest.mark.parametrize("mode", geo.MODES)
def test_unedited_changes_nothing_at_all(pose, mode):
    panorama = noise(2)
    cut = take(panorama, pose, mode, (80, 120))
    result, replaced = geo.paste_perspective(panorama, cut, *pose, mode)
    assert torch.equal(result, panorama) and not replaced.any()
    kept = cut.clamp(0, 1)  # a cubic overshoots, and files cut that off
    for read in (kept, kept.half().float(), (kept * 255).floor() / 255, (kept * 255).round() / 255):
        result, replaced = geo.paste_perspective(panorama, read, *pose, mode, original=kept)
        assert torch.equal(result, panorama) and not replaced.any()


@pytest.mark.parametrize("pose", [p for name, p in POSES.items() if name != "narrow"], ids=lambda p: str(p))
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_colour_lands_exactly_where_the_camera_looked(pose, mode):
    panorama = noise(low=0.5)
    colour = torch.tensor([0.0, 0.125, 0.25]).view(1, 3, 1, 1)
    result, replaced = geo.paste_perspective(panorama, colour.expand(1, 3, *size_of(pose)), *pose, mode)
    inside = seen(pose, size_of(pose))
    assert 50 < inside.sum() < 0.6 * inside.numel()
    torch.testing.assert_close(replaced[0, 0], inside.float(), atol=1e-6, rtol=0)
    torch.testing.assert_close(result, torch.where(inside, colour, panorama), atol=1e-6, rtol=0)
    assert torch.equal(result[..., ~inside], panorama[..., ~inside])


@each_pose
def test_a_finer_picture_is_averaged(pose):
    panorama = noise(low=0.5, height=32)
    edited = torch.full((1, 3, 512, 768), 0.25)
    result, replaced = geo.paste_perspective(panorama, edited, *pose)
    torch.testing.assert_close(result, torch.lerp(panorama, edited[..., :1, :1], replaced), atol=1e-6, rtol=0)
    lat = (0.5 - (torch.arange(32) + 0.5) / 32) * math.pi
    solid = float((replaced[0, 0] * lat.cos()[:, None]).sum()) * (math.pi / 32) ** 2
    a, b = math.tan(math.radians(pose[0]) / 2), math.tan(math.radians(pose[0]) / 2) / 1.5
    exact = 4 * math.atan(a * b / math.sqrt(1 + a * a + b * b))  # solid angle of a rectangular pyramid
    rel = 0.02 if pose[0] > 4 else 0.1  # 5 x 5 rays for the one pixel that the narrow view fills
    assert solid == pytest.approx(exact, rel=rel)


@each_pose
def test_windows_hold_all_that_is_seen_and_little_more(pose):
    for height, size in ((200, (300, 200)), (64, (40, 200))):
        mask = seen(pose, size, height)
        plane = torch.tensor([[-1.0, 1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]], dtype=F64)
        reach = math.tan(math.radians(pose[0]) / 2) * torch.tensor([1.0, size[0] / size[1]], dtype=F64)
        rays = torch.nn.functional.pad(plane * reach, (0, 1), value=1.0)
        turn = geo.rotation_matrix(*pose[1:])
        windows = equirect_windows(torch.nn.functional.normalize(rays, dim=-1) @ turn.T, height)
        inside = torch.zeros(mask.shape, dtype=torch.int64)
        for window in windows:
            inside[window.top : window.bottom, window.left : window.right] += 1
        assert inside.max() == 1 and not (mask & (inside == 0)).any()
        rows, columns = inside.any(1).sum(), inside.any(0).sum()
        assert rows <= mask.any(1).sum() + 6
        if columns < 2 * height and mask.sum() > 40:
            assert columns <= mask.any(0).sum() + 6
        elif (
            columns == 2 * height
        ):  # a pole inside or nearly: what is seen there goes around, or hardly misses it
            assert mask.any(0).sum() > 0.8 * 2 * height or mask.sum() < 40


@pytest.mark.parametrize("pose", [POSES["seam"], POSES["rolled"], POSES["zenith"]], ids=str)
def test_a_dot_lands_at_its_direction(pose):
    height, size = 256, size_of(pose, 256)
    panorama = torch.full((1, 3, height, 2 * height), 0.5)
    directions = geo.equirect_directions(height, 2 * height, F64)
    x, y, inside = geo.perspective_pixels(directions, *size, *pose)
    # Solid angle of the panorama's pixels, and how much larger than it the camera's plane is there.
    area = (1 - directions[..., 1] ** 2).sqrt() / (directions @ geo.rotation_matrix(*pose[1:]))[..., 2] ** 3
    for row, column in ((size[0] // 2, size[1] // 2), (20, size[1] - 21), (size[0] - 24, 30)):
        rows, columns = torch.arange(size[0])[:, None], torch.arange(size[1])
        away = ((rows - row) ** 2 + (columns - column) ** 2).sqrt()
        edited = take(panorama, pose, size=size) + 0.5 * torch.exp(-((away / 4) ** 2)) * (away < 12)
        result, replaced = geo.paste_perspective(panorama, edited, *pose, "bicubic")
        change = torch.where(inside, (result - panorama)[0, 0].double() * area, 0.0)
        assert float((change * x).sum() / change.sum()) == pytest.approx(column, abs=0.02)
        assert float((change * y).sum() / change.sum()) == pytest.approx(row, abs=0.02)
        # The blob's radius, the spread and the kernel, to their corners.
        far = ~inside | ((x - column).abs() > 12 + 4 + 2) | ((y - row).abs() > 12 + 4 + 2)
        assert torch.equal(result[..., far], panorama[..., far]) and not replaced[0, 0][far].any()


def test_the_feather_follows_the_distance_to_the_border():
    pose, size, height, feather = (80.0, 180.0, 0.0, 0.0), (120, 120), 180, 12.0
    _, replaced = geo.paste_perspective(
        torch.ones(1, 1, height, 2 * height), torch.zeros(1, 1, *size), *pose, feather_deg=feather
    )
    row = replaced[0, 0, height // 2].roll(height)  # the camera's middle comes to the picture's middle
    lat, lon = -math.pi / height / 2, ((torch.arange(360) + 0.5) / 360 - 0.5) * 2 * math.pi
    sine = math.cos(lat) * torch.sin(math.radians(40.0) - lon.abs())
    t = (sine.asin() / math.radians(feather)).clamp(0, 1) * (lon.abs() < math.radians(40.0))
    torch.testing.assert_close(row, t * t * (3 - 2 * t), atol=1e-5, rtol=0)
    steps = row[140:181].diff()
    assert (steps >= 0).all() and (steps[1:11] > 0).all() and row[180] == 1 and row[139] == 0


def test_the_feather_is_the_share_of_the_colour():
    panorama = noise(low=0.5)
    edited = torch.zeros(1, 3, 64, 64)
    result, replaced = geo.paste_perspective(panorama, edited, 90.0, 20.0, 60.0, feather_deg=45.0)
    assert 0.99 < replaced.max() <= 1
    torch.testing.assert_close(result, panorama * (1 - replaced), atol=1e-6, rtol=0)
    assert torch.equal(result[(replaced == 0).expand_as(result)], panorama[(replaced == 0).expand_as(result)])


@pytest.mark.parametrize(("mode", "most"), [("bilinear", 2e-3), ("bicubic", 1e-4)])
def test_an_edit_is_resampled_once(mode, most):
    height, pose = 256, (80.0, 170.0, -50.0, 25.0)
    everywhere = geo.equirect_directions(height, 2 * height, F64)
    before, after = smooth(everywhere)[None], smooth(everywhere, 0.1)[None]
    size = size_of(pose, height)
    edited = smooth(geo.perspective_directions(*size, *pose, dtype=F64), 0.1)[None]
    result, replaced = geo.paste_perspective(before, edited, *pose, mode)
    border = geo.paste_perspective(before, torch.zeros_like(edited), *pose, feather_deg=3.0)[1] < 1
    assert ((replaced == 1) & ~border).sum() > 4000
    assert ((result - after).abs() * ((replaced == 1) & ~border)).max() < most
    assert torch.equal(result[:, :, replaced[0, 0] == 0], before[:, :, replaced[0, 0] == 0])


def test_what_was_painted_over_does_not_shine_through():
    """Detail that the view is too coarse for goes where something was painted, and stays elsewhere."""
    panorama = noise(height=256)
    edited = take(panorama, (90.0, 180.0, 0.0, 0.0), size=(48, 48))
    edited[..., :, 24:] = 0.5
    result, replaced = geo.paste_perspective(panorama, edited, 90.0, 180.0, 0.0)
    whole = replaced[0, 0] == 1
    assert whole.sum() > 3000
    right = torch.zeros_like(whole)
    right[:, 6:50] = True  # east of the seam at the back, clear of the edge of the paint
    assert ((result - 0.5).abs() * (whole & right)).max() < 1e-6
    assert torch.equal(result[..., 300:480], panorama[..., 300:480])  # west of it nothing was painted


def test_a_mask_says_where_edits_count():
    panorama, pose = noise(low=0.5), (90.0, -170.0, 15.0, 0.0)
    edited, mask = torch.zeros(1, 3, *size_of(pose)), torch.zeros(1, 1, *size_of(pose))
    assert torch.equal(geo.paste_perspective(panorama, edited, *pose, mask=mask)[0], panorama)
    mask[..., : size_of(pose)[1] // 2] = 0.5
    result, replaced = geo.paste_perspective(panorama, edited, *pose, mask=mask)
    directions = geo.equirect_directions(HEIGHT, 2 * HEIGHT, F64)
    x, _, inside = geo.perspective_pixels(directions, *size_of(pose), *pose)
    half = size_of(pose)[1] / 2 - 0.5
    assert (replaced[0, 0][inside & (x < half - 1)] - 0.5).abs().max() < 1e-6
    assert (replaced[0, 0][~inside | (x > half + 1)] == 0).all()
    torch.testing.assert_close(result, panorama * (1 - replaced), atol=1e-6, rtol=0)


def test_batches_meet_each_other_or_one():
    pose = (80.0, 180.0, 5.0, 3.0)
    panoramas, size = noise(3), size_of(pose)
    edited = take(panoramas, pose).flip(1)
    mask = noise(3, 1)[..., : size[0], : size[1]]
    for panorama, picture, shape in (
        (panoramas, edited, mask),
        (panoramas[:1], edited, mask[:1]),
        (panoramas, edited[:1], mask[1:2]),
        (panoramas[:1], edited[:1], mask),
    ):
        result, replaced = geo.paste_perspective(panorama, picture, *pose, mask=shape)
        assert result.shape == panoramas.shape and replaced.shape == (3, 1, HEIGHT, 2 * HEIGHT)
        for i in range(3):
            parts = [part[i % len(part)][None] for part in (panorama, picture, shape)]
            alone = geo.paste_perspective(parts[0], parts[1], *pose, mask=parts[2])
            torch.testing.assert_close(result[i : i + 1], alone[0], atol=1e-6, rtol=0)
            torch.testing.assert_close(replaced[i : i + 1], alone[1], atol=1e-6, rtol=0)


def test_dtype_memory_and_input_are_kept():
    pose = (80.0, 180.0, 60.0, 3.0)
    panorama = noise(1, 4).movedim(1, -1).contiguous().movedim(-1, 1).half()
    before = panorama.clone()
    result, replaced = geo.paste_perspective(panorama, 1 - take(panorama, pose), *pose)
    assert result.dtype == replaced.dtype == torch.float16 and torch.equal(panorama, before)
    assert result.movedim(1, -1).is_contiguous()
    same = (replaced == 0).expand_as(result)
    assert 0.5 < same.float().mean() < 0.9 and torch.equal(result[same], panorama[same])
    assert not torch.equal(result[~same], panorama[~same])


def test_a_cubic_does_not_leave_the_picture():
    bars = (torch.arange(200) % 2).float().expand(1, 3, 200, 200)
    result, _ = geo.paste_perspective(noise(height=256), bars, 60.0, 33.0, 20.0, 0.0, "bicubic")
    assert result.min() >= 0 and result.max() <= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"panorama": torch.zeros(1, 3, 32, 60)}, "panorama is 60x32.*twice as wide"),
        ({"edited": torch.zeros(1, 4, 10, 20)}, "edited has 4 channels; it needs 3"),
        ({"edited": torch.zeros(3, 3, 10, 20)}, "batches do not match.*2 in panorama, 3 in edited"),
        ({"edited": torch.full((1, 3, 10, 20), math.nan)}, "edited holds NaN"),
        ({"mask": torch.zeros(1, 1, 20, 20)}, "mask is 20x20 pixels and edited is 20x10"),
        ({"mask": torch.zeros(1, 3, 10, 20)}, "mask has 3 channels; it needs 1"),
        ({"original": torch.zeros(1, 3, 10, 22)}, "original is 22x10"),
        ({"feather_deg": -1.0}, "feather_deg is -1; this view takes 0 to 26.57"),
        ({"feather_deg": 30.0}, "feather_deg is 30; this view takes 0 to 26.57"),
        ({"fov_deg": 180.0}, "fov_deg is 180"),
        ({"yaw_deg": math.inf}, "yaw_deg"),
        ({"mode": "cubic"}, "mode is 'cubic'"),
    ],
)
def test_bad_input_is_named(change, words):
    given = {"panorama": torch.zeros(2, 3, 32, 64), "edited": torch.zeros(2, 3, 10, 20)} | change
    with pytest.raises(InputError, match=words):
        geo.paste_perspective(**given)
