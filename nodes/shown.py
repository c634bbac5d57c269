"""What viewer nodes show: files in ComfyUI's temp folder, and what the browser is told about them."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from PIL import Image
from torch import Tensor

from ..panodiff_core.io.images import to_bytes_image
from .view_tiles import is_tiled, save_png, store_tiles

PREFIX = "panodiff_view"


def temp_files(width: int, height: int, count: int, ending: str) -> list[tuple[Path, dict]]:
    """Paths of `count` new files in the temp folder, each with its entry for the browser."""
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        PREFIX, folder_paths.get_temp_directory(), width, height
    )
    files = []
    for index in range(counter, counter + count):
        file = f"{name}_{index:05}_.{ending}"
        entry = {"filename": file, "subfolder": subfolder, "type": "temp", "width": width, "height": height}
        files.append((Path(folder) / file, entry))
    return files


def store_pictures(pictures: Tensor, measures: list[dict] | None = None, **more: str) -> list[dict]:
    """Write pictures [B,3 or 4,H,W] in 0..1 to the temp folder; what the browser is told about each, with its `measures` and
    `more`. A large panorama's file is a preview, and `tiles` of its entry says where the rest is (see view_tiles.py).
    """
    count, _, height, width = pictures.shape
    shown = []
    for index, (path, entry) in enumerate(temp_files(width, height, count, "png")):
        picture = _image(pictures[index])
        if is_tiled(width, height) and "kind" not in more:
            entry["tiles"] = store_tiles(picture, path)
        else:
            save_png(picture, path)
        shown.append(
            {**entry, **more} if measures is None else {**entry, **more, "measures": measures[index]}
        )
    return shown


def _image(pixels: Tensor) -> Image.Image:
    """[3,H,W] -> 8-bit RGB, [4,H,W] -> RGBA."""
    picture = to_bytes_image(pixels[:3])
    if len(pixels) == 4:
        picture.putalpha(to_bytes_image(pixels[3:].expand(3, -1, -1)).getchannel(0))
    return picture
