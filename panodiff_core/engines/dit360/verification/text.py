"""text.safetensors: CLIP's pooled vector and T5's sequence for given token ids."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ....conditioning.text import encode_clip, encode_t5
from ....verification import Results, Row
from ..checkpoint.formats import CLIP, T5
from .folder import CLIP_FILE, T5_FILE, DiT360Vectors

NAME = "text"
BOUND, CONTROL, FAR = 1e-5, 0.05, 1e-3
SUM, SUM_SHARE = 1e-3, 6e-8
"""A sum of many numbers may be off by more the more there are."""
FIRST = r"(t5\.embeds|derived\.t5_masked|derived\.t5_\d+)_first(\d+)"


def check(vectors: DiT360Vectors) -> Iterator[Row]:
    """Embeddings, and two controls: another padding length and a mask change what T5 says about real tokens."""
    t = Results(NAME, vectors.tensors(NAME))
    t5 = vectors.part(T5_FILE, T5)
    pooled, text, hidden = pooled_and_text(vectors, vectors.part(CLIP_FILE, CLIP), t5)
    yield t.row("clip.pooled", pooled, BOUND)
    yield from t.rows("clip.last_hidden", hidden, BOUND)
    sums = text.double().sum(dim=(1, 2))
    yield from t.rows("t5.embeds_sum", sums, max(SUM, SUM_SHARE * text[0].numel()))
    found = sorted((key, match) for key in t if (match := re.fullmatch(FIRST, key)))
    if not found:
        raise KeyError("t5.embeds_first*")
    for key, match in found:
        kind, count = match[1], int(match[2])
        got = text if kind == "t5.embeds" else _another(t5, t["in.t5_ids"], kind, vectors)
        yield t.row(key, got[:, :count], BOUND)
        if kind != "t5.embeds":
            yield from _control(key, text[:, :count], t[key], got[:, :count])
    yield from t.left()


@torch.no_grad()
def _another(t5: nn.Module, ids: Tensor, kind: str, vectors: DiT360Vectors) -> Tensor:
    """T5's sequence with the padding masked, or padded to another length."""
    if kind == "derived.t5_masked":
        mask = ids != int(vectors.config(T5).get("pad_token_id", 0))
        return t5(input_ids=ids, attention_mask=mask).last_hidden_state
    return encode_t5(t5, ids[:, : int(kind.removeprefix("derived.t5_"))])


def _control(key: str, text: Tensor, golden: Tensor, own: Tensor) -> Iterator[Row]:
    """The golden tensor is far from what the engine does: by 0.05, or most of what this model gives by itself."""
    bound = min(CONTROL, 0.9 * (text - own).abs().max().item())
    if bound > FAR:
        error = (text - golden).abs().max().item()
        yield Row(NAME, f"{key} is another thing", error, bound, above=True)


@torch.no_grad()
def pooled_and_text(
    vectors: DiT360Vectors, clip: nn.Module | None, t5: nn.Module | None
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """(CLIP's pooled vector, T5's sequence, CLIP's hidden states) of the vectors' token ids."""
    t = vectors.tensors(NAME)
    pooled = hidden = text = None
    if clip is not None:
        end = int(vectors.config(CLIP)["eos_token_id"])
        pooled = encode_clip(clip, t["in.clip_ids"], end)
        hidden = clip(input_ids=t["in.clip_ids"]).last_hidden_state
    if t5 is not None:
        text = encode_t5(t5, t["in.t5_ids"])
    return pooled, text, hidden
