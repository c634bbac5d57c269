"""Attention back ends by name, and attention for training on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..runtime.errors import InputError

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(q, k, v), each [B, heads, tokens, head width] after norm and rotary codes, text first → the same shape; no
mask, scale 1/√(head width).
"""

SLICE_BYTES = 2**28
"""What the scores of one slice may take; 0.25 GB is 5 % of what 8832 tokens and 24 heads would need at once."""


@dataclass(frozen=True)
class BackEnd:
    """One way to compute attention: how it is loaded, the package that pip knows it by (None: none is needed), and
    what it is limited to.
    """

    load: Callable[[], Attention]
    package: str | None = None
    cuda_only: bool = False
    dtypes: tuple[torch.dtype, ...] | None = None


def choose_attention(
    choice: str | Attention | None, dtype: torch.dtype, device: torch.device
) -> Attention | None:
    """The back end of that name, or the callable itself; None is left to torch, which picks its fastest fused kernel.

    `dtype` and `device` are what it will compute in and on. Raises InputError for an unknown name, a package that
    cannot be imported, and a type or device that the back end does not take.
    """
    if choice is None or callable(choice):
        return choice
    back_end = BACK_ENDS.get(choice) if isinstance(choice, str) else None
    if back_end is None:
        raise InputError(
            f"unknown attention {choice!r}: choose one of {', '.join(BACK_ENDS)}, give a function, or leave it out"
        )
    if back_end.cuda_only and device.type != "cuda":
        raise InputError(
            f"attention {choice!r} runs on CUDA devices only, and this is {str(device)!r}: leave it out, or use 'sliced'"
        )
    if back_end.dtypes is not None and dtype not in back_end.dtypes:
        names = " or ".join(str(each).removeprefix("torch.") for each in back_end.dtypes)
        raise InputError(
            f"attention {choice!r} computes in {names}, not in {str(dtype).removeprefix('torch.')}: "
            "set dtype, or leave attention out"
        )
    try:
        return back_end.load()
    except ImportError as error:
        raise InputError(
            f"attention {choice!r} needs the package {back_end.package}, which cannot be imported ({error}): "
            f"pip install {back_end.package} in a build for your torch, or leave attention out"
        ) from error


def fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Torch's own, which takes the fastest kernel that it has for the device and type."""
    return F.scaled_dot_product_attention(q, k, v)


def sliced_attention(q: Tensor, k: Tensor, v: Tensor, *, slice_bytes: int = SLICE_BYTES) -> Tensor:
    """So many queries at a time that their scores and weights stay within `slice_bytes` (one query at least).

    For devices whose fused kernel is missing or holds all scores at once. Exact: every query sees every key.
    """
    batch, heads, _, width = q.shape
    precise = torch.promote_types(q.dtype, torch.float32)
    per_query = batch * heads * k.shape[-2] * 2 * precise.itemsize
    rows = max(1, slice_bytes // per_query)
    keys = k.transpose(-1, -2)
    out = []
    for part in q.split(rows, dim=-2):
        weights = torch.softmax(torch.matmul(part * width**-0.5, keys), dim=-1, dtype=precise)
        out.append(torch.matmul(weights.to(v.dtype), v))
    return torch.cat(out, dim=-2)


def _load_xformers() -> Attention:
    from xformers.ops import memory_efficient_attention

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # it wants [B, tokens, heads, head width]
        return memory_efficient_attention(q, k, v, scale=q.shape[-1] ** -0.5).transpose(1, 2)

    return attend


def _load_flash() -> Attention:
    from flash_attn import flash_attn_func

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # it wants [B, tokens, heads, head width]
        return flash_attn_func(q, k, v, softmax_scale=q.shape[-1] ** -0.5, causal=False).transpose(1, 2)

    return attend


BACK_ENDS = {
    "sdpa": BackEnd(lambda: fused_attention),
    "xformers": BackEnd(_load_xformers, "xformers", cuda_only=True),
    "flash": BackEnd(_load_flash, "flash-attn", cuda_only=True, dtypes=(torch.float16, torch.bfloat16)),
    "sliced": BackEnd(lambda: sliced_attention),
}


def plain_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q·kᵀ/√d)·v for [B, heads, tokens, d]; by matrix products for gradients on a CPU, else fused.

    `mask` [B, 1, 1, keys]: True where a key is seen, which must be so of at least one; None where all are.

    Measured in bf16 with 176 and 560 tokens: torch's fused CPU kernel needs 3.4 and 1.8 times as long forward and
    backward together, nearly all of it in the backward pass; with a mask (91 queries, 40 keys) 4.8 times.
    """
    if q.device.type != "cpu" or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    if torch.is_autocast_enabled("cpu"):
        q, k, v = (x.to(torch.get_autocast_dtype("cpu")) for x in (q, k, v))
    shape = q.shape
    bias = None
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=q.dtype).masked_fill_(~mask, float("-inf"))
        bias = bias.expand(-1, shape[1], -1, -1).flatten(0, 1)
    q, k, v = (x.flatten(0, 1) for x in (q * shape[-1] ** -0.5, k, v))
    # In the scores' own precision: autocast would write and keep them in float32.
    with torch.autocast("cpu", enabled=False):
        return _Attention.apply(q, k, v, bias).view(shape)


class _Attention(torch.autograd.Function):
    """softmax(q·kᵀ + bias)·v for [B, tokens, d], keeping the weights for the way back.

    The gradient of the scores is weights · (g·vᵀ − Σ g·out), g being the output's gradient. The sum rides along in
    the product as two more columns (its rounded value and the rest), which saves the softmax's own backward, a
    second pass over all scores.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        scores = torch.bmm(q, k.mT) if bias is None else torch.baddbmm(bias, q, k.mT)
        weights = torch.softmax(scores, dim=-1)
        out = torch.bmm(weights, v)
        ctx.save_for_backward(q, k, v, weights, out)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights, out = ctx.saved_tensors
        total = (grad.to(torch.promote_types(grad.dtype, torch.float32)) * out).sum(dim=-1, keepdim=True)
        rounded = total.to(grad.dtype)
        rest = (total - rounded).to(grad.dtype)
        ones = torch.ones_like(v[..., :1]).expand(-1, -1, 2)
        scores = torch.bmm(torch.cat([grad, -rounded, -rest], dim=-1), torch.cat([v, ones], dim=-1).mT)
        scores.mul_(weights)
        return torch.bmm(scores, k), torch.bmm(scores.mT, q), torch.bmm(weights.mT, grad), None
