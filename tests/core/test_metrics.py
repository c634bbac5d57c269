"""Seam, pole, rank and diversity figures on pictures whose answer is known."""

from __future__ import annotations

import json
import math

import numpy
import pytest
import torch

from panodiff_core.metrics.cube import cube_edge_ratios
from panodiff_core.metrics.diversity import low_pass_features, mean_aligned_distance, mean_pairwise_distance
from panodiff_core.metrics.poles import picture_variance, pole_variance
from panodiff_core.metrics.ranks import wrap_rank_p_value
from panodiff_core.metrics.ring import column_steps, profile_bands, row_profile, seam_ratio, wrap_rank
from panodiff_core.metrics.seams import seam_report
from panodiff_core.runtime.errors import InputError, NumericalError


def texture(directions: torch.Tensor, seed: int = 0, waves: int = 60) -> torch.Tensor:
    """A smooth function on the sphere [...,3] -> [...,3] in 0..1: plane waves in space, wavelengths of 12°
    and more.
    """
    generator = torch.Generator().manual_seed(seed)
    wave = torch.randn(waves, 3, generator=generator, dtype=torch.float64)
    wave = (
        wave / wave.norm(dim=1, keepdim=True) * (2 + 28 * torch.rand(waves, 1, generator=generator).double())
    )
    phase = 6.283 * torch.rand(waves, generator=generator).double()
    colour = torch.randn(waves, 3, generator=generator, dtype=torch.float64)
    values = torch.sin(directions.double() @ wave.T + phase) @ colour
    return 0.5 + values / (8 * math.sqrt(waves))


def ring_pictures(count: int, height: int = 64) -> torch.Tensor:
    width = 2 * height
    lon = ((torch.arange(width) + 0.5) / width - 0.5).double() * 2 * math.pi
    lat = ((0.5 - (torch.arange(height) + 0.5) / height).double() * math.pi)[:, None]
    lon, lat = torch.broadcast_tensors(lon, lat)
    rays = torch.stack([lat.cos() * lon.sin(), lat.sin(), lat.cos() * lon.cos()], dim=-1)
    return torch.stack([texture(rays, seed).permute(2, 0, 1) for seed in range(count)])


@pytest.fixture(scope="module")
def rings() -> torch.Tensor:
    return ring_pictures(64)


