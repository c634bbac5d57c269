"""The files that people own: told apart by header keys, read into the same modules, refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers")

import panodiff_core as pano
from panodiff_core.engines.dit360.checkpoint import PARTS, find_model, load_part, read_parts
from panodiff_core.engines.dit360.checkpoint.layout import find_part
from panodiff_core.engines.dit360.model import FluxNetwork
from tests.core.dit360_vectors import FOLDER, largest, read, tensors, transformer, vae

CALL, CODING, WRONG = 5e-5, 1e-4, 0.05
CONFIGS = {
    "transformer": read("transformer_config.json"),
    "vae": read("vae_config.json"),
    "text_encoder": read("clip_config.json"),
    "text_encoder_2": read("t5_config.json"),
}
TRANSFORMERS = {
    "transformer_diffusers.safetensors": ("velocity_reference", "diffusers keys"),
    "transformer_bfl.safetensors": ("velocity_reference", "BFL keys"),
    "transformer_fp8_e4m3fn.safetensors": ("velocity.transformer_fp8_e4m3fn", "BFL keys, fp8"),
    "transformer_fp8_scaled_legacy.safetensors": (
        "velocity.transformer_fp8_scaled",
        "BFL keys, scaled fp8",
    ),
    "transformer_fp8_scaled_metadata.safetensors": (
        "velocity.transformer_fp8_scaled",
        "BFL keys, scaled fp8",
    ),
    "transformer_q8_0.gguf": ("velocity.transformer_q8_0", "BFL keys, GGUF"),
    "checkpoint_allinone_fp8.safetensors": (
        "velocity.checkpoint_allinone_fp8",
        "BFL keys, prefix 'model.diffusion_model.', fp8",
    ),
}


def velocity_of(net: torch.nn.Module) -> torch.Tensor:
    f = tensors("forward")
    network = FluxNetwork(net, f["in.img_ids"], f["in.prompt_embeds"].shape[1])
    inputs = (f["in.prompt_embeds"], f["in.pooled_prompt_embeds"], f["in.guidance"])
    with torch.no_grad():
        return network(f["in.hidden_states"], f["in.timestep"], inputs)


def read_transformer(path: Path) -> torch.nn.Module:
    return load_part(path, "transformer", torch.float32, CONFIGS["transformer"])


def refused(path: Path, config: dict | None = None) -> str:
    """The reason; `config` is what shapes cannot tell, or the whole config.json."""
    with pytest.raises(pano.CheckpointError) as caught:
        load_part(path, "transformer", torch.float32, config or {"axes_dims_rope": [4, 6, 6]})
    return str(caught.value)


@pytest.mark.parametrize("file", TRANSFORMERS)
def test_transformer(file):
    expected, form = TRANSFORMERS[file]
    assert read_parts([FOLDER / file])["transformer"].format == form
    out = velocity_of(read_transformer(FOLDER / file))
    assert largest(out, tensors("formats_expected")[expected]) <= CALL


def test_formats_are_not_the_same():
    """Had a scale been dropped or a wrong tensor been read, the bound would notice."""
    expected = tensors("formats_expected")
    velocities = [expected[name] for name in sorted(expected)]
    for i, one in enumerate(velocities):
        assert all(largest(one, other) > WRONG for other in velocities[i + 1 :])


def test_sizes_are_read_from_shapes():
    """Everything but what shapes cannot tell is right without a configuration."""
    axes = {"axes_dims_rope": [4, 6, 6]}
    source = find_model(
        FOLDER / "checkpoint_allinone_fp8.safetensors",
        {"tokenizer": FOLDER, "tokenizer_2": FOLDER},
        {
            "transformer": axes,
            "vae": {"norm_num_groups": 4},
            "text_encoder": {"num_attention_heads": 2},
        },
    )
    for name, part in source.parts.items():
        wanted = CONFIGS[name]
        same = {key: value for key, value in part.config.items() if key in wanted}
        assert same == {key: wanted[key] for key in same}, name
        assert len(same) >= 9, name


@pytest.mark.parametrize(
    "file, part, text",
    [
        ("transformer_bfl", "transformer", "attention heads of width 16"),
        ("vae_ae", "vae", "32 normalisation groups do not divide"),
        ("clip_l", "text_encoder", "heads of 64 do not divide"),
    ],
)
def test_what_shapes_cannot_tell(file, part, text):
    with pytest.raises(pano.CheckpointError, match=text):
        load_part(FOLDER / f"{file}.safetensors", part, torch.float32)


def test_config_beside_the_file(tmp_path):
    """A file of a diffusers sub-folder given by itself uses the config.json that lies there; any other does not."""
    source, stem = FOLDER / "transformer_diffusers.safetensors", "diffusion_pytorch_model"
    shutil.copy(FOLDER / "transformer_config.json", tmp_path / "config.json")
    for name in (f"{stem}.safetensors", f"{stem}.bf16.safetensors", f"{stem}-00001-of-00001.safetensors"):
        net = load_part(Path(shutil.copy(source, tmp_path / name)), "transformer", torch.float32)
        assert largest(velocity_of(net), tensors("formats_expected")["velocity_reference"]) <= CALL
    for name in ("flux.safetensors", f"{stem}_2.safetensors", "model.safetensors"):
        with pytest.raises(
            pano.CheckpointError, match=f"attention heads of width 16.*under its name.*{stem}"
        ):
            load_part(Path(shutil.copy(source, tmp_path / name)), "transformer", torch.float32)
    own = tmp_path / f"{stem}.safetensors"
    shutil.copy(FOLDER / "transformer_bfl.safetensors", own)
    with pytest.raises(pano.CheckpointError, match="attention heads of width 16"):
        load_part(own, "transformer", torch.float32)  # no file of a diffusers folder has BFL keys
    shutil.copy(source, own)
    (tmp_path / "config.json").write_text('{"model_type": "t5", "axes_dims_rope": [4, 6, 6]}')
    with pytest.raises(pano.CheckpointError, match="attention heads of width 16"):
        load_part(own, "transformer", torch.float32)


def test_config_beside_the_file_never_overrules_it(tmp_path):
    """What weights and their keys say, stands."""
    wrong = {
        "in_channels": 384,
        "num_single_layers": 9,
        "joint_attention_dim": 7,
        "guidance_embeds": False,
        "attention_head_dim": 64,
    }
    path = Path(shutil.copy(FOLDER / "transformer_diffusers.safetensors", tmp_path))
    path = path.rename(tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**CONFIGS["transformer"], **wrong}))
    config = find_part(path, "transformer").config
    assert {key: config[key] for key in wrong} == {key: CONFIGS["transformer"][key] for key in wrong}
    assert config["axes_dims_rope"] == [4, 6, 6]
    assert find_part(path, "transformer", {"in_channels": 384}).config["in_channels"] == 384, "asked for"


def test_ae_keys_are_fluxs_latents(tmp_path, monkeypatch):
    """Beside another VAE's config.json, under whatever name."""
    from panodiff_core.engines.dit360.checkpoint import configurations

    monkeypatch.setattr(configurations, "_VAE_GROUPS", 4)
    other = {**CONFIGS["vae"], "scaling_factor": 0.18215, "shift_factor": 0.0}
    (tmp_path / "config.json").write_text(json.dumps(other))
    name = "diffusion_pytorch_model.safetensors"
    for source, latents in (("vae_ae", (0.3611, 0.1159)), ("vae_diffusers", (0.18215, 0.0))):
        path = Path(shutil.copy(FOLDER / f"{source}.safetensors", tmp_path / name))
        config = find_part(path, "vae").config
        assert (config["scaling_factor"], config["shift_factor"]) == latents, source


