"""Worlds: procedural scenes rendered per ray, with captions and attributes that can be read back."""

from .attributes import ATTRIBUTES, LIGHT_WORDS, Scene, direction_word, is_held_out, sample_scene, values_of
from .captions import Caption, caption, split_words, vocabulary
from .render import render, render_equirect

__all__ = [
    "ATTRIBUTES",
    "LIGHT_WORDS",
    "Caption",
    "Scene",
    "caption",
    "direction_word",
    "is_held_out",
    "render",
    "render_equirect",
    "sample_scene",
    "split_words",
    "values_of",
    "vocabulary",
]
