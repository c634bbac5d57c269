"""Weights stored in fewer bits than they compute with, LoRAs beside them, and what stays precise."""

from __future__ import annotations

import re
import shutil
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import panodiff_core as pano
from panodiff_core.engines.dit360.checkpoint import load_part
from panodiff_core.engines.dit360.checkpoint.precision import packed_weights, tensor_types, time_in_float32
from panodiff_core.engines.dit360.model import LoraStack, LoraWeights, build_transformer
from panodiff_core.runtime.float8 import Float8Linear, quantised_rows
from panodiff_core.runtime.storage import block_layers, is_compressed, parse_storage, store
from tests.core.dit360_vectors import FOLDER, read
from tests.tiny_model import TRANSFORMER

FP8 = torch.float8_e4m3fn
CPU = torch.device("cpu")


def load(folder, **options):
    return pano.load("dit360", folder, device="cpu", **options)


def scaled(name, value):
    """(numbers, scale) of a matrix as scaled fp8 files have them: one scale, not a power of two."""
    scale = value.abs().max() / 448 * 1.0625
    return {name: (value / scale).to(FP8), name.replace(".weight", ".weight_scale"): scale}


def plain(name, value):
    """All in 8 bits, as in plain fp8 files."""
    return {name: value.to(FP8)}


def rewritten(folder, target, change):
    """A copy of a model folder, with the transformer's and T5's files changed tensor by tensor."""
    shutil.copytree(folder, target)
    files = {}
    for part, file in (
        ("transformer", target / "transformer" / "diffusion_pytorch_model.safetensors"),
        ("text_encoder_2", target / "text_encoder_2" / "model.safetensors"),
    ):
        values = [change(name, value) for name, value in load_file(file).items()]
        save_file({name: value.contiguous() for each in values for name, value in each.items()}, file)
        files[part] = load_file(file)
    return files


@pytest.fixture(scope="module", params=[plain, scaled], ids=["plain", "scaled"])
def fp8_folder(request, tiny_folder, tmp_path_factory):
    """The tiny model with transformer and T5 in 8 bits: everything plain, or the matrices with a scale each."""
    folder = tmp_path_factory.mktemp("fp8") / "model"

    def change(name, value):
        if request.param is plain or value.ndim == 2 and ".norm_" not in name:
            return request.param(name, value)
        return {name: value}

    return folder, rewritten(tiny_folder, folder, change)


def test_an_fp8_file_stays_as_it_is(fp8_folder):
    """Left out, storage follows the file: bytes and scales, and results as if it had been expanded."""
    folder, files = fp8_folder
    stored, forced, wide = load(folder), load(folder, storage=FP8), load(folder, storage="dtype")
    condition = wide.encode("a sea")
    for engine in (stored, forced):
        assert torch.equal(engine.encode("a sea").text, condition.text)
        assert torch.equal(engine.sample(condition, steps=2), wide.sample(condition, steps=2))
        modules = {"transformer": engine.transformer, "text_encoder_2": engine.text_encoder.t5}
        for part, module in modules.items():
            layers, after, file = block_layers(module), module.state_dict(), files[part]
            # Modulation, attention, feed-forward; T5's without the layer that transformers casts to.
            assert len(layers) == (2 + 8 + 4 + 2 * (1 + 3 + 2) if part == "transformer" else 2 * (4 + 2))
            for name in layers:
                assert torch.equal(
                    after[f"{name}.weight"].view(torch.uint8), file[f"{name}.weight"].view(torch.uint8)
                )
                scale = file.get(f"{name}.weight_scale")
                assert (scale is None) == (f"{name}.scale" not in after)
                assert scale is None or torch.equal(after[f"{name}.scale"], scale.view(1, 1))
            rest = {
                n: v for n, v in after.items() if n.rpartition(".")[0] not in layers or n.endswith("bias")
            }
            assert all(value.dtype == torch.float32 for value in rest.values())
            assert module.dtype == torch.float32
    for module in (wide.transformer, wide.text_encoder.t5):
        assert all(value.dtype == torch.float32 for value in module.state_dict().values())


def errors(weight, stored):
    return (stored.double() - weight.double()).abs()


