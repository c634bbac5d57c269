"""The questions of an evaluation: scenes whose attribute combinations were never trained on, and their
captions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...data.worlds import Scene, render_equirect, sample_scene
from ...data.worlds.attributes import ATTRIBUTES
from ...data.worlds.captions import Caption, caption
from ...runtime.errors import InputError

# Scenes for different purposes come from different seed ranges, so that no figure looks at another's scenes.
_DIVERSITY_OFFSET = 10_000_000
_MOST_DRAWS = 400_000
# A share of right answers out of three says nothing: every attribute is asked so often, in a run of 60 prompts or more
# (smaller runs ask for a fifth of their prompts).
_LEAST_QUESTIONS = 12


@dataclass(frozen=True)
class Case:
    """One question: the scene, and its caption, which is the prompt."""

    scene: Scene
    caption: Caption


def held_out_cases(count: int, seed: int) -> list[Case]:
    """`count` held-out scenes with captions of mixed styles, and after them as many more as it takes until every
    attribute is stated often enough to be judged; the same for the same seed.
    """
    start = seed * 100_000
    cases = [_case(number, None) for number in range(start, start + count)]
    least = min(_LEAST_QUESTIONS, count // 5)
    asked = Counter(name for case in cases for name in case.caption.mentioned)
    number = start + count
    while any(asked[name] < least for name in ATTRIBUTES):
        case = _case(number, None)
        if any(asked[name] < least for name in case.caption.mentioned):
            cases.append(case)
            asked.update(list(case.caption.mentioned))
        number += 1
    return cases


def short_cases(count: int, seed: int) -> list[Case]:
    """Held-out scenes with short captions, which leave most of the picture open: prompts to measure diversity
    on.
    """
    start = _DIVERSITY_OFFSET + seed * 1000
    return [_case(number, "short") for number in range(start, start + count)]


def _case(number: int, style: str | None) -> Case:
    scene = sample_scene(number, split="held_out")
    return Case(scene, caption(scene, number, style))


def scenes_that_say(mentioned: Mapping[str, str], count: int, seed: int) -> list[Scene]:
    """`count` different scenes, from all splits, that have the attributes a caption states; the rest varies
    freely.

    Raises `InputError` when so many cannot be found.
    """
    found: list[Scene] = []
    start = 2 * _DIVERSITY_OFFSET + seed * _MOST_DRAWS
    for number in range(start, start + _MOST_DRAWS):
        scene = sample_scene(number, split="all")
        attributes = scene.attributes()
        if all(attributes[name] == value for name, value in mentioned.items()):
            found.append(scene)
            if len(found) == count:
                return found
    raise InputError(f"only {len(found)} of {count} scenes with {dict(mentioned)} were found; ask for fewer.")


def render_scenes(scenes: Sequence[Scene], height: int) -> Tensor:
    """[N,3,H,2H] in 0..1, rounded to 8 bits as every saved picture is."""
    return to_eight_bits(torch.stack([render_equirect(scene, height, 2 * height) for scene in scenes]))


def to_eight_bits(pixels: Tensor) -> Tensor:
    """Float32 pixels in 0..1 as they come back from a PNG file."""
    return pixels.detach().to(torch.float32).clamp(0, 1).mul(255).round_().div_(255)
