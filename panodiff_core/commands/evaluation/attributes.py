"""Do the pictures show what the prompts state? Scores of attributes that a reader reads back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Protocol

from torch import Tensor

from ...data.readings import options_of
from ...data.worlds.attributes import ATTRIBUTES, LIGHT_WORDS, Scene
from ...metrics.attributes import chance_corrected
from .figures import angle_between_deg, median
from .scenes import Case

LIGHT = "light"


class Reading(Protocol):
    """What a reader sees in one picture: a value for every name of `ATTRIBUTES`, and the light's azimuth in
    degrees.
    """

    values: Mapping[str, str]
    light_azimuth_deg: float


class Reader(Protocol):
    """Reads attributes back from pictures [B,3,H,W] in 0..1, one reading each."""

    def read(self, pixels: Tensor) -> list[Reading]: ...


def word_azimuth_deg(word: str) -> float:
    """The azimuth at the centre of a word of `LIGHT_WORDS`, 0 ahead, 90 right."""
    return 45.0 * LIGHT_WORDS.index(word)


def score(asked: Sequence[tuple[str, str, str, str]]) -> dict[str, object]:
    """Accuracy per attribute from (name, place, true value, value read) and the means over attributes.

    Chance-corrected: (accuracy − chance) ÷ (1 − chance) with the chance of a blind guess among the values
    possible at each place; 0 is blind, 1 is perfect.
    """
    rows: dict[str, dict[str, float]] = {}
    for name in ATTRIBUTES:
        own = [(place, true, read) for asked_name, place, true, read in asked if asked_name == name]
        if not own:
            continue
        accuracy = sum(true == read for _, true, read in own) / len(own)
        chance = sum(1 / options_of(place, name) for place, _, _ in own) / len(own)
        corrected = chance_corrected(accuracy, chance)
        rows[name] = {"count": len(own), "accuracy": accuracy, "chance": chance, "corrected": corrected}
    count = max(1, len(rows))
    return {
        "attributes": rows,
        "accuracy": sum(row["accuracy"] for row in rows.values()) / count,
        "mean": sum(row["corrected"] for row in rows.values()) / count,
    }


def prompt_scores(cases: Sequence[Case], read: Sequence[Reading]) -> dict[str, object]:
    """How well pictures follow their prompts: only what a prompt states is asked.

    The light's azimuth is compared with the centre of the direction that the prompt states, since that is all
    the model was told.
    """
    asked = [
        (name, case.scene["place"], value, seen.values[name])
        for case, seen in zip(cases, read, strict=True)
        for name, value in case.caption.mentioned.items()
    ]
    errors = [
        angle_between_deg(seen.light_azimuth_deg, word_azimuth_deg(case.caption.mentioned[LIGHT]))
        for case, seen in zip(cases, read, strict=True)
        if LIGHT in case.caption.mentioned
    ]
    return {**score(asked), "azimuth_error_deg": median(errors), "azimuth_count": len(errors)}


def reader_scores(scenes: Sequence[Scene], read: Sequence[Reading]) -> dict[str, object]:
    """How well the reader reads true pictures: every attribute that a scene has is asked."""
    asked = [
        (name, scene["place"], value, seen.values[name])
        for scene, seen in zip(scenes, read, strict=True)
        for name, value in scene.attributes().items()
        if value is not None
    ]
    errors = [
        angle_between_deg(seen.light_azimuth_deg, scene.light_azimuth_deg)
        for scene, seen in zip(scenes, read, strict=True)
        if scene.light_azimuth_deg is not None
    ]
    return {**score(asked), "azimuth_error_deg": median(errors), "azimuth_count": len(errors)}


def difference_share(groups: Sequence[Sequence[Reading]], mentioned: Sequence[Mapping[str, str]]) -> float:
    """Mean share of attributes, the stated ones left out, that read differently within a pair of pictures of
    one prompt.

    Only attributes that exist at the stated place are counted; a caption always states the place.
    """
    shares = []
    for group, stated in zip(groups, mentioned, strict=True):
        names = [name for name in ATTRIBUTES if name not in stated and options_of(stated["place"], name) > 1]
        for first, second in combinations(group, 2) if names else ():
            shares.append(sum(first.values[name] != second.values[name] for name in names) / len(names))
    return sum(shares) / len(shares) if shares else 0.0