def test_a_scale_per_row_keeps_three_bits():
    """Weights of FLUX's size: each off by at most 2⁻⁴ of itself, where a bare cast loses small ones altogether."""
    weight = torch.randn(64, 3072, generator=torch.Generator().manual_seed(5)) * 0.02
    weight[3] *= 1e-4
    weight[4] = 0.0
    weight[5, :2] = torch.tensor([-448.0 / 2**12, 1e-9])
    numbers, scale = quantised_rows(weight)
    assert numbers.dtype == FP8 and scale.shape == (64, 1)
    largest = (weight.abs().amax(dim=1, keepdim=True) / scale)[weight.any(dim=1)]
    assert (largest >= 224).all() and (largest <= 448).all()
    assert torch.equal(torch.frexp(scale).mantissa, torch.full_like(scale, 0.5)), "powers of two"
    layer = Float8Linear(numbers, scale)
    mine, bare = errors(weight, layer.expanded(torch.float32)), errors(weight, weight.to(FP8).float())
    bound = torch.maximum(weight.abs() / 16, weight.abs().amax(dim=1, keepdim=True) * 2.0**-17)
    assert (mine <= bound).all()
    # On average over all but the special rows: 2.3 % of each value against 10 %.
    relative = [(each / weight.abs())[6:].mean().item() for each in (mine, bare)]
    assert relative[0] < 0.023 and relative[1] > 4 * relative[0], relative
    # A power of two: exact in every type of computation.
    assert torch.equal(layer.expanded(torch.bfloat16).float(), layer.expanded(torch.float32))


@pytest.mark.parametrize("deviation, factor", [(0.02, 1.2), (0.01, 2.0), (0.005, 4.0), (0.002, 10.0)])
def test_better_than_a_bare_cast(deviation, factor):
    """Root mean square of the errors: always 2.7 % of the weights', the bare cast's by the factor larger."""
    weight = torch.randn(64, 3072, generator=torch.Generator().manual_seed(5)) * deviation
    stored = Float8Linear(*quantised_rows(weight)).expanded(torch.float32)
    mine, bare = (errors(weight, each).square().mean().sqrt() for each in (stored, weight.to(FP8)))
    assert mine < 0.027 * deviation and bare > factor * mine


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["rows", "one", "none"])
@pytest.mark.parametrize("source", [FP8, torch.float8_e5m2])
def test_the_layer_is_the_expanded_one(dtype, kind, source):
    generator = torch.Generator().manual_seed(1)
    numbers = (torch.randn(24, 40, generator=generator) * 20).to(source)
    scale = {
        "rows": torch.rand(24, 1, generator=generator) * 1e-3,
        "one": torch.tensor([[7.3e-4]]),
        "none": None,
    }[kind]
    bias = nn.Parameter(torch.randn(24, generator=generator).to(dtype))
    x = torch.randn(3, 5, 40, generator=generator).to(dtype)
    layer = Float8Linear(numbers, scale, bias)
    expanded = numbers.float() if scale is None else numbers.float() * scale
    with torch.no_grad():
        assert torch.equal(layer(x), nn.functional.linear(x, expanded.to(dtype), bias))
        exact = nn.functional.linear(x.double(), expanded.double(), bias.double())
        if dtype is torch.float32:
            assert ((layer(x) - exact).abs().max() / exact.abs().max()).item() <= 1e-6
        before = layer.weight.clone()
        layer(x)
    assert torch.equal(layer.weight.view(torch.uint8), before.view(torch.uint8)), "a call left its mark"
    moved = layer.to("meta")
    assert all(t.device.type == "meta" for t in (moved.weight, moved.bias, *moved.buffers()))


def test_only_the_blocks_lose_precision(tiny_folder):
    stored, wide = load(tiny_folder, storage=FP8), load(tiny_folder)
    for mine, theirs in (
        (stored.transformer, wide.transformer),
        (stored.text_encoder.t5, wide.text_encoder.t5),
    ):
        layers, packed = block_layers(mine), mine.state_dict()
        assert layers and all(isinstance(layer, Float8Linear) for layer in layers.values())
        for name, value in theirs.state_dict().items():
            if name.rpartition(".")[0] in layers and name.endswith("weight"):
                row = value.abs().amax(dim=1, keepdim=True)
                got = layers[name.rpartition(".")[0]].expanded(torch.float32)
                assert (errors(value, got) <= torch.maximum(value.abs() / 16, row * 2.0**-17)).all(), name
                assert packed[name].dtype == FP8
            else:
                assert torch.equal(packed[name], value), name
    assert not any(isinstance(m, Float8Linear) for m in wide.transformer.modules())
    assert not any(
        isinstance(m, Float8Linear) for e in (stored.vae, stored.text_encoder.clip) for m in e.modules()
    )
    once = load(tiny_folder).transformer
    store(once, "float8_e4m3fn", torch.float32, CPU)  # in memory, as while reading
    expected = stored.transformer.state_dict()
    assert once.state_dict().keys() == expected.keys()
    assert all(torch.equal(v.float(), expected[n].float()) for n, v in once.state_dict().items())


