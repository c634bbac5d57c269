"""Every recipe trains a tiny model for a few steps and exports something that loads."""

from __future__ import annotations

import argparse
import math
from functools import partial

import pytest
import torch

from panodiff_core.commands import train
from panodiff_core.data.latents import LatentCache, encode_cache, fingerprint
from panodiff_core.data.panoramas import PanoramaCache, render_cache
from panodiff_core.data.round_trips import round_trip_cache
from panodiff_core.engines.dit360.training import FlowTraining, draw_sigmas, new_transformer
from panodiff_core.metrics.attributes import direction_word, load_reader, save_reader
from panodiff_core.metrics.reader_network import ReaderNetwork
from panodiff_core.runtime.errors import CheckpointError, InputError
from panodiff_core.training.config import LoopConfig
from panodiff_core.training.discriminator import PatchDiscriminator
from panodiff_core.training.loop import Trainer
from panodiff_core.training.losses import colour_loss, energy_loss, laplacian_bands, pyramid_loss
from panodiff_core.training.model_folder import load_vae
from panodiff_core.training.recipes import dit
from panodiff_core.training.recipes.dit import DitConfig, DitRecipe
from panodiff_core.training.recipes.reader import ReaderRecipe
from panodiff_core.training.recipes.text import TextConfig, TextRecipe
from panodiff_core.training.recipes.vae import VaeConfig, VaeRecipe

HEIGHT = 64


@pytest.fixture(autouse=True)
def fresh_accelerate():
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def cache(folder):
    render_cache(folder / "worlds", 4, HEIGHT, shard_size=4, workers=0)
    return PanoramaCache(folder / "worlds")


def trained(recipe, out, steps=2, **changes):
    trainer = Trainer(
        recipe, LoopConfig(out=out, steps=steps, warmup=1, log_every=1, picture_every=steps, **changes)
    )
    losses = []
    assert trainer.run(on_step=lambda step, parts: losses.append(parts))
    assert all(math.isfinite(v) for parts in losses for v in parts.values())
    return trainer, losses


