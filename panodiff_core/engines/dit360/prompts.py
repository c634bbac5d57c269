"""What a person typed, checked and read by the tokenizers before anything is encoded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ...conditioning.cleanup import clean_text
from ...conditioning.text import TextEncoder
from .inputs import one_each, read_texts, with_prefix

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prompts:
    """Prompts with the model's prefix, one negative each or none at all, and what the tokenizers left out."""

    prompts: tuple[str, ...]
    negatives: tuple[str, ...]
    unknown_words: tuple[str, ...]
    truncated: tuple[str, ...]


def read_prompts(
    text: TextEncoder,
    prompt: str | Sequence[str],
    negative: str | Sequence[str] | None,
    prefix: str,
    clean: bool = False,
) -> Prompts:
    """`prefix` goes before prompts that do not begin with it; `clean` applies `clean_text` to what it goes before.
    Unknown words and what was cut off are logged.

    Raises InputError for an empty prompt, or negatives that are neither one nor as many as prompts.
    """
    tidy = clean_text if clean else str
    prompts = tuple(with_prefix(each, prefix) for each in read_texts("prompt", prompt, clean=tidy))
    negatives = () if negative is None else read_texts("negative prompt", negative, empty=True, clean=tidy)
    if negatives:
        negatives = one_each(negatives, len(prompts))
    reading = text.read(dict.fromkeys(prompts + negatives))
    if reading.unknown_words:
        log.warning(
            "the model does not know these words and ignores them: %s", ", ".join(reading.unknown_words)
        )
    for cut in reading.truncated:
        log.warning("the prompt is too long: %s", cut)
    return Prompts(prompts, negatives, reading.unknown_words, reading.truncated)
