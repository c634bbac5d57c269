"""What a person typed, checked and read by the tokenizers before anything is encoded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..runtime.errors import InputError
from .cleanup import clean_text
from .text import Reading, TextCondition

log = logging.getLogger(__name__)


class Reader(Protocol):
    """What tokenizes prompts, such as `conditioning.text.TextEncoder`."""

    def read(self, prompts: Iterable[str]) -> Reading:
        """Which words have no token, and what is cut off."""


@dataclass(frozen=True)
class Prompts:
    """Prompts with the model's prefix, one negative each or none at all, and what the tokenizers left out."""

    prompts: tuple[str, ...]
    negatives: tuple[str, ...]
    unknown_words: tuple[str, ...]
    truncated: tuple[str, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """What is to be encoded: the prompts, then the negatives."""
        return self.prompts + self.negatives

    def condition(self, text: Tensor, pooled: Tensor) -> TextCondition:
        """The condition of these prompts from the encoded `texts`: `text` [N, L, D] and `pooled` [N, P]."""
        count, negative = len(self.prompts), bool(self.negatives)
        return TextCondition(
            text=text[:count],
            pooled=pooled[:count],
            negative_text=text[count:] if negative else None,
            negative_pooled=pooled[count:] if negative else None,
            prompts=self.prompts,
            negative_prompts=self.negatives,
            unknown_words=self.unknown_words,
            truncated=self.truncated,
        )


def read_prompts(
    text: Reader,
    prompt: str | Sequence[str],
    negative: str | Sequence[str] | None,
    prefix: str,
    clean: bool = False,
    also: Sequence[str] = (),
) -> Prompts:
    """`prefix` goes before prompts that do not begin with it; `clean` applies `clean_text` to what it goes before.
    Unknown words and what was cut off, in texts that are read `also`, too, are logged.

    Raises InputError for an empty prompt, or negatives that are neither one nor as many as prompts.
    """
    tidy = clean_text if clean else str
    prompts = tuple(_with_prefix(each, prefix) for each in _read_texts("prompt", prompt, clean=tidy))
    negatives = () if negative is None else _read_texts("negative prompt", negative, empty=True, clean=tidy)
    if negatives:
        negatives = _one_each(negatives, len(prompts))
    reading = text.read(dict.fromkeys((*prompts, *negatives, *also)))
    if reading.unknown_words:
        log.warning(
            "the model does not know these words and ignores them: %s", ", ".join(reading.unknown_words)
        )
    for cut in reading.truncated:
        log.warning("the prompt is too long: %s", cut)
    return Prompts(prompts, negatives, reading.unknown_words, reading.truncated)


def _read_texts(
    name: str, value: str | Sequence[str], empty: bool = False, clean: Callable[[str], str] = str
) -> tuple[str, ...]:
    """One text or several as a tuple, each as `clean` returns it. Raises InputError for other things, and for an
    empty text where none is allowed.
    """
    several = isinstance(value, Iterable) and not isinstance(value, str)
    texts = tuple(value) if several else (value,)
    if not texts or any(not isinstance(text, str) for text in texts):
        raise InputError(f"{name} must be a text or a non-empty list of texts, got {value!r}")
    texts = tuple(clean(text) for text in texts)
    if not empty and any(not text.strip() for text in texts):
        raise InputError(
            f"the {name} is empty: describe what the panorama shows, e.g. “a calm sea at sunset”"
        )
    return texts


def _with_prefix(text: str, prefix: str) -> str:
    """`prefix` before `text`, unless it is there already."""
    return text if text.casefold().startswith(prefix.strip().casefold()) else prefix + text


def _one_each(negatives: tuple[str, ...], count: int) -> tuple[str, ...]:
    """As many negative prompts as prompts; one serves all. Raises InputError for another number."""
    if len(negatives) == 1:
        return negatives * count
    if len(negatives) != count:
        raise InputError(f"{len(negatives)} negative prompts for {count} prompts: give one, or one each")
    return negatives
