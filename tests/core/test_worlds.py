"""Worlds: the same scene from every view, attributes that hold, captions that say what is there."""

import math

import pytest
import torch

from panodiff_core.data import worlds
from panodiff_core.data.worlds.attributes import HELD_OUT_ONE_IN, LIGHT_WORDS
from panodiff_core.geometry import equirect_directions
from panodiff_core.runtime.errors import InputError

SEEDS = range(24)


@pytest.mark.parametrize("seed", SEEDS)
def test_rendering_is_deterministic_finite_and_in_range(seed):
    scene = worlds.sample_scene(seed)
    first, second = (worlds.render_equirect(scene, 32, 64) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.isfinite(first).all()
    assert first.min() >= 0 and first.max() <= 1
    assert first.std() > 0.03, "a picture without contrast is not a scene"


@pytest.mark.parametrize("seed", SEEDS)
def test_any_view_of_a_scene_agrees_ray_by_ray(seed):
    scene = worlds.sample_scene(seed)
    rays = equirect_directions(32, 64)
    whole = worlds.render(scene, rays, pixel_angle=0.05)
    part = worlds.render(scene, rays[20:28, 3:40], pixel_angle=0.05)
    torch.testing.assert_close(part, whole[20:28, 3:40], atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_rotating_a_scene_rolls_its_panorama(seed):
    scene = worlds.sample_scene(seed)
    rolled = torch.roll(worlds.render_equirect(scene, 32, 64), 16, dims=-1)
    turned = worlds.render_equirect(scene.rotated(90.0), 32, 64)
    # Rounding in the direction moves a few silhouettes by a hair; whole columns must not.
    assert (rolled - turned).abs().median() < 1e-4
    assert ((rolled - turned).abs() > 0.02).float().mean() < 0.02
    if scene.light_azimuth_deg is not None:
        turned_by = (scene.rotated(90.0).light_azimuth_deg - scene.light_azimuth_deg) % 360
        assert turned_by == pytest.approx(90.0)


def test_the_sun_stands_where_its_attribute_says():
    scenes = (worlds.sample_scene(s) for s in range(2000))
    scene = next(
        s
        for s in scenes
        if s["place"] == "sea"
        and s["time"] == "day"
        and s["sky"] == "clear"
        and s["air"] == "crisp"
        and s["feature"] == "empty"
    )
    top = worlds.render_equirect(scene, 64, 128)[:, :32].sum(0)
    column = int(top.max(0).values.argmax())
    azimuth = ((column + 0.5) / 128 - 0.5) * 360
    assert abs((azimuth - scene.light_azimuth_deg + 180) % 360 - 180) < 6


def test_time_animates_outdoor_water():
    scene = next(s for s in map(worlds.sample_scene, range(500)) if s["place"] == "sea")
    rays = equirect_directions(32, 64)
    assert (worlds.render(scene, rays, time=0.0) - worlds.render(scene, rays, time=2.0)).abs().mean() > 1e-3


def test_splits_share_no_combination_and_cover_all_values():
    train = {worlds.sample_scene(s, "train").values for s in range(3000)}
    held = {worlds.sample_scene(s, "held_out").values for s in range(3000)}
    assert not train & held
    for name, values in worlds.ATTRIBUTES.items():
        seen = {worlds.sample_scene(s, "held_out").attributes()[name] for s in range(3000)}
        assert set(values) <= seen, name


def test_there_are_over_ten_thousand_combinations():
    total = 0
    for place in worlds.ATTRIBUTES["place"]:
        skies = worlds.values_of(place, "sky") or (None,)
        rest = math.prod(
            len(worlds.values_of(place, n)) or 1
            for n in worlds.ATTRIBUTES
            if n not in ("place", "light", "sky")
        )
        total += rest * sum(1 if sky == "overcast" else len(LIGHT_WORDS) for sky in skies)
    assert total == 21_792  # as the README says
    share = sum(worlds.is_held_out(worlds.sample_scene(s, "all")) for s in range(2000)) / 2000
    assert share == pytest.approx(1 / HELD_OUT_ONE_IN, abs=0.05)


@pytest.mark.parametrize("style", ["full", "partial", "short", "tags"])
def test_captions_stay_in_the_vocabulary_and_mention_only_true_things(style):
    known = set(worlds.vocabulary())
    for seed in range(300):
        scene = worlds.sample_scene(seed)
        text = worlds.caption(scene, seed, style)
        assert set(worlds.split_words(text.text)) <= known
        truth = scene.attributes()
        assert all(truth[name] == value for name, value in text.mentioned.items())
        if style == "full":
            assert text.mentioned == {k: v for k, v in truth.items() if v is not None}


def test_captions_can_be_told_to_state_something():
    """The wording of the rest stays; without it a short caption seldom states the light."""
    stated = plain = 0
    for seed in range(200):
        scene = worlds.sample_scene(seed)
        direction = scene.light_direction
        told = worlds.caption(scene, seed, "short", always=("light",)).mentioned
        free = worlds.caption(scene, seed, "short").mentioned
        assert told == (free if direction is None else {**free, "light": direction})
        stated, plain = stated + ("light" in told), plain + ("light" in free)
    assert stated > 3 * plain > 0


def test_one_scene_has_many_phrasings():
    scene = worlds.sample_scene(3)
    assert len({worlds.caption(scene, seed, "full").text for seed in range(50)}) > 40


def test_texture_at_every_scale():
    """The power spectrum along rows falls like a natural picture's (slope near -2), not like a gradient's."""
    power = 0
    for seed in range(24):
        picture = worlds.render_equirect(worlds.sample_scene(seed), 128, 256).mean(0)
        rows = picture[32:96] - picture[32:96].mean(1, keepdim=True)
        power = power + torch.fft.rfft(rows, dim=1).abs().square().mean(0)
    k = torch.arange(4, 100).float()
    slope = torch.linalg.lstsq(
        torch.stack([k.log(), torch.ones_like(k)], 1), power[4:100].log()[:, None]
    ).solution[0, 0]
    assert -2.6 < slope < -1.2


def test_bad_arguments_name_the_fix():
    with pytest.raises(InputError, match="last dimension must be 3"):
        worlds.render(worlds.sample_scene(0), torch.zeros(4, 2))
    with pytest.raises(InputError, match="train"):
        worlds.sample_scene(0, "test")
    with pytest.raises(InputError, match="full, partial"):
        worlds.caption(worlds.sample_scene(0), 0, "long")
