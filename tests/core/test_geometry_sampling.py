"""Reading pictures along rays: the seam, the poles, cube edges and corners, kernels, dtypes and gradients."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from panodiff_core import geometry as geo

F64 = torch.float64


def smooth(directions):
    """[...,3] to three channels first; smooth on the sphere and without symmetry."""
    x, y, z = directions.unbind(-1)
    return torch.stack([torch.sin(3 * x + y) + 0.3 * z, 3 * x * y * z + y, torch.cos(4 * z + x) * y])


def noise(*shape, seed=0, dtype=F64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_rays(count, seed=1, dtype=F64):
    return normalize(
        torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1
    )


def rays_at_pixels(x, y, height):
    lon, lat = geo.equirect_pixels_to_lonlat(
        torch.as_tensor(x, dtype=F64), torch.as_tensor(y, dtype=F64), height, 2 * height
    )
    return geo.lonlat_to_directions(lon, lat)


def unfolded(picture, pad):
    """A picture [C,H,W] continued by `pad` pixels on every side, spelled out pixel by pixel."""
    _, height, width = picture.shape
    rows, turns = [], []
    for i in range(-pad, height + pad):
        over = i < 0 or i >= height
        rows.append(-1 - i if i < 0 else 2 * height - 1 - i if i >= height else i)
        turns.append(width // 2 if over else 0)
    lines = []
    for row, turn in zip(rows, turns, strict=True):
        lines.append(picture[:, row, [(j + turn) % width for j in range(-pad, width + pad)]])
    return torch.stack(lines, 1)


def bilinear_reference(picture, x, y, pad=2):
    wide = unfolded(picture, pad)
    out = []
    for px, py in zip(x.tolist(), y.tolist(), strict=True):
        i, j = math.floor(py), math.floor(px)
        ty, tx = py - i, px - j
        block = wide[:, i + pad : i + pad + 2, j + pad : j + pad + 2]
        weights = torch.tensor([[(1 - ty) * (1 - tx), (1 - ty) * tx], [ty * (1 - tx), ty * tx]], dtype=F64)
        out.append((block * weights).sum((1, 2)))
    return torch.stack(out, 1)


def test_equirect_bilinear_equals_the_unfolded_picture():
    height = 6
    picture = noise(2, height, 2 * height)
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(400, generator=generator, dtype=F64) * 2 * height - 0.5
    y = torch.rand(400, generator=generator, dtype=F64) * height - 0.5
    got = geo.sample_equirect(picture[None], rays_at_pixels(x, y, height))[0]
    torch.testing.assert_close(got, bilinear_reference(picture, x, y), atol=1e-10, rtol=0)


def test_nearest_takes_the_nearest_pixel_everywhere():
    height = 5
    picture = noise(1, 1, height, 2 * height)
    rays = geo.equirect_directions(height, 2 * height, F64)
    assert torch.equal(geo.sample_equirect(picture, rays, "nearest"), picture)
    jittered = rays_at_pixels(torch.arange(10.0) - 0.49, torch.full((10,), -0.49), height)
    assert torch.equal(geo.sample_equirect(picture, jittered, "nearest")[0, 0], picture[0, 0, 0])
    faces = noise(1, 6, 1, 4, 4)
    out = geo.sample_cubemap(faces, geo.face_directions(4, F64), "nearest")
    assert torch.equal(out, faces.transpose(1, 2))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_pixel_centres_are_kept(mode):
    picture, faces = noise(2, 3, 6, 12), noise(1, 6, 3, 5, 5)
    torch.testing.assert_close(
        geo.sample_equirect(picture, geo.equirect_directions(6, 12, F64), mode), picture, atol=1e-11, rtol=0
    )
    out = geo.sample_cubemap(faces, geo.face_directions(5, F64), mode)
    torch.testing.assert_close(out.transpose(1, 2), faces, atol=1e-11, rtol=0)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_equirect_is_continuous_at_the_seam_and_over_the_poles(mode):
    height, step = 8, 1e-9
    picture = noise(1, 2, height, 2 * height)
    y = torch.linspace(-0.5, height - 0.5, 41, dtype=F64)
    left = geo.sample_equirect(picture, rays_at_pixels(torch.full_like(y, -0.5 + step), y, height), mode)
    right = geo.sample_equirect(
        picture, rays_at_pixels(torch.full_like(y, 2 * height - 0.5 - step), y, height), mode
    )
    torch.testing.assert_close(left, right, atol=1e-6, rtol=0)
    lon = torch.linspace(-math.pi, math.pi, 33, dtype=F64)
    for sign in (1.0, -1.0):
        lat = torch.full_like(lon, sign * (math.pi / 2 - 1e-9))
        near, across = geo.lonlat_to_directions(lon, lat), geo.lonlat_to_directions(lon + math.pi, lat)
        torch.testing.assert_close(
            geo.sample_equirect(picture, near, mode),
            geo.sample_equirect(picture, across, mode),
            atol=1e-6,
            rtol=0,
        )


def edge_points(inset, count=97):
    """Rays beside the 12 edges, `inset` (in the face plane) to either side: two lists [12,count,3]."""
    frames = geo.face_frames(F64)
    along = torch.linspace(-1, 1, count, dtype=F64)[:, None]
    here, there = [], []
    for face, edge in geo.CUBE_EDGES:
        other = geo.ADJACENCY[face][edge].face
        n, m = frames[face, 0], frames[other, 0]
        tangent = torch.linalg.cross(n, m)
        here.append(n + (1 - inset) * m + along * tangent)
        there.append((1 - inset) * n + m + along * tangent)
    return torch.stack(here), torch.stack(there)


@pytest.mark.parametrize(("mode", "tolerance"), [("bilinear", 1e-6), ("bicubic", 1e-6)])
def test_cube_is_continuous_across_all_edges_even_in_noise(mode, tolerance):
    # Within two texels of a corner bicubic blends three faces and only a smooth picture is continuous there.
    size = 16
    faces = noise(1, 6, 2, size, size)
    here, there = edge_points(1e-10)
    keep = slice(None) if mode == "bilinear" else slice(13, -13)
    a = geo.sample_cubemap(faces, here, mode)[:, :, :, keep]
    b = geo.sample_cubemap(faces, there, mode)[:, :, :, keep]
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


def test_bilinear_on_the_cube_never_leaves_the_range_of_the_texels():
    faces = (noise(1, 6, 1, 6, 6) > 0.5).to(F64)
    here, there = edge_points(0.05)
    out = geo.sample_cubemap(faces, torch.cat([here, there]))
    assert out.min() >= -1e-12 and out.max() <= 1 + 1e-12


def test_weights_sum_to_one_everywhere():
    rays = torch.cat([random_rays(4000), *[p.reshape(-1, 3) for p in edge_points(0.02)]])
    for mode in geo.MODES:
        for size in (1, 2, 3, 9):
            flat = geo.sample_cubemap(torch.ones(1, 6, 1, size, size, dtype=F64), rays, mode)
            torch.testing.assert_close(flat, torch.ones_like(flat), atol=1e-11, rtol=0)
        flat = geo.sample_equirect(torch.ones(1, 1, 2, 4, dtype=F64), rays, mode)
        torch.testing.assert_close(flat, torch.ones_like(flat), atol=1e-11, rtol=0)


@pytest.mark.parametrize(("mode", "worst", "at_edges"), [("bilinear", 6e-4, 3e-4), ("bicubic", 1.2e-5, 6e-5)])
def test_cube_edges_and_corners_are_as_exact_as_the_middle(mode, worst, at_edges):
    # A clamped border would be off by half a texel there, about 1e-2.
    size = 128
    faces = smooth(geo.face_directions(size, F64)).transpose(0, 1)[None]
    rays = random_rays(60000)
    _, u, v = geo.directions_to_faces(rays)
    inset = (1 - torch.maximum(u.abs(), v.abs())) * size / 2
    error = (geo.sample_cubemap(faces, rays, mode)[0] - smooth(rays)).abs().amax(0)
    assert error[inset > 2].max() < worst
    assert error[inset <= 2].max() < at_edges
    corners = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=F64)
    near = normalize(corners[:, None] + 0.01 * random_rays(200).view(1, 200, 3), dim=-1)
    assert (geo.sample_cubemap(faces, near, mode)[0] - smooth(near)).abs().max() < at_edges


@pytest.mark.parametrize(("mode", "worst"), [("bilinear", 4e-4), ("bicubic", 4e-6)])
def test_seam_and_poles_are_as_exact_as_the_middle(mode, worst):
    height = 256
    picture = smooth(geo.equirect_directions(height, 2 * height, F64))[None]
    around = torch.linspace(-math.pi, math.pi, 50, dtype=F64)
    lat = torch.linspace(-math.pi / 2, math.pi / 2, 301, dtype=F64)
    seam = geo.lonlat_to_directions(math.pi + torch.linspace(-0.01, 0.01, 7, dtype=F64), lat[:, None])
    poles = geo.lonlat_to_directions(around, (lat.sign() * (math.pi / 2) - 0.01 * lat)[::10, None])
    for rays in (seam, poles, random_rays(20000)):
        assert (geo.sample_equirect(picture, rays, mode)[0] - smooth(rays)).abs().max() < worst


def test_bicubic_reproduces_straight_ramps_better_than_grid_sample_does():
    # On the plane of face F the ramp u is straight; grid_sample's own kernel is off by 0.048 texel.
    size = 64
    frames = geo.face_directions(size, F64)
    ramp = (frames[..., 0] / frames[..., 2])[None, :, None]
    u = torch.linspace(-0.8, 0.8, 501, dtype=F64)
    rays = torch.stack([u, torch.full_like(u, 0.1234), torch.ones_like(u)], -1)
    got = geo.sample_cubemap(ramp, rays, "bicubic")[0, 0]
    assert (got - u).abs().max() * size / 2 < 1e-10


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_gradients_in_pixels_and_rays(mode):
    rays = torch.cat(
        [random_rays(4), *[p[::6, 9::60].reshape(-1, 3) for p in edge_points(0.07)]]
    ).requires_grad_()
    picture = noise(1, 1, 4, 8).requires_grad_()
    faces = noise(1, 6, 1, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, r: geo.sample_equirect(p, r, mode), (picture, rays))
    assert torch.autograd.gradcheck(lambda f, r: geo.sample_cubemap(f, r, mode), (faces, rays))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("mode", geo.MODES)
def test_narrow_dtypes_are_computed_in_float32(dtype, mode):
    picture, faces = noise(2, 3, 16, 32).to(dtype), noise(2, 6, 3, 8, 8).to(dtype)
    rays = random_rays(500)
    for sample, pixels in ((geo.sample_equirect, picture), (geo.sample_cubemap, faces)):
        out = sample(pixels, rays, mode)
        assert out.dtype == dtype and out.shape == (2, 3, 500)
        exact = sample(pixels.double(), rays, mode)
        tolerance = {torch.float16: 1e-3, torch.bfloat16: 5e-3, torch.float32: 3e-5}[dtype]
        torch.testing.assert_close(out.double(), exact, atol=tolerance, rtol=0)


def test_one_set_of_rays_per_picture():
    picture, faces = noise(3, 2, 4, 8), noise(3, 6, 2, 4, 4)
    rays = random_rays(3 * 5 * 7).view(3, 5, 7, 3)
    for sample, pixels in ((geo.sample_equirect, picture), (geo.sample_cubemap, faces)):
        out = sample(pixels, rays, per_picture=True)
        assert out.shape == (3, 2, 5, 7)
        for k in range(3):
            torch.testing.assert_close(out[k], sample(pixels[k : k + 1], rays[k])[0])
    assert geo.sample_equirect(picture, rays[0, 0, 0]).shape == (3, 2)
    assert geo.sample_cubemap(faces, rays[:, :0]).shape == (3, 2, 3, 0, 7)
    with pytest.raises(ValueError, match="batch size 3"):
        geo.sample_cubemap(faces, rays[:2], per_picture=True)
