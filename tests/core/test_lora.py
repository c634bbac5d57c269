"""The DiT360 LoRA: fused like the reference, taken back exactly, refused when it is another's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers")

import panodiff_core as pano
from panodiff_core.conditioning.text import TextCondition
from panodiff_core.engines.dit360.checkpoint.lora import parse_loras, read_lora
from panodiff_core.engines.dit360.engine import DiT360Engine
from panodiff_core.engines.dit360.model import LoraStack
from panodiff_core.layers.ring import pack
from tests.core.dit360_vectors import FOLDER, engine, fill, largest, tensors, transformer

FILE = FOLDER / "lora_dit360.safetensors"


@pytest.fixture
def network() -> torch.nn.Module:
    return fill(type(transformer()).from_config(transformer().config), "transformer_diffusers")


def sample(network: torch.nn.Module) -> torch.Tensor:
    t, own = tensors("t2i"), engine()
    other = DiT360Engine.__new__(DiT360Engine)
    vars(other).update(vars(own))
    other.transformer, other.stages = network, {**own.stages, "transformer": network}
    condition = TextCondition(t["in.prompt_embeds"], t["in.pooled_prompt_embeds"])
    return pack(other.sample(condition, latents=t["in.latents_spatial"]))


def test_trajectories_and_the_way_back(network):
    t = tensors("t2i")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    lora = LoraStack(network, [read_lora(FILE)])
    assert lora.mode == "fused" and len(lora.adapters[0].pairs) == 14
    assert largest(sample(network), t["lora.final_packed"]) <= 2e-4
    lora.set_strengths([0.5])
    assert largest(sample(network), t["lora_half.final_packed"]) <= 2e-4
    assert largest(sample(network), t["lora.final_packed"]) > 0.05
    lora.remove()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_fused_once_and_rounded_once(network):
    """In bfloat16, changing the strength often leaves no trace."""
    network.to(torch.bfloat16)
    lora = LoraStack(network, [read_lora(FILE)], [0.7])
    once = {name: value.clone() for name, value in network.state_dict().items()}
    for strength in (1.0, -2.0, 0.0, 0.7):
        lora.set_strengths([strength])
    assert all(torch.equal(value, once[name]) for name, value in network.state_dict().items())
    assert network.dtype == torch.bfloat16


def test_alpha_of_the_config(tmp_path, network):
    folder = tmp_path / "adapter"
    folder.mkdir()
    shutil.copy(FILE, folder / "adapter_model.safetensors")
    config = json.loads((FOLDER / "lora_adapter_config.json").read_text(encoding="utf-8"))
    for alpha, scale in ((4, 1.0), (1, 0.25)):
        (folder / "adapter_config.json").write_text(
            json.dumps({**config, "lora_alpha": alpha}), encoding="utf-8"
        )
        assert read_lora(folder).scale == scale
    (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 8}), encoding="utf-8")
    with pytest.raises(pano.CheckpointError, match="rank 4: they do not belong together"):
        read_lora(folder)
    for more in ({"use_rslora": True}, {"use_dora": True}, {"rank_pattern": {"proj_out": 8}}):
        (folder / "adapter_config.json").write_text(json.dumps({**config, **more}), encoding="utf-8")
        with pytest.raises(pano.CheckpointError, match=f"sets {next(iter(more))} to .* use a plain LoRA"):
            read_lora(folder)
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    narrow = {f"{NAME}.lora_A.weight": torch.zeros(2, 32), f"{NAME}.lora_B.weight": torch.zeros(32, 2)}
    written(folder / "adapter_model.safetensors", lambda t: t.update(narrow))
    with pytest.raises(pano.CheckpointError, match="has rank 2, 4"):
        read_lora(folder)


def written(path: Path, change, metadata: dict[str, str] | None = None) -> Path:
    values = load_file(FILE)
    change(values)
    save_file(values, path, metadata)
    return path


def with_alphas(values, alpha=1.0):
    for name in [n for n in values if n.endswith(".lora_A.weight")]:
        values[name.replace(".lora_A.weight", ".alpha")] = torch.tensor(alpha)


def test_where_alpha_comes_from(tmp_path):
    """The file's own header, then PEFT's file beside PEFT's name, then its alpha tensors, then alpha = r (4 here)."""
    header = {
        "lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 12, "x.r": 9})
    }
    config = json.loads((FOLDER / "lora_adapter_config.json").read_text(encoding="utf-8"))
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 2}), encoding="utf-8")
    peft, other = tmp_path / "adapter_model.safetensors", tmp_path / "mine.safetensors"
    scales = {
        (path.name, way): read_lora(written(path, *what)).scale
        for path in (peft, other)
        for way, what in {
            "header": (with_alphas, header),
            "tensors": (with_alphas,),
            "nothing": (lambda t: None,),
        }.items()
    }
    assert list(scales.values()) == [3.0, 0.5, 0.5, 3.0, 0.25, 1.0], scales
    assert len(read_lora(written(other, with_alphas)).pairs) == 14
    (tmp_path / "adapter_config.json").write_text("not JSON", encoding="utf-8")
    assert read_lora(other).scale == 0.25, "of another LoRA"


