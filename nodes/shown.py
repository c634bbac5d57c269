"""What viewer nodes show: files in ComfyUI's temp folder, and what the browser is told about them."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from torch import Tensor

from ..panodiff_core.io.atomic import atomic_file
from ..panodiff_core.io.images import to_bytes_image

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
    """Write pictures [B,3,H,W] in 0..1 to the temp folder; what the browser is told about each, with its `measures` and
    `more`.
    """
    count, _, height, width = pictures.shape
    shown = []
    for index, (path, entry) in enumerate(temp_files(width, height, count, "png")):
        with atomic_file(path) as stream:
            # Least compression: the file is looked at once, and writing it is what the user waits for.
            to_bytes_image(pictures[index]).save(stream, "PNG", compress_level=1)
        shown.append(
            {**entry, **more} if measures is None else {**entry, **more, "measures": measures[index]}
        )
    return shown
