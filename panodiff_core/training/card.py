"""The README of an exported model: what it is, what it cannot do, and how to train it again."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from .checkpoint import PREFIX, list_checkpoints
from .config import LoopConfig
from .journal import Journal

_LOOP = (
    "learning_rate",
    "warmup",
    "schedule",
    "final_lr_ratio",
    "grad_accumulation",
    "grad_clip",
    "ema_decay",
    "precision",
    "seed",
)

_CARD = """\
# dit360-small

A small text-to-panorama model in the folder layout of FLUX.1-dev, trained from scratch on rendered worlds: a flow
matching transformer, an autoencoder and two text encoders. It is there to run, test and study the code of PanoDiff on a
computer without a GPU. It shows what the code does, not what FLUX can.

## Limits

- It paints the simple rendered worlds that it was trained on. It makes no photographs and no people.
- It knows {words} tokens of English, the words of the captions. Every other word reaches it as the same
  unknown one; PanoDiff reports those.
- It was trained at {width}×{height}; other sizes are outside of what it has seen.
- It can miss what a prompt asks for: `python -m panodiff_core evaluate` measures how often.
- Fine detail is soft, and poles and far parts can be less coherent than the scene around the horizon.

## Words

{known}

Punctuation has tokens of its own.

## Sizes

{sizes}

## Data

{worlds},
rendered by `panodiff_core/data/worlds` at {width}×{height} and encoded once with the autoencoder. Captions are written
by the same code; one attribute combination in {held_out} is held out of training. No picture or text from
elsewhere was used.

## Training of the transformer

{history}

The weights are the moving average, stored in bfloat16. The options:

```
python -m panodiff_core train {recipe} {options}
```
"""


@dataclass(frozen=True)
class RunFacts:
    """What a run can tell about itself: its options, the step it reached, its minutes of training (None: no log)."""

    config: LoopConfig
    step: int
    minutes: float | None


def model_card(
    recipe: str,
    parts: Mapping[str, nn.Module],
    worlds: str,
    height: int,
    words: int,
    options: Mapping[str, object],
    run: RunFacts,
) -> str:
    """README.md of a small model folder.

    `parts` are its networks by folder name, `worlds` the data in words, `words` the size of the vocabulary, `options`
    the recipe's own options; those of the loop come from `run`. Paths are left out, except the name of what `--init`
    pointed at.
    """
    from ..data.worlds import vocabulary
    from ..data.worlds.attributes import HELD_OUT_ONE_IN

    counts = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in parts.items()}
    sizes = [f"- {name}: {count:.2f} M parameters" for name, count in counts.items()]
    return _CARD.format(
        words=words,
        known=textwrap.fill(" ".join(vocabulary()), 118),
        height=height,
        width=2 * height,
        sizes="\n".join([*sizes, f"- all together: {sum(counts.values()):.2f} M parameters"]),
        worlds=worlds,
        held_out=HELD_OUT_ONE_IN,
        history=history(run),
        recipe=recipe,
        options=command_options({"model": "MODEL", "latents": "LATENTS"}, options, run.config),
    )


def command_options(inputs: Mapping[str, object], own: Mapping[str, object], config: LoopConfig) -> str:
    """Options of a command line, one a line: paths of `inputs`, those of the recipe's `own`, and those of the loop."""
    loop = {name.replace("_", "-"): getattr(config, name) for name in _LOOP}
    values = {**inputs, "steps": config.steps, **own, **loop}
    if config.init is not None:
        values["init"] = config.init.name
    values["out"] = "RUN"
    return " \\\n    ".join(f"--{name} {value}".rstrip() for name, value in values.items())


def taken(run: RunFacts) -> str:
    """Steps and minutes of a run."""
    return f"{run.step} of {run.config.steps} steps{_took(run.minutes)}"


def history(run: RunFacts) -> str:
    """Steps and minutes of a run, and what it started from, in two sentences."""
    config, text = run.config, f"{taken(run)}."
    if config.init is None:
        return f"{text} Started from random weights."
    return f"{text} Started from the weights of `{config.init.name}`{_before(config.init)}."


def _before(init: Path) -> str:
    checkpoints = list_checkpoints(init)
    if not checkpoints:
        return ""
    return f" ({int(checkpoints[-1].name[len(PREFIX) :])} steps{_took(Journal(init).minutes())})"


def _took(minutes: float | None) -> str:
    return "" if minutes is None else f" in {minutes:.0f} minutes" if minutes >= 1 else " in under a minute"
