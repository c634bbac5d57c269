"""What the modes of placement keep on the device: estimated, recorded while they run, and without effect on results."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import panodiff_core as pano
from panodiff_core.__main__ import main
from panodiff_core.engines.dit360.model.memory import forward_bytes, text_bytes
from panodiff_core.runtime.memory import (
    MODES,
    StageMemory,
    advise,
    estimate,
    gigabytes,
    measure,
    tensor_bytes,
    weight_bytes,
)
from panodiff_core.runtime.placement import Holder

STREAMING = ("group", "sequential")


def load(folder, **options):
    return pano.load("dit360", folder, device="cpu", **options)


def everything(engine):
    condition = engine.encode("a calm sea", negative="")
    latents = engine.sample(condition, steps=2, cfg=2.0)
    return condition.text, condition.pooled, latents, engine.decode(latents).pixels


def hooks(engine):
    """Modules on which an offload hook was left, and tensors that are not back."""
    left = []
    for stage, holder in engine.stages.items():
        for name, module in holder.named_modules():
            registry = getattr(module, "_diffusers_hook", None)
            known = [] if registry is None else [key for key in registry.hooks if key != "layerwise_casting"]
            if known or hasattr(module, "_hf_hook") or ("forward" in module.__dict__ and registry is None):
                left.append(f"{stage}.{name}")
        left += [name for name, tensor in holder.named_parameters() if tensor.device.type != "cpu"]
    return left


@pytest.fixture(scope="module")
def expected(tiny_folder):
    return {
        storage: everything(load(tiny_folder, storage=storage, offload="none"))
        for storage in (None, "float8_e4m3fn")
    }


@pytest.mark.parametrize("storage", [None, "float8_e4m3fn"])
@pytest.mark.parametrize("offload", MODES)
def test_every_mode_gives_the_same_numbers(tiny_folder, expected, offload, storage):
    engine = load(tiny_folder, storage=storage, offload=offload)
    assert engine.placement.mode == offload
    for _ in range(2):  # the second time with hooks that were taken off and put on again
        for mine, theirs in zip(everything(engine), expected[storage], strict=True):
            assert torch.equal(mine, theirs)
    assert hooks(engine) == []


@pytest.mark.parametrize("offload", STREAMING)
def test_cancel_and_errors_leave_no_hooks(tiny_folder, expected, offload):
    engine = load(tiny_folder, offload=offload)
    condition = engine.encode("a calm sea", negative="")

    def cancel(step):
        raise pano.Cancelled

    with pytest.raises(pano.Cancelled):
        engine.sample(condition, on_step=cancel)
    assert hooks(engine) == []

    def fail(module, args):
        raise torch.cuda.OutOfMemoryError("in the middle of a block")

    handle = engine.transformer.single_transformer_blocks[0].proj_mlp.register_forward_pre_hook(fail)
    with pytest.raises(pano.MemoryLimitError, match="stage 'transformer'"):
        engine.sample(condition)
    handle.remove()
    assert hooks(engine) == []
    assert torch.equal(engine.sample(condition, steps=2, cfg=2.0), expected[None][2])


class Groups:
    """Notes which of diffusers' module groups are on the device, and the most bytes at once."""

    def __init__(self, monkeypatch):
        from diffusers.hooks.group_offloading import ModuleGroup

        self.there: dict[int, int] = {}
        self.most, self.fetched = 0, 0
        fetch, send = ModuleGroup.onload_, ModuleGroup.offload_

        def onload(group):
            self.fetched += 1
            inside = [t for m in group.modules for t in [*m.parameters(), *m.buffers()]]
            tensors = {id(t): t for t in [*inside, *group.parameters, *group.buffers]}
            self.there[id(group)] = sum(tensor_bytes(t) for t in tensors.values())
            self.most = max(self.most, sum(self.there.values()))
            fetch(group)

        def offload(group):
            self.there.pop(id(group), None)
            send(group)

        monkeypatch.setattr(ModuleGroup, "onload_", onload)
        monkeypatch.setattr(ModuleGroup, "offload_", offload)


