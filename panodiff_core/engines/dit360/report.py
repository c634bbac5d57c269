"""What a loaded model is and whether it works: formats, sizes, memory, and a small trial picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...metrics.seams import seam_report
from ...runtime.memory import gigabytes, weight_bytes

if TYPE_CHECKING:
    from .engine import DiT360Engine

# How the height of the trial picture is chosen: small enough for any machine, large enough for a seam.
TRIAL_HEIGHT, TRIAL_STEPS = 256, 2


def report(engine: DiT360Engine, prompt: str, on_step: Callable[..., None]) -> list[tuple[str, str]]:
    """(what, value), with two steps of a trial picture. Raises NumericalError where they give NaN or infinities."""
    return [*_parts(engine), *_placement(engine), *_trial(engine, prompt, on_step)]


def _parts(engine: DiT360Engine) -> list[tuple[str, str]]:
    """Formats, the transformer's size, weights and LoRAs."""
    rows = [(f"{name}, format", form) for name, form in (engine.formats or {}).items()]
    network = engine.transformer
    blocks = f"{network.config.num_layers} double and {network.config.num_single_layers} single blocks"
    rows.append(("transformer", f"width {network.inner_dim}, {blocks}, {network.dtype}"))
    rows += [(f"{name}, weights", f"{weight_bytes(m) / 2**30:.2f} GiB") for name, m in engine.stages.items()]
    for weights in () if engine.loras is None else engine.loras.adapters:
        rows.append(("LoRA", f"{weights.file.name}, alpha/r {weights.scale:g}, {engine.loras.mode}"))
    return rows


def _placement(engine: DiT360Engine) -> list[tuple[str, str]]:
    """Device and mode, and what a picture of the model's own size needs under each mode."""
    placement, defaults = engine.placement, engine.config.defaults
    rows = [("device", f"{placement.device}, offload {placement.mode!r}")]
    for each in engine.estimate():
        free = (
            "" if each.free is None else f" of {gigabytes(each.free)}: {'fits' if each.fits else each.advice}"
        )
        rows.append(
            (
                f"{defaults.width}x{defaults.height}, offload {each.mode!r}",
                f"{gigabytes(each.needed)} ({each.stage}: weights {gigabytes(each.weights)}){free}",
            )
        )
    return rows


def _trial(engine: DiT360Engine, prompt: str, on_step: Callable[..., None]) -> list[tuple[str, str]]:
    start = time.monotonic()
    size = {"height": TRIAL_HEIGHT, "width": 2 * TRIAL_HEIGHT, "steps": TRIAL_STEPS, "roll": "off"}
    picture = engine.decode(engine.sample(engine.encode(prompt), on_step=on_step, **size))
    made = time.monotonic() - start
    mean, spread, seam = picture.pixels.mean().item(), picture.pixels.std().item(), seam_report(picture)
    ratios = (seam.ratio_1, seam.ratio_2, seam.ratio_8, seam.ratio_16)
    return [
        (f"{TRIAL_STEPS} steps at {2 * TRIAL_HEIGHT}x{TRIAL_HEIGHT}", f"{made:.1f} s, all numbers finite"),
        ("picture", f"mean {mean:.3f}, standard deviation {spread:.3f}"),
        ("seam ratio at 1, 2, 8, 16 px", ", ".join(f"{ratio:.2f}" for ratio in ratios)),
    ]
