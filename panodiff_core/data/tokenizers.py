"""Word-level tokenizers for the small text encoders, built from the words that captions can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

T5_SPECIALS = ("<pad>", "</s>", "<unk>")
CLIP_SPECIALS = ("<|startoftext|>", "<|endoftext|>", "<unk>")


def build_t5_tokenizer(words: Sequence[str], max_length: int) -> Any:
    """`PreTrainedTokenizerFast`: words </s> <pad> …; ids 0, 1, 2 are <pad>, </s>, <unk>, then `words` in order."""
    from transformers import PreTrainedTokenizerFast

    core = _word_level(T5_SPECIALS, words)
    core.post_processor = _template("$A </s>", {"</s>": 1})
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=max_length,
        padding_side="right",
    )


def build_clip_tokenizer(words: Sequence[str], max_length: int) -> Any:
    """`PreTrainedTokenizerFast`: <|startoftext|> words <|endoftext|> <|endoftext|> …, as CLIP pads."""
    from transformers import PreTrainedTokenizerFast

    core = _word_level(CLIP_SPECIALS, words)
    core.post_processor = _template(
        "<|startoftext|> $A <|endoftext|>", {"<|startoftext|>": 0, "<|endoftext|>": 1}
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<unk>",
        model_max_length=max_length,
        padding_side="right",
    )


def _word_level(specials: Sequence[str], words: Sequence[str]) -> Any:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {token: index for index, token in enumerate([*specials, *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    # Anything that is neither letter nor digit separates words; letters of any script make unknown words, not none.
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\p{L}\p{N}]+"), behavior="removed")
    return core


def _template(single: str, specials: dict[str, int]) -> Any:
    from tokenizers.processors import TemplateProcessing

    return TemplateProcessing(single=single, special_tokens=list(specials.items()))
