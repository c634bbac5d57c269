"""Weights stored in fewer bits than they compute with, LoRAs beside them, and what stays precise."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import panodiff_core as pano
from panodiff_core.engines.dit360.lora import LoraStack, LoraWeights
from panodiff_core.engines.dit360.model import build_transformer
from panodiff_core.engines.dit360.precision import tensor_types, time_in_float32
from panodiff_core.runtime.storage import block_layers, is_compressed, parse_storage, store
from tests.tiny_model import TRANSFORMER

FP8 = torch.float8_e4m3fn
CPU = torch.device("cpu")


def load(folder, **options):
    return pano.load("dit360", folder, device="cpu", **options)


@pytest.fixture(scope="module")
def fp8_folder(tiny_folder, tmp_path_factory):
    """The tiny model with a plain fp8 transformer: every tensor in 8 bits, as in files that people own."""
    folder = tmp_path_factory.mktemp("fp8") / "model"
    shutil.copytree(tiny_folder, folder)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({name: value.to(FP8) for name, value in load_file(file).items()}, file)
    return folder, load_file(file)


def test_an_fp8_file_stays_bit_for_bit(fp8_folder):
    folder, file = fp8_folder
    stored, plain = load(folder, storage="float8_e4m3fn"), load(folder)
    layers = block_layers(stored.transformer)
    assert len(layers) == 2 + 8 + 4 + 2 * (1 + 3 + 2)  # modulation, attention, feed-forward
    condition = plain.encode("a sea")
    assert torch.equal(stored.sample(condition, steps=2), plain.sample(condition, steps=2))
    after = stored.transformer.state_dict()  # also after calls, which convert and store again
    for name, value in file.items():
        packed = name.rpartition(".")[0] in layers
        assert after[name].dtype == (FP8 if packed else torch.float32), name
        if packed:
            assert torch.equal(after[name].view(torch.uint8), value.view(torch.uint8)), name
        else:
            assert torch.equal(after[name], value.float()), name
    assert stored.transformer.dtype == torch.float32


def test_only_the_blocks_lose_precision(tiny_folder):
    stored, plain = load(tiny_folder, storage=FP8), load(tiny_folder)
    layers, after = block_layers(stored.transformer), stored.transformer.state_dict()
    for name, value in plain.transformer.state_dict().items():
        mine = after[name]
        if name.rpartition(".")[0] in layers:
            # Half a unit of three mantissa bits, or half the smallest step.
            assert ((mine.float() - value).abs() <= (value.abs() / 16).clamp(min=2.0**-10)).all(), name
        else:
            assert torch.equal(mine, value), name


def lora_of(network, rank=4):
    generator = torch.Generator().manual_seed(3)
    pairs = {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear) and ".attn.to_" in f".{name}":
            out, into = layer.weight.shape
            pairs[name] = (
                torch.randn(rank, into, generator=generator) * 0.3,
                torch.randn(out, rank, generator=generator) * 0.3,
            )
    assert len(pairs) == 5 + 2 * 3
    return LoraWeights(Path("a.safetensors"), pairs, 1.0)


@pytest.mark.parametrize("offload", ["none", "group", "sequential"])
def test_lora_beside_casting_hooks(fp8_folder, offload):
    """Call after call it adds B (A x) in the model's own type: a casting hook stores the whole layer in 8 bits in between."""
    folder, _ = fp8_folder
    plain, stored = load(folder), load(folder, storage="float8_e4m3fn", offload=offload)
    condition = plain.encode("a sea")
    bare = plain.sample(condition, steps=2)
    weights = lora_of(plain.transformer)
    for engine in (plain, stored):
        engine.loras = LoraStack(engine.transformer, [weights], [0.5])
    assert (plain.loras.mode, stored.loras.mode) == ("fused", "side")
    reference = plain.sample(condition, steps=2)
    assert (reference - bare).abs().max() > 1e-2
    for _ in range(2):
        assert (stored.sample(condition, steps=2) - reference).abs().max() <= 2e-5
    stored.loras.remove()
    assert torch.equal(stored.sample(condition, steps=2), bare)


def test_unknown_storage_and_missing_torchao(tiny_folder, monkeypatch):
    with pytest.raises(
        pano.InputError, match="unknown storage 'fp8': choose one of float8_e4m3fn, int8, int4"
    ):
        load(tiny_folder, storage="fp8")
    monkeypatch.setitem(sys.modules, "torchao", None)
    for name in ("int8", "int4"):
        with pytest.raises(pano.InputError, match=f"'{name}' needs torchao, .*: pip install torchao"):
            load(tiny_folder, storage=name)


@pytest.fixture
def torchao(monkeypatch):
    """A recording torchao: its configs by name, and what `quantize_` was asked for."""
    asked = []

    def quantize_(model, config, filter_fn, device):
        asked.append((config, {n for n, m in model.named_modules() if filter_fn(m, n)}, device))

    quantization = SimpleNamespace(
        Int8WeightOnlyConfig=lambda **options: ("int8", options),
        Int4WeightOnlyConfig=lambda **options: ("int4", options),
        quantize_=quantize_,
    )
    monkeypatch.setitem(sys.modules, "torchao", SimpleNamespace(quantization=quantization))
    monkeypatch.setitem(sys.modules, "torchao.quantization", quantization)
    return asked