def cut(pictures: torch.Tensor) -> torch.Tensor:
    """Half a turn missing between the last and the first column: the left half of each picture, twice as
    wide.
    """
    half = pictures[..., : pictures.shape[-1] // 2]
    return torch.nn.functional.interpolate(half, pictures.shape[-2:], mode="bilinear")


def blurred_seam(pictures: torch.Tensor, reach: int = 6) -> torch.Tensor:
    """The columns next to the seam pulled towards their mean, fully at the seam itself."""
    result = pictures.clone()
    middle = (pictures[..., 0] + pictures[..., -1]) / 2
    for j in range(reach):
        share = 1 - j / reach
        for column in (j, -1 - j):
            result[..., column] = (1 - share) * pictures[..., column] + share * middle
    return result


def test_a_perfect_ring_has_ratio_one_at_every_distance(rings):
    report = seam_report(rings)
    for distance in (1, 2, 8, 16):
        values = report.per_picture[f"ratio_{distance}"]
        # 64 pictures, each with one seam against 127 columns: the mean must be 1 within its standard error.
        assert abs(values.mean() - 1) < 3 * values.std() / 8 and abs(values.mean() - 1) < 0.08, distance
        assert getattr(report, f"ratio_{distance}") == pytest.approx(values.mean().item())
    assert abs(report.wrap_rank - 0.5) < 0.12
    assert wrap_rank_p_value(report.per_picture["wrap_rank"].tolist()) > 0.05


def test_the_ratio_is_the_quotient_of_the_definition():
    pixels = torch.rand(2, 3, 5, 40, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for distance in (1, 2, 8, 16):
        across = [(pixels[..., j - 40 + distance] - pixels[..., j]).abs() for j in range(40 - distance, 40)]
        inside = [(pixels[..., j + distance] - pixels[..., j]).abs() for j in range(40 - distance)]
        expected = torch.stack(across).mean((0, 2, 3)) / torch.stack(inside).mean((0, 2, 3))
        assert torch.allclose(seam_report(pixels).per_picture[f"ratio_{distance}"], expected, rtol=1e-12)


def test_a_cut_is_far_above_one_and_an_outlier(rings):
    report = seam_report(cut(rings))
    assert report.ratio_1 > 5 and report.ratio_2 > 3 and report.ratio_8 > 1.2
    assert report.wrap_rank > 0.99
    assert wrap_rank_p_value(report.per_picture["wrap_rank"].tolist()) < 1e-6
    assert "a step shows" in report.summary()


def test_a_busy_column_among_busy_columns_is_no_cut():
    picture = torch.full((1, 3, 16, 200), 0.5)
    picture[..., ::8] = 0.9  # 25 bright lines; one stands at the seam
    report = seam_report(picture)
    assert report.ratio_1 > 1.6 and report.wrap_rank < 0.95
    assert "no cut" in report.summary() and "shows" not in report.summary()
    real = torch.full((1, 3, 16, 200), 0.5)
    real[..., :100] = torch.linspace(0.2, 0.9, 100)
    assert "a step shows at the seam of 1." in seam_report(torch.cat([picture, real, picture])).summary()


def test_a_blurred_seam_is_far_below_one_and_an_outlier(rings):
    report = seam_report(blurred_seam(rings))
    assert report.ratio_1 < 0.01 and report.ratio_2 < 0.6
    assert report.wrap_rank < 0.02
    assert wrap_rank_p_value(report.per_picture["wrap_rank"].tolist()) < 1e-6
    assert "smoother than the rest" in report.summary()


@pytest.mark.parametrize("shift", [1, 17, 64])
def test_turning_a_ring_leaves_the_measure_unbiased_and_moves_a_cut_away(rings, shift):
    report = seam_report(rings.roll(shift, -1))
    assert abs(report.ratio_1 - 1) < 0.08 and abs(report.wrap_rank - 0.5) < 0.12
    assert seam_report(cut(rings).roll(shift, -1)).ratio_1 < 1.0


def test_column_steps_turn_with_the_picture(rings):
    steps = column_steps(rings[:3], 8)
    assert torch.allclose(column_steps(rings[:3].roll(5, -1), 8), steps.roll(5, -1))
    with pytest.raises(InputError, match="distance 128"):
        column_steps(rings[:1], 128)


def test_one_colour_has_no_seam_and_a_lone_step_is_infinite():
    flat = seam_report(torch.full((1, 3, 32, 64), 0.4))
    assert flat.ratio_1 == flat.ratio_16 == 1 and flat.wrap_rank == 0.5
    assert flat.pole_variance_top == flat.pole_variance_bottom == 0
    steps = torch.zeros(1, 8)
    steps[0, -1] = 0.5
    assert seam_ratio(steps).item() == math.inf
    step = torch.zeros(1, 3, 32, 64)
    step[..., 32:] = torch.linspace(0, 1e-30, 32)
    assert json.dumps(seam_report(step).to_dict(), allow_nan=False)


def test_rank_counts_smaller_columns_and_half_of_the_ties():
    steps = torch.tensor([[1.0, 5.0, 2.0, 9.0, 2.0, 2.0]])
    assert wrap_rank(steps).item() == pytest.approx((1 + 0.5 * 2) / 5)
    # Within blocks of two, columns 1 and 3 (steps 5 and 9) are comparable with column 5.
    assert wrap_rank(steps, stride=2).item() == 0
    for stride in (0, 4, 6):
        with pytest.raises(InputError, match="stride"):
            wrap_rank(steps, stride)


@pytest.mark.parametrize("height", [1, 15, 37])
def test_rows_are_measured_in_blocks_without_a_trace(height):
    pixels = torch.rand(2, 3, height, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    steps = (pixels.roll(-3, -1) - pixels).abs()
    assert torch.allclose(column_steps(pixels, 3), steps.mean((1, 2)), rtol=1e-12)
    steps = (pixels.roll(-1, -1) - pixels).abs()
    ratios = steps[..., -1].mean(1) / steps[..., :-1].mean((1, 3))
    assert torch.allclose(row_profile(pixels, window=1), ratios, rtol=1e-12)
    rows = pixels.var(-1, correction=0).mean(1) / picture_variance(pixels)[:, None]
    assert torch.allclose(torch.stack(pole_variance(pixels)), rows[:, [0, -1]].T, rtol=1e-12)


def test_the_threshold_moves_the_words_and_the_verdict_together(rings):
    report = seam_report(cut(rings[:3]))
    ratios = report.per_picture["ratio_1"]
    lowest = ratios.min().item()
    assert report.cuts().all() and report.verdict() == "a step shows at the seam of 3"
    assert report.cuts(lowest).tolist() == (ratios > lowest).tolist() and report.cuts(lowest).sum() == 2
    assert "shows at the seam of 2" in report.summary(lowest)
    assert not report.cuts(1e6).any() and "no step shows" in report.summary(1e6)
    assert not seam_report(rings.roll(5, -1)[:1]).cuts(0.0).any()  # its rank is that of any column


def test_profile_bands_keep_the_largest_row():
    profile = torch.tensor([[1.0, 7.0, 2.0, 3.0, math.inf, 0.5, 0.25]])
    assert profile_bands(profile, 3).tolist() == [[7.0, math.inf, math.inf]]
    assert torch.equal(profile_bands(profile, 256), profile)
    assert torch.equal(profile_bands(profile[:, :6], 2), torch.tensor([[7.0, math.inf]]))


def test_row_profile_shows_where_the_seam_is():
    pixels = ring_pictures(1)
    pixels[:, :, 20:30, 0] += 0.5
    rows = row_profile(pixels, window=1)
    assert rows.shape == (1, 64)
    assert rows[0, 20:30].min() > 4 * rows[0, :20].median()
    wide = row_profile(pixels)
    assert wide[0, 25] > 5 and wide[0, 40:].max() < 5
    with pytest.raises(InputError, match="odd"):
        row_profile(pixels, window=4)


def test_pole_variance_against_the_definition_and_its_scale():
    pixels = ring_pictures(2).float()
    top, bottom = pole_variance(pixels)
    # The first row is a circle of 1.4° around the pole: calm, but not one colour (wavelengths from 12°).
    assert 0 < top.max() < 0.15 and 0 < bottom.max() < 0.15
    assert torch.allclose(pole_variance(0.25 * pixels + 0.3)[0], top, rtol=1e-3)
    noise = torch.rand(4, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(torch.cat(pole_variance(noise)), torch.ones(8), atol=0.25)
    rows = torch.linspace(0, 1, 64)[:, None].expand(1, 3, 64, 128)
    weights = numpy.cos((0.5 - (numpy.arange(64) + 0.5) / 64) * numpy.pi)
    values = numpy.linspace(0, 1, 64)
    expected = numpy.average((values - numpy.average(values, weights=weights)) ** 2, weights=weights)
    assert picture_variance(rows).item() == pytest.approx(expected, rel=1e-5)
    assert pole_variance(rows)[0].item() == pytest.approx(0, abs=1e-9)


def test_p_value_is_uniform_on_rings_and_matches_known_values():
    generator = numpy.random.default_rng(5)
    p = numpy.array([wrap_rank_p_value(generator.uniform(size=64)) for _ in range(400)])
    assert 0.02 < (p < 0.05).mean() < 0.09 and 0.44 < p.mean() < 0.56
    # Evenly spread ranks lie nearest to the diagonal; the exact p of D = 1/128 is 1.
    assert wrap_rank_p_value((numpy.arange(64) + 0.5) / 64) == pytest.approx(1)
    # Tabulated 5 % point of D for n = 20: 0.294 (ranks squeezed by just that much).
    assert wrap_rank_p_value((numpy.arange(20) + 1) / 20 * (1 - 0.294)) == pytest.approx(0.05, abs=0.005)


def test_p_value_sees_cuts_blurs_and_a_mixture():
    high = numpy.linspace(0.93, 1, 64)
    assert wrap_rank_p_value(high) < 1e-9 and wrap_rank_p_value(1 - high) < 1e-9
    assert wrap_rank_p_value(numpy.concatenate([high[:32], 1 - high[:32]])) < 1e-5
    with pytest.raises(InputError, match="at least 8"):
        wrap_rank_p_value([0.5] * 7)
    with pytest.raises(InputError, match="between 0 and 1"):
        wrap_rank_p_value([0.5] * 8 + [1.2])


# The face frames of the conventions, written out: normal, image-right, image-up.
FRAMES = {
    "F": ((0, 0, 1), (1, 0, 0), (0, 1, 0)),
    "R": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "B": ((0, 0, -1), (-1, 0, 0), (0, 1, 0)),
    "L": ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
    "U": ((0, 1, 0), (1, 0, 0), (0, 0, -1)),
    "D": ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
}


def cube_pictures(count: int, size: int = 64) -> torch.Tensor:
    u = 2 * (torch.arange(size).double() + 0.5) / size - 1
    faces = []
    for normal, right, up in FRAMES.values():
        n, a, b = (torch.tensor(v, dtype=torch.float64) for v in (normal, right, up))
        rays = n + u[None, :, None] * a - u[:, None, None] * b
        faces.append(rays / rays.norm(dim=-1, keepdim=True))
    rays = torch.stack(faces)
    return torch.stack([texture(rays, seed).permute(0, 3, 1, 2) for seed in range(count)])


EDGES = {"F-R", "F-L", "F-U", "F-D", "R-B", "R-U", "R-D", "B-L", "B-U", "B-D", "L-U", "L-D"}


def test_cube_edges_of_one_world_have_ratio_one():
    faces = cube_pictures(8)
    ratios, names = cube_edge_ratios(faces)
    assert set(names) == EDGES and len(names) == 12
    assert ratios[1].shape == (8, 12)
    assert ratios[1].mean(dim=0).sub(1).abs().max() < 0.12
    for distance, limit in ((1, 0.05), (2, 0.06), (8, 0.15), (16, 0.25)):
        assert abs(ratios[distance].mean() - 1) < limit, distance


def test_cube_edges_of_noise_are_not_biased_by_reading_between_pixels():
    noise = torch.rand(2, 6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    ratios, _ = cube_edge_ratios(noise)
    # Without the second, equally smoothed, comparison inside the face these would be about 0.9.
    assert all(abs(ratios[distance].mean() - 1) < 0.055 for distance in (1, 2, 8, 16))


@pytest.mark.parametrize("face", range(6))
def test_a_foreign_or_turned_face_shows_at_its_own_four_edges(face):
    faces = cube_pictures(2)
    before, names = cube_edge_ratios(faces)
    letter = "FRBLUD"[face]
    for broken in (cube_pictures(3)[2, face], faces[0, face].flip(-1), faces[0, face].transpose(-1, -2)):
        wrong = faces.clone()
        wrong[0, face] = broken
        ratios, _ = cube_edge_ratios(wrong)
        touched = [letter in name.split("-") for name in names]
        assert sum(touched) == 4
        assert (ratios[1][0, touched] / before[1][0, touched]).mean() > 3
        untouched = [not flag for flag in touched]
        assert torch.equal(ratios[1][0, untouched], before[1][0, untouched])
        assert torch.equal(ratios[1][1], before[1][1])


def test_cube_shapes_are_checked():
    with pytest.raises(InputError, match="B,6,C,S,S"):
        cube_edge_ratios(torch.zeros(1, 5, 3, 64, 64))
    with pytest.raises(InputError, match="at least 32"):
        cube_edge_ratios(torch.zeros(1, 6, 3, 16, 16))


def test_report_dispatches_on_the_type(rings):
    from panodiff_core.pictures import CubeFaces, Panorama, Sequence

    direct = seam_report(rings[:2])
    assert seam_report(Panorama(rings[:2])).to_dict() == direct.to_dict()
    assert seam_report(rings[0]).per_picture["ratio_1"].shape == (1,)
    frames = seam_report(Sequence(rings[:6].unflatten(0, (2, 3))))
    assert torch.equal(frames.per_picture["ratio_8"], seam_report(rings[:6]).per_picture["ratio_8"])
    cube = seam_report(CubeFaces(cube_pictures(2)))
    assert set(cube.edges) == EDGES and cube.wrap_rank is None and cube.rows is None
    assert abs(cube.ratio_1 - 1) < 0.1 and "12 cube edges" in cube.summary()
    assert json.loads(json.dumps(cube.to_dict()))["edges"]["F-R"][0] == pytest.approx(
        float(cube.edges["F-R"][0])
    )


def test_report_is_plain_and_readable(rings):
    report = seam_report(rings[:2].half())
    assert report.rows.shape == (2, 64) and isinstance(report.ratio_1, float)
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert len(plain["per_picture"]["pole_variance_top"]) == 2
    assert (
        "at 16 px" in report.summary()
        and "2 pictures" in report.summary()
        and "Pole variance" in report.summary()
    )


def test_report_refuses_what_it_cannot_measure():
    with pytest.raises(InputError, match=r"\[2, 4, 8, 64\]"):
        seam_report(torch.zeros(2, 4, 8, 64))
    with pytest.raises(InputError, match="at least 34"):
        seam_report(torch.zeros(1, 3, 16, 32))
    with pytest.raises(NumericalError, match="NaN"):
        seam_report(torch.full((1, 3, 32, 64), float("nan")))
    with pytest.raises(InputError, match="str"):
        seam_report("pano.png")


def test_diversity_is_the_rms_colour_difference():
    first, second = torch.full((3, 64, 128), 0.2), torch.full((3, 64, 128), 0.5)
    features = low_pass_features(torch.stack([first, second]))
    assert mean_pairwise_distance(features) == pytest.approx(0.3, abs=1e-5)
    grain = 0.2 + 0.2 * torch.rand(2, 3, 128, 256, generator=torch.Generator().manual_seed(0))
    assert mean_pairwise_distance(low_pass_features(grain)) < 0.02
    with pytest.raises(InputError, match="two"):
        mean_pairwise_distance(features[:1])


def test_turned_copies_are_diverse_only_before_alignment():
    picture = ring_pictures(1).float()
    turned = low_pass_features(torch.cat([picture.roll(8 * k, -1) for k in range(4)]))
    assert mean_pairwise_distance(turned) > 0.05
    assert mean_aligned_distance(turned) < 1e-6
    different = low_pass_features(ring_pictures(4).float())
    assert 0.5 * mean_pairwise_distance(different) < mean_aligned_distance(different)
    assert mean_aligned_distance(different) <= mean_pairwise_distance(different)
