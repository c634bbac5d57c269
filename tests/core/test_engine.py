"""The DiT360 engine on a tiny random model: sizes, seeds, batches, cancelling, errors."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest
import torch

import panodiff_core as pano
from panodiff_core.conditioning.text import TextCondition
from panodiff_core.engines.dit360.config import SamplingOptions
from panodiff_core.engines.dit360.sampling import draw_noise, roll_offsets


@pytest.fixture(scope="module")
def condition(tiny_engine):
    return tiny_engine.encode("a calm sea at sunset", negative="snow")


def test_from_prompt_to_panorama(tiny_engine, condition):
    latents = tiny_engine.sample(condition, seed=3)
    assert latents.shape == (1, 16, 8, 16) and latents.dtype == torch.float32
    picture = tiny_engine.decode(latents)
    assert isinstance(picture, pano.Panorama) and picture.pixels.shape == (1, 3, 64, 128)
    assert 0 <= picture.pixels.min() < picture.pixels.max() <= 1
    assert picture.to_equirect() is picture


def test_seed_decides(tiny_engine, condition):
    first = tiny_engine.sample(condition, seed=3)
    assert torch.equal(first, tiny_engine.sample(condition, seed=3))
    assert not torch.allclose(first, tiny_engine.sample(condition, seed=4))
    rolled = [tiny_engine.sample(condition, seed=3, roll="random") for _ in range(2)]
    assert torch.equal(*rolled) and not torch.allclose(first, rolled[0])


def test_noise_is_one_draw_on_the_cpu():
    """The whole batch at once, float32: the noise that ComfyUI's samplers draw for the seed."""
    expected = torch.randn((2, 16, 8, 16), generator=torch.Generator("cpu").manual_seed(2**64 - 1))
    assert torch.equal(draw_noise((2, 16, 8, 16), 2**64 - 1), expected)


def test_batches_and_prompts(tiny_engine):
    """Pictures of a batch are those that would be made alone from the same noise."""
    condition = tiny_engine.encode(["a red house", "a blue sea"], negative="snow")
    noise = torch.randn(4, 16, 8, 16, generator=torch.Generator().manual_seed(5))
    together = tiny_engine.sample(condition, latents=noise, batch_size=2, cfg=2.0)
    for i, prompt in enumerate(["a red house", "a red house", "a blue sea", "a blue sea"]):
        one = tiny_engine.encode(prompt, negative="snow")
        alone = tiny_engine.sample(one, latents=noise[i : i + 1], cfg=2.0)
        assert torch.allclose(together[i : i + 1], alone, atol=2e-5)
    assert not torch.allclose(together[0], together[2], atol=1e-2)


def test_cfg_batched_equals_sequential(tiny_engine, condition):
    runs = [tiny_engine.sample(condition, cfg=3.0, true_cfg_batched=batched) for batched in (True, False)]
    assert torch.allclose(*runs, atol=2e-5)
    assert not torch.allclose(runs[0], tiny_engine.sample(condition, cfg=1.0), atol=1e-2)


@pytest.mark.parametrize("options", [{}, {"cfg": 2.0}, {"solver": "heun"}])
def test_rolling_by_nothing_changes_nothing(tiny_engine, condition, options):
    """Padding laid anew for each call is padding that stays (spec, section 4.3)."""
    persistent = tiny_engine.sample(condition, **options)
    assert torch.equal(tiny_engine.sample(condition, roll=(0, 0, 0), **options), persistent)


def test_rolling_by_everything_rolls_the_picture(tiny_engine, condition):
    """One fixed offset is the same as rolling the noise and the result."""
    noise = torch.randn(1, 16, 8, 16, generator=torch.Generator().manual_seed(5))
    inside = tiny_engine.sample(condition, latents=noise, roll=(3, 3, 3))
    outside = tiny_engine.sample(condition, latents=noise.roll(6, -1)).roll(-6, -1)
    assert torch.allclose(inside, outside, atol=2e-5)


def test_roll_offsets():
    assert roll_offsets("off", 4, 8, 0) is None
    assert roll_offsets("alternate", 4, 9, 0) == (0, 4, 0, 4)
    assert roll_offsets("late", 7, 8, 0) == (0, 0, 0, 4, 0, 4, 0)
    assert roll_offsets("late", 1, 8, 0) == (0,)
    random = roll_offsets("random", 50, 8, 0)
    assert set(random) == set(range(8)) and random == roll_offsets("random", 50, 8, 0)
    assert random != roll_offsets("random", 50, 8, 1)


