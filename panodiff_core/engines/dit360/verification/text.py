"""text.safetensors: CLIP's pooled vector and T5's sequence for given token ids."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ....conditioning.text import encode_clip, encode_t5
from ..formats import CLIP, T5
from .folder import VectorFolder
from .rows import Row, compare

NAME = "text"
BOUND, SUM, CONTROL = 1e-5, 1e-3, 0.05


def check(vectors: VectorFolder) -> Iterator[Row]:
    """Embeddings, and two controls: another padding length and a mask change what T5 says about real tokens."""
    t = vectors.tensors(NAME)
    t5 = vectors.part("t5xxl_fp16.safetensors", T5)
    pooled, text, hidden = pooled_and_text(vectors, vectors.part("clip_l.safetensors", CLIP), t5)
    expected = t["t5.embeds_first96"]
    first = text[:, : expected.shape[1]]
    yield compare(NAME, "clip.pooled", pooled, t["clip.pooled"], BOUND)
    yield compare(NAME, "clip.last_hidden", hidden, t["clip.last_hidden"], BOUND)
    yield compare(NAME, "t5.embeds_first96", first, expected, BOUND)
    sums = text.double().sum(dim=(1, 2))
    yield compare(NAME, "t5.embeds_sum", sums, t["t5.embeds_sum"], SUM)
    with torch.no_grad():
        short = encode_t5(t5, t["in.t5_ids"][:, :256])[:, : expected.shape[1]]
    yield compare(NAME, "derived.t5_256_first96", short, t["derived.t5_256_first96"], BOUND)
    for key in ("derived.t5_256_first96", "derived.t5_masked_first96"):
        error = (first - t[key]).abs().max().item()
        yield Row(NAME, f"{key} is another thing", error, CONTROL, above=True)


@torch.no_grad()
def pooled_and_text(
    vectors: VectorFolder, clip: nn.Module | None, t5: nn.Module | None
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """(CLIP's pooled vector, T5's sequence, CLIP's hidden states) of the vectors' token ids."""
    t = vectors.tensors(NAME)
    pooled = hidden = text = None
    if clip is not None:
        end = int(vectors.json("clip_config.json")["eos_token_id"])
        pooled = encode_clip(clip, t["in.clip_ids"], end)
        hidden = clip(input_ids=t["in.clip_ids"]).last_hidden_state
    if t5 is not None:
        text = encode_t5(t5, t["in.t5_ids"])
    return pooled, text, hidden
