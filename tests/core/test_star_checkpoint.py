"""STAR's weight files: every wrapping gives the same model, and what is missing, damaged or foreign is refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import panodiff_core as pano
from panodiff_core.__main__ import build_parser, main
from panodiff_core.engines.star import checkpoint
from panodiff_core.engines.star.checkpoint import FACERAY, SAMPLER, SAMPLER_FACERAY, find_model
from panodiff_core.engines.star.checkpoint.filling import added_part
from panodiff_core.engines.star.faceray import FaceRayAdapter, FaceRayGenerator, FaceRaySampler
from panodiff_core.engines.star.masked_sampler import MaskedSampler
from panodiff_core.engines.star.scales import Scales
from panodiff_core.engines.star.sources import CONVERT, SOURCES, where_to_get
from panodiff_core.io.checkpoints.entries import Entry
from panodiff_core.io.checkpoints.torch_files import tensor_entries
from panodiff_core.io.checkpoints.writing import write_safetensors
from tests.core.star_vectors import PATCH_NUMS, Folder, part, weights

GENERATOR, VQVAE = part("var_wo_ddp"), part("vae_local")
ADAPTERS = part("var_wo_ddp", "faceray_weights")
# The trainer's notes, as its checkpoints have them.
NOTES = {"patch_nums": PATCH_NUMS, "resos": (2, 4, 6, 8, 12, 16), "label_smooth": 0.0, "prog_it": 0}


def trainer(generator=GENERATOR, vqvae=VQVAE, **config) -> dict:
    states = {"config": {**NOTES, **config}, "var_wo_ddp": generator, "vae_local": vqvae}
    return {
        "epoch": 1,
        "iter": 30000,
        "trainer": {**states, "var_opt": {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}},
    }


@pytest.fixture
def save(tmp_path):
    def write(tree, name: str = "star.pth", **options) -> Path:
        torch.save(tree, tmp_path / name, **options)
        return tmp_path / name

    return write


def refused(*args, **kwargs) -> str:
    with pytest.raises(pano.CheckpointError) as caught:
        find_model(*args, **kwargs)
    return str(caught.value)


def same(entries: Mapping[str, Entry], tensors: Mapping[str, torch.Tensor]) -> bool:
    return entries.keys() == tensors.keys() and all(
        torch.equal(e.read(), tensors[n]) for n, e in entries.items()
    )


def holder(tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """A module with parameters of these names and shapes, all zero."""
    root = nn.Module()
    for name, tensor in tensors.items():
        *path, leaf = name.split(".")
        at = root
        for step in path:
            if not hasattr(at, step):
                at.add_module(step, nn.Module())
            at = getattr(at, step)
        at.register_parameter(leaf, nn.Parameter(torch.zeros(tensor.shape)))
    return root


# --- wrappings ---


def test_trainer_file(save):
    model = find_model(save(trainer()))
    assert same(model.generator, GENERATOR) and same(model.vqvae, VQVAE)
    assert model.form == "trainer .pth"
    expected = Folder()
    assert model.config.vqvae == expected.vqvae_config()
    found = model.config.generator
    assert (found.depth, found.width, found.heads, found.patch_nums) == (3, 48, 4, PATCH_NUMS)
    assert (found.text_width, found.vocab, found.latent_channels, found.class_rows) == (56, 64, 8, 11)
    assert (found.mlp_ratio, found.sampler_blocks, model.config.faceray) == (4.0, 3, None)


def test_stripped_trainer_file_and_the_autoencoder_of_its_own(save):
    """Published files: the generator without optimizer, the flat autoencoder of VAR beside it."""
    tree = {"trainer": {"var_wo_ddp": GENERATOR, "config": NOTES}}
    model = find_model(save(tree), save(VQVAE, "vae.pth"))
    assert same(model.generator, GENERATOR) and same(model.vqvae, VQVAE)


def test_an_autoencoder_given_apart_wins(save):
    other = {**VQVAE, "quant_conv.bias": VQVAE["quant_conv.bias"] + 1}
    assert same(find_model(save(trainer()), save(other, "vae.pth")).vqvae, other)


def test_file_in_the_format_before_zip(save):
    path = save(trainer(), _use_new_zipfile_serialization=False)
    assert same(find_model(path).generator, GENERATOR)


def test_tensors_of_a_zip_stay_in_the_file(save, monkeypatch):
    seen, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: seen.append(k) or load(*a, **k))
    find_model(save(trainer()))
    assert seen == [{"map_location": "cpu", "weights_only": True, "mmap": True}]


def test_prefixed_safetensors(tmp_path):
    save_file(weights(), tmp_path / "both.safetensors")
    opened = checkpoint.open_weights(tmp_path / "both.safetensors")
    assert same(opened.generator, GENERATOR) and same(opened.vqvae, VQVAE)
    assert opened.patch_nums is None


def test_bare_safetensors(tmp_path):
    save_file(GENERATOR, tmp_path / "generator.safetensors")
    save_file(VQVAE, tmp_path / "vae.safetensors")
    assert same(checkpoint.open_weights(tmp_path / "generator.safetensors").generator, GENERATOR)
    assert same(checkpoint.open_weights(tmp_path / "vae.safetensors").vqvae, VQVAE)


def fork_state(only_lists: bool = False) -> dict[str, torch.Tensor]:
    """The fork's generator: no class embedding, the autoencoder inside, its quantizer and all adapters twice."""
    own = {name: t for name, t in GENERATOR.items() if name != "class_emb.weight"}
    lists = {
        name.replace("feat_extract_blocks.", "faceray_sampler_adapters.")
        .replace("blocks.", "faceray_adapters.")
        .replace("faceray_adapter.", ""): t
        for name, t in ADAPTERS.items()
    }
    copies = {f"vae_local.{name}": t for name, t in VQVAE.items()}
    quantizer = {
        name.replace("quantize.", "quantize_local."): t for name, t in VQVAE.items() if "quantize." in name
    }
    return {**own, **({} if only_lists else ADAPTERS), **lists, **copies, **quantizer}