def test_torchao_gets_the_blocks(tiny_folder, torchao):
    engine = load(tiny_folder, storage="int8")
    ((config, layers, device),) = torchao
    assert (config, device) == (("int8", {}), None) and layers == block_layers(engine.transformer).keys()
    cuda = torch.device("cuda")
    store(engine.transformer, "int4", torch.bfloat16, cuda)
    config, layers, device = torchao[-1]
    assert (
        config == ("int4", {"group_size": 128, "int4_packing_format": "tile_packed_to_4d"}) and device == cuda
    )
    with pytest.raises(pano.InputError, match="use offload='group'"):
        load(tiny_folder, storage="int8", offload="sequential")
    for dtype, device in ((torch.float16, cuda), (torch.bfloat16, CPU)):
        with pytest.raises(pano.InputError, match="'int4' computes in bfloat16 on a CUDA device"):
            parse_storage("int4", dtype, device)
    assert (
        parse_storage("int4", torch.bfloat16, cuda) == "int4"
        and parse_storage(None, torch.float32, CPU) is None
    )


def test_quantised_weights_take_the_side_branch(tiny_folder):
    from torch.testing._internal.two_tensor import TwoTensor

    network = load(tiny_folder).transformer
    weights = lora_of(network)
    layer = network.transformer_blocks[0].attn.to_q
    layer.weight = nn.Parameter(TwoTensor(layer.weight.data, layer.weight.data), requires_grad=False)
    assert is_compressed(layer.weight)
    kept = layer.weight
    stack = LoraStack(network, [weights])
    assert stack.mode == "side" and layer.weight is kept
    stack.remove()
    with pytest.raises(pano.InputError, match="'fused' does not go with int8 or int4"):
        LoraStack(network, [weights], mode="fused")


def test_types_by_name(tiny_folder):
    engine = load(tiny_folder)
    half, brain = torch.float16, torch.bfloat16
    net, vae, t5 = engine.transformer, engine.vae, engine.text_encoder.t5
    time, query = "time_text_embed.timestep_embedder.linear_1.weight", "transformer_blocks.0.attn.to_q.weight"
    norm, modulation = "transformer_blocks.0.attn.norm_q.weight", "transformer_blocks.0.norm1.linear.bias"
    for dtype in (half, brain):
        types = tensor_types("transformer", net, dtype)
        assert [types(n) for n in (time, query, norm)] == [torch.float32, dtype, dtype]
        types = tensor_types("transformer", net, dtype, "float8_e4m3fn")
        assert [types(n) for n in (time, query, norm, modulation)] == [torch.float32, FP8, dtype, FP8]
        assert tensor_types("vae", vae, dtype)("decoder.conv_out.weight") == (
            torch.float32 if dtype is half else brain
        )
        out = tensor_types("text_encoder_2", t5, dtype)("encoder.block.0.layer.1.DenseReluDense.wo.weight")
        assert out == (torch.float32 if dtype is half else brain)
    assert tensor_types("transformer", net, torch.float32)(time) == torch.float32


def embedded(network, sigma, **extra):
    """What the blocks get as time embedding in one call."""
    seen = []
    handle = network.transformer_blocks[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["temb"].float()), with_kwargs=True
    )
    dtype = network.dtype
    with torch.no_grad():
        network(
            hidden_states=torch.zeros(1, 8, 64, dtype=dtype),
            timestep=torch.tensor([sigma]),
            guidance=torch.tensor([2.8]),
            encoder_hidden_states=torch.zeros(1, 4, 32, dtype=dtype),
            pooled_projections=torch.full((1, 24), 0.3, dtype=dtype),
            img_ids=torch.zeros(8, 3),
            txt_ids=torch.zeros(4, 3),
        )
    handle.remove()
    return seen[0]


def test_time_is_embedded_in_float32(tiny_folder):
    """In bfloat16 the time would be off by up to 2 of 1000; kept exact, only the result is rounded."""
    state = load(tiny_folder).transformer.state_dict()
    networks = {}
    for name, dtype in (("exact", torch.float32), ("rounded", torch.bfloat16), ("kept", torch.bfloat16)):
        network = build_transformer(TRANSFORMER).requires_grad_(False)
        network.load_state_dict(state)
        networks[name] = network.to(dtype)
    kept = networks["kept"]
    kept.time_text_embed.load_state_dict(networks["exact"].time_text_embed.state_dict(), assign=True)
    time_in_float32(kept)
    assert kept.dtype == torch.bfloat16
    for sigma in (0.9629, 0.7183, 0.1371):
        exact = embedded(networks["exact"], sigma)
        errors = {n: (embedded(networks[n], sigma) - exact).abs().max().item() for n in ("rounded", "kept")}
        # Half a unit of 8 mantissa bits, and the pooled prompt's own rounding.
        assert errors["kept"] <= 2**-8 * exact.abs().max() + 2e-3, (sigma, errors)
        assert errors["rounded"] > 4 * errors["kept"], (sigma, errors)


def test_norms_compute_in_float32(tiny_folder):
    """The library's own doing, relied upon: in 16 bits the mean of the squares must not be rounded or overflow."""
    norm = load(tiny_folder, dtype="float16").transformer.transformer_blocks[0].attn.norm_q
    assert norm.weight.dtype == torch.float16
    x = (
        torch.randn(1, 2, 5, 16, generator=torch.Generator().manual_seed(0)).half() * 300
    )  # squares pass 65504
    wide = x.float()
    expected = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + norm.eps) * norm.weight.float()
    assert (norm(x).float() - expected).abs().max() <= 2e-3 * expected.abs().max()


def test_sixteen_bits_end_to_end(tiny_folder, tiny_engine):
    condition = tiny_engine.encode("a sea")
    reference = tiny_engine.sample(condition, steps=2)
    for storage in (None, "float8_e4m3fn"):
        engine = load(tiny_folder, dtype="bfloat16", storage=storage)
        assert engine.transformer.dtype == torch.bfloat16
        assert engine.transformer.time_text_embed.timestep_embedder.linear_1.weight.dtype == torch.float32
        difference = (engine.sample(condition, steps=2) - reference).abs().mean() / reference.abs().mean()
        assert 0 < difference < (0.1 if storage else 0.03)