@pytest.mark.parametrize("storage", [None, "float8_e4m3fn"])
@pytest.mark.parametrize("stage", ["text_encoders", "transformer"])
def test_groups_on_the_device_stay_within_the_estimate(tiny_folder, monkeypatch, stage, storage):
    engine = load(tiny_folder, offload="group", storage=storage)
    condition = engine.encode("a sea")
    groups = Groups(monkeypatch)
    module = engine.stages[stage]
    memory = measure(stage, module, prefetch=False)
    whole = weight_bytes(module)
    if stage == "transformer":
        engine.sample(condition, steps=1)
        assert groups.fetched == 4, "three blocks and the rest"
        assert groups.most == memory.group < whole
    else:
        engine.encode("a sea")
        assert groups.most <= memory.group < whole and groups.fetched > 20
    assert not groups.there


class Layers(TorchFunctionMode):
    """Notes at each layer's work how many bytes of a module are there, those of other layers on the meta device."""

    WORK = (nn.functional.linear, nn.functional.embedding)

    def __init__(self, module):
        super().__init__()
        self.module, self.seen = module, []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self.WORK:
            self.seen.append(sum(tensor_bytes(p) for p in self.module.parameters() if not p.is_meta))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("stage", ["text_encoders", "transformer"])
def test_layers_on_the_device_stay_within_the_estimate(tiny_folder, stage):
    """Seen from inside of calls: all weights but those of one layer are away."""
    engine = load(tiny_folder, offload="sequential")
    condition = engine.encode("a sea")
    module = engine.stages[stage]
    with Layers(module.transformer if stage == "transformer" else module.t5) as layers:
        engine.sample(condition, steps=1) if stage == "transformer" else engine.encode("a sea")
    memory, whole = measure(stage, module), weight_bytes(module)
    inside = [
        seen for seen in layers.seen if seen < whole / 2
    ]  # CLIP's layers see T5 whole, on the other device
    assert len(inside) > 15 and max(inside) <= memory.layer < whole / 4
    if stage == "transformer":
        assert max(inside) == memory.layer and inside == layers.seen


class Live(TorchDispatchMode):
    """The most bytes of tensors that operations made and that are alive at once, beside `known` ones."""

    def __init__(self, known):
        super().__init__()
        self.now = self.most = 0
        self.known = {t.untyped_storage().data_ptr() for t in known}
        self.users: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.enter(tensor)
        return out

    def enter(self, tensor):
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if place in self.known or not size:
            return
        if not self.users.get(place):
            self.now += size
            self.most = max(self.most, self.now)
        self.users[place] = self.users.get(place, 0) + 1
        weakref.finalize(tensor, self.leave, place, size)

    def leave(self, place, size):
        self.users[place] -= 1
        if not self.users[place]:
            self.now -= size


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_stay_within_the_estimate(tiny_engine, dtype):
    """Counted while it runs: below the estimate, and not by much."""
    from diffusers import FluxTransformer2DModel

    from tests.tiny_model import TRANSFORMER

    sizes = {"num_attention_heads": 8, "attention_head_dim": 32, "axes_dims_rope": [8, 12, 12]}
    net = FluxTransformer2DModel.from_config({**TRANSFORMER, **sizes}).to(dtype)
    tokens = 16 * (32 + 2)
    inputs = {
        "hidden_states": torch.randn(1, tokens, 64, dtype=dtype),
        "timestep": torch.tensor([0.5]),
        "guidance": torch.tensor([3.5]),
        "encoder_hidden_states": torch.randn(1, 32, 32, dtype=dtype),
        "pooled_projections": torch.randn(1, 24, dtype=dtype),
        "img_ids": torch.zeros(tokens, 3),
        "txt_ids": torch.zeros(32, 3),
    }
    with torch.no_grad(), Live([*net.parameters(), *inputs.values()]) as live:
        net(**inputs, return_dict=False)
    options = tiny_engine.config.defaults.changed(padding=1, cfg=1.0)
    assert live.most <= forward_bytes(net, (1, 16, 32, 64), 32, options) <= 1.8 * live.most


