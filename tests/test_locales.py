"""Every language of `locales/` says everything that English says, which the schemas are compared with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

LOCALES = Path(__file__).resolve().parents[1] / "locales"
FILES = ("main.json", "nodeDefs.json", "settings.json")
# What is the same in German: names of inputs (they are the names in workflows), and proper names.
SAME = {"PanoDiff", "Nadir", "Pannini"}


def leaves(texts: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in texts.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def read(language: str, file: str) -> dict[tuple[str, ...], str]:
    return dict(leaves(json.loads((LOCALES / language / file).read_text(encoding="utf-8"))))


def test_there_are_two_languages_with_the_same_files():
    assert {path.name for path in LOCALES.iterdir()} == {"en", "de"}
    for language in ("en", "de"):
        assert {path.name for path in (LOCALES / language).iterdir()} == set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_german_is_complete_and_translated(file):
    english, german = read("en", file), read("de", file)
    assert set(german) == set(english)
    is_name = file == "nodeDefs.json"
    for path, text in german.items():
        if is_name and path[-1] == "name":
            assert text == english[path], path
        elif english[path] not in SAME:
            assert text.strip() and text != english[path], path


@pytest.mark.parametrize("file", FILES)
def test_placeholders_and_numbers_survive_translation(file):
    english, german = read("en", file), read("de", file)
    for path, text in german.items():
        for pattern in (r"\{\w+\}", r"%\w+%", r"\d[\d.]*\d|\d", r"\w+/\w+", r"\b\w+_\w+\b"):
            assert sorted(re.findall(pattern, text)) == sorted(re.findall(pattern, english[path])), path


@pytest.mark.parametrize("language", ["en", "de"])
def test_nothing_is_read_as_syntax_by_the_frontend(language):
    """Of its message format: | separates plurals, @ links to other messages."""
    for file in FILES:
        assert not [path for path, text in read(language, file).items() if re.search(r"[|@]", text)]
