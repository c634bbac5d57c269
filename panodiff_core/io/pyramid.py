"""Large pictures for the viewer: a small preview, and lossless tiles of every finer size.

The *levels* of a pyramid are the picture itself, then half of it and so on; the last, no longer than `PREVIEW`
pixels, is the preview. The others are cut into tiles of `TILE` pixels with a border of one more pixel all
around, copied from what lies next to it on the sphere, so that a tile can be read bilinearly by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy
from PIL import Image

TILE = 1024
WHOLE = 4096
"""Pictures whose sides are no longer are shown as they are."""
PREVIEW = 2048


def pyramid_levels(picture: Image.Image) -> list[Image.Image]:
    """`picture` (8 bits per channel) and its averages over areas, each half as large as the one before, down to
    the preview. 2:1 stays exactly 2:1.
    """
    levels = [picture]
    while max(levels[-1].size) > PREVIEW:
        levels.append(_halved(levels[-1]))
    return levels


def _halved(level: Image.Image) -> Image.Image:
    width, height = level.size
    if width % 2 == 0 and height % 2 == 0:
        return level.reduce(2)  # rounds once
    half = max(1, height // 2)
    size = (2 * half if width == 2 * height else max(1, width // 2), half)
    return level.resize(size, Image.Resampling.BOX)


def cut_tiles(level: Image.Image) -> Iterator[tuple[int, int, Image.Image]]:
    """(column, row, tile) of every tile of an RGB or RGBA `level`, row by row; tiles at the right and lower edge are
    smaller where the size is no multiple of `TILE`.
    """
    padded = _with_border(numpy.asarray(level))
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    for row in range(-(-height // TILE)):
        for column in range(-(-width // TILE)):
            y, x = row * TILE, column * TILE
            piece = padded[y : y + TILE + 2, x : x + TILE + 2]
            yield column, row, Image.fromarray(numpy.ascontiguousarray(piece))


def _with_border(pixels: numpy.ndarray) -> numpy.ndarray:
    """[H,W,C] -> [H+2,W+2,C]. The column after the last is the first where the picture goes all around, and beyond
    a pole lies the same row, half a turn around; where the sphere is open, edges are repeated.
    """
    height, width = pixels.shape[:2]
    half_turn = width // 2 if width == 2 * height else 0
    top, bottom = (numpy.roll(pixels[row], half_turn, axis=0)[None] for row in (0, -1))
    rows = numpy.concatenate([top, pixels, bottom])
    return numpy.pad(rows, ((0, 0), (1, 1), (0, 0)), "wrap" if width >= 2 * height else "edge")