def test_reading_passes_one_tensor_at_a_time(tiny_folder, monkeypatch):
    """A large file is packed while it is read: beside the packed weights there is one tensor in float32."""
    from panodiff_core.io.checkpoints import filling

    alive, most, quantised = [], [], filling.quantised_rows

    def note(weight):
        alive.append(weakref.ref(weight))
        most.append(sum(ref() is not None for ref in alive))
        return quantised(weight)

    monkeypatch.setattr(filling, "quantised_rows", note)
    engine = load(tiny_folder, storage=FP8)
    assert len(most) == len(block_layers(engine.transformer)) + len(block_layers(engine.text_encoder.t5))
    assert max(most) == 1


def test_gguf_is_expanded_and_says_what_that_takes(tmp_path, caplog):
    from panodiff_core.engines.dit360.checkpoint.layout import find_part
    from panodiff_core.engines.dit360.checkpoint.modules import build_module, fill_module

    part = find_part(FOLDER / "transformer_q8_0.gguf", "transformer", read("transformer_config.json"))
    line = r".*transformer_q8_0.gguf \(transformer\): 0.2 MB in the file, 0.3 MB as bfloat16"
    modules = {}
    for storage, said in (
        (None, "; storage='float8_e4m3fn' halves that"),
        ("dtype", ""),
        ("float8_e4m3fn", None),
    ):
        caplog.clear()
        modules[storage] = module = build_module(part)
        with caplog.at_level("INFO"):
            fill_module(module, part, torch.bfloat16, storage)
        lines = [record.getMessage() for record in caplog.records]
        assert lines == [] if said is None else re.fullmatch(line + re.escape(said), *lines), storage
    assert part.file_bytes == (FOLDER / "transformer_q8_0.gguf").stat().st_size
    wide = load_part(
        FOLDER / "transformer_q8_0.gguf", "transformer", torch.float32, read("transformer_config.json")
    )
    for name, layer in block_layers(modules["float8_e4m3fn"]).items():
        value = wide.get_submodule(name).weight
        row = value.abs().amax(dim=1, keepdim=True)
        bound = torch.maximum(value.abs() / 16, row * 2.0**-17)
        assert (errors(value, layer.expanded(torch.float32)) <= bound).all(), name
    assert not any(isinstance(m, Float8Linear) for s in (None, "dtype") for m in modules[s].modules())


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
def test_lora_beside_eight_bits(fp8_folder, offload):
    """Call after call it adds B (A x) in the model's own type, and nothing of it stays."""
    folder, _ = fp8_folder
    plain, stored = load(folder, storage="dtype"), load(folder, offload=offload)
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


def test_lora_fused_into_eight_bits(fp8_folder):
    """Only when asked for: rows get new scales, and the file's own numbers come back."""
    network = load(fp8_folder[0]).transformer
    before = {name: value.clone() for name, value in network.state_dict().items()}
    weights = lora_of(network)
    name = "transformer_blocks.0.attn.to_q"
    layer = network.get_submodule(name)
    down, up = weights.pairs[name]
    wanted = layer.expanded(torch.float32) + 0.5 * up @ down
    stack = LoraStack(network, [weights], [0.5], "fused")
    row = wanted.abs().amax(dim=1, keepdim=True)
    bound = torch.maximum(wanted.abs() / 16, row * 2.0**-17) * (1 + 1e-5)
    assert layer.weight.dtype == FP8 and (errors(wanted, layer.expanded(torch.float32)) <= bound).all()
    stack.remove()
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(value.float(), before[n].float()) for n, value in after.items())