def test_bfl_weights_are_the_diffusers_weights():
    mine = read_transformer(FOLDER / "transformer_bfl.safetensors").state_dict()
    theirs = transformer().state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


@pytest.mark.parametrize("file", ["vae_ae.safetensors", "checkpoint_allinone_fp8.safetensors"])
def test_vae(file):
    module = load_part(FOLDER / file, "vae", torch.float32, CONFIGS["vae"])
    mine, theirs = module.state_dict(), vae().state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


@pytest.mark.parametrize("prefix", ["text_encoders.clip_l.transformer.text_model.", "text_model.", ""])
def test_text_encoders_from_files(prefix, tmp_path):
    t = tensors("text")
    from panodiff_core.conditioning.text import encode_clip, encode_t5

    clip_file, t5_file = FOLDER / "clip_l.safetensors", FOLDER / "t5xxl_fp16.safetensors"
    if prefix.startswith("text_encoders"):
        clip_file = t5_file = FOLDER / "checkpoint_allinone_fp8.safetensors"
    elif not prefix:
        plain = {k.removeprefix("text_model."): v for k, v in load_file(clip_file).items()}
        plain["text_projection.weight"] = torch.eye(24)
        clip_file = tmp_path / "clip.safetensors"
        save_file(plain, clip_file)
    clip = load_part(clip_file, "text_encoder", torch.float32, CONFIGS["text_encoder"])
    t5 = load_part(t5_file, "text_encoder_2", torch.float32)
    if t5_file == clip_file:  # T5 is fp8 in this one: undo what the rounding did
        original = load_file(FOLDER / "t5xxl_fp16.safetensors")
        for name, weight in original.items():
            rounded = weight.to(torch.float8_e4m3fn).float()
            assert torch.equal(t5.state_dict()[name], rounded), name
        t5.load_state_dict(original, strict=False)
    with torch.no_grad():
        pooled = encode_clip(clip, t["in.clip_ids"], 63)
        text = encode_t5(t5, t["in.t5_ids"])
    assert largest(pooled, t["clip.pooled"]) <= 1e-5
    assert largest(text[:, :96], t["t5.embeds_first96"]) <= 1e-5
    assert t5.encoder.embed_tokens.weight is t5.shared.weight


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "model.", "net.", "transformer."])
def test_prefixes(prefix, tmp_path):
    path = tmp_path / "flux.safetensors"
    save_file({prefix + k: v for k, v in load_file(FOLDER / "transformer_bfl.safetensors").items()}, path)
    assert read_parts([path])["transformer"].format == f"BFL keys, prefix {prefix!r}"
    assert (
        largest(velocity_of(read_transformer(path)), tensors("formats_expected")["velocity_reference"])
        <= CALL
    )