def test_text_activations_stay_within_the_estimate(tiny_engine):
    text = tiny_engine.text_encoder
    with torch.no_grad(), Live([*text.t5.parameters(), *text.clip.parameters()]) as live:
        text.encode(["a sea", "a lake"], "cpu")
    assert live.most <= text_bytes(text, 2) <= 2.2 * live.most


@pytest.fixture(scope="module")
def flux():
    """FLUX.1-dev's transformer and T5-XXL without memory behind them, in bfloat16."""
    from accelerate import init_empty_weights
    from diffusers import FluxTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    config = {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "vocab_size": 32128}
    with init_empty_weights():
        net = FluxTransformer2DModel(guidance_embeds=True)
        t5 = T5EncoderModel(T5Config(**config, feed_forward_proj="gated-gelu"))
    t5.encoder.set_input_embeddings(t5.shared)
    return {"text_encoders": Holder(t5=t5.bfloat16()), "transformer": Holder(transformer=net.bfloat16())}


def test_sizes_of_flux(flux):
    """Parameters as counted for FLUX.1-dev: 11.90 billion, 3.24 of them modulation; 4.76 billion for T5-XXL."""
    net, t5 = (measure(stage, flux[stage], 10) for stage in ("transformer", "text_encoders"))
    assert net.weights == 2 * 11_901_408_320 and t5.weights == pytest.approx(9.52e9, rel=2e-3)
    double = 2 * (2 * 6 * 3072**2 + 2 * 12 * 3072**2 + 2 * (6 + 4 + 5) * 3072 + 4 * 128)
    rest = net.group - 2 * double
    assert rest == 2 * 64_124_992  # embedders, last layers
    assert net.layer == 2 * (3072 + 1) * 6 * 3072  # the modulation of one stream
    assert net.packed.weights == pytest.approx(11.96e9, rel=2e-3)
    assert net.packed.activations == 10 + 2 * 3072 * 6 * 3072  # one layer in bfloat16 beside the 8 bits
    rows = 19 * 2 * (6 + 4 + 4 + 1) * 3072 + 38 * (3 + 3 + 4 + 1) * 3072  # a float32 scale each
    blocks = 19 * 2 * (6 + 4 + 8) * 3072**2 + 38 * (3 + 3 + 4 + 5) * 3072**2
    assert net.packed.weights == net.weights - blocks + 4 * rows
    # The words stand in two places.
    assert t5.group < 1e9 and t5.layer == 2 * 2 * 32128 * 4096
    inner = 24 * (4 * 4096 * 64 * 64 + 2 * 4096 * 10240)  # q, k, v, o and the two ways in, not the way out
    assert t5.packed.weights == t5.weights - inner + 4 * 24 * (4 * 4096 + 2 * 10240)
    assert t5.packed.weights == pytest.approx(5.9e9, rel=3e-3)
    assert t5.packed.activations == 10 + 2 * 4096 * 10240


