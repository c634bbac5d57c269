"""The small cubemap model that ships: whole, small enough, and what its card says of prompts and edges."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import panodiff_core as pano
from panodiff_core.data.cubemap_worlds import FACE_TEXTS
from panodiff_core.engines import ENGINES
from panodiff_core.engines.star.checkpoint import read_config
from panodiff_core.metrics.cube import cube_edge_ratios

pytest.importorskip("transformers")

FOLDER = ENGINES["star"].small_model
LIMIT_BYTES = 25_000_000


@pytest.fixture(scope="module")
def engine():
    return pano.load("star", device="cpu")


def test_the_folder_is_whole_and_small():
    config = read_config(FOLDER)
    assert config.kind == "small" and config.face_texts == FACE_TEXTS
    assert config.faceray is not None and config.generator.cross_attention == "per_row"
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= LIMIT_BYTES
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "evaluate star" in card and "train star-faceray" in card


def test_one_prompt_is_heard_with_six_directions(engine):
    condition = engine.encode("a calm sea at sunset")
    assert condition.face_prompts == (
        tuple(text.format(prompt="a calm sea at sunset") for text in FACE_TEXTS.values()),
    )
    assert condition.unknown_words == ()


def test_day_and_night_and_what_lies_above(engine):
    """Front faces of a day and of a night, and the sky above a meadow, by their colours."""
    condition = engine.encode(["a meadow by day under a clear sky", "a city at night under a starry sky"])
    cube = engine.decode(engine.sample(condition, seed=4)).pixels
    day, night = cube.mean(dim=(1, 2, 3, 4))
    assert night < 0.35 < day
    red, green, blue = cube[0].mean(dim=(-2, -1)).unbind(dim=1)
    assert blue[4] > red[4] + 0.1, "a clear sky above is blue"
    assert green[5] > max(red[5], blue[5]), "a meadow below is green"


def test_previews_have_no_frame_around_the_faces(engine):
    """Preview and picture of a sea at sunset: their outermost latents differ no more than those inside do."""
    steps: list[torch.Tensor] = []
    condition = engine.encode("a calm sea at sunset, a few clouds")
    latents = engine.sample(condition, seed=7, on_step=lambda step: steps.append(step.denoised))
    picture = F.adaptive_avg_pool2d(engine.decode(latents).pixels[0], latents.shape[-1])
    rim = torch.ones(picture.shape[-2:], dtype=torch.bool)
    rim[1:-1, 1:-1] = False
    for shown in (engine.preview(steps[2], faces=False), engine.preview(steps[4], faces=False)):
        error = (shown - picture).abs()
        assert error[..., rim].mean() < error[..., ~rim].mean()


def test_its_masked_sampler_draws_the_last_scale_when_it_is_asked(engine):
    assert engine.samplers == ("off", "1024", "new") and engine.config.defaults.sampler == "off"
    condition, steps = engine.encode("a calm sea at sunset"), []
    plain = engine.sample(condition, seed=2)
    drawn = engine.sample(condition, seed=2, sampler="new", on_step=lambda step: steps.append(step.latents))
    coarse = len(engine.generator.scales) - 1
    assert len(steps) == coarse + 8 and torch.equal(steps[-1], drawn)
    assert not torch.equal(plain, drawn)
    assert torch.equal(steps[coarse - 1], _before_the_last_scale(engine, condition))


def _before_the_last_scale(engine, condition):
    steps = []
    engine.sample(condition, seed=2, on_step=lambda step: steps.append(step.latents))
    return steps[-2]


def test_faces_meet_better_with_the_adapters(engine):
    condition = engine.encode(
        ["a snowy landscape with pines by day", "a calm sea at sunset with rocks", "a desert with dunes"]
    )
    ratios = []
    for strength in (0.0, 1.0):
        cubes = engine.decode(engine.sample(condition, seed=11, adapter_strength=strength)).pixels
        by_distance, _ = cube_edge_ratios(cubes)
        ratios.append(float(torch.stack(list(by_distance.values())).mean()))
    off, on = ratios
    assert on - 1 < 0.7 * (off - 1)