@pytest.mark.parametrize("only_lists", [False, True])
def test_the_forks_file(save, only_lists):
    tree = {
        "trainer": {
            "var_wo_ddp": fork_state(only_lists),
            "step": 1000,
            "loss": 5.0,
            "config": {"patch_nums": PATCH_NUMS},
        }
    }
    with pytest.raises(pano.CheckpointError, match="60 wide, which 8 heads do not divide"):
        find_model(save(tree))
    opened = checkpoint.open_weights(save(tree))
    expected = {name: t for name, t in {**GENERATOR, **ADAPTERS}.items() if name != "class_emb.weight"}
    assert same(opened.generator, expected) and same(opened.vqvae, VQVAE)


def test_the_forks_adapters_say_how_text_is_read(save):
    """Eight heads of 30, as at the published width, and every row reads its own text."""
    state = fork_state()
    for name in list(state):
        if name.endswith("qkv.weight") and "adapter" in name:
            state[name] = torch.zeros(720, 48)
        if name.endswith("out_proj.weight"):
            state[name] = torch.zeros(48, 240)
    notes = {"patch_nums": PATCH_NUMS}
    source = find_model(save({"trainer": {"var_wo_ddp": state, "step": 1000, "config": notes}}))
    found = source.config
    assert (found.faceray.heads, found.faceray.head_dim, found.faceray.adapter_dim) == (8, 30, 240)
    assert (found.generator.cross_attention, found.generator.class_rows) == ("per_row", 0)
    parts = checkpoint.load_components(source)
    assert type(parts.generator) is FaceRayGenerator and type(parts.sampler) is FaceRaySampler


def test_the_forks_copies_must_agree(save):
    state = fork_state()
    state["faceray_adapters.1.out_proj.bias"] = state["faceray_adapters.1.out_proj.bias"] + 1e-3
    path = save({"trainer": {"var_wo_ddp": state}})
    text = refused(path)
    assert "'blocks.1.faceray_adapter.out_proj.bias' twice" in text


# --- which model it is ---


