"""Large pictures in ComfyUI's temp folder, for the viewers on the nodes."""

from __future__ import annotations

from pathlib import Path

from comfy import model_management
from PIL import Image

from ..panodiff_core.io.atomic import atomic_file
from ..panodiff_core.io.pyramid import WHOLE, cut_tiles, pyramid_levels


def is_tiled(width: int, height: int) -> bool:
    """Whether a picture is too large to be shown in one piece. Stereo pairs, which viewers tell by these proportions,
    stay whole.
    """
    return max(width, height) > WHOLE and width not in (height, 4 * height)


def store_tiles(picture: Image.Image, path: Path) -> dict:
    """Write the preview of `picture` to `path` and its tiles beside it.

    Returns what the browser is told of the tiles: `prefix` of their names, which end in "{level}_{column}_{row}.png",
    and `levels`, [width, height] of each from the finest on.
    """
    *levels, preview = pyramid_levels(picture)
    prefix = f"{path.stem}tile_"
    for index, level in enumerate(levels):
        for column, row, tile in cut_tiles(level):
            model_management.throw_exception_if_processing_interrupted()
            save_png(tile, path.with_name(f"{prefix}{index}_{column}_{row}.png"))
    save_png(preview, path)
    return {"prefix": prefix, "levels": [list(level.size) for level in levels]}


def save_png(picture: Image.Image, path: Path) -> None:
    """Write a PNG file with the least compression: it is looked at once, and writing it is what the user waits for."""
    with atomic_file(path) as stream:
        picture.save(stream, "PNG", compress_level=1)
