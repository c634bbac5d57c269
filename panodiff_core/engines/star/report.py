"""What a loaded model is and whether it works: format, sizes, memory, and a trial cube."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...metrics.cube import MIN_FACE_SIZE
from ...metrics.seams import seam_report
from ...runtime.memory import gigabytes, weight_bytes

if TYPE_CHECKING:
    from .engine import STAREngine


def report(engine: STAREngine, prompt: str, on_step: Callable[..., None]) -> list[tuple[str, str]]:
    """(what, value), with one cube in the model's own way. Raises NumericalError where it gives NaN or infinities."""
    return [*_parts(engine), *_placement(engine), *_trial(engine, prompt, on_step)]


def _parts(engine: STAREngine) -> list[tuple[str, str]]:
    config = engine.config.generator
    sizes = f"depth {config.depth}, width {config.width}, {config.heads} heads, {engine.generator.dtype}"
    scales = ", ".join(map(str, config.patch_nums))
    rows = [("format", engine.form), ("generator", sizes), ("scales", f"{scales} ({engine.face_size} px)")]
    rows.append(("FaceRay adapters", "yes" if engine.has_faceray else "none: faces do not meet at the edges"))
    first = (
        ""
        if engine.sampler is None
        else f"{config.sampler_blocks} blocks from scale {config.sampler_from + 1}"
    )
    rows.append(("masked sampler", first or "none"))
    rows.append(("cross-attention", config.cross_attention))
    return rows + [(f"{name}, weights", gigabytes(weight_bytes(m))) for name, m in engine.stages.items()]


def _placement(engine: STAREngine) -> list[tuple[str, str]]:
    """Device and mode, and what a cube needs under the modes that make a difference."""
    rows = [("device", f"{engine.placement.device}, offload {engine.placement.mode!r}")]
    for each in engine.estimate()[:2]:
        free = ""
        if each.free is not None:
            free = f" of {gigabytes(each.free)}: {'fits' if each.fits else each.advice}"
        needs = f"{gigabytes(each.needed)} ({each.stage}: weights {gigabytes(each.weights)}){free}"
        rows.append((f"one cube, offload {each.mode!r}", needs))
    return rows


def _trial(engine: STAREngine, prompt: str, on_step: Callable[..., None]) -> list[tuple[str, str]]:
    start = time.monotonic()
    cube = engine.decode(engine.sample(engine.encode(prompt), on_step=on_step))
    made = time.monotonic() - start
    mean, spread = cube.pixels.mean().item(), cube.pixels.std().item()
    rows = [
        ("one cube", f"{made:.1f} s, all numbers finite"),
        ("picture", f"mean {mean:.3f}, standard deviation {spread:.3f}"),
    ]
    if engine.face_size >= MIN_FACE_SIZE:
        seam = seam_report(cube)
        ratios = (seam.ratio_1, seam.ratio_2, seam.ratio_8, seam.ratio_16)
        rows.append(("edge ratio at 1, 2, 8, 16 px", ", ".join(f"{ratio:.2f}" for ratio in ratios)))
    return rows
