"""The network of DiT360: diffusers' `FluxTransformer2DModel`, called on a ring of latents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ....layers.ring import PATCH
from ....runtime.errors import CheckpointError
from .grid import RingGrid


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
