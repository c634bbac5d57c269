"""The network of DiT360: diffusers' `FluxTransformer2DModel`, called on a ring of latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...layers.attention import Attention
from ...layers.ring import PATCH, crop_index, image_ids, pack, pad_index, unpack
from ...runtime.errors import CheckpointError


def build_transformer(config: Mapping[str, Any]) -> nn.Module:
    """A `FluxTransformer2DModel` with fresh weights from the fields of `transformer/config.json`.

    Raises CheckpointError for a config that is not FLUX.1-dev's topology: without distilled guidance
    (schnell), with extra input channels (control, fill), or with sizes that contradict one another.
    """
    from diffusers import FluxTransformer2DModel

    check_transformer_config(config)
    return FluxTransformer2DModel.from_config(dict(config))


def check_transformer_config(config: Mapping[str, Any], where: str = "transformer/config.json") -> None:
    """Refuse configs that another model family wrote; see `build_transformer`."""
    name = config.get("_class_name", "FluxTransformer2DModel")
    if name != "FluxTransformer2DModel":
        raise CheckpointError(
            f"{where} describes a {name}; DiT360 runs on FluxTransformer2DModel (FLUX.1-dev)"
        )
    if not config.get("guidance_embeds", False):
        raise CheckpointError(
            f"{where} has no guidance_embeds: this is FLUX.1-schnell or a like; "
            "DiT360 was trained on FLUX.1-dev"
        )
    channels, out = config.get("in_channels", 64), config.get("out_channels")
    if channels % PATCH**2 or (out is not None and out != channels):
        raise CheckpointError(
            f"{where} has {channels} input and {out} output channels: this is a control or fill model; "
            "DiT360 needs the text-to-image FLUX.1-dev with 64"
        )
    axes, width = config.get("axes_dims_rope", (16, 56, 56)), config.get("attention_head_dim", 128)
    if sum(axes) != width or len(axes) != 3 or any(a % 2 for a in axes):
        raise CheckpointError(
            f"{where}: axes_dims_rope {list(axes)} must be three even numbers that add up to {width}"
        )


def velocity(
    transformer: nn.Module,
    latents: Tensor,
    sigma: Tensor,
    text: Tensor,
    pooled: Tensor,
    guidance: Tensor | float,
    *,
    padding: int = 1,
    shift: int = 0,
    id_scale: float = 1.0,
) -> Tensor:
    """Predicted velocity ε − x₀ [B, C, h, w] of noisy latents [B, C, h, w] at noise levels `sigma` [B] in
    0..1.

    `text` [B, L, D] and `pooled` [B, P] are the encoded prompts, `guidance` a number or one per sample [B].
    `padding` ring-pads by so many token columns for the call, `shift` rolls the latents that many token
    columns for the call (the ids stay), `id_scale` places the tokens on a grid that many times finer
    (`image_ids`). Gradients flow; this is the function that training and sampling share.
    """
    batch, _, height, width = latents.shape
    grid = RingGrid(height, width, padding, id_scale=id_scale, device=latents.device)
    network = FluxNetwork(transformer, grid.ids, text.shape[1])
    guidance = torch.as_tensor(guidance, dtype=torch.float32, device=latents.device).expand(batch)
    tokens = network(grid.enter(latents, shift), sigma, (text, pooled, guidance))
    return grid.leave(tokens, shift)


class RingGrid:
    """Latents [B, C, h, w] ↔ the ring-padded tokens [B, N, 4C] of one picture size; `ids` [N, 3] are their
    positions.

    Raises InputError when the latent size is odd or `padding` wider than the grid.
    """

    def __init__(
        self,
        height: int,
        width: int,
        padding: int,
        *,
        id_scale: float = 1.0,
        device: torch.device | str | None = None,
    ) -> None:
        self.height, self.width, self.padding, self.device = height, width, padding, device
        self.rows, self.columns = height // PATCH, width // PATCH
        self.ids = image_ids(self.rows, self.columns, padding, id_scale=id_scale, device=device)
        self._indices: dict[tuple[str, int], Tensor] = {}

    @property
    def tokens(self) -> int:
        """Number of image tokens that enter the network, padding included."""
        return self.rows * (self.columns + 2 * self.padding)

    def enter(self, latents: Tensor, shift: int = 0) -> Tensor:
        """Latents → padded tokens, rolled `shift` token columns to the right."""
        return self.pad(pack(latents), shift)

    def leave(self, tokens: Tensor, shift: int = 0) -> Tensor:
        """Padded tokens → latents; undoes `enter`."""
        return unpack(self.crop(tokens, shift), self.height, self.width)

    def pad(self, tokens: Tensor, shift: int = 0) -> Tensor:
        """Plain tokens → padded tokens, rolled."""
        if not self.padding and shift % self.columns == 0:
            return tokens
        return tokens.index_select(1, self._index(pad_index, shift))

    def crop(self, tokens: Tensor, shift: int = 0) -> Tensor:
        """Padded tokens → plain tokens; undoes `pad`."""
        if not self.padding and shift % self.columns == 0:
            return tokens
        return tokens.index_select(1, self._index(crop_index, shift))

    def _index(self, build: Callable[..., Tensor], shift: int) -> Tensor:
        key = (build.__name__, shift % self.columns)
        if key not in self._indices:
            self._indices[key] = build(self.rows, self.columns, self.padding, key[1], device=self.device)
        return self._indices[key]


class FluxNetwork:
    """The transformer with what stays the same over all steps bound to it.

    Called with tokens [B, N, 4C], a noise level (number or [B]) and (text, pooled, guidance), it returns the
    velocity of the tokens in float32.
    """

    def __init__(self, transformer: nn.Module, ids: Tensor, text_length: int) -> None:
        self.transformer = transformer
        self.ids = ids
        self.text_ids = ids.new_zeros(text_length, 3)
        self.dtype = transformer.dtype

    def __call__(self, tokens: Tensor, sigma: Tensor | float, condition: tuple[Tensor, ...]) -> Tensor:
        text, pooled, guidance = condition
        if not isinstance(sigma, Tensor):
            sigma = torch.full((len(tokens),), sigma, device=tokens.device)
        return self.transformer(
            hidden_states=tokens.to(self.dtype),
            timestep=sigma,
            guidance=guidance,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            img_ids=self.ids,
            txt_ids=self.text_ids,
            return_dict=False,
        )[0].float()


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