def test_steps_are_reported(tiny_engine, condition):
    steps: list[pano.Step] = []
    final = tiny_engine.sample(condition, steps=4, on_step=steps.append)
    assert [(s.index, s.total) for s in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert all(a.sigma > b.sigma for a, b in pairwise(steps)) and steps[-1].sigma == 0.0
    assert all(s.latents.shape == s.denoised.shape == (1, 16, 8, 16) for s in steps)
    assert torch.equal(steps[-1].latents, final)
    assert torch.allclose(steps[-1].denoised, final, atol=1e-6)
    assert tiny_engine.preview(steps[0].denoised).shape == (1, 3, 8, 16)


def test_reporting_changes_nothing(tiny_engine, condition):
    assert torch.equal(tiny_engine.sample(condition, on_step=lambda s: None), tiny_engine.sample(condition))


@pytest.mark.parametrize("error", [pano.Cancelled, KeyboardInterrupt])
def test_cancel_leaves_the_engine_usable(tiny_engine, condition, error):
    before = tiny_engine.sample(condition)
    calls = []

    def cancel(step):
        calls.append(step.index)
        raise error("enough")

    with pytest.raises(error, match="enough"):
        tiny_engine.sample(condition, on_step=cancel)
    assert calls == [1]
    assert torch.equal(tiny_engine.sample(condition), before)
    assert not any(m._forward_hooks for m in tiny_engine.transformer.modules())


def test_heun_calls_the_network_twice_but_for_the_last_step(tiny_engine, condition):
    calls = []
    handle = tiny_engine.transformer.register_forward_hook(lambda *a: calls.append(1))
    try:
        tiny_engine.sample(condition, steps=4, solver="heun")
    finally:
        handle.remove()
    assert len(calls) == 7


def test_mu_rules(tiny_engine, condition):
    """64×128 pixels are 4 × 8 tokens, 4 × 10 with padding."""
    seen = {}
    for mu in ("padded", "unpadded", 1.15):
        tiny_engine.sample(condition, mu=mu, on_step=lambda s, mu=mu: seen.setdefault(mu, s.sigma))
    slope = (1.15 - 0.5) / (4096 - 256)
    exponents = {"padded": slope * (40 - 256) + 0.5, "unpadded": slope * (32 - 256) + 0.5, 1.15: 1.15}
    for mu, exponent in exponents.items():
        expected = 1 / (
            1 + torch.exp(torch.tensor(-exponent)) * 0.5
        )  # u = 2/3 after the first of three steps
        assert seen[mu] == pytest.approx(expected.item(), abs=1e-6)


def test_sizes(tiny_engine, condition):
    assert tiny_engine.sample(condition, height=32, width=48, steps=1).shape == (1, 16, 4, 6)
    assert tiny_engine.sample(condition, height=32, steps=1).shape == (1, 16, 4, 8)
    assert tiny_engine.sample(condition, width=96, steps=1).shape == (1, 16, 6, 12)
    for size, near in (((40, 128), "128×48"), ((64, 119), "112×64"), ((7, 16), "16×16")):
        with pytest.raises(pano.InputError, match=f"multiples of 16; the nearest legal size is {near}"):
            tiny_engine.sample(condition, height=size[0], width=size[1])


@pytest.mark.parametrize(
    "options, text",
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"height": "64"}, "height must be a whole number of at least 1, got '64'"),
        ({"guidance": float("nan")}, "guidance must be a number from 0 to 100"),
        ({"cfg": -1}, "cfg must be a number from 0 to 100"),
        ({"padding": 9}, "padding must be 0 … 8 token columns"),
        ({"roll": "sometimes"}, "roll must be one of off, alternate, late, random"),
        ({"roll": (0, 1)}, "roll has 2 offsets for 3 steps"),
        ({"mu": "fast"}, "mu must be one of padded, unpadded or a number"),
        ({"grid": "karras"}, "grid must be one of linear, quadratic, cosine"),
        ({"solver": "dpm"}, "solver must be one of euler, heun"),
        ({"step": 3}, "unknown option 'step'"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1"),
        ({"latents": torch.zeros(1, 4, 8, 16)}, r"latents must be \[B, 16, h, w\]"),
        ({"latents": torch.zeros(3, 16, 8, 16)}, "3 latents were given for 1 pictures"),
        ({"latents": torch.full((1, 16, 8, 16), torch.nan)}, "NaN or infinite"),
        ({"latents": torch.zeros(1, 16, 7, 16)}, "even height and width"),
    ],
)
def test_refused_options(tiny_engine, condition, options, text):
    """Before the network is called even once."""
    handle = tiny_engine.transformer.register_forward_pre_hook(lambda *a: pytest.fail("called the network"))
    try:
        with pytest.raises(pano.InputError, match=text):
            tiny_engine.sample(condition, **options)
    finally:
        handle.remove()


