"""Whole pictures: round trips, rotation, antialiasing, layouts in memory, the grid cache and the errors."""

import math

import pytest
import torch

from panodiff_core import geometry as geo
from panodiff_core.geometry.antialias import oversampling
from panodiff_core.geometry.grids import GridCache
from panodiff_core.geometry.layouts import CubeLayout, EquirectLayout, PerspectiveLayout
from panodiff_core.runtime.errors import InputError

F64 = torch.float64


def smooth(directions):
    x, y, z = directions.unbind(-1)
    return torch.stack([torch.sin(2 * x + y) + 0.3 * z, 2 * x * y * z + y, torch.cos(3 * z + x) * y])


def equirect(height, dtype=F64):
    return smooth(geo.equirect_directions(height, 2 * height, F64))[None].to(dtype)


def cube(size, dtype=F64):
    return smooth(geo.face_directions(size, F64)).transpose(0, 1)[None].to(dtype)


def worst(a, b):
    return float((a - b).abs().max())


@pytest.fixture(autouse=True)
def fresh_cache():
    geo.clear_grid_cache()
    limit = geo.grid_cache_info().limit_bytes
    yield
    geo.set_grid_cache_limit(limit)
    geo.clear_grid_cache()


@pytest.mark.parametrize(
    ("mode", "to_cube", "to_equirect"), [("bilinear", 3e-4, 4e-4), ("bicubic", 4e-6, 3e-5)]
)
@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_conversions_agree_with_the_function(mode, to_cube, to_equirect, dtype):
    slack = 0 if dtype == F64 else 2e-6
    assert worst(geo.equirect_to_cubemap(equirect(256, dtype), 128, mode), cube(128)) < to_cube + slack
    assert worst(geo.cubemap_to_equirect(cube(128, dtype), 256, mode), equirect(256)) < to_equirect + slack


def test_round_trips_in_float64():
    there = geo.equirect_to_cubemap(equirect(192), 192, "bicubic")
    assert worst(geo.cubemap_to_equirect(there, 192, "bicubic", antialias=False), equirect(192)) < 3e-5
    turned = geo.rotate_equirect(equirect(192), 33, 21, 8, "bicubic")
    back = geo.rotation_angles(geo.rotation_matrix(33, 21, 8).T)
    assert worst(geo.rotate_equirect(turned, *back, "bicubic"), equirect(192)) < 3e-5
    turned = geo.rotate_cubemap(cube(128), 33, 21, 8, "bicubic")
    assert worst(geo.rotate_cubemap(turned, *back, "bicubic"), cube(128)) < 2e-4


def test_default_sizes():
    assert geo.equirect_to_cubemap(equirect(16)).shape == (1, 6, 3, 8, 8)
    assert geo.cubemap_to_equirect(cube(8)).shape == (1, 3, 16, 32)


@pytest.mark.parametrize("angles", [(25.0, 0.0, 0.0), (-140.0, 38.0, 12.0), (0.0, 90.0, 0.0)])
def test_a_turned_camera_sees_the_turned_rays(angles):
    turn = geo.rotation_matrix(*angles)
    source, faces = equirect(256), cube(128)
    pose = dict(zip(("yaw_deg", "pitch_deg", "roll_deg"), angles, strict=True))
    at_cube = smooth(geo.face_directions(64, F64) @ turn.T).transpose(0, 1)[None]
    at_equirect = smooth(geo.equirect_directions(64, 128, F64) @ turn.T)[None]
    at_flat = smooth(geo.perspective_directions(48, 72, 80, *angles, dtype=F64))[None]
    assert worst(geo.equirect_to_cubemap(source, 64, antialias=False, **pose), at_cube) < 3e-4
    assert worst(geo.cubemap_to_equirect(faces, 64, antialias=False, **pose), at_equirect) < 4e-4
    assert worst(geo.rotate_equirect(source, *angles)[..., ::4, ::4], smooth(
        geo.equirect_directions(256, 512, F64)[::4, ::4] @ turn.T)[None]) < 3e-4  # fmt: skip
    assert worst(geo.rotate_cubemap(faces, *angles)[..., ::2, ::2], smooth(
        geo.face_directions(128, F64)[:, ::2, ::2] @ turn.T).transpose(0, 1)[None]) < 4e-4  # fmt: skip
    assert worst(geo.equirect_to_perspective(source, 48, 72, 80, *angles, antialias=False), at_flat) < 3e-4
    assert worst(geo.cubemap_to_perspective(faces, 48, 72, 80, *angles, antialias=False), at_flat) < 4e-4


