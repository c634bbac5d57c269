"""Load, encode, sample, decode through the nodes, on a tiny random model."""

from __future__ import annotations

import sys

import pytest
import torch

pytestmark = pytest.mark.comfyui

SAMPLE = {"seed": 5, "width": 128, "height": 64, "steps": 2, "guidance": 0.0, "cfg": 0.0, "batch_size": 1}


@pytest.fixture(scope="module")
def engine(node_classes, tiny_choice):
    (engine,) = node_classes["PanoDiff_LoadDiT360"].execute(model=tiny_choice, dtype="auto").result
    return engine


@pytest.fixture(scope="module")
def condition(node_classes, engine):
    (condition,) = node_classes["PanoDiff_EncodePrompt"].execute(engine=engine, prompt="a calm sea").result
    return condition


def test_models_are_listed_and_found(node_classes, tiny_choice) -> None:
    options = node_classes["PanoDiff_LoadDiT360"].define_schema().inputs[0].options
    assert options[0] == "dit360-small (bundled)" and tiny_choice in options


def test_missing_model_is_named(node_classes) -> None:
    with pytest.raises(ValueError, match="'gone' is not there.*models/diffusers"):
        node_classes["PanoDiff_LoadDiT360"].execute(model="gone", dtype="auto")


def test_prompt_to_panorama(node_classes, engine, condition) -> None:
    (latents,) = (
        node_classes["PanoDiff_SampleDiT360"].execute(engine=engine, condition=condition, **SAMPLE).result
    )
    assert latents.shape == (1, 16, 8, 16)
    (panorama,) = node_classes["PanoDiff_DecodePanorama"].execute(engine=engine, latents=latents).result
    assert panorama.shape == (1, 64, 128, 3) and panorama.dtype == torch.float32
    assert panorama.min() >= 0 and panorama.max() <= 1


def test_polar_filter_reaches_the_decoder(node_classes, engine) -> None:
    decode = node_classes["PanoDiff_DecodePanorama"]
    latents = torch.randn(1, 16, 8, 16, generator=torch.Generator().manual_seed(2))
    plain, off, on = (
        decode.execute(engine=engine, latents=latents, **choice).result[0]
        for choice in ({}, {"polar_filter": "off"}, {"polar_filter": "on"})
    )
    assert torch.equal(plain, off)
    assert torch.equal(on.movedim(-1, 1), engine.decode(latents, polar_filter=True).pixels)
    assert (on[:, 0] - off[:, 0]).abs().max() > 0.01


def test_unknown_and_cut_words_are_shown(node_classes, engine) -> None:
    node = node_classes["PanoDiff_EncodePrompt"]
    text = node.execute(engine=engine, prompt="a calm zeppelin over the sea").ui.as_dict()["text"][0]
    assert "zeppelin" in text and "calm" not in text
    text = node.execute(engine=engine, prompt="a calm sea " * 40).ui.as_dict()["text"][0]
    assert "too long" in text
    assert "understood" in node.execute(engine=engine, prompt="a calm sea").ui.as_dict()["text"][0]


def test_empty_prompt_is_refused_before_the_run(node_classes) -> None:
    node = node_classes["PanoDiff_EncodePrompt"]
    assert "empty" in node.validate_inputs(prompt="  ")
    assert node.validate_inputs(prompt="sea") is True and node.validate_inputs(prompt=None) is True


def test_size_is_checked_before_the_run(node_classes, engine, condition) -> None:
    node = node_classes["PanoDiff_SampleDiT360"]
    assert node.validate_inputs(width=0, height=0) is True
    assert node.validate_inputs(width=512, height=256) is True
    assert "set 512 x 256 or 500 x 250" in node.validate_inputs(width=500, height=256)
    assert "out of range" in node.validate_inputs(width=-16, height=-8)
    with pytest.raises(ValueError, match="is not 2 × height"):
        node.execute(engine=engine, condition=condition, **{**SAMPLE, "width": 0})


def test_noise_is_that_of_comfyui(node_classes, engine, condition, monkeypatch) -> None:
    import comfy.sample

    module, seen = sys.modules[type(engine).__module__], []
    original = module.choose_noise
    monkeypatch.setattr(module, "choose_noise", lambda *a: seen.append(original(*a)) or seen[-1])
    node_classes["PanoDiff_SampleDiT360"].execute(engine=engine, condition=condition, **SAMPLE)
    expected = comfy.sample.prepare_noise(torch.zeros(1, 16, 8, 16), SAMPLE["seed"])
    assert torch.equal(seen[0], expected)