@pytest.fixture(scope="module")
def model(folder, cache):
    """A model folder with a tiny autoencoder and tiny text encoders, made by their recipes."""
    from accelerate.state import AcceleratorState

    config = VaeConfig(widths=(8, 8, 16, 16), adversarial_from=0.5)
    trainer, losses = trained(VaeRecipe(config, cache, 2, (32, 64), 0), folder / "vae")
    assert "discriminator" not in losses[0] and losses[1].keys() >= {"discriminator", "generator", "matching"}
    assert (folder / "vae" / "pictures" / "00000002.png").is_file()
    trainer.export(folder / "model")
    AcceleratorState._reset_state(reset_partial_state=True)
    text, _ = trained(TextRecipe(TextConfig(width=16, heads=2), 8, 0), folder / "text")
    text.export(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def latents(folder, model, cache):
    encode_cache(folder / "latents", load_vae(model), 4, HEIGHT, pictures=cache, shard_size=4, workers=0)
    return folder / "latents"


def test_exported_autoencoder_has_unit_latents_and_the_flux_layout(model, latents, cache):
    vae = load_vae(model)
    stored = LatentCache(latents).latents.float()
    assert stored.shape == (4, 16, HEIGHT // 8, HEIGHT // 4)
    assert float(stored.std()) == pytest.approx(1.0, abs=0.05)
    assert float(stored.mean()) == pytest.approx(0.0, abs=0.05)
    assert vae.quant_conv is None and vae.post_quant_conv is None
    assert len(vae.decoder.mid_block.attentions) == 1


def test_refining_leaves_encoder_and_scale_alone(folder, model, cache):
    before = load_vae(model)
    recipe = VaeRecipe(VaeConfig(), cache, 2, (32, 64), 0, refine=load_vae(model))
    trainer, _ = trained(recipe, folder / "refine")
    trainer.export(folder / "refined")
    after = load_vae(folder / "refined")
    assert fingerprint(after) == fingerprint(before)
    for (name, a), (_, b) in zip(
        before.encoder.named_parameters(), after.encoder.named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name
    assert any(
        not torch.equal(a, b)
        for a, b in zip(before.decoder.parameters(), after.decoder.parameters(), strict=True)
    )
    assert after.config.scaling_factor == before.config.scaling_factor


def test_exported_text_encoders_are_normalised_and_read_prompts(model):
    from panodiff_core.conditioning.text import TextEncoder
    from panodiff_core.training.model_folder import load_text

    encoder = TextEncoder(*load_text(model))
    text, pooled = encoder.encode(["a calm sea at sunset", "a room with blue walls", ""])
    assert text.shape == (3, 48, 16) and pooled.shape == (3, 16)
    for output in (text, pooled):
        assert 0.7 < float(output.square().mean().sqrt()) < 1.4
    assert encoder.read(["a calm sea with a submarine"]).unknown_words == ("submarine",)


def test_transformer_trains_exports_and_runs_in_the_engine(folder, model, latents):
    import panodiff_core as pano

    config = DitConfig(heads=2, double_blocks=1, single_blocks=1, text_width=16)
    recipe = DitRecipe(config, FlowTraining(id_scale=2.0), model, latents, 2, 0)
    trainer, losses = trained(recipe, folder / "dit", steps=3)
    assert (
        1.0 < losses[0]["loss"] < 3.0
    )  # a zero start predicts nothing: the error is the variance of noise + data
    assert (folder / "dit" / "pictures" / "00000003.png").is_file()
    trainer.export(folder / "small")
    card = (folder / "small" / "README.md").read_text(encoding="utf-8")
    said = (
        "3 of 3 steps",
        "--batch-size 2",
        "--learning-rate 0.001",
        "--seed 0",
        "128×64",
        "4 worlds",
        "random weights",
    )
    assert [words for words in said if words not in card] == []
    assert str(folder) not in card
    engine = pano.load("dit360", folder / "small")
    condition = engine.encode("a calm sea at sunset")
    result = engine.sample(condition, seed=0, steps=2)
    # Trained on half-size pictures at full-size positions (id_scale 2): made at the full size.
    assert result.shape == (1, 16, 2 * HEIGHT // 8, 2 * HEIGHT // 4)
    assert engine.decode(result).pixels.shape == (1, 3, 2 * HEIGHT, 4 * HEIGHT)
    assert engine.config.kind == "small" and engine.config.polar_filter


def test_compiled_transformer_takes_the_same_steps(folder, model, latents, monkeypatch):
    # The same graphs without a C++ compiler behind them.
    monkeypatch.setattr(dit, "_whole_graph", partial(torch.compile, dynamic=False, backend="aot_eager"))
    runs = {}
    for compiled in (False, True):
        torch._dynamo.reset()
        config = DitConfig(heads=2, double_blocks=1, single_blocks=2, text_width=16, compiled=compiled)
        recipe = DitRecipe(config, FlowTraining(), model, latents, 2, 0)
        trainer, losses = trained(recipe, folder / f"compiled-{compiled}", steps=3)
        runs[compiled] = [entry["loss"] for entry in losses], trainer.module.state_dict()
    assert runs[True][0] == pytest.approx(runs[False][0], abs=1e-4)
    assert runs[True][1].keys() == runs[False][1].keys()
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs >= 1


def test_damaged_parts_are_refused_before_training(model, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    copy = tmp_path / "model"
    shutil.copytree(model / "vae", copy / "vae")
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["decoder.conv_out.bias"][0] = float("nan")
    save_file(tensors, weights)
    with pytest.raises(CheckpointError, match="decoder.conv_out.bias.* NaN"):
        load_vae(copy)
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        load_vae(copy)
    torch.save(tensors, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(CheckpointError, match="are pickles, only safetensors are read"):
        load_vae(copy)


def test_latents_of_another_autoencoder_are_refused(model, latents, monkeypatch):
    monkeypatch.setattr(LatentCache, "__init__", _claim_another(LatentCache.__init__))
    with pytest.raises(InputError, match="another autoencoder"):
        DitRecipe(DitConfig(text_width=16), FlowTraining(), model, latents, 2, 0)


def _claim_another(original):
    def init(self, folder):
        original(self, folder)
        self.autoencoder += 1.0

    return init


def test_reader_trains_exports_and_reads(folder, model, cache):
    round_trip_cache(folder / "trips", cache, load_vae(model), 4)
    trips = PanoramaCache(folder / "trips")
    assert float((trips[1].float() - cache[1].float()).abs().mean()) > 0.5
    big = folder / "worlds256"
    render_cache(big, 2, 256, shard_size=2, workers=0)
    recipe = ReaderRecipe((PanoramaCache(big),), 2, 0, check=PanoramaCache(big), check_batches=1)
    trainer, _ = trained(recipe, folder / "reader")
    trainer.export(folder / "readerx")
    reader = load_reader(folder / "readerx")
    readings = reader.read(torch.rand(3, 3, 32, 64))
    assert len(readings) == 3
    for reading in readings:
        allowed = reader.config.possible[reading.values["place"]]
        assert set(reading.values) == set(reader.config.attributes)
        assert all(reading.values[name] in values for name, values in allowed.items() if name != "light")
        assert reading.values["light"] == direction_word(
            reading.light_azimuth_deg, reader.config.attributes["light"]
        )
        assert sum(reading.probabilities["place"].values()) == pytest.approx(1.0, abs=1e-4)
    with pytest.raises(InputError, match="2·H"):
        reader.read(torch.rand(1, 3, 32, 32))
    with pytest.raises(InputError, match="finite"):
        reader.read(torch.full((1, 3, 32, 64), float("nan")))
    with pytest.raises(CheckpointError, match="nothing.reader.json; train one with .* train dit360-reader"):
        load_reader(folder / "nothing")
    broken = ReaderNetwork(reader.config.classes())
    torch.nn.init.constant_(broken.votes.bias, float("nan"))
    save_reader(broken, reader.config, folder / "broken")
    with pytest.raises(CheckpointError, match="NaN or infinite values in votes.bias"):
        load_reader(folder / "broken")
    (folder / "readerx" / "reader.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_reader(folder / "readerx")


def test_reader_turns_with_the_picture():
    torch.manual_seed(0)
    network = ReaderNetwork((3, 4)).train(False)
    pictures = torch.rand(2, 3, 256, 512)
    with torch.no_grad():
        logits, light = network(pictures)
        rolled_logits, rolled_light = network(torch.roll(pictures, 96, dims=-1))
    for a, b in zip(logits, rolled_logits, strict=True):
        assert float((a - b).abs().max()) < 1e-5
    turn = torch.rad2deg(torch.atan2(*rolled_light.unbind(-1)) - torch.atan2(*light.unbind(-1)))
    assert torch.allclose((turn + 360) % 360, torch.tensor(96 / 512 * 360.0), atol=1e-2)


def test_noise_levels_follow_their_law():
    torch.manual_seed(0)
    plan = FlowTraining(sigma_mean=0.7, sigma_std=0.9, uniform_share=0.0)
    sigmas = torch.cat([draw_sigmas(16, plan) for _ in range(400)])
    logits = torch.logit(sigmas)
    assert float(logits.mean()) == pytest.approx(0.7, abs=0.03)
    assert float(logits.std()) == pytest.approx(0.9, abs=0.03)
    uniform = torch.cat([draw_sigmas(16, FlowTraining(uniform_share=1.0)) for _ in range(400)])
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(uniform.var()) == pytest.approx(1 / 12, abs=0.01)


def test_new_transformer_begins_as_the_identity():
    from panodiff_core.engines.dit360.model import velocity

    transformer = new_transformer(DitConfig(heads=2, single_blocks=1, text_width=16).transformer_config())
    with torch.no_grad():
        out = velocity(
            transformer,
            torch.randn(1, 16, 4, 8),
            torch.rand(1),
            torch.randn(1, 5, 16),
            torch.randn(1, 16),
            1.0,
        )
    assert float(out.abs().max()) == 0.0


def test_pyramid_is_complete_and_losses_know_blur_from_grain():
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 32, 64) * 2 - 1
    assert [tuple(b.shape[-2:]) for b in laplacian_bands(picture, 3)] == [(32, 64), (16, 32), (8, 16)]
    band, texture = pyramid_loss(picture, picture)
    assert float(band) == 0.0 and float(texture) == 0.0
    grain = torch.rand(1, 3, 32, 64) * 2 - 1  # right amount of grain, wrong phase
    blur = torch.zeros_like(picture)
    assert float(pyramid_loss(grain, picture)[1]) < 0.3 * float(pyramid_loss(blur, picture)[1])


def test_windows_over_the_edges_hear_of_a_blurred_border():
    """Grey in the outer 4 pixels alone: 1 of 9 windows in a row shows it by half inside, 1 of 11 wholly over edges."""
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 40, 40) * 2 - 1
    for slices in ((..., slice(4), slice(None)), (..., slice(None), slice(-4, None))):
        blurred = picture.clone()
        blurred[slices] = 0.0
        inside, over = (float(pyramid_loss(blurred, picture, 1, over_edges=way)[1]) for way in (False, True))
        grey = float(pyramid_loss(torch.zeros_like(picture), picture, 1)[1])
        assert 0.02 * grey < inside < 0.06 * grey
        assert 0.10 * grey < over < 0.16 * grey
    assert float(pyramid_loss(picture, picture, over_edges=True)[1]) == 0.0


def test_energy_loss_counts_the_energy_of_the_whole_and_of_the_border():
    torch.manual_seed(0)
    picture = (torch.rand(2, 3, 64, 64) * 2 - 1) * 0.5
    assert float(energy_loss(picture, picture)) == 0.0
    assert float(energy_loss(2 * picture, picture)) == pytest.approx(math.log(4), abs=0.02)
    turned = picture.flip(-1)  # the same energies at other places
    assert float(energy_loss(turned, picture)) < 1e-5
    blurred = picture.clone()
    blurred[..., :4, :], blurred[..., -4:, :], blurred[..., :4], blurred[..., -4:] = 0.0, 0.0, 0.0, 0.0
    assert (
        float(energy_loss(blurred, picture, 1))
        > 1.0
        > 4 * float(energy_loss(blurred[..., 4:-4, 4:-4], picture[..., 4:-4, 4:-4], 1))
    )


def test_frozen_discriminator_is_the_same_function_without_weight_gradients():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(4).train(False)
    pictures = torch.rand(1, 3, 32, 32, requires_grad=True)
    score, maps = discriminator.frozen(pictures)
    assert torch.equal(score, discriminator(pictures)[0]) and len(maps) == 3
    score.sum().backward()
    assert pictures.grad is not None
    assert all(p.grad is None for p in discriminator.parameters())


def test_every_recipe_has_a_command_with_shared_options(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    train.add_parser(parser.add_subparsers(required=True))
    cache = ["--cache", str(tmp_path)]
    args = parser.parse_args(
        ["train", "dit360-vae", *cache, "--out", str(tmp_path), "--minutes", "5", "--lr", "0.1"]
    )
    assert (args.minutes, args.learning_rate, args.recipe_module.NAME) == (5.0, 0.1, "dit360-vae")
    with pytest.raises(SystemExit):
        parser.parse_args(["train", "dit36"])
    assert "worlds-cache" in capsys.readouterr().err
    with pytest.raises(InputError, match="worlds-cache"):
        args.run(args)


def test_colour_loss_sees_hue_and_not_brightness():
    torch.manual_seed(1)
    picture = torch.rand(1, 3, 16, 32) * 2 - 1
    assert float(colour_loss(picture + 0.25, picture)) < 1e-6
    redder = picture + torch.tensor([0.3, 0.0, 0.0]).view(1, 3, 1, 1)
    assert float(colour_loss(redder, picture)) == pytest.approx(0.15, abs=1e-6)
    # Grain that averages out over a block is not colour.
    grain = torch.zeros(1, 3, 16, 32)
    grain[:, 0, ::2] = 0.4
    grain[:, 0, 1::2] = -0.4
    assert float(colour_loss(picture + grain, picture)) < 1e-6
