"""What a world is made of: named attributes, drawn from a seed.

A scene is a small frozen record. Its attributes are things a person can see and a caption can name; everything else
(where a cloud sits, how tall a hill is) follows from `seed`. Nothing is stored on disk: the same seed gives the same
scene anywhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
from dataclasses import dataclass

from ...runtime.errors import InputError

LIGHT_WORDS = ("ahead", "ahead_right", "right", "behind_right", "behind", "behind_left", "left", "ahead_left")

#: Every attribute a reader can be asked for, with its values. An attribute that a scene does not have is None.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "place": ("sea", "desert", "meadow", "forest", "mountains", "snow", "city", "room"),
    "time": ("day", "sunset", "dusk", "night"),
    "sky": ("clear", "cloudy", "overcast"),
    "light": LIGHT_WORDS,
    "air": ("crisp", "misty"),
    "horizon": ("flat", "hills", "peaks"),
    "water": ("dry", "lake"),
    "season": ("summer", "autumn"),
    "feature": ("empty", "boulders", "pines", "balloons", "boats"),
    "wall": ("white", "blue", "green", "red", "yellow"),
    "floor": ("wood", "tiles", "carpet"),
    "furniture": ("sofa", "table", "bed", "shelf"),
    "lamp": ("off", "on"),
}

_OUTDOOR = ("time", "sky", "air", "feature")
_BY_PLACE = {
    "sea": (*_OUTDOOR, "horizon"),
    "desert": (*_OUTDOOR, "horizon"),
    "meadow": (*_OUTDOOR, "horizon", "water", "season"),
    "forest": (*_OUTDOOR, "water", "season"),
    "mountains": (*_OUTDOOR, "water", "season"),
    "snow": (*_OUTDOOR, "horizon", "water"),
    "city": (*_OUTDOOR, "water"),
    "room": ("time", "wall", "floor", "furniture", "lamp"),
}
_FEATURES = {"sea": ("empty", "boulders", "balloons", "boats"), "city": ("empty", "balloons")}
_LAND_FEATURES = ("empty", "boulders", "pines", "balloons")
#: One combination in this many is kept out of training.
HELD_OUT_ONE_IN = 8


@dataclass(frozen=True)
class Scene:
    """One world.

    `values` holds the categorical attributes except `light`, sorted by name; `light_azimuth_deg` is where the sun, the
    moon, the afterglow or (indoors) the window stands, in -180..180 (right is positive), or None under an overcast sky. `yaw_deg` turns the
    whole scene to the right; `light_azimuth_deg` already includes it.
    """

    seed: int
    values: tuple[tuple[str, str], ...]
    light_azimuth_deg: float | None
    yaw_deg: float = 0.0

    def __getitem__(self, name: str) -> str | None:
        return dict(self.values).get(name)

    @property
    def light_direction(self) -> str | None:
        """The nearest of `LIGHT_WORDS` to the light's azimuth, None when no direction can be seen."""
        return None if self.light_azimuth_deg is None else direction_word(self.light_azimuth_deg)

    def attributes(self) -> dict[str, str | None]:
        """Every name of `ATTRIBUTES` with this scene's value, None where it does not apply."""
        known = dict(self.values)
        known["light"] = self.light_direction
        return {name: known.get(name) for name in ATTRIBUTES}

    def rotated(self, yaw_deg: float) -> Scene:
        """The same scene with its content turned `yaw_deg` to the right (columns move towards higher index)."""
        azimuth = None if self.light_azimuth_deg is None else _wrap(self.light_azimuth_deg + yaw_deg)
        return dataclasses.replace(self, yaw_deg=_wrap(self.yaw_deg + yaw_deg), light_azimuth_deg=azimuth)


def _wrap(degrees: float) -> float:
    return (degrees + 180.0) % 360.0 - 180.0


def direction_word(azimuth_deg: float) -> str:
    """The word of `LIGHT_WORDS` nearest to an azimuth in degrees (0 ahead, 90 right)."""
    return LIGHT_WORDS[round((azimuth_deg % 360.0) / 45.0) % 8]


def sample_scene(seed: int, split: str = "train") -> Scene:
    """Draw the scene number `seed`.

    `split` is "train", "held_out" or "all". One attribute combination in `HELD_OUT_ONE_IN` (the light's direction
    aside, which rolling a picture changes) is held out: "train" never shows it, "held_out" shows nothing else.
    Raises InputError for another split.
    """
    if split not in ("train", "held_out", "all"):
        raise InputError(f"split is {split!r}; use 'train', 'held_out' or 'all'.")
    for attempt in range(1000):
        scene = _draw(random.Random(f"world {seed} {attempt}"), seed * 1000 + attempt)
        if split == "all" or is_held_out(scene) == (split == "held_out"):
            return scene
    raise RuntimeError(f"no {split} scene was found for seed {seed}")


def is_held_out(scene: Scene) -> bool:
    """Whether this combination of attributes is kept out of training."""
    digest = hashlib.sha256(repr(scene.values).encode()).digest()
    return digest[0] % HELD_OUT_ONE_IN == 0


def values_of(place: str, name: str) -> tuple[str, ...]:
    """The values attribute `name` can take at `place`, empty where it does not apply."""
    if name not in _BY_PLACE[place]:
        return ()
    if name == "feature":
        return _FEATURES.get(place, _LAND_FEATURES)
    return ATTRIBUTES[name]


def _draw(rng: random.Random, seed: int) -> Scene:
    place = rng.choice(ATTRIBUTES["place"])
    values = {"place": place}
    for name in _BY_PLACE[place]:
        values[name] = rng.choice(values_of(place, name))
    azimuth = None if values.get("sky") == "overcast" else rng.uniform(-180.0, 180.0)
    return Scene(seed=seed, values=tuple(sorted(values.items())), light_azimuth_deg=azimuth)
