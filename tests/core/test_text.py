"""Prompts: unknown words, long prompts, empty prompts, prefixes."""

from __future__ import annotations

import logging

import pytest
import torch

import panodiff_core as pano
from panodiff_core.conditioning.text import TextCondition, encode_clip
from tests.tiny_model import CLIP_LENGTH, T5_LENGTH


def test_shapes_and_padding(tiny_engine):
    condition = tiny_engine.encode(["a red house", "a calm sea at night"])
    assert condition.text.shape == (2, T5_LENGTH, 32) and condition.pooled.shape == (2, 24)
    assert condition.batch == 2 and condition.prompts == ("a red house", "a calm sea at night")
    clip_ids, t5_ids = tiny_engine.text_encoder.tokenize(["a red house"])
    assert clip_ids.shape == (1, CLIP_LENGTH) and t5_ids.shape == (1, T5_LENGTH)
    assert t5_ids[0, 3:].tolist() == [1] + [0] * (T5_LENGTH - 4)
    assert clip_ids[0, 0] == 0 and clip_ids[0, 4:].unique().tolist() == [1]


def test_pooled_at_the_first_end():
    ids = torch.tensor([[0, 5, 1, 1, 1], [0, 5, 6, 7, 1]])
    hidden = torch.arange(2 * 5 * 3.0).view(2, 5, 3)
    output = type("Output", (), {"last_hidden_state": hidden})()
    pooled = encode_clip(lambda input_ids: output, ids, 1)
    assert torch.equal(pooled, torch.stack([hidden[0, 2], hidden[1, 4]]))


def test_unknown_words_are_listed(tiny_engine, caplog):
    with caplog.at_level(logging.WARNING):
        condition = tiny_engine.encode(
            "A calm sea with Zeppelins, over zeppelins and an ice-floe 🐋 !", negative="fog"
        )
    assert condition.unknown_words == ("Zeppelins", "zeppelins", "ice", "floe", "🐋", "fog")
    assert (
        "does not know these words and ignores them: Zeppelins, zeppelins, ice, floe, 🐋, fog" in caplog.text
    )
    assert tiny_engine.encode("a red house").unknown_words == ()


def test_what_was_cut_is_said(tiny_engine, caplog):
    words = ["a red house"] * 10 + ["a golden boat"]  # 33 words; CLIP reads 22, T5 31
    with caplog.at_level(logging.WARNING):
        condition = tiny_engine.encode(" ".join(words))
    clip, t5 = condition.truncated
    assert (
        clip
        == f"CLIP reads {CLIP_LENGTH - 2} tokens and stops before 'red house a red house a red house a golden boat'"
    )
    assert t5 == f"T5 reads {T5_LENGTH - 1} tokens and stops before 'golden boat'"
    assert caplog.text.count("the prompt is too long") == 2
    fits = tiny_engine.encode(" ".join(["sea"] * (CLIP_LENGTH - 2)))
    assert fits.truncated == ()


def test_cut_words_change_nothing(tiny_engine):
    long = " ".join(["sea"] * 40)
    a, b = tiny_engine.encode(long + " a"), tiny_engine.encode(long + " red")
    assert torch.equal(a.text, b.text) and torch.equal(a.pooled, b.pooled)


@pytest.mark.parametrize("prompt", ["", "  \n", ["a sea", ""]])
def test_empty_prompt(tiny_engine, prompt):
    with pytest.raises(pano.InputError, match="the prompt is empty: describe what the panorama shows"):
        tiny_engine.encode(prompt)


def test_no_prompt(tiny_engine):
    for bad in ([], [3]):
        with pytest.raises(pano.InputError, match="prompt must be a text"):
            tiny_engine.encode(bad)


def test_negatives(tiny_engine):
    both = tiny_engine.encode(["a sea", "a city"], negative="snow")
    assert both.negative_prompts == ("snow", "snow") and torch.equal(
        both.negative_text[0], both.negative_text[1]
    )
    assert tiny_engine.encode("a sea", negative="").negative_prompts == ("",)
    with pytest.raises(pano.InputError, match="3 negative prompts for 2 prompts"):
        tiny_engine.encode(["a sea", "a city"], negative=["a", "b", "c"])


def test_prefix(tiny_engine):
    prefix = "A golden sky with "
    assert tiny_engine.encode("clouds", prompt_prefix=prefix).prompts == ("A golden sky with clouds",)
    given = "a Golden sky with stars"
    assert tiny_engine.encode(given, prompt_prefix=prefix).prompts == (given,)
    assert tiny_engine.encode("clouds").prompts == ("clouds",)  # a small model has no prefix of its own


def test_condition_checks_its_shapes():
    condition = TextCondition(torch.zeros(1, 2, 3), torch.zeros(1, 4))
    assert condition.negative_text is None
    with pytest.raises(pano.InputError, match="the same B"):
        TextCondition(torch.zeros(2, 2, 3), torch.zeros(1, 4))
    with pytest.raises(pano.InputError, match="needs both"):
        TextCondition(torch.zeros(1, 2, 3), torch.zeros(1, 4), torch.zeros(1, 2, 3))


def test_vocabulary(tiny_engine):
    assert {"sea", "sunset", "</s>"} <= set(tiny_engine.vocabulary)
