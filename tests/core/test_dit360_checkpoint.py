"""Loading a model folder: what is missing, damaged or foreign is said by name before anything expensive."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import panodiff_core as pano
from panodiff_core.engines import ENGINES, describe
from panodiff_core.engines.dit360.checkpoint import missing_files
from panodiff_core.engines.dit360.config import DiT360Config, SamplingOptions, read_config
from tests.tiny_model import CLIP_LENGTH


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def refused(folder: Path, **options) -> str:
    with pytest.raises(pano.CheckpointError) as caught:
        pano.load("dit360", folder, device="cpu", **options)
    return str(caught.value)


def edit_json(path: Path, **changes) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    values.update(changes)
    path.write_text(json.dumps(values), encoding="utf-8")


def edit_weights(path: Path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


WEIGHTS = Path("transformer") / "diffusion_pytorch_model.safetensors"


def test_missing_folder(tmp_path):
    text = refused(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in text and "black-forest-labs/FLUX.1-dev" in text


def test_everything_missing_is_listed_at_once(folder):
    shutil.rmtree(folder / "vae")
    (folder / "model_index.json").unlink()
    (folder / "tokenizer_2" / "tokenizer.json").unlink()
    (folder / "text_encoder" / "model.safetensors").unlink()
    lacking = ["model_index.json", "text_encoder/model.safetensors", "tokenizer_2/tokenizer.json", "vae/"]
    assert missing_files(folder) == lacking
    text = refused(folder)
    assert f"lacks {', '.join(lacking)}" in text and "black-forest-labs/FLUX.1-dev" in text
    assert "download dit360 --layout diffusers --only vae" in text and "--only transformer" not in text


def test_pickles_are_refused(folder):
    (folder / WEIGHTS).rename(folder / "transformer" / "diffusion_pytorch_model.bin")
    assert "diffusion_pytorch_model.bin are pickles, only safetensors are read" in refused(folder)


def test_missing_and_unexpected_keys(folder):
    def change(tensors):
        tensors["x_embedder.weigth"] = tensors.pop("x_embedder.weight")

    edit_weights(folder / WEIGHTS, change)
    text = refused(folder)
    assert str(folder / "transformer") in text
    assert "missing (1): x_embedder.weight" in text and "unexpected (1): x_embedder.weigth" in text


def test_wrong_shapes_side_by_side(folder):
    edit_weights(folder / WEIGHTS, lambda t: t.update({"x_embedder.bias": torch.zeros(31)}))
    assert "wrong shape (1): x_embedder.bias: file [31], model [32]" in refused(folder)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_not_finite(folder, value):
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    edit_weights(path, lambda t: t["decoder.conv_in.weight"].view(-1)[7:8].fill_(value))
    text = refused(folder)
    assert str(path) in text and "'decoder.conv_in.weight' has NaN or infinite values" in text


def test_overflow_of_the_dtype(folder):
    edit_weights(folder / WEIGHTS, lambda t: t["proj_out.bias"].fill_(1e6))
    assert "'proj_out.bias' overflows torch.float16: load with dtype bfloat16" in refused(
        folder, dtype="float16"
    )
    assert pano.load("dit360", folder, device="cpu").transformer.proj_out.bias[0] == 1e6


@pytest.mark.parametrize("keep", [0, 7, 100, -9])
def test_corrupt_safetensors(folder, keep):
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    text = refused(folder)
    assert str(path) in text and "not a complete safetensors file" in text


def test_nothing_is_read_before_all_is_checked(folder, monkeypatch):
    """A fault in the last part is found before a tensor of the first is read."""
    edit_weights(folder / "text_encoder_2" / "model.safetensors", lambda t: t.pop("shared.weight"))
    from panodiff_core.engines.dit360.checkpoint import modules

    monkeypatch.setattr(modules, "fill", lambda *a, **k: pytest.fail("read weights"))
    assert "shared.weight" in refused(folder)


def test_broken_json(folder):
    (folder / "vae" / "config.json").write_text("{", encoding="utf-8")
    assert f"{folder / 'vae' / 'config.json'} cannot be read as JSON" in refused(folder)


@pytest.mark.parametrize(
    "part, changes, text",
    [
        ("transformer", {"guidance_embeds": False}, "this is FLUX.1-schnell or made from it"),
        (
            "transformer",
            {"in_channels": 128, "out_channels": 64},
            "is FLUX.1-depth or FLUX.1-canny (128 input channels instead of 64)",
        ),
        ("transformer", {"_class_name": "ChromaTransformer2DModel"}, "describes a ChromaTransformer2DModel"),
        ("transformer", {"axes_dims_rope": [4, 4, 4]}, "three even numbers that add up to 16"),
        ("transformer", {"joint_attention_dim": 48}, "joint_attention_dim 48, {text_encoder_2} gives 32"),
        (
            "transformer",
            {"pooled_projection_dim": 48},
            "pooled_projection_dim 48, {text_encoder} gives 24",
        ),
        ("vae", {"latent_channels": 4}, "in_channels 64, {vae} gives 16"),
        (
            "vae",
            {"_class_name": "AutoencoderTiny"},
            "_class_name 'AutoencoderTiny', expected 'AutoencoderKL'",
        ),
        ("text_encoder", {"model_type": "bert"}, "model_type 'bert', expected 'clip_text_model'"),
        ("transformer", {"in_channels": "64"}, "a config.json with a value of the wrong type"),
        ("vae", {"norm_num_groups": 3}, "{vae}: its configuration describes no model that can be built"),
        ("text_encoder_2", {"vocab_size": 10}, "tokens, text_encoder_2 has 10 embeddings"),
    ],
)
def test_foreign_configs(folder, part, changes, text):
    edit_json(folder / part / "config.json", **changes)
    folders = {name: folder / name for name in ("vae", "text_encoder", "text_encoder_2")}
    assert text.format(**folders) in refused(folder)


def test_other_scheduler(folder):
    edit_json(folder / "scheduler" / "scheduler_config.json", _class_name="DDIMScheduler")
    assert "scheduler_config.json is for DDIMScheduler" in refused(folder)


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"shift": "3"}, "shift must be a number, got '3'"),
        ({"shift": 0}, "shift and num_train_timesteps must be above 0"),
        ({"max_image_seq_len": 256}, "max_image_seq_len must be above base_image_seq_len"),
    ],
)
def test_impossible_scheduler(folder, changes, text):
    path = folder / "scheduler" / "scheduler_config.json"
    edit_json(path, **changes)
    assert refused(folder) == f"{path}: {text}"


def test_scheduler_config_counts(folder):
    edit_json(folder / "scheduler" / "scheduler_config.json", use_dynamic_shifting=False, shift=2.0)
    engine = pano.load("dit360", folder, device="cpu")
    sigmas: list[float] = []
    engine.sample(engine.encode("a sea"), steps=2, on_step=lambda s: sigmas.append(s.sigma))
    assert sigmas[0] == pytest.approx(2 / 3)


def test_broken_tokenizer(folder):
    (folder / "tokenizer" / "tokenizer.json").write_text("[]", encoding="utf-8")
    assert f"{folder / 'tokenizer'} cannot be read as a tokenizer" in refused(folder)


def test_tokenizer_without_length(folder):
    path = folder / "tokenizer_2" / "tokenizer_config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values.pop("model_max_length")
    path.write_text(json.dumps(values), encoding="utf-8")
    assert "tokenizer_2/tokenizer_config.json does not say model_max_length" in refused(folder)


def test_clips_positions_are_the_length_where_its_tokenizer_states_none_of_use(folder):
    path = folder / "tokenizer" / "tokenizer_config.json"
    whole = pano.load(folder).text_encoder.tokenizer
    values = json.loads(path.read_text(encoding="utf-8"))
    values["model_max_length"] = 8192
    path.write_text(json.dumps(values), encoding="utf-8")
    tokenizer = pano.load(folder).text_encoder.tokenizer
    assert tokenizer.model_max_length == whole.model_max_length == CLIP_LENGTH


def test_tokenizer_without_end(folder):
    path = folder / "tokenizer_2" / "tokenizer.json"
    edit_json(path, post_processor=None)
    assert "tokenizer_2/ does not end texts with its end-of-text token" in refused(folder)


def test_shards(folder, tiny_engine):
    """FLUX.1-dev comes in shards with an index."""
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, folder / "transformer" / file)
    (folder / WEIGHTS).unlink()
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    index_file = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    index_file.write_text(json.dumps(index), encoding="utf-8")
    state = pano.load("dit360", folder, device="cpu").transformer.state_dict()
    assert all(
        torch.equal(value, state[name]) for name, value in tiny_engine.transformer.state_dict().items()
    )
    (folder / "transformer" / "b.safetensors").unlink()
    assert "lacks b.safetensors, which diffusion_pytorch_model.safetensors.index.json names" in refused(
        folder
    )


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "a/b.safetensors", "a\\b", "C:x", "..", "", 7, None, ["a"]]
)
def test_an_index_names_plain_files_only(folder, name):
    file = folder / WEIGHTS
    (folder / "other.safetensors").write_bytes(
        file.read_bytes()
    )  # it is there, but outside of the part's folder
    file.unlink()
    index = folder / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}), encoding="utf-8")
    assert f"{index} names {name!r}, which is no plain file name" in refused(folder)


def test_clip_with_the_old_prefix(folder, tiny_engine):
    """Older files say text_model.… and carry the position ids."""

    def change(tensors):
        for name in list(tensors):
            tensors["text_model." + name.removeprefix("text_model.")] = tensors.pop(name)
        tensors["text_model.embeddings.position_ids"] = torch.arange(24)[None]

    edit_weights(folder / "text_encoder" / "model.safetensors", change)
    engine = pano.load("dit360", folder, device="cpu")
    assert torch.equal(engine.encode("a sea").pooled, tiny_engine.encode("a sea").pooled)


def test_saved_and_loaded_by_the_libraries(tiny_folder, tiny_engine):
    """Our strict loader fills the modules as the libraries' own loaders do."""
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextModel, T5EncoderModel

    for own, kind, part in (
        (tiny_engine.transformer, FluxTransformer2DModel, "transformer"),
        (tiny_engine.vae, AutoencoderKL, "vae"),
        (tiny_engine.text_encoder.clip, CLIPTextModel, "text_encoder"),
        (tiny_engine.text_encoder.t5, T5EncoderModel, "text_encoder_2"),
    ):
        theirs = kind.from_pretrained(tiny_folder / part, local_files_only=True).state_dict()
        mine = own.state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
        assert not own.training and not any(p.requires_grad for p in own.parameters())
        assert not any(t.is_meta for t in [*own.parameters(), *own.buffers()])


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16"])
def test_dtype(tiny_folder, dtype):
    engine = pano.load("dit360", tiny_folder, dtype=dtype, device="cpu")
    assert engine.transformer.dtype == engine.vae.dtype == torch.bfloat16
    latents = engine.sample(engine.encode("a sea"), steps=1)
    assert latents.dtype == torch.float32
    assert engine.decode(latents).pixels.dtype == torch.float32