@pytest.mark.parametrize("mode", geo.MODES)
def test_yaw_by_whole_pixels_is_an_exact_roll(mode):
    picture = torch.rand(2, 3, 30, 60)
    for shift in (1, 7, 59, -13, 61, 600):
        turned = geo.rotate_equirect(picture, yaw_deg=shift * 6.0, mode=mode)
        assert torch.equal(turned, torch.roll(picture, -shift, -1))
    # What was to the right comes to the middle.
    assert torch.equal(geo.rotate_equirect(picture, 90, mode=mode)[..., 29], picture[..., 44])


def test_turning_faces_by_quarters_permutes_them():
    faces = torch.rand(1, 6, 2, 8, 8, dtype=F64)
    turned = geo.rotate_cubemap(faces, yaw_deg=90)
    torch.testing.assert_close(turned[:, :4], faces[:, [1, 2, 3, 0]], atol=1e-12, rtol=0)
    torch.testing.assert_close(turned[:, 4], faces[:, 4].rot90(-1, (-2, -1)), atol=1e-12, rtol=0)
    torch.testing.assert_close(turned[:, 5], faces[:, 5].rot90(1, (-2, -1)), atol=1e-12, rtol=0)


def test_flat_pictures_go_onto_the_sphere_and_come_back():
    pose = {"fov_deg": 80.0, "yaw_deg": 150.0, "pitch_deg": 40.0, "roll_deg": -15.0}
    flat = smooth(geo.perspective_directions(120, 160, **pose, dtype=F64))[None]
    for painted, share, exact in (
        (*geo.perspective_to_equirect(flat, 128, **pose), equirect(128)),
        (*geo.perspective_to_cubemap(flat, 64, **pose), cube(64)),
    ):
        assert share.min() == 0 and share.max() == 1 and 0.05 < share.mean() < 0.2
        assert worst(painted * (share == 1), exact * (share == 1)) < 2e-2
        assert float(painted[(share == 0).expand_as(painted)].abs().max()) == 0
    seen = geo.perspective_to_equirect(flat, 128, **pose, antialias=False)[1][0, 0] > 0
    _, _, inside = geo.perspective_pixels(geo.equirect_directions(128, 256, F64), 120, 160, **pose)
    assert torch.equal(seen, inside)


def test_batches_channels_and_memory_layouts_agree():
    picture, faces = torch.rand(3, 5, 24, 48), torch.rand(3, 6, 5, 12, 12)
    for convert, pixels in (
        (lambda p: geo.equirect_to_cubemap(p, 12), picture),
        (lambda p: geo.cubemap_to_equirect(p, 24), faces),
        (lambda p: geo.rotate_equirect(p, 10, 20, 30), picture),
        (lambda p: geo.rotate_cubemap(p, 10, 20, 30), faces),
    ):
        whole = convert(pixels)
        assert whole.is_contiguous()
        for b in range(3):
            torch.testing.assert_close(convert(pixels[b : b + 1])[0], whole[b], atol=5e-5, rtol=0)
        strided = pixels.transpose(-1, -2).contiguous().transpose(-1, -2)
        torch.testing.assert_close(convert(strided), whole, atol=5e-5, rtol=0)
        offset = torch.cat([pixels, pixels])[3:4]
        torch.testing.assert_close(convert(offset)[0], whole[0], atol=5e-5, rtol=0)


