"""The README of an exported STAR model: what it is, what it cannot do, and how each part of it was trained."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from ..data.cubemap_worlds import WorldCubemaps
from ..data.token_batches import SceneCubes
from .card import RunFacts, command_options, history, taken
from .star_folder import StarParts

_SMALL = """\
# star-small

A small text-to-cubemap model for PanoDiff's STAR engine, trained from scratch:

{members}

It is there to run, test and study the code of PanoDiff on a computer without a GPU. It shows what the code does, not
what STAR can.

## Limits

- It paints what it was trained on, see below, and nothing else.
- It knows {words} tokens of English, the words of the captions. Every other word reaches it as the same unknown one;
  PanoDiff reports those.
- A face has {side}×{side} pixels; no other size can be made.
- {edges}
- It can miss what a prompt asks for: `python -m panodiff_core evaluate star` measures how often.

## Words

{known}
"""

_PUBLISHED = """\
# STAR for cubemaps

A STAR model for PanoDiff, trained further from published weights, whose licence and limits hold for it, too. The text
encoder is not part of it:

{members}

## Limits

- A face has {side}×{side} pixels; no other size can be made.
- {edges}
"""

_STAGE = """\
## Training: {recipe}

{said}

```
python -m panodiff_core train {recipe} {options}
```
"""

_STORED = "The weights are the moving average, stored in half precision. The options:"
_TRAINING = "## Training: "
_APART = "Each face is made by itself: faces do not meet at the edges of the cube."
_TOGETHER = "Faces see one another through their outermost tokens alone: edges meet, but can still be seen."


@dataclass(frozen=True)
class Stage:
    """How one recipe trained: `what` learned, as the beginning of a sentence; the `data` and `options` of `data_facts`
    with the recipe's own; `source`: the model folder that it started from, whose README tells what was trained before.
    """

    recipe: str
    what: str
    data: str
    options: Mapping[str, Any]
    run: RunFacts
    source: Path | None = None


def data_facts(batches: Dataset) -> tuple[str, dict[str, Any]]:
    """What a recipe learns from, in words, and the options that ask for it."""
    options = {"batch-size": batches.batch_size, "dropout": batches.dropout}
    if isinstance(batches, SceneCubes):
        scenes = batches.scenes
        return f"{len(scenes)} cubemap scenes", {"data_root": "SCENES", **options}
    if isinstance(batches, WorldCubemaps):
        return "rendered worlds, each seen once", options
    tokens = batches.tokens
    options |= {"tokens": "TOKENS", "repeat-rooms": batches.repeat.get("room", 1)}
    if batches.name_often:
        options["name-often"] = " ".join(f"{name}={share:g}" for name, share in batches.name_often.items())
    kind = "rendered worlds" if tokens.world(0) is not None else "cubemap scenes"
    return f"{len(tokens)} {kind}, encoded once", options


def star_card(parts: StarParts, stage: Stage) -> str:
    """README.md of a model folder. Paths are left out, except the name of what `--init` pointed at."""
    facts: dict[str, Any] = {
        "members": "\n".join(f"- {each}" for each in _members(parts)),
        "side": parts.vqvae.pixel_side,
        "edges": _APART if parts.faceray is None else _TOGETHER,
    }
    if parts.kind != "small":
        head = _PUBLISHED.format(**facts)
    else:
        words = sorted(word.removesuffix("</w>") for word in parts.tower.tokenizer.get_vocab())
        known = textwrap.fill(" ".join(word for word in words if word.isalnum()), 118)
        head = _SMALL.format(**facts, words=len(words), known=known)
    return "\n".join([head, _sizes(parts), *_earlier(stage.source), _told(stage)])


def _members(parts: StarParts) -> list[str]:
    found = ["a multi-scale autoencoder", "a generator that draws scale by scale"]
    found += ["a text encoder"] if parts.tower is not None else []
    found += ["FaceRay adapters between the faces of a cube"] if parts.faceray is not None else []
    return found + (["a masked sampler"] if parts.sampler is not None or parts.carried else [])


def _sizes(parts: StarParts) -> str:
    modules = {"autoencoder": parts.vqvae, "generator": parts.generator, "masked sampler": parts.sampler}
    modules["text encoder"] = None if parts.tower is None else parts.tower.model
    lines = [
        f"- {name}: {sum(p.numel() for p in module.parameters()) / 1e6:.2f} M parameters"
        for name, module in modules.items()
        if module is not None
    ]
    return "\n".join(["## Sizes", "", *lines, ""])


def _earlier(source: Path | None) -> list[str]:
    """The sections about training of the model that this one started from."""
    path = None if source is None else source / "README.md"
    if path is None or not path.is_file():
        return []
    return [_TRAINING + each for each in path.read_text(encoding="utf-8").split(_TRAINING)[1:]]


def _told(stage: Stage) -> str:
    run, past = stage.run, history(stage.run)
    if stage.source is not None and run.config.init is None:
        past = f"{taken(run)}, beside the other parts of MODEL."
    said = f"{stage.what} learned from {stage.data}: {past} {_STORED}"
    return _STAGE.format(
        recipe=stage.recipe,
        said=textwrap.fill(said, 118),
        options=command_options({}, stage.options, run.config),
    )