def fake(depth: int, scales: int, width: int = 1920, **more: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """The weights by which sizes are told, at the published sizes, taking no memory."""
    heads, zero = width // 64, torch.zeros(())
    shapes = {
        "lvl_embed.weight": (scales, width),
        "encoder_proj.weight": (width, 1024),
        "head_logits.weight": (4096, width),
        "word_embed.weight": (width, 32),
        "class_emb.weight": (1001, width),
        "blocks.0.attn.scale_mul_1H11": (1, heads, 1, 1),
        "blocks.0.ffn.fc1.weight": (4 * width, width),
        **{f"blocks.{i}.ffn.fc2.bias": (width,) for i in range(depth)},
        **more,
    }
    return {name: zero.expand(shape) for name, shape in shapes.items()}


VAE_SIZES = {
    "encoder.conv_in.weight": (160, 3, 3, 3),
    **{f"encoder.down.{n}.block.0.conv1.weight": (160 * m, 1, 3, 3) for n, m in enumerate((1, 1, 2, 2, 4))},
    "encoder.down.0.block.1.conv1.weight": (160, 160, 3, 3),
    "quantize.embedding.weight": (4096, 32),
    **{f"quantize.quant_resi.qresi_ls.{k}.bias": (32,) for k in range(4)},
}


@pytest.fixture
def identify(monkeypatch, tmp_path):
    """`find_model` over fake weights, from their names and shapes alone."""
    from panodiff_core.engines.star.checkpoint import source
    from panodiff_core.engines.star.checkpoint.formats import StarWeights

    def run(name: str, generator, noted=None, preset=None):
        vae = {n: torch.zeros(()).expand(shape) for n, shape in VAE_SIZES.items()}
        found = StarWeights(
            tensor_entries(generator, name), tensor_entries(vae, name), noted, "flat .pth", name
        )
        monkeypatch.setattr(source, "open_weights", lambda path: found)
        (tmp_path / name).touch()
        return find_model(tmp_path / name, preset=preset).config

    return run


@pytest.mark.parametrize(
    ("name", "depth", "scales", "side"),
    [
        ("star_rope_d30_512-ar-ckpt-ep1-iter30000.pth", 30, 10, 32),
        ("star_rope_d30_256-ar-ckpt-ep4.pth", 30, 10, 16),
        ("generator.pth", 30, 14, 64),
    ],
)
def test_published_files_are_known_by_name_and_scales(identify, name, depth, scales, side):
    config = identify(name, fake(depth, scales))
    assert config.generator.patch_nums[-1] == side and config.generator.depth == depth
    assert config.vqvae.changed() == checkpoint.ModelConfig(config.generator, config.vqvae).vqvae
    assert (config.vqvae.channels, config.vqvae.multipliers, config.vqvae.blocks) == (
        160,
        (1, 1, 2, 2, 4),
        2,
    )


def test_depth_16_is_known_by_its_depth(identify):
    config = identify("x.pth", fake(16, 10, 1024)).generator
    assert (config.patch_nums[-1], config.heads, config.hidden) == (16, 16, 4096)


def test_ten_scales_without_a_name_are_two_models(identify):
    with pytest.raises(pano.CheckpointError, match=r"30 blocks and 10 scales.*preset \(d30-512, d30-256\)"):
        identify("generator.pth", fake(30, 10))
    assert identify("generator.pth", fake(30, 10), preset="d30-256").generator.patch_nums[-1] == 16
    assert (
        identify("generator.pth", fake(30, 10), noted=(1, 2, 3, 4, 6, 9, 13, 18, 24, 32)).generator.depth
        == 30
    )


def test_another_depth_than_the_preset(identify):
    with pytest.raises(pano.CheckpointError, match="depth: file 16, preset 'd30-512' 30; width: file 1024"):
        identify("x.pth", fake(16, 10, 1024), preset="d30-512")


def test_another_scale_list_than_the_preset(identify):
    with pytest.raises(
        pano.CheckpointError, match=r"trained on 14 scales, and the scale list \[1, 2, 3, 4, 6"
    ):
        identify("x.pth", fake(30, 14), preset="d30-512")
    with pytest.raises(
        pano.CheckpointError, match=r"trained on the scales .*16\], preset 'd30-512' has .*32\]"
    ):
        identify("x.pth", fake(30, 10), noted=(1, 2, 3, 4, 5, 6, 8, 10, 13, 16), preset="d30-512")


def test_notes_and_weights_that_disagree(save):
    text = refused(save(trainer(patch_nums=(1, 2, 3))))
    assert "trained on 6 scales, and the scale list [1, 2, 3] has 3" in text


def test_notes_with_an_impossible_scale_list_name_the_file(save):
    path = save(trainer(patch_nums=(8, 6, 4, 3, 2, 1)))
    text = refused(path)
    assert text.startswith(f"{path}, notes of its training: patch_nums must begin with 1 and grow")


def test_a_block_in_between_is_missing(save):
    left = {name: t for name, t in GENERATOR.items() if not name.startswith("blocks.1.")}
    assert "lacks all of blocks.1" in refused(save(trainer(left)))


def test_generator_and_autoencoder_of_different_models(save):
    wide = {**VQVAE, "quantize.embedding.weight": torch.zeros(128, 8)}
    assert "vocab: file 64, its autoencoder 128" in refused(save(trainer(vqvae=wide)))


def test_unknown_preset(save):
    with pytest.raises(pano.InputError, match="unknown preset 'd24'"):
        find_model(save(trainer()), preset="d24")


# --- what is refused ---


class Code:
    def __reduce__(self):
        return os.system, ("echo harm",)


@pytest.mark.parametrize("zip_format", [True, False])
def test_a_file_with_code_in_it(save, zip_format, capfd):
    path = save({**trainer(), "extra": Code()}, _use_new_zipfile_serialization=zip_format)
    text = refused(path)
    assert f"{path} asks for {os.system.__module__}.system" in text and "could run code" in text
    assert "weights_only" not in text  # torch's own message advises to switch the check off
    assert "harm" not in capfd.readouterr().out


@pytest.mark.parametrize("zip_format", [True, False])
@pytest.mark.parametrize("keep", [0.3, 0.99])
def test_truncated_file(save, zip_format, keep):
    path = save(trainer(), _use_new_zipfile_serialization=zip_format)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    assert "download broke off" in refused(path)


def test_truncated_safetensors(tmp_path):
    path = tmp_path / "star.safetensors"
    save_file(weights(), path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert "download broke off" in refused(path)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_no_torch_file(tmp_path, content):
    (tmp_path / "star.pth").write_bytes(content)
    assert "no file of torch.save" in refused(tmp_path / "star.pth")


def test_no_file(save, tmp_path):
    gone = refused(tmp_path / "star.pth", tmp_path / "vqvae.pth")
    assert f"no model folder or file {tmp_path / 'star.pth'}, no autoencoder (vqvae) at {tmp_path}" in gone
    assert where_to_get() in gone
    assert "there is no file" in refused(save(trainer()), tmp_path)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([1, 2], "holds a list instead of a dictionary"),
        ({"model": torch.zeros(2)}, "holds no part of STAR: it has model"),
        ({"blocks.0.ada_lin.1.weight": torch.zeros(2)}, "class-conditional VAR"),
        ({"trainer": {"var_wo_ddp": torch.zeros(2)}}, "'var_wo_ddp' is a Tensor, not a state dict"),
        ({"trainer": {"var_wo_ddp": {**GENERATOR, "ep": 3}}}, "'ep' is no tensor but int"),
        (VQVAE, "holds an autoencoder and no generator"),
        ({"trainer": {"var_wo_ddp": GENERATOR, "config": NOTES}}, "holds no autoencoder"),
    ],
)
def test_other_contents(save, tree, message):
    assert message in refused(save(tree))