def test_peft_takes_the_layer_as_its_base(fp8_folder):
    """PEFT's own layers, as diffusers puts them on: base_layer(x) + B (A x)."""
    peft = pytest.importorskip("peft")
    network = load(fp8_folder[0]).transformer
    x = torch.randn(2, 5, network.inner_dim, generator=torch.Generator().manual_seed(2))
    base = network.transformer_blocks[0].attn.to_q
    plain = base(x)
    network.add_adapter(peft.LoraConfig(r=4, lora_alpha=8, target_modules=["to_q"], init_lora_weights=False))
    wrapped = network.transformer_blocks[0].attn.to_q
    assert wrapped.base_layer is base
    down, up = wrapped.lora_A["default"].weight.float(), wrapped.lora_B["default"].weight.float()
    got = wrapped(x)
    assert got.dtype == torch.float32
    assert (got - plain - 2 * x @ down.T @ up.T).abs().max() <= 1e-5 * got.abs().max()
    assert (got - plain).abs().max() > 1e-3


def test_unknown_storage_and_missing_torchao(tiny_folder, monkeypatch):
    with pytest.raises(
        pano.InputError,
        match="unknown storage 'fp8': choose one of dtype, float8_e4m3fn, int8, int4, or leave it out",
    ):
        load(tiny_folder, storage="fp8")
    monkeypatch.setitem(sys.modules, "torchao", None)
    for name in ("int8", "int4"):
        with pytest.raises(pano.InputError, match=f"'{name}' needs torchao, .*: pip install torchao"):
            load(tiny_folder, storage=name)


def test_no_eight_bit_floats_on_mps():
    mps, dtype = torch.device("mps"), torch.bfloat16
    for storage in ("float8_e4m3fn", FP8):
        with pytest.raises(
            pano.InputError, match="'float8_e4m3fn' .*mps.* dtype='bfloat16' and offload='stage'"
        ):
            parse_storage(storage, dtype, mps)
    assert [parse_storage(s, dtype, mps) for s in (None, "dtype")] == ["dtype", "dtype"]
    assert [parse_storage(s, dtype, CPU) for s in (None, "dtype", FP8)] == [None, "dtype", "float8_e4m3fn"]


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
    assert not any(isinstance(m, Float8Linear) for m in engine.text_encoder.t5.modules())
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


def test_types_by_name():
    half, brain = torch.float16, torch.bfloat16
    time, query = "time_text_embed.timestep_embedder.linear_1.weight", "transformer_blocks.0.attn.to_q.weight"
    norm = "transformer_blocks.0.attn.norm_q.weight"
    out, half_types = "encoder.block.0.layer.1.DenseReluDense.wo.weight", tensor_types("text_encoder_2", half)
    for dtype in (half, brain):
        types = tensor_types("transformer", dtype)
        assert [types(n) for n in (time, query, norm)] == [torch.float32, dtype, dtype]
        wide = torch.float32 if dtype is half else brain
        assert tensor_types("vae", dtype)("decoder.conv_out.weight") == wide
        assert tensor_types("text_encoder_2", dtype)(out) == wide
    assert tensor_types("transformer", torch.float32)(time) == torch.float32
    assert half_types("shared.weight") == half


def test_what_is_packed(tiny_folder):
    engine = load(tiny_folder)
    entry = SimpleNamespace(is_float8=False)
    for part, module, inside, outside in (
        ("transformer", engine.transformer, "transformer_blocks.0.norm1.linear", "x_embedder"),
        ("text_encoder_2", engine.text_encoder.t5, "encoder.block.1.layer.0.SelfAttention.o",
         "encoder.block.1.layer.1.DenseReluDense.wo"),
    ):  # fmt: skip
        entries = {name: entry for name in module.state_dict()}
        names = packed_weights(part, module, entries, "float8_e4m3fn")
        assert f"{inside}.weight" in names and f"{outside}.weight" not in names
        assert not any(name.endswith("bias") for name in names)
        assert (
            packed_weights(part, module, entries, None)
            == packed_weights(part, module, entries, "dtype")
            == set()
        )
        entries |= {f"{n}.weight": SimpleNamespace(is_float8=True) for n in (inside, outside)}
        assert packed_weights(part, module, entries, None) == {f"{inside}.weight"}
        assert packed_weights(part, module, entries, "dtype") == set()
        follows = {f"{inside}.weight"} if part == "text_encoder_2" else set()
        assert packed_weights(part, module, entries, "int8") == follows
    assert packed_weights("vae", engine.vae, {}, "float8_e4m3fn") == set()


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
