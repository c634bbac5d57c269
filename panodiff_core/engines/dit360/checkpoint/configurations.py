"""What the shapes of a model's weights say about its configuration (dit360 spec, section 3.1).

All functions take entries under the modules' own names and return the fields of the part's config.json. What shapes
tell is never overruled; what they cannot tell comes from `given`, a config.json that belongs to the file, or is
FLUX.1-dev's where the sizes are FLUX's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ....io.checkpoints.entries import Entry
from ....runtime.errors import CheckpointError

FLUX_WIDTH, FLUX_BLOCKS = 3072, (19, 38)
_HEAD, _AXES = 128, (16, 56, 56)
_CLIP_HEAD, _VAE_GROUPS = 64, 32
_NEEDS_CONFIG = "keep the file under its name in the diffusers folder ({}.safetensors), with that folder's config.json beside it"


def transformer_config(entries: Mapping[str, Entry], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of transformer/config.json. Raises CheckpointError for a gap in the blocks, another depth than
    FLUX.1-dev's (or the given one) at its width, or head widths whose rotary axes nobody gives."""
    double = _count(entries, r"transformer_blocks\.(\d+)\.", where)
    single = _count(entries, r"single_transformer_blocks\.(\d+)\.", where)
    width, channels = _shape(entries, "x_embedder.weight", 2, where)
    depth = (given.get("num_layers", FLUX_BLOCKS[0]), given.get("num_single_layers", FLUX_BLOCKS[1]))
    if width == FLUX_WIDTH and (double, single) != depth:
        whose = "FLUX.1-dev has" if depth == FLUX_BLOCKS else "its configuration says"
        raise CheckpointError(
            f"{where} has {double} double and {single} single blocks, {whose} {depth[0]} and "
            f"{depth[1]}: this is a cut or extended model, or the file is damaged"
        )
    (head,) = _shape(entries, "transformer_blocks.0.attn.norm_q.weight", 1, where)
    if head != _HEAD and "axes_dims_rope" not in given:
        raise CheckpointError(
            f"{where} has attention heads of width {head}; for other than {_HEAD} the rotary axes cannot be read from "
            f"the weights: {_NEEDS_CONFIG.format('diffusion_pytorch_model')}"
        )
    return {
        "patch_size": 1,
        "axes_dims_rope": list(_AXES),
        **given,
        "_class_name": "FluxTransformer2DModel",
        "in_channels": channels,
        "num_layers": double,
        "num_single_layers": single,
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": _shape(entries, "context_embedder.weight", 2, where)[1],
        "pooled_projection_dim": _shape(entries, "time_text_embed.text_embedder.linear_1.weight", 2, where)[
            1
        ],
        "guidance_embeds": "time_text_embed.guidance_embedder.linear_1.weight" in entries,
    }


def vae_config(entries: Mapping[str, Entry], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of vae/config.json, with the latent scaling of FLUX. Raises CheckpointError where groups of channels do
    not divide and nobody gives their number."""
    levels = _count(entries, r"encoder\.down_blocks\.(\d+)\.", where)
    first = "encoder.down_blocks.{}.resnets.0.conv1.weight"
    widths = [_shape(entries, first.format(level), 4, where)[0] for level in range(levels)]
    if any(width % _VAE_GROUPS for width in widths) and "norm_num_groups" not in given:
        raise CheckpointError(
            f"{where} is {widths} channels wide, which {_VAE_GROUPS} normalisation groups do not divide: "
            + _NEEDS_CONFIG.format("diffusion_pytorch_model")
        )
    return {
        "in_channels": 3,
        "out_channels": 3,
        "norm_num_groups": _VAE_GROUPS,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "force_upcast": True,
        "mid_block_add_attention": True,
        **given,
        "_class_name": "AutoencoderKL",
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": widths,
        "layers_per_block": _count(entries, r"encoder\.down_blocks\.0\.resnets\.(\d+)\.", where),
        "latent_channels": _shape(entries, "decoder.conv_in.weight", 4, where)[1],
        "use_quant_conv": "quant_conv.weight" in entries,
        "use_post_quant_conv": "post_quant_conv.weight" in entries,
    }


def clip_config(entries: Mapping[str, Entry], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of text_encoder/config.json. Raises CheckpointError where the number of heads is not CLIP-L's and nobody
    gives it."""
    words, width = _shape(entries, "embeddings.token_embedding.weight", 2, where)
    if width % _CLIP_HEAD and "num_attention_heads" not in given:
        raise CheckpointError(
            f"{where} is {width} wide, which heads of {_CLIP_HEAD} do not divide: "
            + _NEEDS_CONFIG.format("model")
        )
    return {
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": width,
        "num_attention_heads": width // _CLIP_HEAD,
        **given,
        "model_type": "clip_text_model",
        "vocab_size": words,
        "hidden_size": width,
        "num_hidden_layers": _count(entries, r"encoder\.layers\.(\d+)\.", where),
        "intermediate_size": _shape(entries, "encoder.layers.0.mlp.fc1.weight", 2, where)[0],
        "max_position_embeddings": _shape(entries, "embeddings.position_embedding.weight", 2, where)[0],
    }


def t5_config(entries: Mapping[str, Entry], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of text_encoder_2/config.json. Raises CheckpointError for an encoder without a gated feed-forward."""
    first = "encoder.block.0.layer."
    words, width = _shape(entries, "shared.weight", 2, where)
    buckets, heads = _shape(entries, f"{first}0.SelfAttention.relative_attention_bias.weight", 2, where)
    return {
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6,
        "relative_attention_max_distance": 128,
        "is_encoder_decoder": False,
        "use_cache": False,
        **given,
        "model_type": "t5",
        "vocab_size": words,
        "d_model": width,
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "d_kv": _shape(entries, f"{first}0.SelfAttention.q.weight", 2, where)[0] // heads,
        "d_ff": _shape(entries, f"{first}1.DenseReluDense.wi_1.weight", 2, where)[0],
        "num_layers": _count(entries, r"encoder\.block\.(\d+)\.", where),
    }


def _shape(entries: Mapping[str, Entry], name: str, axes: int, where: str) -> tuple[int, ...]:
    entry = entries.get(name)
    if entry is None:
        raise CheckpointError(f"{where} lacks {name!r}: the file is incomplete, fetch it again")
    if len(entry.shape) != axes:
        raise CheckpointError(f"{where}: {name!r} has shape {list(entry.shape)}, expected {axes} axes")
    return entry.shape


def _count(entries: Mapping[str, Entry], pattern: str, where: str) -> int:
    """How many numbered blocks there are. Raises CheckpointError when one in between is missing."""
    matches = (re.match(pattern, name) for name in entries)
    numbers = {int(match.group(1)) for match in matches if match}
    lacking = sorted(set(range(max(numbers, default=0) + 1)) - numbers)
    if lacking:
        block = pattern.replace(r"\.", ".").replace(r"(\d+)", str(lacking[0])).rstrip(".")
        raise CheckpointError(f"{where} lacks all of {block}: the file is incomplete or has a block too many")
    return len(numbers)
