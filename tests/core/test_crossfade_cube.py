"""The cross-fade of a cubemap: it closes steps at edges and corners, and leaves faces that agree alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

import panodiff_core as pano
from panodiff_core.geometry import crossfade_cube, edge_neighbours, edge_texels, face_directions

SIZE, PIXELS = 64, 8
OFFSETS = torch.tensor([0.1, 0.3, 0.0, 0.5, 0.2, 0.6], dtype=torch.float64)


def world(size: int) -> torch.Tensor:
    """One smooth world on the six faces, [1, 6, 3, size, size]."""
    x, y, z = face_directions(size, torch.float64).unbind(-1)
    colours = [torch.sin(3 * x + phase) * torch.cos(2 * y + z) for phase in (0.0, 1.0, 2.0)]
    return 0.5 + 0.3 * torch.stack(colours, dim=1)[None]


def steps(faces: torch.Tensor) -> torch.Tensor:
    """|difference| of neighbouring texels across each edge, [6, 4, S]."""
    flat = faces[0, :, 0].flatten()
    size = faces.shape[-1]
    return (flat[edge_texels(size)] - flat[edge_neighbours(size)]).abs()


def flat_faces(size: int = SIZE) -> torch.Tensor:
    return OFFSETS.view(1, 6, 1, 1, 1).expand(1, 6, 3, size, size).contiguous()


@pytest.mark.parametrize("pixels", [2, 8, 16])
def test_faces_of_one_world_stay_as_they_are(pixels):
    """Neighbouring faces sample other rays: the bound is that of the extrapolation, and falls with 1/S²."""
    errors = [(crossfade_cube(world(size), pixels) - world(size)).abs().max() for size in (64, 128, 256)]
    assert errors[0] <= 1.1e-4 and errors[2] <= 7.5e-6
    assert all(3.5 < float(coarse / fine) < 4.5 for coarse, fine in pairwise(errors))
    same = torch.full((1, 6, 3, 32, 32), 0.3, dtype=torch.float64)
    assert (crossfade_cube(same, pixels) - same).abs().max() <= 1e-15


def test_a_step_closes_at_the_edge_and_is_gone_at_the_fades_end():
    faces, faded = flat_faces(), crossfade_cube(flat_faces(), PIXELS)
    ramp, inner = (
        steps(faces) / (2 * PIXELS),
        slice(PIXELS, -PIXELS),
    )  # half a pixel of the ramp on either side
    assert torch.allclose(steps(faded)[..., inner], ramp[..., inner], atol=1e-12)
    assert (steps(faded) <= ramp + 1e-12).all()
    change = (faded - faces)[0, :, 0]
    assert change[:, PIXELS:-PIXELS, PIXELS:-PIXELS].abs().max() == 0.0
    middle = change[0, SIZE // 2]  # F between L and R
    fall = 1 - (torch.arange(PIXELS, dtype=torch.float64) + 0.5) / PIXELS
    assert torch.allclose(middle[:PIXELS], (OFFSETS[3] - OFFSETS[0]) / 2 * fall, atol=1e-12)
    assert torch.allclose(middle.flip(0)[:PIXELS], (OFFSETS[1] - OFFSETS[0]) / 2 * fall, atol=1e-12)
    widest = max((faded.diff(dim=axis)).abs().max() for axis in (-1, -2))
    assert widest <= 0.6 / (2 * PIXELS) + 1e-12  # nowhere steeper than the largest step's own ramp


def test_a_corner_goes_to_the_mean_of_its_three_faces():
    faded = crossfade_cube(flat_faces(256), 64)
    mean = OFFSETS[[0, 1, 4]].mean()
    for face, row, column in ((0, 0, -1), (1, 0, 0), (4, -1, -1)):  # F, R and U around their corner
        assert abs(faded[0, face, 0, row, column] - mean) < 0.02 * 0.6


def test_fine_texture_is_kept_out():
    numbers = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(1, 6, 3, SIZE, SIZE, generator=numbers, dtype=torch.float64)
    smooth, plain = (crossfade_cube(noise, PIXELS, smooth_rows=s) - noise for s in (None, 0.0))
    assert smooth.abs().mean() < 0.5 * plain.abs().mean()
    shifted = crossfade_cube(flat_faces() + noise, PIXELS) - noise
    assert (shifted - smooth - crossfade_cube(flat_faces(), PIXELS)).abs().max() < 1e-12  # it is linear


def test_stitching_with_a_fade():
    cube = pano.CubeFaces(flat_faces().float())
    plain, faded = cube.to_equirect().pixels, cube.to_equirect(fade=PIXELS).pixels
    row = plain.shape[-2] // 2  # crosses F, R, B and L
    assert plain[0, 0, row].diff().abs().max() > 0.15
    assert faded[0, 0, row].diff().abs().max() < 0.06
    assert cube.to_equirect(40, 4).pixels.shape == (1, 3, 40, 80)
    for bad in (1, -2, SIZE // 2 + 1, 4.0, True):
        with pytest.raises(
            pano.InputError, match=f"fade must be 0, or from 2 to {SIZE // 2}, half a face, got"
        ):
            cube.to_equirect(fade=bad)
    before, after = (pano.seam_report(pano.CubeFaces(f)) for f in (noisy(), crossfade_cube(noisy(), PIXELS)))
    assert before.ratio_1 > 5.0 and after.ratio_1 < 1.5 and len(after.edges) == 12


def noisy() -> torch.Tensor:
    numbers = torch.Generator().manual_seed(1)
    return flat_faces().float() + 0.01 * torch.rand(1, 6, 3, SIZE, SIZE, generator=numbers)


def test_dtype_and_input_are_kept():
    faces = flat_faces(16).half()
    before = faces.clone()
    faded = crossfade_cube(faces, 4)
    assert faded.dtype == torch.float16 and faded.shape == faces.shape and torch.equal(faces, before)


@pytest.mark.parametrize(
    ("shape", "pixels", "options", "words"),
    [
        ((6, 3, 8, 8), 2, {}, "a cubemap is"),
        ((1, 6, 3, 8, 8), 5, {}, "from 2 to 4"),
        ((1, 6, 3, 8, 8), 1, {}, "from 2 to 4"),
        ((1, 6, 3, 8, 8), 2.0, {}, "whole number"),
        ((1, 6, 3, 8, 8), 2, {"smooth_rows": -1.0}, "smooth_rows must be 0 or more"),
    ],
)
def test_bad_input(shape, pixels, options, words):
    with pytest.raises(pano.InputError, match=words):
        crossfade_cube(torch.zeros(shape), pixels, **options)
