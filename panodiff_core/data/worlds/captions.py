"""Captions: what a person might type for a scene, and which attributes the words pin down."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...runtime.errors import InputError
from .attributes import ATTRIBUTES, Scene

STYLES = ("full", "partial", "short", "tags")

_PLACE = {
    "sea": ("a calm sea", "the sea", "the open ocean", "an ocean", "open water", "a blue sea"),
    "desert": ("a desert", "a sandy desert", "desert dunes", "sand dunes", "a dry desert"),
    "meadow": ("a meadow", "a grassy meadow", "a field of grass", "grassland", "a meadow with flowers"),
    "forest": (
        "a forest",
        "the edge of a forest",
        "a forest clearing",
        "the woods",
        "a clearing in the woods",
        "trees all around",
    ),
    "mountains": (
        "mountains",
        "a mountain valley",
        "an alpine valley",
        "a mountain landscape",
        "high mountains",
    ),
    "snow": ("a snowy plain", "a snow field", "a winter landscape", "a snowy landscape", "snow"),
    "city": (
        "a city",
        "a city square",
        "a city skyline",
        "a plaza among skyscrapers",
        "downtown",
        "tall buildings",
    ),
    "room": ("a room", "an interior", "inside a house", "a cozy room", "indoors"),
}
_ROOM_BY_FURNITURE = {
    "sofa": ("a living room",),
    "bed": ("a bedroom",),
    "table": ("a dining room",),
    "shelf": ("a library", "a study"),
}
_TIME = {
    "day": ("by day", "in daylight", "on a bright day", "at noon", "in the afternoon", "on a sunny day"),
    "sunset": (
        "at sunset",
        "at golden hour",
        "in the evening sun",
        "at sundown",
        "during sunset",
        "at sunrise",
    ),
    "dusk": ("at dusk", "at twilight", "in the blue hour", "after sunset", "at dawn"),
    "night": ("at night", "by night", "at midnight", "in the dark of night", "under the night sky"),
}
_SKY = {
    "clear": ("under a clear sky", "with a cloudless sky", "with a clear sky", "without clouds"),
    "cloudy": (
        "with scattered clouds",
        "under a cloudy sky",
        "with drifting clouds",
        "with clouds",
        "partly cloudy",
    ),
    "overcast": (
        "under an overcast sky",
        "under a grey sky",
        "with heavy clouds",
        "on an overcast day",
        "under a gray sky",
    ),
}
_STARRY = ("under a starry sky", "under the stars", "with stars and a clear sky")
_AIR = {
    "crisp": ("in crisp air", "with far views", "with crisp air"),
    "misty": ("in mist", "in the fog", "with haze", "misty", "foggy", "with a misty horizon"),
}
_HORIZON = {
    "flat": ("with a flat horizon", "wide and flat", "flat to the horizon"),
    "hills": (
        "with hills on the horizon",
        "with rolling hills",
        "with low hills in the distance",
        "hills beyond",
    ),
    "peaks": (
        "with peaks on the horizon",
        "with mountain peaks in the distance",
        "with distant mountains",
        "mountains beyond",
    ),
}
_WATER = {
    "dry": ("on dry land", "without water", "no water"),
    "lake": ("by a lake", "beside a lake", "with a lake", "on the shore of a lake", "by the water"),
}
_SEASON = {
    "summer": ("in summer", "in spring", "lush and green", "in green summer"),
    "autumn": ("in autumn", "in fall", "with autumn colors", "with autumn colours", "in golden autumn"),
}
_FEATURE = {
    "empty": ("empty", "empty and quiet", "with nothing around", "quiet and empty"),
    "boulders": (
        "with boulders",
        "with large rocks",
        "with scattered boulders",
        "with big stones",
        "with rocks",
    ),
    "pines": ("with pine trees", "with a few pines", "with tall pines", "with fir trees"),
    "balloons": (
        "with hot air balloons",
        "with balloons in the sky",
        "with colorful balloons",
        "with hot-air balloons",
    ),
    "boats": ("with sailing boats", "with sailboats", "with boats", "with white sails"),
}
_FLOOR = {
    "wood": (
        "with a wooden floor",
        "with wood planks on the floor",
        "with a wood floor",
        "on wooden floorboards",
    ),
    "tiles": ("with a tiled floor", "with checkered tiles", "with black and white tiles", "with floor tiles"),
    "carpet": ("with a carpet", "with a carpet floor", "with a soft carpet"),
}
_FURNITURE = {
    "sofa": ("with a sofa", "with a couch", "with a sofa and a low table"),
    "table": ("with a table and chairs", "with a dining table", "with a table", "with a wooden table"),
    "bed": ("with a bed", "with a wooden bed", "with a bed and a pillow"),
    "shelf": ("with a bookshelf", "with shelves of books", "with books", "with a bookcase"),
}
_WALL = {
    colour: (f"with {colour} walls", f"{colour} walls", f"painted {colour}") for colour in ATTRIBUTES["wall"]
}
_LAMP = {
    "off": ("with the lamp off", "with the light off", "with an unlit lamp"),
    "on": ("with the lamp on", "with a glowing lamp", "in warm lamp light", "with a lamp turned on"),
}
_DIRECTION = {
    "ahead": ("ahead", "straight ahead", "in front", "in the center"),
    "ahead_right": ("ahead to the right", "ahead on the right", "front right"),
    "right": ("on the right", "to the right", "at the right"),
    "behind_right": ("behind to the right", "behind on the right", "back right"),
    "behind": ("behind", "behind us", "in the back", "at the back"),
    "behind_left": ("behind to the left", "behind on the left", "back left"),
    "left": ("on the left", "to the left", "at the left"),
    "ahead_left": ("ahead to the left", "ahead on the left", "front left"),
}
_LIGHT_NAMES = {
    "day": ("the sun", "sun"),
    "sunset": ("the sun", "the setting sun", "the low sun"),
    "dusk": ("the afterglow", "the glow"),
    "night": ("the moon", "a full moon", "moon"),
}
_WINDOW_NAMES = ("the window", "a window", "window")
_OPENINGS = (
    "",
    "",
    "",
    "a panorama of",
    "panorama of",
    "a 360 panorama of",
    "a view of",
    "a wide view of",
    "a photo of",
    "a picture of",
    "this is a panorama image the image depicts",
    "this is a panorama the image shows",
    "a 360 degree view of",
    "a scene of",
    "an equirectangular image of",
)
_PHRASES = {
    "time": _TIME,
    "sky": _SKY,
    "air": _AIR,
    "horizon": _HORIZON,
    "water": _WATER,
    "season": _SEASON,
    "feature": _FEATURE,
    "wall": _WALL,
    "floor": _FLOOR,
    "furniture": _FURNITURE,
    "lamp": _LAMP,
}
# A person rarely says what is missing, so the plain value of these is named less often.
_RARELY_SAID = {
    ("air", "crisp"),
    ("water", "dry"),
    ("feature", "empty"),
    ("season", "summer"),
    ("lamp", "off"),
}


@dataclass(frozen=True)
class Caption:
    """`text` as a person would type it, and the attributes (name → value) that it states."""

    text: str
    mentioned: dict[str, str]


def caption(scene: Scene, seed: int, style: str | None = None, always: Sequence[str] = ()) -> Caption:
    """Describe a scene.

    `seed` picks the wording. `style` is "full" (every attribute), "partial" (a random share), "short" (the place and at
    most two more), "tags" (comma-separated), or None for a mixture of them. Attributes in `always` are stated wherever
    the scene has them. Raises InputError for another style.
    """
    if style is not None and style not in STYLES:
        raise InputError(f"style is {style!r}; use one of {', '.join(STYLES)} or None.")
    rng = random.Random(f"caption {scene.seed} {seed}")
    style = style or rng.choices(STYLES, weights=(45, 30, 15, 10))[0]
    mentioned = _choose(scene, rng, style, always)
    clauses = [_say(scene, name, value, rng) for name, value in mentioned.items() if name != "place"]
    rng.shuffle(clauses)
    place = rng.choice(_place_words(scene, mentioned))
    if style == "tags":
        return Caption(", ".join([place, *clauses]), mentioned)
    opening = rng.choice(_OPENINGS)
    text = f"{opening} {place}".strip()
    for clause in clauses:
        text += (", " if rng.random() < 0.35 else " ") + clause
    return Caption(text, mentioned)


def vocabulary() -> tuple[str, ...]:
    """Every word that a caption can hold, lower case, sorted."""
    words: set[str] = set()
    tables = [*_PHRASES.values(), _PLACE, _ROOM_BY_FURNITURE, _DIRECTION, _LIGHT_NAMES]
    groups = [phrases for table in tables for phrases in table.values()]
    for phrases in [
        *groups,
        _STARRY,
        _WINDOW_NAMES,
        _OPENINGS,
        ("with the sun", "and", "is", "shining from"),
    ]:
        for phrase in phrases:
            words.update(split_words(phrase))
    return tuple(sorted(words))


def split_words(text: str) -> list[str]:
    """The words of a text as the tokenizers see them: lower case, without punctuation."""
    return re.findall(r"[a-z0-9]+", text.lower())


def _choose(scene: Scene, rng: random.Random, style: str, always: Sequence[str]) -> dict[str, str]:
    known = {name: value for name, value in scene.attributes().items() if value is not None}
    names = [name for name in known if name != "place"]
    if style == "short":
        names = rng.sample(names, k=rng.randint(0, 2))
    elif style != "full":
        share = rng.uniform(0.2, 0.9)
        names = [n for n in names if rng.random() < share * (0.5 if (n, known[n]) in _RARELY_SAID else 1.0)]
    names += [name for name in always if name in known and name not in names]
    return {"place": known["place"], **{name: known[name] for name in names}}


def _place_words(scene: Scene, mentioned: dict[str, str]) -> tuple[str, ...]:
    words = _PLACE[scene["place"]]
    if scene["place"] == "meadow" and mentioned.get("season") != "summer":
        words = words[:4]
    if scene["place"] == "room" and "furniture" in mentioned:
        words = words + _ROOM_BY_FURNITURE[scene["furniture"]] * 2
    return words


def _say(scene: Scene, name: str, value: str, rng: random.Random) -> str:
    if name == "light":
        names = _WINDOW_NAMES if scene["place"] == "room" else _LIGHT_NAMES[scene["time"]]
        return f"{rng.choice(('with ', 'with ', ''))}{rng.choice(names)} {rng.choice(_DIRECTION[value])}"
    if name == "sky" and value == "clear" and scene["time"] == "night" and rng.random() < 0.5:
        return rng.choice(_STARRY)
    if name == "time" and value == "day" and scene["sky"] == "overcast":
        return rng.choice(_TIME["day"][:2])
    return rng.choice(_PHRASES[name][value])