def test_float16_keeps_what_would_overflow(tiny_folder):
    engine = pano.load("dit360", tiny_folder, dtype="float16", device="cpu")
    assert engine.transformer.dtype == torch.float16 and engine.vae.dtype == torch.float32
    kept = {n for n, p in engine.text_encoder.t5.named_parameters() if p.dtype == torch.float32}
    assert kept and all(name.endswith(".wo.weight") for name in kept)


def test_unknown_dtype(tiny_folder):
    with pytest.raises(pano.InputError, match="choose one of float32, bfloat16, float16"):
        pano.load("dit360", tiny_folder, dtype="int8", device="cpu")


def test_settings(tmp_path):
    assert read_config(tmp_path) == DiT360Config() and read_config(tmp_path).kind == "flux"
    path = tmp_path / "panodiff.json"
    path.write_text('{"panodiff": 1, "kind": "small", "defaults": {"steps": 12, "roll": "alternate"}}')
    small = SamplingOptions(steps=12, roll="alternate", prompt_prefix="")
    assert read_config(tmp_path) == DiT360Config("small", polar_filter=False, defaults=small)
    path.write_text('{"panodiff": 1, "polar_filter": true}')
    assert read_config(tmp_path) == DiT360Config("flux", polar_filter=True)


@pytest.mark.parametrize(
    "text, error",
    [
        ('{"panodiff": 2}', '"panodiff" is 2, this version reads 1'),
        ('{"panodiff": 1, "stpes": 3}', "unknown key 'stpes'"),
        ('{"panodiff": 1, "kind": "huge"}', '"kind" must be "flux" or "small"'),
        ('{"panodiff": 1, "polar_filter": 1}', '"polar_filter" must be true or false, got 1'),
        ('{"panodiff": 1, "defaults": {"stpes": 3}}', "unknown option 'stpes'"),
        ('{"panodiff": 1, "defaults": {"steps": "many"}}', "steps must be a whole number"),
        ('{"panodiff": 1, "defaults": 3}', '"defaults" must be an object'),
        ("[]", "must hold a JSON object"),
        ("", "cannot be read as JSON"),
    ],
)
def test_wrong_settings(tmp_path, text, error):
    path = tmp_path / "panodiff.json"
    path.write_text(text)
    with pytest.raises(pano.CheckpointError) as caught:
        read_config(tmp_path)
    assert error in str(caught.value) and str(path) in str(caught.value)


def test_registry(tmp_path, monkeypatch, tiny_folder):
    with pytest.raises(pano.InputError, match="unknown engine 'dit36O': there are dit360"):
        pano.load("dit36O")
    assert pano.load(str(tiny_folder), device="cpu").name == "dit360"
    (status,) = [s for s in describe() if s.name == "dit360"]
    assert status.folder == ENGINES["dit360"].small_model and status.installed == (not status.missing)
    from panodiff_core import engines

    entry = ENGINES["dit360"]
    gone = type(entry)(**{**vars(entry), "small_model": tmp_path / "gone"})
    monkeypatch.setattr(engines, "ENGINES", {"dit360": gone})
    with pytest.raises(pano.CheckpointError, match="small model of DiT360 is not installed"):
        pano.load()
    assert "model_index.json" in describe()[0].missing
