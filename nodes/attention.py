"""ComfyUI's own attention, so that its command line flags (sage, flash, xformers, split …) count for our engines."""

from __future__ import annotations

from comfy.cli_args import args
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def comfy_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(q, k, v), each [B, heads, tokens, head width] -> the same shape; no mask, scale 1/√(head width).

    On a CPU without an attention flag ComfyUI falls back to its sub-quadratic one; torch's fused attention needs as
    little memory there and half the time, so it is taken instead.
    """
    if q.device.type == "cpu" and not (args.use_quad_cross_attention or args.use_split_cross_attention):
        return scaled_dot_product_attention(q, k, v)
    return optimized_attention(q, k, v, heads=q.shape[1], skip_reshape=True, skip_output_reshape=True)