def test_byte_tensors_of_the_current_metadata(tmp_path):
    """`<layer>.comfy_quant` holds the format as JSON bytes instead of the header."""
    source = FOLDER / "transformer_fp8_scaled_metadata.safetensors"
    with safe_open(source, "pt") as handle:
        layers = json.loads(handle.metadata()["_quantization_metadata"])["layers"]
    weights = load_file(source)
    for layer, facts in layers.items():
        weights[f"{layer}.comfy_quant"] = torch.tensor(list(json.dumps(facts).encode()), dtype=torch.uint8)
        weights[f"{layer}.input_scale"] = torch.tensor(7.0)
    path = tmp_path / "flux.safetensors"
    save_file(weights, path)
    expected = tensors("formats_expected")["velocity.transformer_fp8_scaled"]
    assert largest(velocity_of(read_transformer(path)), expected) <= CALL
    first = next(iter(layers))
    weights[f"{first}.comfy_quant"] = torch.tensor(list(b'{"format": "nvfp4"}'), dtype=torch.uint8)
    save_file(weights, path)
    assert f"layer {first!r} is quantised as 'nvfp4', which is not read" in refused(path)


def test_scale_per_row(tmp_path):
    weights = load_file(FOLDER / "transformer_fp8_scaled_metadata.safetensors")
    name = next(n for n in sorted(weights) if n.endswith("qkv.weight_scale"))
    rows = weights[name.removesuffix("_scale")].shape[0]
    weights[name] = weights[name].expand(rows, 1).contiguous()
    path = tmp_path / "flux.safetensors"
    save_file(weights, path)
    expected = tensors("formats_expected")["velocity.transformer_fp8_scaled"]
    assert largest(velocity_of(read_transformer(path)), expected) <= CALL


def changed(tmp_path: Path, change, file: str = "transformer_bfl.safetensors") -> Path:
    weights = load_file(FOLDER / file)
    change(weights)
    path = tmp_path / "changed.safetensors"
    save_file(weights, path)
    return path


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda w: w.pop("guidance_in.in_layer.weight"), "this is FLUX.1-schnell or made from it"),
        (lambda w: w.update({"img_in.weight": torch.zeros(32, 384)}), "is FLUX.1-fill (384 input channels"),
        (lambda w: w.update({"img_in.weight": torch.zeros(32, 128)}), "is FLUX.1-depth or FLUX.1-canny (128"),
        (
            lambda w: w.update({"double_stream_modulation_img.lin.weight": torch.zeros(2, 2)}),
            "is a FLUX.2 model",
        ),
        (
            lambda w: w.update({"distilled_guidance_layer.in_proj.weight": torch.zeros(2, 2)}),
            "is a Chroma model",
        ),
        (
            lambda w: w.update({"double_blocks.0.img_attn.qkv.absmax": torch.zeros(2)}),
            "is a bitsandbytes 4-bit",
        ),
        (lambda w: w.update({"single_blocks.0.linear1.wscales": torch.zeros(2)}), "is an SVDQuant"),
        (
            lambda w: w.update({"double_blocks.2.img_mod.lin.weight": torch.zeros(192, 32)}),
            "missing (",
        ),
        (
            lambda w: w.update({"double_blocks.3.img_mod.lin.weight": torch.zeros(192, 32)}),
            "lacks all of transformer_blocks.2",
        ),
        (
            lambda w: w.update({"double_blocks.0.img_attn.gate": torch.zeros(2)}),
            "double_blocks.0.img_attn.gate",
        ),
        (lambda w: w.pop("single_blocks.1.linear2.bias"), "single_transformer_blocks.1.proj_out.bias"),
        (
            lambda w: w.update({"txt_in.bias": torch.zeros(31)}),
            "context_embedder.bias: file [31], model [32]",
        ),
        (
            lambda w: w["double_blocks.1.img_mlp.0.weight"].view(-1)[5:6].fill_(torch.nan),
            "'double_blocks.1.img_mlp.0.weight' has NaN or infinite values",
        ),
    ],
)
def test_refused_by_name(tmp_path, change, text):
    path = changed(tmp_path, change)
    message = refused(path)
    assert text in message and str(path) in message