def test_more_than_the_two_parts(tmp_path):
    save_file({**weights(), "text.weight": torch.zeros(2)}, tmp_path / "x.safetensors")
    assert "more than STAR's weights: text.weight" in refused(tmp_path / "x.safetensors")


# --- into modules ---


def entries_of(*states: Mapping[str, torch.Tensor]) -> dict[str, Entry]:
    return {name: entry for state in states for name, entry in tensor_entries(state, "file").items()}


PLAIN = {name: t for name, t in GENERATOR.items() if added_part(name) is None}
OF_SAMPLER = {name: t for name, t in GENERATOR.items() if added_part(name) == SAMPLER}
OF_BLOCKS = {name: t for name, t in ADAPTERS.items() if name.startswith("blocks.")}
OF_SAMPLER_BLOCKS = {name: t for name, t in ADAPTERS.items() if name.startswith("feat_extract_blocks.")}


def test_added_parts_are_the_specified_ones():
    """43 weights of the sampler with three blocks, three of each adapter; all else is STAR's own, 19 in each block."""
    assert len(OF_SAMPLER) == 43 and len(PLAIN) == 3 * 19 + 9
    assert {added_part(n) for n in OF_BLOCKS} == {FACERAY} and len(OF_BLOCKS) == 9
    assert {added_part(n) for n in OF_SAMPLER_BLOCKS} == {SAMPLER_FACERAY} and len(OF_SAMPLER_BLOCKS) == 9


