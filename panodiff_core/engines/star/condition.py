"""What STAR's engine makes of prompts: one text per scene, the unconditional one, and texts of single faces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ...conditioning.prompts import Prompts, read_prompts
from ...geometry.cubemap import FACES
from ...runtime.errors import InputError
from .config import STARConfig
from .face_texts import check_texts, texts_of_faces
from .generator import check_text
from .text import TextFeatures, TextTower


@dataclass(frozen=True)
class StarCondition:
    """Encoded prompts.

    `text` has a row per scene, `negative` too: what guidance goes away from, the text "" unless a negative prompt was
    given. `faces` has six rows per scene, F R B L U D, where faces have texts of their own, and is None otherwise.
    `prompts`, `negative_prompts` and `face_prompts` are the texts, `unknown_words` those that the model has no token
    for, and `truncated` says what the encoder did not read. Raises InputError when the rows do not belong together.
    """

    text: TextFeatures
    negative: TextFeatures
    faces: TextFeatures | None = None
    prompts: tuple[str, ...] = ()
    negative_prompts: tuple[str, ...] = ()
    face_prompts: tuple[tuple[str, ...], ...] = ()
    unknown_words: tuple[str, ...] = ()
    truncated: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.text)
        if len(self.negative) != count:
            raise InputError(f"{count} texts need as many unconditional ones, got {len(self.negative)}")
        if self.faces is not None and len(self.faces) != len(FACES) * count:
            raise InputError(f"{count} scenes have {len(FACES) * count} faces, got {len(self.faces)} texts")

    @property
    def batch(self) -> int:
        """Number of scenes."""
        return len(self.text)

    def rows(self, times: int) -> tuple[TextFeatures, TextFeatures, TextFeatures | None]:
        """(text, negative, faces) for so many pictures of each scene, one after the other."""
        faces = self.faces
        if faces is not None:
            order = torch.arange(len(faces)).view(-1, len(FACES)).repeat_interleave(times, dim=0)
            faces = faces.take(order.flatten().tolist())
        return self.text.each(times), self.negative.each(times), faces

    def check(self, config: STARConfig) -> None:
        """Raise InputError for the condition of another model."""
        for part in (self.text, self.negative, self.faces):
            if part is not None:
                check_text(part, config)


@dataclass(frozen=True)
class Texts:
    """Texts read by the tokenizer and not encoded yet: scenes with one unconditional text each, and six texts per scene
    or none at all.
    """

    read: Prompts
    faces: tuple[tuple[str, ...], ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """What is to be encoded: scenes, unconditional texts, faces."""
        return (*self.read.prompts, *self._unconditional, *(text for scene in self.faces for text in scene))

    @property
    def _unconditional(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.read.negatives))

    def condition(self, encoded: TextFeatures) -> StarCondition:
        """The condition of these texts, from the encoded `texts`."""
        read, unconditional = self.read, self._unconditional
        count = len(read.prompts)
        begin = count + len(unconditional)
        return StarCondition(
            text=encoded[:count],
            negative=encoded.take([count + unconditional.index(text) for text in read.negatives]),
            faces=encoded[begin:] if self.faces else None,
            prompts=read.prompts,
            negative_prompts=read.negatives,
            face_prompts=self.faces,
            unknown_words=read.unknown_words,
            truncated=read.truncated,
        )


def read_texts(
    tower: TextTower,
    prompt: str | Sequence[str],
    negative: str | Sequence[str] | None,
    faces: Mapping[str, str] | None,
    frames: Mapping[str, str],
) -> Texts:
    """Everything that a call of `STAREngine.encode` is about; `frames` are the model's own words around texts of faces.

    Unknown words and what was cut off, in any of the texts, are logged. Raises InputError for an empty prompt, a face
    that does not exist or has no text, and negative prompts that are neither one nor as many as prompts.
    """
    if faces is not None:
        check_texts(faces)
    several = isinstance(prompt, Iterable) and not isinstance(prompt, str)
    scenes = tuple(prompt) if several else (prompt,)
    apart = bool(frames) if faces is None else bool(faces)
    of_faces = tuple(texts_of_faces(str(scene), faces or {}, frames) for scene in scenes) if apart else ()
    flat = tuple(text for scene in of_faces for text in scene)
    read = read_prompts(tower, scenes, "" if negative is None else negative, "", also=flat)
    return Texts(read, of_faces)