def test_a_block_too_many_for_the_config(tmp_path):
    def change(weights):
        for name in [n for n in weights if n.startswith("single_blocks.1.")]:
            weights[name.replace(".1.", ".2.", 1)] = weights[name].clone()

    path = changed(tmp_path, change)
    message = refused(path, CONFIGS["transformer"])
    assert "unexpected (14)" in message and "single_transformer_blocks.2.attn.norm_k.weight" in message
    net = load_part(path, "transformer", torch.float32, {"axes_dims_rope": [4, 6, 6]})
    assert len(net.single_transformer_blocks) == 3


def test_one_nan_among_fp8(tmp_path):
    def change(weights):
        weights["txt_in.weight"].view(torch.uint8).view(-1)[3] = 0x7F

    path = changed(tmp_path, change, "transformer_fp8_e4m3fn.safetensors")
    assert "'txt_in.weight' has NaN or infinite values" in refused(path)


def test_scale_without_its_weight_and_weight_without_its_scale(tmp_path):
    legacy = "transformer_fp8_scaled_legacy.safetensors"
    path = changed(tmp_path, lambda w: w.pop("double_blocks.0.img_attn.proj.weight"), legacy)
    assert "scales 'double_blocks.0.img_attn.proj.weight', which is missing" in refused(path)
    with safe_open(FOLDER / "transformer_fp8_scaled_metadata.safetensors", "pt") as handle:
        metadata = handle.metadata()
    weights = load_file(FOLDER / "transformer_fp8_scaled_metadata.safetensors")
    weights.pop("double_blocks.0.img_attn.proj.weight_scale")
    save_file(weights, path, metadata)
    assert "'double_blocks.0.img_attn.proj.weight' is scaled fp8 without its scale" in refused(path)


def test_a_file_of_the_wrong_part(tmp_path):
    assert "holds vae, not a transformer" in refused(FOLDER / "vae_ae.safetensors")
    path = tmp_path / "x.safetensors"
    save_file({"alien.weight": torch.zeros(2)}, path)
    assert "holds no part of FLUX.1: it has alien.weight" in refused(path)
    pickle = tmp_path / "flux.pt"
    pickle.write_bytes(b"x")
    assert "is a pickle; only safetensors and GGUF files are read" in refused(pickle)


def test_left_over_tensors(tmp_path):
    path = changed(
        tmp_path,
        lambda w: w.update({"model_ema.decay": torch.zeros(1)}),
        "checkpoint_allinone_fp8.safetensors",
    )
    assert "belong to no part of FLUX.1" in refused(path) and "model_ema.decay" in refused(path)