def test_published_generator_into_the_extended_model():
    """Exactly the new parts keep their own numbers, and only those that the caller names may be missing."""
    module = holder({**PLAIN, **OF_SAMPLER, **ADAPTERS})
    new = (FACERAY, SAMPLER, SAMPLER_FACERAY)
    assert checkpoint.fill_generator(module, entries_of(PLAIN), "file", new=new) == new
    state = module.state_dict()
    assert all(torch.equal(state[n], t) for n, t in PLAIN.items())
    kept = {n for n, t in state.items() if not t.abs().sum()}
    zero = {n for n, t in PLAIN.items() if not t.abs().sum()}
    assert kept - zero == OF_SAMPLER.keys() | ADAPTERS.keys()
    assert not any(p.requires_grad for p in module.parameters())


def test_a_complete_file_keeps_nothing():
    module = holder({**PLAIN, **OF_SAMPLER, **ADAPTERS})
    full = entries_of(GENERATOR, ADAPTERS)
    assert checkpoint.fill_generator(module, full, "file", new=(FACERAY, SAMPLER, SAMPLER_FACERAY)) == ()
    assert all(torch.equal(t, {**GENERATOR, **ADAPTERS}[n]) for n, t in module.state_dict().items())


@pytest.mark.parametrize(
    ("drop", "extra", "new", "message"),
    [
        ((), {}, (), "missing (9): blocks.0.faceray_adapter"),
        (("blocks.1.ffn.fc1.bias",), {}, (FACERAY,), "missing (1): blocks.1.ffn.fc1.bias"),
        (("class_emb.weight",), {}, (FACERAY,), "missing (1): class_emb.weight"),
        ((), {"norm.weight": torch.zeros(2)}, (FACERAY,), "unexpected (1): norm.weight"),
        ((), {"pos_start": torch.zeros(1, 1, 2)}, (FACERAY,), "pos_start: file [1, 1, 2], model [1, 1, 48]"),
        (
            (),
            {n: t for n, t in OF_BLOCKS.items() if "blocks.2" not in n},
            (FACERAY,),
            "missing (3): blocks.2.faceray_adapter.out_proj.bias",
        ),
    ],
)
def test_what_does_not_fit_is_listed(drop, extra, new, message):
    module = holder({**PLAIN, **OF_BLOCKS})
    entries = {**entries_of(PLAIN, extra)}
    for name in drop:
        del entries[name]
    with pytest.raises(pano.CheckpointError) as caught:
        checkpoint.fill_generator(module, entries, "star.pth", new=new)
    assert message in str(caught.value)


def test_new_parts_need_numbers_of_their_own():
    with torch.device("meta"):
        module = holder({**PLAIN, **OF_BLOCKS}).to("meta")
    with pytest.raises(pano.CheckpointError, match="no numbers of its own"):
        checkpoint.fill_generator(module, entries_of(PLAIN), "file", new=(FACERAY,))


def test_half_precision_keeps_the_scales_of_attention():
    module = holder(PLAIN)
    checkpoint.fill_generator(module, entries_of(PLAIN), "file", torch.float16)
    kept = {n for n, t in module.state_dict().items() if t.dtype == torch.float32}
    assert kept == {n for n in PLAIN if n.endswith("scale_mul_1H11")} and len(kept) == 6


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none(value):
    bad = {**PLAIN, "pos_start": PLAIN["pos_start"].clone()}
    bad["pos_start"][0, 0, 5] = value
    with pytest.raises(pano.CheckpointError, match="'pos_start' has NaN or infinite"):
        checkpoint.fill_generator(holder(PLAIN), entries_of(bad), "file")
    bad = {**VQVAE, "quant_conv.bias": torch.full((8,), value)}
    with pytest.raises(pano.CheckpointError, match="'quant_conv.bias' has NaN or infinite"):
        checkpoint.load_vqvae(entries_of(bad), Folder().vqvae_config(), Scales(PATCH_NUMS), "file")


@pytest.mark.parametrize("sides", [PATCH_NUMS, (1, 2, 4, 8)])
def test_one_autoencoder_for_all_scale_lists(sides):
    """The hit counts, one row per scale, are the only thing that a scale list changes."""
    vae = checkpoint.load_vqvae(entries_of(VQVAE), Folder().vqvae_config(), Scales(sides), "file")
    state = vae.state_dict()
    hits = "quantize.ema_vocab_hit_SV"
    assert state[hits].shape == (len(sides), 64)
    assert torch.equal(state[hits], VQVAE[hits]) == (sides == PATCH_NUMS)
    assert all(torch.equal(state[n], t) for n, t in VQVAE.items() if n != hits)
    without = {n: t for n, t in VQVAE.items() if n != hits}
    checkpoint.load_vqvae(entries_of(without), Folder().vqvae_config(), Scales(sides), "file")