def test_estimates(flux):
    stages = {
        "text_encoders": measure("text_encoders", flux["text_encoders"], 300 * 10**6),
        "transformer": measure("transformer", flux["transformer"], 1300 * 10**6),
        "vae": StageMemory(168 * 10**6, 168 * 10**6, 168 * 10**6, 9100 * 10**6),
    }
    none, stage, group, sequential = (estimate(stages, mode, 24 * 2**30) for mode in MODES)
    assert (none.stage, none.fits) == ("vae", False)
    assert none.needed == sum(m.weights for m in stages.values()) + 9100 * 10**6
    assert none.advice == "load with offload='stage' (needs 23.4 GB)"
    assert (stage.stage, stage.fits, stage.advice) == ("transformer", True, "")
    assert stage.needed == stage.weights + stage.activations == stages["transformer"].weights + 1300 * 10**6
    assert group.stage == sequential.stage == "vae" and group.needed == 9268 * 10**6
    text = {**stages, "vae": StageMemory(0, 0, 0)}
    assert estimate(text, "sequential").needed < estimate(text, "group").needed < 4e9
    assert advise({"transformer": stages["transformer"]}, "sequential", 2**20) == advise(
        text, "sequential", 2**20
    )
    assert "offload='group'" in estimate(stages, "stage", 16 * 2**30).advice
    only = {"transformer": StageMemory(100, 100, 100, 10, StageMemory(50, 50, 50, 15))}
    assert estimate(only, "stage", 70).advice == "load with storage='float8_e4m3fn' (needs 0.0 MB)"
    assert "smaller or fewer pictures" in estimate(only, "stage", 60).advice
    assert estimate(only, "stage").fits and estimate(only, "stage").free is None


def test_advice_knows_what_helps_on_which_device():
    stages = {
        "text_encoders": StageMemory(100, 20, 5, 10, StageMemory(60, 12, 3, 10)),
        "transformer": StageMemory(200, 40, 10, 10, StageMemory(110, 22, 6, 10)),
    }
    assert advise(stages, "none", 215, "cuda").startswith("load with offload='stage'")
    assert advise(stages, "none", 215, "cpu").startswith("load with storage='float8_e4m3fn' (")
    assert advise(stages, "stage", 125, "cuda").startswith("load with offload='group'")
    assert advise(stages, "sequential", 18, "cuda").startswith("load with storage=")
    assert "storage" not in advise(stages, "sequential", 18, "mps")
    tight = advise(stages, "none", 100, "cpu")
    assert tight == "make smaller or fewer pictures, or free the device"


def test_quantised_tensors_count_what_they_consist_of():
    from torch.testing._internal.two_tensor import TwoTensor

    weight = nn.Parameter(TwoTensor(torch.zeros(3, 4), torch.zeros(3, 4)), requires_grad=False)
    assert tensor_bytes(weight) == 2 * 48


def test_the_engine_estimates_before_it_runs(tiny_engine):
    small, large = (tiny_engine.estimate(height=height) for height in (64, 128))
    assert [each.mode for each in small] == list(MODES)
    assert all(big.activations == 4 * least.activations for big, least in zip(large, small, strict=True))
    assert all(each.fits and each.free > each.needed for each in small)
    with pytest.raises(pano.InputError):
        tiny_engine.estimate(height=65)


def test_command_line(tiny_folder, capsys):
    argv = ["verify", "dit360", "--model", str(tiny_folder), "--device", "cpu"]
    assert main([*argv, "--storage", "float8_e4m3fn", "--offload", "group"]) == 0
    text = capsys.readouterr().out
    assert "cpu, offload 'group'" in text
    for mode in MODES:
        assert f"128x64, offload '{mode}'" in text
    assert text.count(": fits") == len(MODES)


def test_cached_steps_skip_blocks_that_are_away(tiny_folder):
    """The step cache leaves blocks out, and with them their hooks: same numbers, nothing left on the device."""
    latents = {}
    for offload in ("none", *STREAMING):
        engine = load(tiny_folder, offload=offload)
        condition = engine.encode("a sea")
        latents[offload] = engine.sample(condition, steps=12, step_cache=1.0, roll="off")
        plain = engine.sample(condition, steps=12, roll="off")
        assert hooks(engine) == []
    assert not torch.equal(latents["none"], plain), "no step came from the cache"
    assert all(torch.equal(each, latents["none"]) for each in latents.values())


def test_sizes_are_in_mb_below_one_gb():
    sizes = {0: "0.0 MB", 29 * 2**20: "29.0 MB", 2**30: "1.0 GB", int(23.4 * 2**30): "23.4 GB"}
    assert {count: gigabytes(count) for count in sizes} == sizes
