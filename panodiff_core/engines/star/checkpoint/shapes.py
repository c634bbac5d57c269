"""Sizes of STAR's parts, read from the shapes of their weights; what no shape tells comes from a base configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ....io.checkpoints.entries import Entry
from ....runtime.errors import CheckpointError, InputError
from ..config import FaceRayConfig, STARConfig, VQVAEConfig

ADAPTER = "faceray_adapter.qkv.weight"


def generator_config(entries: Mapping[str, Entry], base: STARConfig, where: str) -> STARConfig:
    """`base` with the sizes of these weights.

    Raises CheckpointError for a file that is incomplete, or with another number of scales than `base` lists.
    """
    scales, width = _shape(entries, "lvl_embed.weight", 2, where)
    if scales != len(base.patch_nums):
        raise CheckpointError(
            f"{where} was trained on {scales} scales, and the scale list {list(base.patch_nums)} has "
            f"{len(base.patch_nums)}: choose the preset, or the patch_nums, of this checkpoint"
        )
    hidden = _shape(entries, "blocks.0.ffn.fc1.weight", 2, where)[0]
    return _with_sizes(
        base,
        where,
        depth=depth_of(entries, where),
        width=width,
        heads=_shape(entries, "blocks.0.attn.scale_mul_1H11", 4, where)[1],
        text_width=_shape(entries, "encoder_proj.weight", 2, where)[1],
        vocab=_shape(entries, "head_logits.weight", 2, where)[0],
        latent_channels=_shape(entries, "word_embed.weight", 2, where)[1],
        class_rows=_shape(entries, "class_emb.weight", 2, where)[0] if "class_emb.weight" in entries else 0,
        mlp_ratio=hidden / width,
        sampler_blocks=_count(entries, r"feat_extract_blocks\.(\d+)\.", where),
    )


def depth_of(entries: Mapping[str, Entry], where: str) -> int:
    """Number of a generator's blocks. Raises CheckpointError when one in between is missing."""
    return _count(entries, r"blocks\.(\d+)\.", where)


def vqvae_config(entries: Mapping[str, Entry], base: VQVAEConfig, where: str) -> VQVAEConfig:
    """`base` with the sizes of these weights. Raises CheckpointError for a file that is incomplete."""
    channels = _shape(entries, "encoder.conv_in.weight", 4, where)[0]
    levels = _count(entries, r"encoder\.down\.(\d+)\.", where)
    first = "encoder.down.{}.block.0.conv1.weight"
    widths = [_shape(entries, first.format(level), 4, where)[0] for level in range(levels)]
    if any(width % channels for width in widths):
        raise CheckpointError(
            f"{where}: levels of {widths} channels are no multiples of the first {channels}"
        )
    vocab, latent = _shape(entries, "quantize.embedding.weight", 2, where)
    return _with_sizes(
        base,
        where,
        channels=channels,
        multipliers=tuple(width // channels for width in widths),
        blocks=_count(entries, r"encoder\.down\.0\.block\.(\d+)\.", where),
        latent_channels=latent,
        vocab=vocab,
        phi_convs=_count(entries, r"quantize\.quant_resi\.qresi_ls\.(\d+)\.", where),
    )


def faceray_config(entries: Mapping[str, Entry], base: FaceRayConfig, where: str) -> FaceRayConfig | None:
    """`base` with the width of the adapters among a generator's weights, or None where there is none.

    The number of heads cannot be told from shapes. Raises CheckpointError where it does not divide the width.
    """
    names = sorted(name for name in entries if name.endswith(ADAPTER))
    if not names:
        return None
    width = _shape(entries, names[0], 2, where)[0] // 3
    if width % base.heads:
        raise CheckpointError(
            f"{where} has adapters {width} wide, which {base.heads} heads do not divide: say how many there are in config.json"
        )
    return _with_sizes(base, where, adapter_dim=width, head_dim=width // base.heads)


def refuse_other_sizes(found: Any, said: Any, where: str, by: str, names: tuple[str, ...]) -> None:
    """Raise CheckpointError naming every size of `names` that differs between a file and what `by` says about it."""
    wrong = [
        f"{n}: file {getattr(found, n)}, {by} {getattr(said, n)}"
        for n in names
        if getattr(found, n) != getattr(said, n)
    ]
    if wrong:
        raise CheckpointError(
            f"{where} is another model than {by} describes: {'; '.join(wrong)}. Give the weights that belong to it"
        )


def _with_sizes(base: Any, where: str, **sizes: Any) -> Any:
    try:
        return base.changed(**sizes)
    except InputError as error:
        raise CheckpointError(f"{where} has sizes that fit no model: {error}") from error


def _shape(entries: Mapping[str, Entry], name: str, axes: int, where: str) -> tuple[int, ...]:
    entry = entries.get(name)
    if entry is None:
        raise CheckpointError(f"{where} lacks {name!r}: the file is incomplete or of another model")
    if len(entry.shape) != axes:
        raise CheckpointError(f"{where}: {name!r} has shape {list(entry.shape)}, expected {axes} axes")
    return entry.shape


def _count(entries: Mapping[str, Entry], pattern: str, where: str) -> int:
    """How many numbered blocks there are. Raises CheckpointError when one in between is missing."""
    numbers = {int(match[1]) for match in (re.match(pattern, name) for name in entries) if match}
    lacking = sorted(set(range(max(numbers, default=-1) + 1)) - numbers)
    if lacking:
        block = pattern.replace(r"\.", ".").replace(r"(\d+)", str(lacking[0])).rstrip(".")
        raise CheckpointError(f"{where} lacks all of {block}: the file is incomplete or has a block too many")
    return len(numbers)
