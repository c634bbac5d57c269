"""From a picture: Encode Panorama, Sample DiT360 with latents and a mask, Upscale Panorama. Numbers are the engine's own."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.comfyui

SAMPLE = {"seed": 5, "width": 0, "height": 0, "steps": 4, "guidance": 0.0, "cfg": 0.0, "batch_size": 1}


@pytest.fixture(scope="module")
def engine(node_classes, tiny_choice):
    (engine,) = node_classes["PanoDiff_LoadDiT360"].execute(model=tiny_choice, dtype="auto").result
    return engine


@pytest.fixture(scope="module")
def condition(engine):
    return engine.encode("a calm sea", negative="")


@pytest.fixture(scope="module")
def latents(engine, condition):
    return engine.sample(condition, seed=1, height=32, width=64, steps=2)


@pytest.fixture
def sample(node_classes, engine, condition):
    def run(**inputs) -> torch.Tensor:
        node = node_classes["PanoDiff_SampleDiT360"]
        return node.execute(engine=engine, condition=condition, **{**SAMPLE, **inputs}).result[0]

    return run


def test_encode_is_the_engines(node_classes, engine, panorama) -> None:
    node = node_classes["PanoDiff_EncodePanorama"]
    (latents,) = node.execute(engine=engine, panorama=panorama).result
    expected = engine.encode_image(panorama.movedim(-1, 1).contiguous())
    assert latents.shape == (1, 16, 4, 8) and torch.equal(latents, expected)
    alpha = torch.cat([panorama, torch.rand(1, 32, 64, 1)], dim=-1)
    assert torch.equal(node.execute(engine=engine, panorama=alpha.half()).result[0],
                       engine.encode_image(panorama.half().float().movedim(-1, 1).contiguous()))  # fmt: skip
    with pytest.raises(ValueError, match="twice as wide as high; this picture is 32 x 32"):
        node.execute(engine=engine, panorama=panorama[:, :, :32])


def test_memory_limit_reaches_the_autoencoder(node_classes, engine, panorama, latents) -> None:
    encode, decode = node_classes["PanoDiff_EncodePanorama"], node_classes["PanoDiff_DecodePanorama"]
    with pytest.raises(
        ValueError, match="takes at least .* GB beside the weights, and memory_gb allows 1e-06"
    ):
        encode.execute(engine=engine, panorama=panorama, memory_gb=1e-6)
    with pytest.raises(
        ValueError, match="takes at least .* GB beside the weights, and memory_gb allows 1e-06"
    ):
        decode.execute(engine=engine, latents=latents, memory_gb=1e-6)


def test_sample_starts_from_latents(sample, engine, condition, latents) -> None:
    for strength in (0.25, 1.0):
        expected = engine.sample(condition, seed=5, steps=4, image_latents=latents, strength=strength)
        assert torch.equal(sample(latents=latents, strength=strength), expected)
    assert torch.equal(sample(latents=latents), sample(width=64, height=32))
    assert (sample(latents=latents, strength=0.25) - latents).abs().mean() < (
        sample(latents=latents, strength=0.75) - latents
    ).abs().mean()


def test_mask_is_brought_to_latents_and_keeps_what_is_black(sample, engine, condition, latents) -> None:
    small = torch.zeros(1, 4, 8)
    small[..., 6:], small[..., :1] = 1.0, 1.0  # across the back
    expected = engine.sample(condition, seed=5, steps=4, image_latents=latents, mask=small[:, None])
    pixels = small.repeat_interleave(8, 1).repeat_interleave(8, 2)
    for mask in (pixels, pixels[0], small):
        assert torch.equal(sample(latents=latents, mask=mask), expected)
    assert torch.equal(expected[..., 1:6], latents[..., 1:6])
    assert (expected - latents)[..., 6:].abs().mean() > 0.05 and (expected - latents)[
        ..., 0
    ].abs().mean() > 0.05


def test_inputs_that_contradict_themselves_are_refused(sample, latents) -> None:
    with pytest.raises(ValueError, match="connect latents, from Encode Panorama"):
        sample(mask=torch.ones(1, 32, 64))
    with pytest.raises(ValueError, match="the mask is 64 x 64 and the latents are 8 x 4"):
        sample(latents=latents, mask=torch.ones(1, 64, 64))
    with pytest.raises(ValueError, match="there is no picture to start from"):
        sample(strength=0.5)


@pytest.mark.parametrize("factor", [2, 4])
def test_upscale_is_the_engines(node_classes, engine, condition, latents, factor, monkeypatch) -> None:
    import comfy.utils

    seen = []
    monkeypatch.setattr(
        comfy.utils,
        "PROGRESS_BAR_HOOK",
        lambda value, total, preview, node_id=None: seen.append((value, total, preview)),
    )
    (large,) = (
        node_classes["PanoDiff_UpscalePanorama"]
        .execute(
            engine=engine,
            condition=condition,
            latents=latents,
            factor=str(factor),
            strength=0.5,
            steps=4,
            seed=9,
        )
        .result
    )
    assert large.shape == (1, 16, 4 * factor, 8 * factor)
    expected = engine.upscale(latents, condition, factor=factor, strength=0.5, steps=4, seed=9)
    assert torch.equal(large, expected)
    pictures = [preview for _, _, preview in seen if preview is not None]
    assert len(pictures) == 2 and pictures[0][0] == "JPEG"
    assert seen[-1][:2] == (seen[-1][1], seen[-1][1]) and all(value <= total for value, total, _ in seen)


def test_cancel_stops_the_upscale_at_the_next_tile(
    node_classes, engine, condition, latents, monkeypatch
) -> None:
    import comfy.utils
    from comfy import model_management

    seen = []

    def press_cancel(value, total, preview, node_id=None):
        seen.append((value, total))
        model_management.interrupt_current_processing(True)

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", press_cancel)
    with pytest.raises(model_management.InterruptProcessingException):
        node_classes["PanoDiff_UpscalePanorama"].execute(
            engine=engine, condition=condition, latents=latents, factor="2", strength=1.0, steps=6, seed=0
        )
    assert len(seen) == 1
