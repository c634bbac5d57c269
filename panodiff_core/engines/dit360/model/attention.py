"""The attention of FLUX's blocks, left to a callable."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ....layers.attention import Attention


class CallableAttention:
    """A diffusers attention processor that leaves the attention itself to a callable given at load."""

    def __init__(self, attention: Attention) -> None:
        self.attention = attention

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        q, k, v = (_heads(layer(hidden_states), attn) for layer in (attn.to_q, attn.to_k, attn.to_v))
        q, k = attn.norm_q(q), attn.norm_k(k)
        text = 0
        if encoder_hidden_states is not None:
            text = encoder_hidden_states.shape[1]
            layers = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
            tq, tk, tv = (_heads(layer(encoder_hidden_states), attn) for layer in layers)
            q = torch.cat([attn.norm_added_q(tq), q], dim=2)
            k = torch.cat([attn.norm_added_k(tk), k], dim=2)
            v = torch.cat([tv, v], dim=2)
        if image_rotary_emb is not None:
            q, k = _rotate(q, *image_rotary_emb), _rotate(k, *image_rotary_emb)
        out = self.attention(q, k, v).transpose(1, 2).flatten(2)
        if encoder_hidden_states is None:
            return out
        return attn.to_out[0](out[:, text:]), attn.to_add_out(out[:, :text])


def use_attention(transformer: nn.Module, attention: Attention) -> None:
    """Hand every block the attention callable; without it, diffusers' own dispatch (torch SDPA) stays."""
    transformer.set_attn_processor(CallableAttention(attention))


def _heads(x: Tensor, attn: nn.Module) -> Tensor:
    return x.unflatten(-1, (-1, attn.head_dim)).transpose(1, 2)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn adjacent pairs: (a, b) → (a·c − b·s, b·c + a·s), in float32."""
    turned = torch.stack([-x[..., 1::2], x[..., 0::2]], dim=-1).flatten(-2)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)