def test_the_number_of_threads_changes_nothing():
    before = torch.get_num_threads()
    picture, faces = torch.rand(1, 3, 192, 384), torch.rand(1, 6, 3, 96, 96)
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append((geo.equirect_to_cubemap(picture, 96), geo.cubemap_to_equirect(faces, 192)))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert torch.equal(result[0], results[0][0]) and torch.equal(result[1], results[0][1])


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_reprojections_are_differentiable(mode):
    picture = torch.rand(1, 1, 4, 8, dtype=F64, requires_grad=True)
    faces = torch.rand(1, 6, 1, 3, 3, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: geo.equirect_to_cubemap(p, 3, mode), picture)
    assert torch.autograd.gradcheck(lambda f: geo.cubemap_to_equirect(f, 4, mode), faces)
    assert torch.autograd.gradcheck(lambda p: geo.rotate_equirect(p, 20, 30, 5, mode), picture)
    assert torch.autograd.gradcheck(lambda p: geo.equirect_to_perspective(p, 2, 2, 90), picture)
    with torch.no_grad():
        quick = geo.cubemap_to_equirect(faces, 4, mode)
    torch.testing.assert_close(geo.cubemap_to_equirect(faces, 4, mode), quick, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_dtype_and_its_accuracy(dtype):
    picture = torch.rand(1, 3, 256, 512).to(dtype)
    step = 2e-3 if dtype == torch.float16 else 8e-3
    out = geo.equirect_to_cubemap(picture, 128)
    assert out.dtype == dtype
    assert worst(out.double(), geo.equirect_to_cubemap(picture.double(), 128)) < step
    small = geo.equirect_to_cubemap(picture, 16)
    assert small.dtype == dtype
    assert worst(small.double(), geo.equirect_to_cubemap(picture.double(), 16)) < step


def test_grids_made_in_inference_mode_serve_training():
    picture = torch.rand(1, 1, 8, 16)
    with torch.inference_mode():
        geo.equirect_to_cubemap(picture, 4)
    picture.requires_grad_()
    geo.equirect_to_cubemap(picture, 4).sum().backward()
    assert geo.grid_cache_info().hits == 1
    assert torch.isfinite(picture.grad).all() and picture.grad.sum() == pytest.approx(96, rel=1e-4)


def test_when_antialiasing_applies():
    assert oversampling(EquirectLayout(1024), CubeLayout(512)) == (1, 1)
    assert oversampling(CubeLayout(512), EquirectLayout(1024)) == (1, 1)
    assert oversampling(EquirectLayout(1024), CubeLayout(256)) == (1, 3)
    assert oversampling(EquirectLayout(1024), CubeLayout(64)) == (4, 3)
    assert oversampling(EquirectLayout(1000), EquirectLayout(500)) == (1, 2)
    assert oversampling(EquirectLayout(1025), CubeLayout(64)) == (1, 11)
    assert oversampling(EquirectLayout(1024), PerspectiveLayout(512, 512, 40.0)) == (1, 1)


def test_antialiasing_averages_what_points_would_pick():
    # Stripes one pixel wide: their mean is 1/2, points show moire.
    stripes = (torch.arange(512) % 2).to(F64).expand(1, 1, 256, 512)
    checks = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).to(F64).expand(1, 6, 1, 64, 64)
    for convert in (
        lambda aa: geo.equirect_to_cubemap(stripes, 32, antialias=aa)[:, :4],
        lambda aa: geo.cubemap_to_equirect(checks, 16, antialias=aa),
        lambda aa: geo.equirect_to_perspective(stripes, 24, 24, 90, antialias=aa),
    ):
        plain, filtered = convert(False) - 0.5, convert(True) - 0.5
        assert plain.abs().max() > 0.3
        assert filtered.abs().max() < 0.12 and filtered.std() < plain.std() / 8


def test_antialiasing_is_the_mean_over_the_pixel_and_keeps_smooth_pictures():
    assert worst(geo.equirect_to_cubemap(equirect(256), 16), cube(16)) < 1e-2
    mean = cube(64).unflatten(-1, (16, 4)).unflatten(-3, (16, 4)).mean((-1, -3))
    assert worst(geo.equirect_to_cubemap(equirect(256), 16), mean) < 3e-3
    picture = torch.rand(1, 2, 64, 128)
    assert torch.equal(
        geo.equirect_to_cubemap(picture, 64), geo.equirect_to_cubemap(picture, 64, antialias=False)
    )
    nearest = geo.equirect_to_cubemap(picture, 4, "nearest")
    assert torch.isin(nearest, picture).all()


def test_targets_too_large_to_cache_are_read_in_bands(monkeypatch):
    picture, faces = torch.rand(1, 3, 64, 128), torch.rand(2, 6, 3, 32, 32)
    flat = torch.rand(1, 3, 40, 40)
    jobs = (
        lambda: geo.equirect_to_cubemap(picture, 8),
        lambda: geo.cubemap_to_equirect(faces, 16, "bicubic"),
        lambda: geo.perspective_to_equirect(flat, 16)[1],
    )
    cached = [job() for job in jobs]
    assert geo.grid_cache_info().entries == 3
    geo.set_grid_cache_limit(0)
    monkeypatch.setattr("panodiff_core.geometry.sampling._CHUNK", 50)
    monkeypatch.setattr("panodiff_core.geometry.sampling._BAND", 300)
    for job, expected in zip(jobs, cached, strict=True):
        torch.testing.assert_close(job(), expected, atol=1e-6, rtol=0)
    assert geo.grid_cache_info().entries == 0


class Block:
    def __init__(self, nbytes):
        self.nbytes = nbytes


