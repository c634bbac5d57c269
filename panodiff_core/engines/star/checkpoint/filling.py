"""Weights into modules: the autoencoder, and a generator that may have parts which an official file cannot know."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ....io.checkpoints.entries import Entry
from ....io.checkpoints.filling import check_shapes, fill
from ....io.checkpoints.torch_files import tensor_entry
from ....runtime.errors import CheckpointError
from ..config import VQVAEConfig
from ..scales import Scales
from ..vqvae import VQVAE

FACERAY, SAMPLER, SAMPLER_FACERAY = "FaceRay", "masked sampler", "FaceRay of the masked sampler"
"""Parts of an extended generator that training adds to a published one."""

_ADDED = (
    (FACERAY, r"blocks\.\d+\.faceray_adapter\..+"),
    (SAMPLER_FACERAY, r"feat_extract_blocks\.\d+\.faceray_adapter\..+"),
    (
        SAMPLER,
        r"feat_extract_blocks\..+|pos_start_last|(word_embed_head|lvl_embed_2|encoder_proj2|head_proj|head_logits2)\..+",
    ),
)
_STATISTICS = "quantize.ema_vocab_hit_SV"


def added_part(name: str) -> str | None:
    """Which added part a weight of a generator belongs to; None for STAR's own."""
    return next((part for part, pattern in _ADDED if re.fullmatch(pattern, name)), None)


def split_sampler(entries: Mapping[str, Entry]) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """A file's entries as those of the generator's module and those of the masked sampler's, adapters included."""
    of_sampler = {n: e for n, e in entries.items() if added_part(n) in (SAMPLER, SAMPLER_FACERAY)}
    return {n: e for n, e in entries.items() if n not in of_sampler}, of_sampler


def storage_type(dtype: torch.dtype) -> Callable[[str], torch.dtype]:
    """The type of each weight of a generator stored in `dtype`: the logarithms of the attention scales stay float32,
    since half precision would change the scales by up to 0.2 %.
    """
    return lambda name: torch.float32 if name.endswith(".scale_mul_1H11") else dtype


def fill_generator(
    module: nn.Module,
    entries: Mapping[str, Entry],
    where: str,
    dtype: torch.dtype = torch.float32,
    *,
    new: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Put a generator's weights into `module`, strictly, and freeze it; returns the parts that kept their own numbers.

    Weights take `dtype`, see `storage_type`.

    A part named in `new` (FACERAY, SAMPLER, SAMPLER_FACERAY) may be absent from the file as a whole; everything else
    that is missing, unexpected or of another shape raises CheckpointError, as do NaN and infinity. Of a module on the
    meta device no part may be new.
    """
    state = module.state_dict()
    in_file = {added_part(name) for name in entries}
    kept = tuple(p for p in new if p not in in_file and any(added_part(name) == p for name in state))
    own = {
        name: tensor_entry(tensor, f"the model's own {name!r}")
        for name, tensor in state.items()
        if added_part(name) in kept
    }
    check_shapes(module, {**own, **entries}, where)
    if any(tensor.is_meta for name, tensor in state.items() if name in own):
        raise CheckpointError(f"{where} lacks {', '.join(kept)}, and the model has no numbers of its own yet")
    fill(module, {**own, **entries}, storage_type(dtype))
    return kept


def load_vqvae(
    entries: Mapping[str, Entry],
    config: VQVAEConfig,
    scales: Scales,
    where: str,
    dtype: torch.dtype = torch.float32,
    operations: Any = nn,
) -> VQVAE:
    """The autoencoder with these weights, frozen, on the CPU, for any scale list.

    The codes' hit counts, which nothing reads, are reset where they are of another scale list or absent. Raises
    CheckpointError for anything missing, unexpected, of another shape, or not finite.
    """
    with torch.device("meta"):
        module = VQVAE(config, scales, operations)
    entries = vqvae_entries(entries, config, scales)
    check_shapes(module, entries, where)
    fill(module, entries, lambda name: dtype)
    return module


def vqvae_entries(entries: Mapping[str, Entry], config: VQVAEConfig, scales: Scales) -> dict[str, Entry]:
    """The autoencoder's entries for a scale list: hit counts that do not fit it, or are absent, are zeros."""
    hits, found = torch.zeros(len(scales), config.vocab), entries.get(_STATISTICS)
    if found is None or found.shape != tuple(hits.shape):
        return {**entries, _STATISTICS: tensor_entry(hits, _STATISTICS)}
    return dict(entries)
