"""Texts of single faces of a cube: what a user gives, and the words that a model wants around them."""

from __future__ import annotations

from collections.abc import Mapping

from ...geometry.cubemap import FACES
from ...runtime.errors import InputError

PROMPT = "{prompt}"
"""What stands for the scene's prompt in the text of a face, and for the text of a face in the words around it."""


def texts_of_faces(scene: str, given: Mapping[str, str], frames: Mapping[str, str]) -> tuple[str, ...]:
    """The texts of the six faces F R B L U D: the one given, else the scene's, with the model's words around it."""
    own = [given.get(name, PROMPT).replace(PROMPT, scene) for name in FACES]
    return tuple(
        frames.get(name, PROMPT).replace(PROMPT, text) for name, text in zip(FACES, own, strict=True)
    )


def check_texts(faces: object) -> None:
    """Raises InputError unless `faces` maps names of faces to texts that say something."""
    if not isinstance(faces, Mapping):
        raise InputError(
            f"faces must map names of faces ({', '.join(FACES)}) to texts, got {type(faces).__name__}"
        )
    for name, text in faces.items():
        if name not in FACES:
            raise InputError(f"there is no face {name!r}: use {', '.join(FACES)} (front, right, back, …)")
        if not isinstance(text, str) or not text.strip():
            raise InputError(
                f"the text of face {name} is empty: describe what is to be seen there, or leave the face out"
            )


def check_frames(frames: object) -> None:
    """Raises InputError unless `frames` maps names of faces to words around "{prompt}"."""
    check_texts(frames)
    for name, text in frames.items():
        if PROMPT not in text:
            raise InputError(f"the words around the text of face {name} need {PROMPT}, got {text!r}")
