"""What DiT360's stages need beside their weights."""

from __future__ import annotations

from torch import nn

from ...autoencoders.coding import Size
from ...conditioning.text import TextEncoder
from .config import SamplingOptions
from .sampling import forward_bytes


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