@pytest.mark.parametrize(
    "metadata, text",
    [
        ("{", "lora_adapter_metadata in its header cannot be read"),
        ("[]", "is list, not an object"),
        (
            '{"transformer.r": 8, "transformer.lora_alpha": 8}',
            "says r 8 and lora_alpha 8, a.safetensors has rank 4",
        ),
        ('{"transformer.r": 4, "transformer.lora_alpha": NaN}', "lora_alpha nan"),
        ('{"r": 4, "lora_alpha": 4}', "says r None"),
        ('{"transformer.r": 4, "transformer.lora_alpha": 4, "transformer.use_dora": true}', "sets use_dora"),
    ],
)
def test_damaged_headers(tmp_path, metadata, text):
    path = written(tmp_path / "a.safetensors", lambda t: None, {"lora_adapter_metadata": metadata})
    with pytest.raises(pano.CheckpointError, match=text):
        read_lora(path)


def test_headers_are_those_that_diffusers_writes(tmp_path, network):
    """Saved by diffusers' own pipeline code, with alpha 8 at rank 4."""
    peft = pytest.importorskip("peft")
    from diffusers import FluxPipeline
    from diffusers.training_utils import _collate_lora_metadata

    network.add_adapter(peft.LoraConfig(r=4, lora_alpha=8, target_modules=["to_q"], init_lora_weights=False))
    layers = peft.get_peft_model_state_dict(network)
    FluxPipeline.save_lora_weights(
        tmp_path, transformer_lora_layers=layers, **_collate_lora_metadata({"transformer": network})
    )
    (file,) = tmp_path.glob("*.safetensors")
    lora = read_lora(file)
    assert lora.scale == 2.0 and "transformer_blocks.0.attn.to_q" in lora.pairs


NAME = "transformer.transformer_blocks.0.attn.to_q"


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda t: t.pop(f"{NAME}.lora_A.weight"), "transformer_blocks.0.attn.to_q lacks one half"),
        (lambda t: t.update({"lora_unet_x.lora_down.weight": torch.zeros(1)}), "not a LoRA in PEFT's format"),
        (lambda t: t[f"{NAME}.lora_B.weight"].fill_(torch.nan), "has NaN or infinite values"),
        (lambda t: t.update({f"{NAME}.lora_B.weight": torch.zeros(32, 3)}), "its ranks differ"),
        (lambda t: t.clear(), "no tensor at all"),
        (lambda t: t.update({f"{NAME}.alpha": torch.tensor(4.0)}), "1 alpha tensors for 14 modules"),
        (lambda t: with_alphas(t, [1.0, 2.0]), "more than one number"),
        (lambda t: with_alphas(t, float("nan")), "alpha / rank is nan"),
        (
            lambda t: (with_alphas(t), t.update({f"{NAME}.alpha": torch.tensor(2.0)})),
            "alpha / rank is 0.25 and 0.5",
        ),
    ],
)
def test_damaged_files(tmp_path, change, text):
    with pytest.raises(pano.CheckpointError, match=text):
        read_lora(written(tmp_path / "lora.safetensors", change))


