"""Attention for training: values and gradients against torch's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from panodiff_core.layers.attention import plain_attention


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


def test_bf16_gradients_are_as_close_as_a_plain_softmax_gets():
    inputs = tensors(torch.bfloat16)
    exact = gradients(F.scaled_dot_product_attention, *(x.detach().double().requires_grad_() for x in inputs))
    for ours, truth in zip(gradients(plain_attention, *inputs), exact, strict=True):
        assert float((ours.double() - truth).norm() / truth.norm()) < 0.012


def test_runs_in_the_autocast_type():
    q, k, v, _ = tensors(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert plain_attention(q, k, v).dtype == torch.bfloat16