def test_defaults_are_those_of_the_spec():
    d = SamplingOptions()
    assert (d.height, d.width, d.steps, d.guidance, d.cfg, d.padding) == (1024, 2048, 28, 2.8, 1.0, 1)
    assert (d.roll, d.mu, d.grid, d.solver) == ("off", "padded", "linear", "euler")


def test_nan_names_the_step(tiny_engine, condition):
    calls = []

    def poison(module, args, output):
        calls.append(1)
        return (output[0] * torch.nan,) if len(calls) == 2 else output

    handle = tiny_engine.transformer.register_forward_hook(poison)
    try:
        with pytest.raises(pano.NumericalError, match="stage transformer, step 2 of 3"):
            tiny_engine.sample(condition)
        calls.clear()
        with pytest.raises(pano.NumericalError, match="step 2 of 2"):
            tiny_engine.sample(condition, steps=2)
        calls.clear()
        shown = []
        with pytest.raises(pano.NumericalError, match="step 2 of 3"):
            tiny_engine.sample(condition, on_step=lambda s: shown.append(tiny_engine.preview(s.denoised)))
        assert len(shown) == 2 and all(picture.isfinite().all() for picture in shown)
    finally:
        handle.remove()


def test_nan_in_decoding(tiny_engine):
    handle = tiny_engine.vae.decoder.register_forward_hook(lambda m, i, o: o * torch.nan)
    try:
        with pytest.raises(pano.NumericalError, match="stage vae"):
            tiny_engine.decode(torch.zeros(1, 16, 4, 8))
    finally:
        handle.remove()


def test_negative_prompts(tiny_engine, caplog):
    plain = tiny_engine.encode("a red house")
    assert plain.negative_text is None
    with pytest.raises(
        pano.InputError, match='cfg 2 needs a negative prompt: encode\\(prompt, negative=""\\)'
    ):
        tiny_engine.sample(plain, cfg=2.0)
    with caplog.at_level(logging.WARNING):
        tiny_engine.sample(tiny_engine.encode("a red house", negative=""), steps=1)
        assert not caplog.records
        tiny_engine.sample(tiny_engine.encode("a red house", negative="snow"), steps=1)
    assert "negative prompt has no effect at cfg 1" in caplog.text


def test_foreign_condition(tiny_engine):
    with pytest.raises(pano.InputError, match="the condition is 8 \\+ 24 wide, this model takes 32 \\+ 24"):
        tiny_engine.sample(TextCondition(torch.zeros(1, 4, 8), torch.zeros(1, 24)))


def test_wrong_pictures(tiny_engine):
    with pytest.raises(pano.InputError, match=r"must be \[B, 3, H, W\], got \[3, 64, 128\]"):
        tiny_engine.encode_image(torch.zeros(3, 64, 128))
    with pytest.raises(pano.InputError, match="nearest legal size is 128×64"):
        tiny_engine.encode_image(torch.zeros(1, 3, 60, 128))
    with pytest.raises(pano.InputError, match="even height and width"):
        tiny_engine.decode(torch.zeros(1, 16, 3, 8))


def test_decode_calms_the_poles_when_asked_or_configured(tiny_engine):
    from dataclasses import replace

    from panodiff_core.geometry import polar_filter

    latents = torch.randn(2, 16, 8, 16, generator=torch.Generator().manual_seed(4))
    plain = tiny_engine.decode(latents).pixels
    assert torch.equal(plain, tiny_engine.decode(latents, polar_filter=False).pixels)
    calm = tiny_engine.decode(latents, polar_filter=True).pixels
    assert torch.equal(calm, polar_filter(plain).clamp(0.0, 1.0))
    assert (calm[:, :, 0] - plain[:, :, 0]).abs().max() > 0.01
    usual = tiny_engine.config
    try:
        tiny_engine.config = replace(usual, polar_filter=True)
        assert torch.equal(tiny_engine.decode(latents).pixels, calm)
        assert torch.equal(tiny_engine.decode(latents, polar_filter=False).pixels, plain)
    finally:
        tiny_engine.config = usual


def test_another_engines_condition_is_refused(tiny_engine):
    with pytest.raises(pano.InputError, match="condition is str, another engine's: encode with this one"):
        tiny_engine.sample("a calm sea")
