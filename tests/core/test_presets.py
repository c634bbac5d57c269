"""Presets: what they set, what wins over them, and whether the cards' settings fit the cards."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import panodiff_core as pano
from panodiff_core import __main__ as cli
from panodiff_core.commands import generate
from panodiff_core.commands.generation import dit360
from panodiff_core.engines.dit360.config import SamplingOptions
from panodiff_core.engines.dit360.model.memory import stage_bytes
from panodiff_core.engines.dit360.presets import CARDS, PRESETS, find_card, find_preset, with_preset
from panodiff_core.runtime.memory import estimate, measure
from panodiff_core.runtime.placement import Holder
from tests.tiny_model import build_tiny_model


def test_flux_presets_are_what_they_say():
    settings = {name: SamplingOptions().changed(**preset.flux) for name, preset in PRESETS.items()}
    assert settings["balanced"] == SamplingOptions()
    assert [(s.height, s.width, s.steps, s.roll) for s in settings.values()] == [
        (512, 1024, 14, "off"),
        (1024, 2048, 28, "off"),
        (1024, 2048, 50, "late"),
        (1024, 2048, 28, "off"),
    ]
    assert all(
        s.padding == 1 and s.mu == "padded" and s.cfg == 1.0 and not s.step_cache for s in settings.values()
    )
    largest = PRESETS["8k"]
    assert (largest.upscale * largest.flux["width"], largest.upscale * largest.flux["height"]) == (8192, 4096)


def work(options: SamplingOptions) -> float:
    """FLOPs of all steps with 512 text tokens (dit360 spec, section 8)."""
    tokens = options.height // 16 * (options.width // 16 + 2 * options.padding) + 512
    return options.steps * 57 * (24 * 3072**2 * tokens + 4 * 3072 * tokens**2)


def test_a_draft_is_a_ninth_of_the_work():
    draft, balanced = (SamplingOptions().changed(**PRESETS[name].flux) for name in ("draft", "balanced"))
    assert work(balanced) / 28 == pytest.approx(168.7e12, rel=1e-3)
    assert work(balanced) / work(draft) == pytest.approx(8.7, abs=0.05)


def test_what_is_given_wins():
    assert with_preset(None, "flux", {"steps": 3, "cfg": None}) == {"steps": 3}
    assert with_preset("best", "flux", {"steps": 3, "roll": None})["steps"] == 3
    for size in ({"height": 64}, {"width": 128}):
        merged = with_preset("draft", "flux", size)
        assert {k: merged[k] for k in merged if k in ("height", "width")} == size and merged["steps"] == 14
    assert "height" not in with_preset("draft", "flux", {}, sized=True)
    assert with_preset("draft", "small", {}) == {"steps": 12} and with_preset("balanced", "small", {}) == {}


def test_unknown_and_unsuitable_presets():
    for bad in ("fast", 3, None):
        with pytest.raises(pano.InputError, match="choose one of draft, balanced, best, 8k"):
            find_preset(bad)
    with pytest.raises(pano.InputError, match="with the small model there are draft, balanced, best"):
        find_preset("8k", "small")


def test_sample_takes_a_preset(tiny_engine, tmp_path):
    condition, steps = tiny_engine.encode("a calm sea"), []
    latents = tiny_engine.sample(condition, preset="draft", on_step=steps.append)
    assert len(steps) == 12 and latents.shape == (1, 16, 8, 16)  # the small model's own size
    assert torch.equal(latents, tiny_engine.sample(condition, steps=12))
    with pytest.raises(pano.InputError, match="preset '8k' is for FLUX weights"):
        tiny_engine.sample(condition, preset="8k")
    flux = pano.load("dit360", build_tiny_model(tmp_path / "flux", kind=None), device="cpu")
    steps.clear()
    flux.sample(condition, preset="draft", height=64, on_step=steps.append)
    assert len(steps) == 14 and steps[0].latents.shape == (1, 16, 8, 16)


def test_the_command_line_takes_a_preset(tmp_path, tiny_folder, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser = cli.build_parser()
    flux = build_tiny_model(tmp_path / "flux", kind=None)
    args = parser.parse_args(["generate", "a sea", "--model", str(flux), "--preset", "8k", "--steps", "5"])
    generate.check_request(args)
    assert (args.upscale, args.memory_gb) == (4, 8.0)
    assert dit360._values(args) == {**PRESETS["8k"].flux, "steps": 5}
    for name, text in (("8k", "is for FLUX weights"), ("fast", "unknown preset 'fast'")):
        assert cli.main(["generate", "a sea", "--model", str(tiny_folder), "--preset", name]) == 1
        assert text in capsys.readouterr().err


@pytest.fixture(scope="module")
def flux() -> dict[str, torch.nn.Module]:
    """FLUX.1-dev's parts without storage: sizes only."""
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    t5 = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
    clip = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    channels = {"latent_channels": 16, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    with torch.device("meta"):
        parts = {
            "transformer": FluxTransformer2DModel(guidance_embeds=True),
            "t5": T5EncoderModel(T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", **t5)),
            "clip": CLIPTextModel(CLIPTextConfig(**clip)),
            "vae": AutoencoderKL(use_quant_conv=False, use_post_quant_conv=False, **blocks, **channels),
        }
    assert sum(p.numel() for p in parts["transformer"].parameters()) == 11_901_408_320
    return {name: part.to(torch.bfloat16) for name, part in parts.items()}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: f"{card.vram_gb}GB")
def test_every_card_holds_what_its_settings_need(flux, card):
    """With a tenth left for the driver and fragments; and the next faster mode would not fit."""
    text = SimpleNamespace(t5=flux["t5"], tokenizer_2=SimpleNamespace(model_max_length=512))
    work = stage_bytes(flux["transformer"], flux["vae"], text, SamplingOptions())
    if card.memory_gb is not None:
        work["vae"] = int(card.memory_gb * 2**30)
    holders = {
        "text_encoders": Holder(clip=flux["clip"], t5=flux["t5"]),
        "transformer": Holder(transformer=flux["transformer"]),
        "vae": Holder(vae=flux["vae"]),
    }
    stages = {name: measure(name, holder, work[name]) for name, holder in holders.items()}
    if card.load.get("storage"):
        stages["transformer"] = stages["transformer"].packed
    usable = int(0.9 * card.vram_gb * 2**30)
    assert estimate(stages, card.load["offload"], usable).fits
    faster = {"stage": "none", "group": "stage"}.get(card.load["offload"])
    assert faster is None or not estimate(stages, faster, usable).fits


def test_cards_by_size():
    assert [card.vram_gb for card in CARDS] == sorted((card.vram_gb for card in CARDS), reverse=True)
    assert find_card(80) is CARDS[0] and find_card(24).vram_gb == 16 and find_card(8).vram_gb == 8
    with pytest.raises(pano.InputError, match="8 GB or more"):
        find_card(7.9)