def test_progress_counts_steps_and_shows_pictures(node_classes, engine, condition, monkeypatch) -> None:
    import comfy.utils

    seen = []
    monkeypatch.setattr(
        comfy.utils,
        "PROGRESS_BAR_HOOK",
        lambda value, total, preview, node_id=None: seen.append((value, total, preview)),
    )
    node_classes["PanoDiff_SampleDiT360"].execute(engine=engine, condition=condition, **SAMPLE)
    assert [(value, total) for value, total, _ in seen] == [(1, 2), (2, 2)]
    kind, picture, limit = seen[0][2]
    assert kind == "JPEG" and picture.width == 2 * picture.height <= limit


def test_cancel_stops_at_the_next_step_and_the_engine_goes_on(
    node_classes, engine, condition, monkeypatch
) -> None:
    import comfy.utils
    from comfy import model_management

    node, seen = node_classes["PanoDiff_SampleDiT360"], []

    def press_cancel(value, total, preview, node_id=None):
        seen.append(value)
        model_management.interrupt_current_processing(True)

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", press_cancel)
    with pytest.raises(model_management.InterruptProcessingException):
        node.execute(engine=engine, condition=condition, **{**SAMPLE, "steps": 6})
    assert seen == [1]
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", None)
    node.execute(engine=engine, condition=condition, **SAMPLE)


def test_options_reach_the_engine(node_classes, engine, condition, monkeypatch) -> None:
    seen = {}
    original = type(engine).sample

    def record(self, condition, **options):
        seen.update(options)
        return original(self, condition, **options)

    monkeypatch.setattr(type(engine), "sample", record)
    options = {"padding": 0, "roll": "alternate", "solver": "heun", "grid": "cosine", "shift": "unpadded"}
    inputs = {**SAMPLE, "guidance": 3.5, "cfg": 2.0, "batch_size": 2, **options}
    (latents,) = (
        node_classes["PanoDiff_SampleDiT360"].execute(engine=engine, condition=condition, **inputs).result
    )
    assert latents.shape[0] == 2
    expected = {"padding": 0, "roll": "alternate", "solver": "heun", "grid": "cosine", "mu": "unpadded"}
    assert {name: seen[name] for name in expected} == expected
    assert (seen["guidance"], seen["cfg"], seen["batch_size"]) == (3.5, 2.0, 2)


def test_lora_is_listed_and_acts_with_its_strength(
    node_classes, comfyui, tiny_choice, engine, condition
) -> None:
    from safetensors.torch import save_file

    name = "transformer.transformer_blocks.0.attn.to_q.lora_{}.weight"
    width = engine.transformer.inner_dim
    pair = {name.format("A"): torch.randn(4, width), name.format("B"): torch.randn(width, 4)}
    save_file(pair, comfyui / "models" / "loras" / "tiny_lora.safetensors")
    load, sample = node_classes["PanoDiff_LoadDiT360"], node_classes["PanoDiff_SampleDiT360"]
    assert "tiny_lora.safetensors" in load.define_schema().inputs[2].options

    def latents(**lora):
        (engine,) = load.execute(model=tiny_choice, dtype="auto", **lora).result
        return sample.execute(engine=engine, condition=condition, **SAMPLE).result[0]

    plain = latents()
    assert torch.equal(latents(lora="tiny_lora.safetensors", lora_strength=0.0), plain)
    assert (latents(lora="tiny_lora.safetensors", lora_strength=1.0) - plain).abs().max() > 1e-3


def test_preset_and_step_cache_reach_the_sampler(node_classes, engine, condition) -> None:
    node = node_classes["PanoDiff_SampleDiT360"]
    assert next(i for i in node.define_schema().inputs if i.id == "preset").options == [
        "model default", "draft", "balanced", "best",
    ]  # fmt: skip
    plain = {**SAMPLE, "steps": 6}
    (cached,) = node.execute(engine=engine, condition=condition, **plain, step_cache=1.0).result
    size = {"seed": 5, "width": 128, "height": 64, "steps": 6}
    assert torch.equal(cached, engine.sample(condition, **size, step_cache=1.0))
    assert not torch.equal(cached, engine.sample(condition, **size))
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(engine), "sample", lambda self, *_, **given: seen.append(given) or plain_latents())
        node.execute(engine=engine, condition=condition, **SAMPLE, preset="best")
        node.execute(engine=engine, condition=condition, **SAMPLE)
    assert [given["preset"] for given in seen] == ["best", None]
    assert [given["step_cache"] for given in seen] == [None, None]


def plain_latents() -> torch.Tensor:
    return torch.zeros(1, 16, 8, 16)
