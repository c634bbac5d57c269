"""What the parts of a model need in memory beside their weights."""

from __future__ import annotations

from torch import nn

from ....autoencoders.coding import Size
from ....conditioning.text import TextEncoder
from ....layers.ring import PATCH
from ..config import MOST_OFFSETS, SamplingOptions


def text_bytes(text: TextEncoder, texts: int) -> int:
    """Activations of T5, the larger encoder: a layer's states, and three copies of its attention's scores in float32."""
    config, length = text.t5.config, text.tokenizer_2.model_max_length
    states = length * (6 * config.d_model + 3 * config.d_ff) * text.t5.dtype.itemsize
    scores = 3 * config.num_heads * length**2 * 4
    return texts * (states + scores)


def stage_bytes(
    transformer: nn.Module, vae: nn.Module, text: TextEncoder, options: SamplingOptions, pictures: int = 1
) -> dict[str, int]:
    """Activations by stage for `pictures` of one size with their prompts; a decoder works on one picture at a time."""
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    shape = (pictures, vae.config.latent_channels, options.height // factor, options.width // factor)
    texts = pictures * (2 if options.cfg != 1.0 else 1)
    return {
        "text_encoders": text_bytes(text, texts),
        "transformer": forward_bytes(transformer, shape, text.tokenizer_2.model_max_length, options),
        "vae": Size(vae, "decode", options.height, options.width).whole_bytes,
    }


def forward_bytes(
    transformer: nn.Module, shape: tuple[int, ...], text_length: int, options: SamplingOptions
) -> int:
    """Activations of one forward on latents of `shape` [B, C, h, w], with both prompts of true guidance: about 24
    hidden states (4D-wide MLP, q, k, v, residuals) per token, and 5 more for each turn of the ring whose steps are
    cached.
    """
    states = 24
    if options.step_cache:
        states += 5 if options.roll == "off" else 5 * MOST_OFFSETS
    tokens = forward_tokens(shape, text_length, options)
    branches = 2 if options.cfg != 1.0 else 1
    return states * branches * tokens * transformer.inner_dim * transformer.dtype.itemsize


def forward_tokens(shape: tuple[int, ...], text_length: int, options: SamplingOptions) -> int:
    """Tokens of text and picture in one forward for one of the prompts of true guidance, over the whole batch of
    `shape` [B, C, h, w].
    """
    batch, _, height, width = shape
    return batch * (height // PATCH * (width // PATCH + 2 * options.padding) + text_length)
