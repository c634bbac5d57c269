"""Prompt cleanup: exact texts, idempotent, and off unless asked for."""

from __future__ import annotations

import pytest

import panodiff_core as pano
from panodiff_core.conditioning.cleanup import clean_text, lower_case, plain_punctuation, single_spaces

CASES = [
    ("A calm sea at sunset", "a calm sea at sunset"),
    ("  A “Calm” SEA,,,  at sunset … with\tboats !!! 🐋 — really; yes: no", None),
    ("It's rock 'n' roll - - well-known (3.5 m)", "it's rock 'n' roll - well-known 3.5 m"),
    ("...'- hi", "hi"),
    ("Ärger in der Straße", "ärger in der straße"),
    ("sun\u00adset\u200b x\r\n\x00y", "sunset x y"),
    ("日本の海、夕日。", "日本の海,夕日."),
    ("ﬁre №5 ＡＢＣ", "fire no5 abc"),
    ("!!! — *", ""),
]


@pytest.mark.parametrize("text, expected", CASES)
def test_exact_texts(text, expected):
    cleaned = clean_text(text)
    assert cleaned == (
        expected if expected is not None else "a calm sea, at sunset. with boats! - really, yes, no"
    )
    assert clean_text(cleaned) == cleaned


def test_each_function_does_one_thing():
    text = "  A  Calm;  SEA…  "
    assert lower_case(text) == "  a  calm;  sea…  "
    assert plain_punctuation(text) == "A  Calm,  SEA.  "
    assert single_spaces(text) == "A Calm; SEA…"


def test_encode_cleans_only_when_asked(tiny_engine):
    written = "A Calm SEA !!"
    assert tiny_engine.encode(written).prompts == (written,)
    cleaned = tiny_engine.encode(
        [written, "Snow"], negative="FOG;", prompt_prefix="A View: ", clean_prompt=True
    )
    assert cleaned.prompts == ("A View: a calm sea!", "A View: snow")
    assert cleaned.negative_prompts == ("fog,", "fog,")


def test_nothing_left_is_an_empty_prompt(tiny_engine):
    with pytest.raises(pano.InputError, match="the prompt is empty"):
        tiny_engine.encode("!!! 🐋", clean_prompt=True)