def test_full_width_needs_the_full_depth(tmp_path):
    """At FLUX's width a block more or less is no other size but another model."""
    from panodiff_core.engines.dit360.checkpoint.configurations import transformer_config
    from panodiff_core.io.checkpoints.entries import Entry

    def entry(*shape):
        return Entry(shape, torch.bfloat16, "x", lambda low, high: torch.zeros(()))

    names = {"x_embedder.weight": entry(3072, 64), "context_embedder.weight": entry(3072, 4096)}
    names["time_text_embed.text_embedder.linear_1.weight"] = entry(3072, 768)
    names["time_text_embed.guidance_embedder.linear_1.weight"] = entry(3072, 256)
    names |= {f"transformer_blocks.{i}.attn.norm_q.weight": entry(128) for i in range(19)}
    names |= {f"single_transformer_blocks.{i}.norm.linear.bias": entry(9216) for i in range(38)}
    config = transformer_config(names, {}, "flux")
    assert (config["num_layers"], config["num_single_layers"], config["num_attention_heads"]) == (19, 38, 24)
    assert config["axes_dims_rope"] == [16, 56, 56] and config["guidance_embeds"] is True
    names["transformer_blocks.19.attn.norm_q.weight"] = entry(128)
    with pytest.raises(
        pano.CheckpointError, match="20 double and 38 single blocks, FLUX.1-dev has 19 and 38"
    ):
        transformer_config(names, {}, "flux")
    given = transformer_config(names, {"num_layers": 20}, "flux")
    assert (given["num_layers"], given["num_single_layers"]) == (20, 38)
    with pytest.raises(pano.CheckpointError, match="20 double and 38 single.* configuration says 20 and 37"):
        transformer_config(names, {"num_layers": 20, "num_single_layers": 37}, "flux")


def test_one_file_needs_the_other_parts(tiny_folder):
    config = {"transformer": {"axes_dims_rope": [4, 6, 6]}}
    with pytest.raises(pano.CheckpointError) as caught:
        find_model(FOLDER / "transformer_q8_0.gguf", configs=config)
    message = str(caught.value)
    assert "transformer_q8_0.gguf" in message
    for part in ("vae", "text_encoder_2", "ae.safetensors", "t5xxl_fp16.safetensors", "tokenizer_2/*.json"):
        assert part in message
    with pytest.raises(pano.InputError, match="unknown part 'clip': there are " + ", ".join(PARTS)):
        pano.load("dit360", tiny_folder, parts={"clip": "x"}, device="cpu")
    with pytest.raises(pano.CheckpointError, match="there is no vae at nowhere"):
        pano.load("dit360", tiny_folder, parts={"vae": "nowhere"}, device="cpu")


def test_all_that_is_not_there_is_named_at_once(tmp_path):
    """Every path, where such a file goes, and the command that fetches it."""
    parts = {"vae": "ae.safetensors", "text_encoder_2": "t5.gguf", "tokenizer": "FLUX.1-dev/tokenizer"}
    with pytest.raises(pano.CheckpointError) as caught:
        pano.load("dit360", tmp_path / "flux1-dev-Q8_0.gguf", parts=parts, lora="loras/DiT360", device="cpu")
    message = str(caught.value)
    for words in (
        f"there is no model folder or file {tmp_path / 'flux1-dev-Q8_0.gguf'}, no vae at ae.safetensors, ",
        "no text_encoder_2 at t5.gguf, no tokenizer at FLUX.1-dev/tokenizer, no LoRA loras/DiT360. Any path may",
        "to models/diffusion_models/",
        "to models/vae/",
        "to models/text_encoders/",
        "to models/diffusers/FLUX.1-dev/",
        "to models/loras/DiT360/",
        "download dit360 --layout comfyui --only transformer --to models",
        "download dit360 --layout comfyui --only vae --to models",
        "download dit360 --layout comfyui --only t5 --to models",
        "download dit360 --layout diffusers --only clip --to models",
        "download dit360 --only lora --to models",
    ):
        assert words in message, words
    (tmp_path / "flux1-dev-Q8_0.gguf").touch()
    with pytest.raises(pano.CheckpointError, match=r"there is no vae at ae.safetensors\. ") as caught:
        find_model(tmp_path / "flux1-dev-Q8_0.gguf", {"vae": "ae.safetensors"})
    assert "diffusion_models" not in str(caught.value)


def test_parts_from_elsewhere(tiny_folder, tiny_engine, tmp_path):
    """A folder with one part replaced, and a file with all others given, are the same model."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    elsewhere = Path(shutil.move(folder / "vae", tmp_path / "moved"))
    engine = pano.load("dit360", folder, parts={"vae": elsewhere}, device="cpu")
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    parts = {name: folder / name for name in PARTS[2:]}
    alone = pano.load("dit360", weights, parts={**parts, "vae": elsewhere}, device="cpu")
    condition = tiny_engine.encode("a sea")
    for other in (engine, alone):
        options = {"seed": 3, "height": 64, "width": 128, "steps": 2}
        expected = tiny_engine.decode(tiny_engine.sample(condition, **options)).pixels
        got = other.decode(other.sample(condition, **options), polar_filter=False).pixels
        assert torch.equal(got, expected)