def test_autoencoder_with_a_part_too_few():
    bad = {n: t for n, t in VQVAE.items() if n != "decoder.conv_in.bias"}
    with pytest.raises(pano.CheckpointError, match=r"missing \(1\): decoder.conv_in.bias"):
        checkpoint.load_vqvae(entries_of(bad), Folder().vqvae_config(), Scales(PATCH_NUMS), "vae.pth")


# --- whole models ---


def test_published_model_becomes_modules(save):
    parts = checkpoint.load_components(find_model(save(trainer())))
    assert type(parts.generator).__name__ == "STARGenerator" and not any(
        isinstance(m, FaceRayAdapter) for m in parts.generator.modules()
    )
    state = {**parts.generator.state_dict(), **parts.sampler.state_dict()}
    assert state.keys() == GENERATOR.keys() and all(torch.equal(t, GENERATOR[n]) for n, t in state.items())
    assert all(torch.equal(t, VQVAE[n]) for n, t in parts.vqvae.state_dict().items())
    assert not parts.generator.training and not any(p.requires_grad for p in parts.generator.parameters())


def test_model_without_sampler_in_half_precision(save):
    parts = checkpoint.load_components(find_model(save(trainer(PLAIN))), torch.bfloat16)
    assert parts.sampler is None
    assert parts.generator.dtype == torch.bfloat16 and parts.vqvae.quant_conv.weight.dtype == torch.float32


def test_published_sampler_beside_adapters(tmp_path):
    """FaceRay of the generator alone: the sampler stays what it is published as."""
    vectors = Folder()
    config = checkpoint.ModelConfig(
        vectors.generator_config(), vectors.vqvae_config(), vectors.faceray_config()
    )
    for generator, kind in (
        ((GENERATOR, OF_BLOCKS), MaskedSampler),
        ((GENERATOR, ADAPTERS), FaceRaySampler),
    ):
        checkpoint.write_model(
            tmp_path / "m", config, entries_of(*generator), entries_of(VQVAE), torch.float32
        )
        parts = checkpoint.load_components(find_model(tmp_path / "m"))
        assert (type(parts.generator), type(parts.sampler)) == (FaceRayGenerator, kind)
        state = {**parts.generator.state_dict(), **parts.sampler.state_dict()}
        assert all(torch.equal(state[n], t) for each in generator for n, t in each.items())
        assert sum(map(len, generator)) == len(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.0.ffn.fc1.bias": None}, r"missing \(1\): blocks.0.ffn.fc1.bias"),
        ({"head_proj.bias": None}, r"missing \(1\): head_proj.bias"),
        ({"pos_1LC": torch.zeros(1, 130, 48)}, r"unexpected \(1\): pos_1LC"),
        ({"blocks.2.ffn.fc2.bias": torch.zeros(47)}, r"blocks.2.ffn.fc2.bias: file \[47\], model \[48\]"),
    ],
)
def test_names_and_shapes_are_checked_before_any_number(save, monkeypatch, change, message):
    state = {n: t for n, t in {**GENERATOR, **change}.items() if t is not None}
    source = find_model(save(trainer(state)))
    monkeypatch.setattr(Entry, "read", lambda self: pytest.fail("a tensor was read"))
    with pytest.raises(pano.CheckpointError, match=message):
        checkpoint.load_components(source)


