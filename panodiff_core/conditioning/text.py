"""Prompts → what FLUX listens to: a T5 sequence and CLIP's pooled vector (dit360 spec, section 2.5)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..runtime.errors import CheckpointError, InputError

LONGEST_PROMPT = 4096
"""A tokenizer that claims more tokens than this has no `model_max_length` in its configuration."""


@dataclass(frozen=True)
class TextCondition:
    """Encoded prompts.

    `text` [B, L, D] is T5's last hidden state over all L positions, padding included; `pooled` [B, P] is
    CLIP's hidden state at the first end-of-text token. The negative pair is there when a negative prompt was
    encoded. `prompts` are the texts as the encoders saw them, `unknown_words` those the model has no token
    for, and `truncated` says per encoder what it did not read. Raises InputError when the shapes do not
    belong together.
    """

    text: Tensor
    pooled: Tensor
    negative_text: Tensor | None = None
    negative_pooled: Tensor | None = None
    prompts: tuple[str, ...] = ()
    negative_prompts: tuple[str, ...] = ()
    unknown_words: tuple[str, ...] = ()
    truncated: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.negative_text is None) != (self.negative_pooled is None):
            raise InputError("a negative condition needs both its text and its pooled vector")
        pairs = [("text", self.text, self.pooled)]
        if self.negative_text is not None:
            pairs.append(("negative text", self.negative_text, self.negative_pooled))
        for name, text, pooled in pairs:
            if text.ndim != 3 or pooled.ndim != 2 or len(text) != len(pooled) or len(text) != len(self.text):
                raise InputError(
                    f"{name} must be [B, L, D] with pooled [B, P] and the same B as the prompts, "
                    f"got {list(text.shape)} and {list(pooled.shape)}"
                )

    @property
    def batch(self) -> int:
        """Number of prompts."""
        return len(self.text)


@dataclass(frozen=True)
class Reading:
    """What the tokenizers could not pass on: see `TextCondition`."""

    unknown_words: tuple[str, ...]
    truncated: tuple[str, ...]


class TextEncoder:
    """CLIP and T5 with their tokenizers.

    Raises CheckpointError when a tokenizer has no length limit or does not end texts with its end-of-text
    token.
    """

    def __init__(self, tokenizer: Any, clip: nn.Module, tokenizer_2: Any, t5: nn.Module) -> None:
        self.tokenizer, self.clip = tokenizer, clip
        self.tokenizer_2, self.t5 = tokenizer_2, t5
        for folder, each in (("tokenizer", tokenizer), ("tokenizer_2", tokenizer_2)):
            check_tokenizer(folder, each)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """CLIP ids [B, L₁] and T5 ids [B, L₂], int64, padded and cut to `model_max_length`."""
        return token_ids(self.tokenizer, prompts), token_ids(self.tokenizer_2, prompts)

    def encode(
        self, prompts: Sequence[str], device: torch.device | str | None = None
    ) -> tuple[Tensor, Tensor]:
        """(text [B, L, D], pooled [B, P]) of prompts as they stand. Gradients flow."""
        clip_ids, t5_ids = (ids.to(device) for ids in self.tokenize(prompts))
        return encode_t5(self.t5, t5_ids), encode_clip(self.clip, clip_ids, self.tokenizer.eos_token_id)

    def read(self, prompts: Iterable[str]) -> Reading:
        """Which words have no token, and what each encoder cuts off. Needs no model."""
        return read_prompts((("CLIP", self.tokenizer), ("T5", self.tokenizer_2)), prompts)


def read_prompts(tokenizers: Sequence[tuple[str, Any]], prompts: Iterable[str]) -> Reading:
    """Which words have no token, and what each encoder, given as (name to show, tokenizer), cuts off."""
    unknown: dict[str, None] = {}
    truncated: dict[str, None] = {}
    for prompt in prompts:
        for label, tokenizer in tokenizers:
            encoded = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            ids, spans = encoded["input_ids"], encoded["offset_mapping"]
            room = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
            unknown.update(dict.fromkeys(_unknown_words(tokenizer, prompt, ids[:room], spans)))
            if len(ids) > room:
                truncated[f"{label} reads {room} tokens and stops before {prompt[spans[room][0] :]!r}"] = None
    return Reading(tuple(unknown), tuple(truncated))


def encode_t5(t5: nn.Module, ids: Tensor) -> Tensor:
    """T5's last hidden state [B, L, D] for ids [B, L]. No attention mask: FLUX was trained with visible
    padding.
    """
    return t5(input_ids=ids).last_hidden_state


def encode_clip(clip: nn.Module, ids: Tensor, eos_token_id: int) -> Tensor:
    """CLIP's final hidden state [B, P] at the first `eos_token_id` of ids [B, L]."""
    hidden = clip(input_ids=ids).last_hidden_state
    first = (ids == eos_token_id).int().argmax(dim=-1)
    return hidden[torch.arange(len(ids), device=ids.device), first]


def token_ids(tokenizer: Any, prompts: Sequence[str]) -> Tensor:
    encoded = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    return encoded["input_ids"]


def _unknown_words(
    tokenizer: Any, prompt: str, ids: list[int], spans: list[tuple[int, int]]
) -> Iterable[str]:
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown == tokenizer.eos_token_id:  # CLIP's own tokenizer can spell everything
        return
    for token, (start, end) in zip(ids, spans, strict=False):
        if token == unknown:
            word = _whole_word(prompt, start, end)
            if not all(unicodedata.category(c).startswith(("P", "Z")) for c in word):
                yield word


def _whole_word(text: str, start: int, end: int) -> str:
    """The word around a piece that a tokenizer cut out of it; punctuation stays by itself."""
    if text[start:end].isalnum():
        while start > 0 and text[start - 1].isalnum():
            start -= 1
        while end < len(text) and text[end].isalnum():
            end += 1
    return text[start:end].strip()


def check_tokenizer(folder: str, tokenizer: Any) -> None:
    """Raises CheckpointError when a tokenizer has no length limit, no offsets, or does not end texts."""
    if tokenizer.model_max_length > LONGEST_PROMPT:
        raise CheckpointError(
            f"{folder}/tokenizer_config.json does not say model_max_length: restore the original file"
        )
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"{folder}/ has no tokenizer.json that the tokenizers library can read: restore the file"
        )
    ids = tokenizer("a")["input_ids"]
    if tokenizer.eos_token_id is None or tokenizer.eos_token_id not in ids:
        raise CheckpointError(
            f"{folder}/ does not end texts with its end-of-text token: tokenizer.json must carry the "
            "post-processor that adds it, and tokenizer_config.json must name eos_token"
        )
