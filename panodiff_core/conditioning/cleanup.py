"""Prompt cleanup: lower case, plain punctuation, single spaces.

Off unless asked for: T5 tells capitals and punctuation apart, and DiT360 was trained on captions as they were written
(dit360 spec, section 1).
"""

from __future__ import annotations

import re
import unicodedata

KEPT = ".,!?'-"
"""The punctuation that `plain_punctuation` keeps."""

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′`´", "'"),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict.fromkeys(";:、", ","),
        **dict.fromkeys("…。", "."),
    }
)


def lower_case(text: str) -> str:
    """Every letter small."""
    return text.lower()


def plain_punctuation(text: str) -> str:
    """Typographic marks as ASCII, `;` and `:` as `,`; every other symbol but `KEPT` becomes a space.

    Invisible marks go. Runs of one mark become one, marks follow their word without a space, and none stands at the beginning. Letters
    and digits of all scripts stay, in their compatibility form (NFKC).
    """
    text = unicodedata.normalize("NFKC", text.translate(_PLAIN)).translate(_PLAIN)
    text = "".join(c if c in KEPT or c.isspace() or _is_word(c) else " " for c in _without_format(text))
    text = re.sub(r"([.,!?-])(?:\s*\1)+|(')'+", r"\1\2", text)
    text = re.sub(r"\s+([.,!?])", r"\1", text)
    return re.sub(r"^[\s.,!?'-]+", "", text)


def single_spaces(text: str) -> str:
    """Runs of white space and control characters as one space, none at the ends."""
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    return " ".join(text.split())


def clean_text(text: str) -> str:
    """All three; cleaning twice changes nothing more."""
    return lower_case(single_spaces(plain_punctuation(single_spaces(text))))


def _without_format(text: str) -> str:
    # Soft hyphens and zero-width marks stand inside words.
    return "".join(c for c in text if unicodedata.category(c) != "Cf")


def _is_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"