# --- our folder ---


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model folder with adapters, in float32."""
    vectors = Folder()
    config = checkpoint.ModelConfig(
        vectors.generator_config(cross_attention="per_row"),
        vectors.vqvae_config(),
        vectors.faceray_config(),
        "small",
    )
    generator = entries_of(GENERATOR, ADAPTERS)
    checkpoint.write_model(tmp_path / "model", config, generator, entries_of(VQVAE), torch.float32)
    return tmp_path / "model"


def test_words_around_texts_of_faces_are_kept_and_checked(folder):
    assert checkpoint.read_config(folder).face_texts == {}
    config = replace(checkpoint.read_config(folder), face_texts={"U": "up, {prompt}"})
    checkpoint.write_config(folder, config)
    assert checkpoint.read_config(folder) == config
    for bad, words in (
        ({"U": "up"}, r"face U need \{prompt\}, got 'up'"),
        ({"N": "{prompt}"}, "no face 'N'"),
        (["up"], "must map names"),
    ):
        edit(folder, None, face_texts=bad)
        with pytest.raises(pano.CheckpointError, match=f"config.json, face_texts: .*{words}"):
            checkpoint.read_config(folder)


def edit(folder: Path, section: str | None, **changes) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    (values if section is None else values[section]).update(changes)
    path.write_text(json.dumps(values), encoding="utf-8")


def test_folder_round_trip(folder):
    model, vectors = find_model(folder), Folder()
    assert same(model.generator, {**GENERATOR, **ADAPTERS}) and same(model.vqvae, VQVAE)
    assert model.config.generator == vectors.generator_config(cross_attention="per_row")
    assert model.config.generator.rope_norm == 64.0 and model.config.generator.from_idx == 5
    assert model.config.faceray == vectors.faceray_config()
    assert (model.config.kind, model.form) == ("small", "PanoDiff folder")
    assert checkpoint.missing_files(folder) == []


def test_folder_lacks_files(folder):
    (folder / "vqvae.safetensors").unlink()
    assert checkpoint.missing_files(folder) == ["vqvae.safetensors"]
    assert "lacks vqvae.safetensors" in refused(folder)
    (folder / "config.json").unlink()
    assert checkpoint.missing_files(folder) == ["config.json", "vqvae.safetensors"]
    (folder / "star.safetensors").unlink()
    message = refused(folder)
    assert f"{folder} lacks config.json, star.safetensors, vqvae.safetensors." in message
    assert message.endswith(where_to_get())


def test_where_to_get_names_origin_place_and_the_command_that_converts():
    text = where_to_get()
    for words in (
        "https://huggingface.co/taocrayon/STAR to models/diffusion_models/",
        "https://huggingface.co/FoundationVision/var to models/vae/",
        "stable-diffusion-2-1 to models/diffusers/stable-diffusion-2-1/",
        "--text",
    ):
        assert words in text, words
    argv = CONVERT.removeprefix("python -m panodiff_core ").split()
    args = build_parser().parse_args(argv)
    names = [file for source in SOURCES[:2] for file in source.files]
    assert [str(args.input), str(args.vqvae)] == names and CONVERT in text


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("generator", {"depth": 4}, "depth: file 3, config.json 4"),
        ("generator", {"heads": 6}, "heads: file 4, config.json 6"),
        (
            "generator",
            {"patch_nums": [1, 2, 8], "from_idx": None},
            "trained on 6 scales, and the scale list [1, 2, 8] has 3",
        ),
        ("generator", {"rope_norm": "wide"}, "generator: rope_norm must be a number"),
        ("generator", {"layers": 3}, "generator: unknown setting 'layers'"),
        ("vqvae", {"blocks": 2}, "blocks: file 1, config.json 2"),
        ("faceray", {"adapter_dim": 30, "heads": 1}, "adapter_dim: file 60, config.json 30"),
        (None, {"panodiff": 2}, '"panodiff" is 2, this version reads 1'),
        (None, {"engine": "dit360"}, "\"engine\" is 'dit360', this version reads 'star'"),
        (None, {"kind": "big"}, "\"kind\" is 'big'"),
        (None, {"text": {}}, "unknown key 'text'"),
        (None, {"vqvae": 3}, '"vqvae" must be an object'),
        ("generator", {"self": 3}, "generator: unknown setting 'self'"),
        (None, {"defaults": {"top_k": [1, 2]}}, "defaults: top_k has 2 numbers for 6 scales"),
        (None, {"defaults": {"top_k": []}}, "defaults: top_k has 0 numbers for 6 scales"),
        (None, {"defaults": {"more_smooth": "no"}}, "defaults: more_smooth must be true or false, got 'no'"),
        (None, {"defaults": {"cross_attention": "row0"}}, "defaults: cross_attention 'row0' is not what the"),
        (
            None,
            {"defaults": {"sampler": "new"}, "generator": {}},
            "defaults: sampler 'new' needs a model with",
        ),
    ],
)
def test_config_that_is_wrong(folder, section, changes, message):
    edit(folder, section, **changes)
    assert message in refused(folder)


def test_config_that_is_no_json_within_reason(folder):
    (folder / "config.json").write_text("[" * 100_000, encoding="utf-8")
    assert "config.json cannot be read as JSON" in refused(folder)


def test_adapters_without_settings(folder):
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["faceray"]
    path.write_text(json.dumps(values), encoding="utf-8")
    assert "star.safetensors has FaceRay adapters, config.json lacks their settings" in refused(folder)


def test_settings_without_adapters(folder):
    save_file(GENERATOR, folder / "star.safetensors")
    assert "star.safetensors lacks FaceRay adapters, config.json has their settings" in refused(folder)


def test_a_folder_needs_no_preset(folder):
    with pytest.raises(pano.InputError, match="leave preset and vqvae out"):
        find_model(folder, preset="d30-512")


# --- writing ---


def test_written_file_is_safetensors(tmp_path):
    tensors = {
        "b": torch.randn(3, 5, generator=torch.Generator().manual_seed(1)),
        "a": torch.arange(7),
        "scalar": torch.tensor(2.5),
        "turned": torch.arange(6.0).view(2, 3).t(),
        "empty": torch.zeros(0, 4),
    }
    path = tmp_path / "x.safetensors"
    write_safetensors(path, tensor_entries(tensors, "memory"), lambda name: torch.bfloat16)
    read = load_file(path)
    assert read.keys() == tensors.keys() and read["a"].dtype == torch.int64
    for name, tensor in tensors.items():
        expected = tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
        assert torch.equal(read[name], expected) and read[name].dtype == expected.dtype


def test_a_bad_number_leaves_no_file(tmp_path):
    entries = tensor_entries({"a": torch.ones(3), "b": torch.tensor([1.0, float("nan")])}, "memory")
    with pytest.raises(pano.CheckpointError, match="'b' has NaN"):
        write_safetensors(tmp_path / "x.safetensors", entries, lambda name: torch.float32)
    with pytest.raises(pano.CheckpointError, match=r"overflows torch.float16"):
        write_safetensors(
            tmp_path / "x.safetensors",
            tensor_entries({"a": torch.tensor([1e6])}, "m"),
            lambda name: torch.float16,
        )
    assert not list(tmp_path.iterdir())


def test_convert_refuses_what_it_does_not_know(save, tmp_path, capsys):
    source = save(trainer({**GENERATOR, "norm.weight": torch.zeros(2)}))
    assert main(["convert", "star", str(source), str(tmp_path / "out")]) == 1
    assert "unexpected (1): norm.weight" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_convert_that_fails_leaves_nothing_behind(save, tmp_path, capsys):
    head, out = GENERATOR["head_logits.weight"], tmp_path / "new" / "out"
    damaged = save(trainer({**GENERATOR, "head_logits.weight": head * torch.nan}))
    for _ in range(2):
        assert main(["convert", "star", str(damaged), str(out)]) == 1
        assert "'head_logits.weight' has NaN or infinite values" in capsys.readouterr().err
    assert not out.exists() and list(out.parent.iterdir()) == []
    assert main(["convert", "star", str(damaged), str(damaged)]) == 1
    assert "is a file: give a new folder" in capsys.readouterr().err


def test_convert(save, tmp_path, capsys):
    source, out = save(trainer()), tmp_path / "folder"
    assert main(["convert", "star", str(source), str(out), "--dtype", "float16"]) == 0
    assert "depth 3, width 48, scales [1, 2, 3, 4, 6, 8]" in capsys.readouterr().err
    model = find_model(out)
    assert model.config == find_model(source).config
    read = {name: entry.read() for name, entry in model.generator.items()}
    for name, tensor in GENERATOR.items():
        kept = torch.float32 if name.endswith("scale_mul_1H11") else torch.float16
        assert torch.equal(read[name], tensor.to(kept)) and read[name].dtype == kept
    assert same(model.vqvae, VQVAE)
    assert main(["convert", "star", str(source), str(out)]) == 1
    assert "is not empty" in capsys.readouterr().err


def test_convert_with_the_autoencoder_apart(save, tmp_path, capsys):
    source = save({"trainer": {"var_wo_ddp": GENERATOR, "config": NOTES}})
    assert main(["convert", "star", str(source), str(tmp_path / "a")]) == 1
    assert "give vae_ch160v4096z32.pth" in capsys.readouterr().err
    vae = save(VQVAE, "vae.pth")
    assert main(["convert", "star", str(source), str(tmp_path / "a"), "--vqvae", str(vae)]) == 0
    assert same(find_model(tmp_path / "a").vqvae, VQVAE)