def test_another_models(tmp_path, network, tiny_folder):
    file = written(
        tmp_path / "a.safetensors", lambda t: t.update({f"{NAME}.lora_B.weight": torch.zeros(64, 4)})
    )
    with pytest.raises(pano.CheckpointError, match=r"changes a weight of \[64, 32\].*a weight of \[32, 32\]"):
        LoraStack(network, [read_lora(file)])
    with pytest.raises(pano.CheckpointError, match="transformer_blocks.1.*no such layer"):
        pano.load("dit360", tiny_folder, device="cpu", lora=FILE)
    with pytest.raises(pano.CheckpointError, match="there is no LoRA"):
        pano.load("dit360", tiny_folder, device="cpu", lora=tmp_path / "none")


def test_from_the_public_door(tmp_path, tiny_folder, tiny_engine):
    def keep(values):
        for name in [n for n in values if not n.startswith(NAME)]:
            values.pop(name)

    file = written(tmp_path / "a.safetensors", keep)
    loaded = pano.load("dit360", tiny_folder, device="cpu", lora=(file, 0.5))
    mine = loaded.transformer.state_dict()
    changed = [n for n, v in tiny_engine.transformer.state_dict().items() if not torch.equal(v, mine[n])]
    assert changed == ["transformer_blocks.0.attn.to_q.weight"] and loaded.loras.strengths == (0.5,)
    for bad in (3, (file, 1.0, 2.0), [file, 3]):
        with pytest.raises(pano.InputError, match="lora must be a path"):
            parse_loras(bad)
    assert parse_loras([file, (file, 0.5)]) == [(file, 1.0), (file, 0.5)] and parse_loras(None) == []
    with pytest.raises(pano.InputError, match="strength must be a number"):
        loaded.loras.set_strengths([float("nan")])
    with pytest.raises(pano.InputError, match="2 strengths for 1 LoRAs"):
        loaded.loras.set_strengths([1.0, 1.0])
    with pytest.raises(pano.InputError, match="lora_mode must be one of fused, side"):
        pano.load("dit360", tiny_folder, device="cpu", lora=file, lora_mode="both")
    twice = pano.load("dit360", tiny_folder, device="cpu", lora=[(file, 0.2), (file, 0.3)])
    weight = twice.transformer.transformer_blocks[0].attn.to_q.weight
    assert largest(weight, mine["transformer_blocks.0.attn.to_q.weight"]) <= 1e-6


def test_side_branches(network):
    """The same trajectories with the weights untouched; nothing stays when they are taken off."""
    t, before = tensors("t2i"), {name: value.clone() for name, value in network.state_dict().items()}
    # Half of it twice: the branches of several adapters share two products.
    lora = LoraStack(network, [read_lora(FILE), read_lora(FILE)], [0.75, 0.25], "side")
    assert largest(sample(network), t["lora.final_packed"]) <= 2e-4
    after = network.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[n], before[n]) for n in before)
    network.to(torch.float64).to(torch.float32)  # the branches move with the module
    lora.set_strengths([0.5, 0.0])
    assert largest(sample(network), t["lora_half.final_packed"]) <= 2e-4
    lora.remove()
    assert largest(sample(network), t["cfg_off.final_packed"]) <= 2e-4
    left = [n for n, m in network.named_modules() if m._forward_hooks or "lora_down" in m._buffers]
    assert not left


def test_eight_bit_weights_take_the_side_branch(network):
    """Rounded to fp8, a small update would vanish in the weight; beside it, it stays whole."""
    layer = network.transformer_blocks[0].attn.to_q
    layer.weight.data = layer.weight.data.to(torch.float8_e4m3fn)
    weights = read_lora(FILE)
    lora = LoraStack(network, [weights], [0.01])
    assert lora.mode == "side"
    name = "transformer_blocks.0.attn.to_q"
    down, up = weights.pairs[name]
    x = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(1))
    got = layer._forward_hooks[next(iter(layer._forward_hooks))](layer, (x,), torch.zeros(1, 5, 32))
    assert largest(got, 0.01 * x @ down.T @ up.T) <= 5e-3 * got.abs().max()  # bf16
    lora.remove()
    forced = LoraStack(network, [weights], [1.0], "fused")
    assert forced.mode == "fused" and layer.weight.dtype == torch.float8_e4m3fn
