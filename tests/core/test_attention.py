"""Attention: back ends by name, and for training values and gradients against torch's own."""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import panodiff_core as pano
from panodiff_core.layers.attention import choose_attention, plain_attention, sliced_attention
from panodiff_core.runtime.errors import InputError


def tensors(dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 37, 8, generator=generator).to(dtype).requires_grad_() for _ in range(4)]


def gradients(attend, q, k, v, grad):
    out = attend(q, k, v)
    return [out, *torch.autograd.grad(out, (q, k, v), grad.detach().to(out.dtype))]


def test_equals_the_fused_one_with_its_gradients():
    for dtype, limit in ((torch.float32, 2e-6), (torch.float64, 1e-14)):
        inputs = tensors(dtype)
        ours, theirs = gradients(plain_attention, *inputs), gradients(F.scaled_dot_product_attention, *inputs)
        assert max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) < limit


def test_masked_keys_are_as_if_absent_with_their_gradients():
    for dtype, limit in ((torch.float32, 2e-6), (torch.float64, 1e-14)):
        q, k, v, grad = tensors(dtype)
        seen = torch.arange(37) < 20
        short = gradients(F.scaled_dot_product_attention, q, k[:, :, seen], v[:, :, seen], grad)
        mask = seen.expand(2, 1, 1, 37)
        masked = gradients(partial(plain_attention, mask=mask), q, k, v, grad)
        for ours, theirs, keys in zip(masked, short, (False, False, True, True), strict=True):
            if keys:
                assert not ours[:, :, ~seen].any()
                ours = ours[:, :, seen]
            assert float((ours - theirs).detach().abs().max()) < limit


def test_bf16_gradients_are_as_close_as_a_plain_softmax_gets():
    inputs = tensors(torch.bfloat16)
    exact = gradients(F.scaled_dot_product_attention, *(x.detach().double().requires_grad_() for x in inputs))
    for ours, truth in zip(gradients(plain_attention, *inputs), exact, strict=True):
        assert float((ours.double() - truth).norm() / truth.norm()) < 0.012


def test_runs_in_the_autocast_type():
    q, k, v, _ = tensors(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert plain_attention(q, k, v).dtype == torch.bfloat16


def test_names_choose_and_unknown_ones_are_refused():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_attention(None, torch.float32, cpu) is None
    assert choose_attention(plain_attention, torch.float32, cpu) is plain_attention
    assert choose_attention("sliced", torch.float32, cpu) is sliced_attention
    for bad in ("flash2", 3, ["sdpa"]):
        with pytest.raises(InputError, match="choose one of sdpa, xformers, flash, sliced"):
            choose_attention(bad, torch.float32, cpu)
    for name in ("xformers", "flash"):
        with pytest.raises(InputError, match=f"{name}' runs on CUDA devices only, and this is 'cpu'"):
            choose_attention(name, torch.float16, cpu)
    with pytest.raises(InputError, match="computes in float16 or bfloat16, not in float32"):
        choose_attention("flash", torch.float32, cuda)


@pytest.mark.parametrize(
    "name, module, package",
    [("xformers", "xformers.ops", "xformers"), ("flash", "flash_attn", "flash-attn")],
)
def test_an_absent_package_is_named(monkeypatch, name, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"needs the package {package}, .*: pip install {package} "):
        choose_attention(name, torch.bfloat16, torch.device("cuda"))


def fake(monkeypatch, module: str, function: str) -> list:
    """Put a recording package in place of `module`: it computes on [B, tokens, heads, head width]."""
    calls: list = []

    def attend(q, k, v, **options):
        calls.append(([tuple(x.shape) for x in (q, k, v)], options))
        scale = options.get("scale", options.get("softmax_scale"))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)

    for name in (module.split(".")[0], module):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules[module], function, attend, raising=False)
    return calls


@pytest.mark.parametrize(
    "name, module, function, options",
    [
        ("xformers", "xformers.ops", "memory_efficient_attention", {"scale": 8**-0.5}),
        ("flash", "flash_attn", "flash_attn_func", {"softmax_scale": 8**-0.5, "causal": False}),
    ],
)
def test_packages_get_tokens_before_heads_the_scale_and_no_mask(monkeypatch, name, module, function, options):
    calls = fake(monkeypatch, module, function)
    q, k, v, _ = (x.detach() for x in tensors(torch.float16))
    out = choose_attention(name, torch.float16, torch.device("cuda"))(q, k, v)
    assert calls == [([(2, 37, 3, 8)] * 3, options)]
    assert out.shape == q.shape and torch.equal(out, F.scaled_dot_product_attention(q, k, v, scale=8**-0.5))


def test_sdpa_gets_heads_before_tokens_and_no_mask(monkeypatch):
    calls = []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *args, **more: calls.append((args, more)))
    q, k, v, _ = tensors(torch.float32)
    choose_attention("sdpa", torch.float32, torch.device("cpu"))(q, k, v)
    (args, more), *rest = calls
    assert not rest and not more and all(got is given for got, given in zip(args, (q, k, v), strict=True))


class Scores(TorchDispatchMode):
    """Bytes of every result that has a number for each key: scores and weights."""

    def __init__(self, keys: int) -> None:
        super().__init__()
        self.keys, self.bytes = keys, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if (
            func in (torch.ops.aten.bmm.default, torch.ops.aten._softmax.default)
            and out.shape[-1] == self.keys
        ):
            self.bytes.append(out.nbytes)
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_slices_are_exact_and_stay_within_their_memory(dtype):
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, 3, 203, 16, generator=generator).to(dtype) for _ in range(3))
    truth = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    budget = 2 * 3 * 203 * 2 * 4 * 7  # scores and weights of 7 queries in float32
    with Scores(203) as memory:
        out = sliced_attention(q, k, v, slice_bytes=budget)
    assert out.dtype == dtype
    if dtype == torch.float32:
        assert float((out - truth).abs().max()) < 1e-6
    fused = F.scaled_dot_product_attention(q, k, v)
    assert float((out - truth).norm()) <= 2.0 * float((fused - truth).norm()) + 1e-7
    assert len(memory.bytes) == 2 * 203 // 7 and max(memory.bytes) <= budget // 2
    whole = sliced_attention(q, k, v)
    assert float((whole.double() - out.double()).abs().max()) <= (1e-6 if dtype == torch.float32 else 0.02)


def test_one_query_at_a_time_is_the_least():
    q, k, v, _ = tensors(torch.float64)
    out = sliced_attention(q, k, v, slice_bytes=1)
    assert float((out - F.scaled_dot_product_attention(q, k, v)).abs().max()) < 1e-14


def test_a_model_computes_the_same_with_every_back_end_there_is(tiny_engine, tiny_folder):
    condition = tiny_engine.encode("a calm sea")
    usual = tiny_engine.sample(condition, seed=1)
    for name in ("sdpa", "sliced"):
        other = pano.load("dit360", tiny_folder, device="cpu", attention=name)
        assert float((other.sample(condition, seed=1) - usual).abs().max()) < 2e-5
        processors = set(other.transformer.attn_processors.values())
        assert {p.attention for p in processors} == {
            choose_attention(name, torch.float32, torch.device("cpu"))
        }


def test_an_unusable_back_end_is_refused_before_weights_are_read(tmp_path):
    with pytest.raises(InputError, match="unknown attention 'fast'"):
        pano.load("dit360", tmp_path / "nothing", device="cpu", attention="fast")
