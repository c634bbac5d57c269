"""ComfyUI's progress bar, previews and cancel button behind the core's callbacks."""

from __future__ import annotations

import comfy.utils
from comfy import model_management
from PIL import Image

from ..panodiff_core.io.images import to_bytes_image
from ..panodiff_core.runtime.progress import OnStep, Step, Tile

PREVIEW_PIXELS = 512


def step_reporter(engine, node_id: str | None) -> OnStep:
    """An `on_step` that moves ComfyUI's progress bar, shows the picture so far, and stops when the user cancels."""
    bar = None

    def report(step: Step) -> None:
        nonlocal bar
        model_management.throw_exception_if_processing_interrupted()
        if bar is None:
            bar = comfy.utils.ProgressBar(step.total, node_id=node_id)
        bar.update_absolute(step.index, step.total, ("JPEG", preview_image(engine, step), PREVIEW_PIXELS))

    return report


class TileReporter:
    """For work in tiles: `on_tile` moves the bar, which starts again for each stage, and `on_step` shows the picture.

    Both stop when the user cancels.
    """

    def __init__(self, engine, node_id: str | None) -> None:
        self._engine = engine
        self._bar = comfy.utils.ProgressBar(1, node_id=node_id)

    def on_tile(self, tile: Tile) -> None:
        model_management.throw_exception_if_processing_interrupted()
        self._bar.update_absolute(tile.index, tile.total)

    def on_step(self, step: Step) -> None:
        model_management.throw_exception_if_processing_interrupted()
        picture = ("JPEG", preview_image(self._engine, step), PREVIEW_PIXELS)
        self._bar.update_absolute(self._bar.current, self._bar.total, picture)


def stop_if_cancelled(tile: Tile) -> None:
    """An `on_tile` for stages without a bar of their own."""
    model_management.throw_exception_if_processing_interrupted()


def preview_image(engine, step: Step) -> Image.Image:
    """The first panorama of the batch as the network now expects it, small."""
    # All rows are handed over: which of them belong to the first panorama (six, for cubes), the engine knows.
    picture = to_bytes_image(engine.preview(step.denoised)[0])
    scale = PREVIEW_PIXELS / picture.width
    return picture.resize((PREVIEW_PIXELS, round(picture.height * scale)), Image.Resampling.BICUBIC)