def test_cache_is_bounded_in_bytes_and_forgets_the_oldest_use():
    cache = GridCache(100)
    for key in "abc":
        cache.get(key, lambda: Block(40))
    assert cache.info()[:2] == (2, 80)
    assert cache.get("b", lambda: pytest.fail("b was kept")).nbytes == 40
    cache.get("d", lambda: Block(40))
    cache.get("b", lambda: pytest.fail("b was used last"))
    cache.get("big", lambda: Block(101))
    assert cache.info().entries == 2 and cache.info().nbytes <= 100
    cache.set_limit(40)
    assert cache.info().entries == 1
    cache.clear()
    assert cache.info()[:2] == (0, 0)
    with pytest.raises(InputError, match="limit_bytes"):
        cache.set_limit(-1)


def test_grids_are_cached_per_shape_pose_mode_and_dtype():
    picture = torch.rand(1, 3, 16, 32)
    for _ in range(2):
        geo.equirect_to_cubemap(picture, 8)
    assert geo.grid_cache_info()[0::3] == (1, 1)
    geo.equirect_to_cubemap(picture, 9)
    geo.equirect_to_cubemap(picture, 8, yaw_deg=1)
    geo.equirect_to_cubemap(picture, 8, "nearest")
    geo.equirect_to_cubemap(picture.double(), 8)
    geo.equirect_to_cubemap(picture.half(), 8)
    info = geo.grid_cache_info()
    assert info.entries == 5 and 0 < info.nbytes < 200_000
    geo.set_grid_cache_limit(20_000)
    for yaw in range(20):
        geo.equirect_to_cubemap(picture, 8, yaw_deg=yaw)
        assert geo.grid_cache_info().nbytes <= 20_000
    geo.clear_grid_cache()
    assert geo.grid_cache_info().nbytes == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: geo.equirect_to_cubemap(torch.rand(1, 3, 10, 30)),
            "30x10 pixels.*twice as wide as high.*20x10",
        ),
        (lambda: geo.equirect_to_cubemap(torch.rand(3, 8, 16)), r"\(3, 8, 16\).*unsqueeze"),
        (lambda: geo.equirect_to_cubemap(torch.zeros(1, 3, 8, 16, dtype=torch.uint8)), "uint8.*/ 255"),
        (lambda: geo.equirect_to_cubemap(torch.zeros(1, 0, 8, 16)), "no pixels"),
        (lambda: geo.equirect_to_cubemap([[1.0]]), "list.*tensor"),
        (lambda: geo.equirect_to_cubemap(torch.rand(1, 3, 8, 16), 0), "size is 0"),
        (lambda: geo.equirect_to_cubemap(torch.rand(1, 3, 8, 16), 4.5), "size is 4.5"),
        (
            lambda: geo.equirect_to_cubemap(torch.rand(1, 3, 8, 16), mode="cubic"),
            "'cubic'.*bilinear, bicubic, nearest",
        ),
        (lambda: geo.cubemap_to_equirect(torch.rand(6, 3, 4, 4)), r"\[B,6,C,S,S\].*F R B L U D"),
        (lambda: geo.cubemap_to_equirect(torch.rand(1, 5, 3, 4, 4)), r"\[B,6,C,S,S\]"),
        (lambda: geo.cubemap_to_equirect(torch.rand(1, 6, 3, 4, 5)), "5x4.*square"),
        (
            lambda: geo.equirect_to_perspective(torch.rand(1, 3, 8, 16), 4, 4, 180),
            "fov_deg is 180.*between 0 and 180",
        ),
        (lambda: geo.equirect_to_perspective(torch.rand(1, 3, 8, 16), 4, 4, math.nan), "fov_deg is nan"),
        (lambda: geo.equirect_to_perspective(torch.rand(1, 3, 8, 16), 0, 4), "height is 0"),
        (lambda: geo.rotate_equirect(torch.rand(1, 3, 8, 16), math.inf), "yaw_deg is inf"),
        (
            lambda: geo.sample_equirect(torch.rand(1, 3, 8, 16), torch.rand(5, 2)),
            "last dimension holds X, Y, Z",
        ),
        (
            lambda: geo.sample_cubemap(torch.rand(1, 6, 3, 4, 4), torch.ones(5, 3), "linear"),
            "mode is 'linear'",
        ),
        (lambda: geo.perspective_to_equirect(torch.rand(3, 4, 4), 8), r"\(3, 4, 4\); pass \[B,C,H,W\]"),
    ],
)
def test_errors_name_the_input_and_the_way_out(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert isinstance(caught.value, ValueError)
