"""Official key names → those of the modules: BFL → diffusers for the transformer and the VAE (dit360 spec, 3.2 and 3.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ....io.checkpoints.entries import Entry, joined

_OUTSIDE = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
_DOUBLE = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
}
_SINGLE = {
    "modulation.lin": "norm.linear",
    "linear2": "proj_out",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
}
_FUSED = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
}
_FINAL = "final_layer.adaLN_modulation.1"
_BLOCK = r"(double|single)_blocks\.(\d+)\.(.+)"


def transformer_from_bfl(entries: Mapping[str, Entry], width: int) -> tuple[dict[str, Entry], list[str]]:
    """(entries under diffusers' names, names that FLUX.1 does not have).

    `width` is the model's. Fused projections become row ranges of the same tensor, and the last modulation changes
    from (shift, scale) to (scale, shift).
    """
    found: dict[str, Entry] = {}
    unknown: list[str] = []
    for name, entry in entries.items():
        targets = _transformer_targets(name, entry, width)
        if targets is None:
            unknown.append(name)
        else:
            found.update(targets)
    return found, sorted(unknown)


def _transformer_targets(name: str, entry: Entry, width: int) -> dict[str, Entry] | None:
    layer, _, kind = name.rpartition(".")
    kind = "weight" if kind == "scale" else kind
    if layer == _FINAL:
        half = entry.shape[0] // 2
        swapped = joined((entry.rows(half, entry.shape[0]), entry.rows(0, half)))
        return {f"norm_out.linear.{kind}": swapped}
    if layer in _OUTSIDE:
        return {f"{_OUTSIDE[layer]}.{kind}": entry}
    match = re.fullmatch(_BLOCK, layer)
    if match is None:
        return None
    stream, index, inner = match.groups()
    block = f"{'transformer' if stream == 'double' else 'single_transformer'}_blocks.{index}"
    if inner in _FUSED and (inner == "linear1") == (stream == "single"):
        return _split(entry, width, [f"{block}.{target}.{kind}" for target in _FUSED[inner]])
    names = _DOUBLE if stream == "double" else _SINGLE
    return {f"{block}.{names[inner]}.{kind}": entry} if inner in names else None


def _split(entry: Entry, width: int, targets: list[str]) -> dict[str, Entry] | None:
    """Rows of `width` for each target; the last one takes the rest."""
    rows = entry.shape[0] if entry.shape else 0
    if rows < width * len(targets):
        return None
    stops = [width * (i + 1) for i in range(len(targets) - 1)] + [rows]
    return {
        target: entry.rows(width * i, stop)
        for i, (target, stop) in enumerate(zip(targets, stops, strict=True))
    }


_VAE_NAMES = (
    (r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.down\.(\d+)\.block\.(\d+)\.", r".down_blocks.\1.resnets.\2."),
    (r"\.down\.(\d+)\.downsample\.conv\.", r".down_blocks.\1.downsamplers.0.conv."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
)
_UP = r"\.up\.(\d+)\.(block\.(\d+)|upsample\.conv)\."


def vae_from_ldm(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Entries of `ae.safetensors` under diffusers' names; names it does not know stay as they are.

    The attention's 1×1 convolutions become matrices, and the decoder's levels count from the other end.
    """
    levels = 1 + max((int(m.group(1)) for m in (re.search(_UP, name) for name in entries) if m), default=0)
    found = {}
    for name, entry in entries.items():
        target = re.sub(_UP, lambda match: _up_name(match, levels), name)
        for pattern, replacement in _VAE_NAMES:
            target = re.sub(pattern, replacement, target)
        found[target] = entry.squeezed() if ".attentions.0." in target else entry
    return found


def _up_name(match: re.Match, levels: int) -> str:
    block = f".up_blocks.{levels - 1 - int(match.group(1))}"
    return f"{block}.upsamplers.0.conv." if match.group(3) is None else f"{block}.resnets.{match.group(3)}."
