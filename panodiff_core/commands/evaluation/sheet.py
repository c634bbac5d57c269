"""A contact sheet: pictures in a grid with their prompts below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...io.atomic import atomic_file
from ...io.images import to_bytes_image

SHEET_PICTURES = 12
COLUMNS, CUBE_COLUMNS = 3, 2
UNFOLDED = ((1, 1), (2, 1), (3, 1), (0, 1), (1, 0), (1, 2))
"""Column and row of the faces F R B L U D of a cube that is folded open around F."""
_GAP, _LINE, _LINES = 10, 15, 2
_PAPER, _INK = (250, 250, 248), (40, 40, 44)


def save_sheet(pixels: Tensor, titles: Sequence[str], path: Path, width: int = 512) -> Path:
    """Write pictures [N,3,H,W] (0..1) with a title each as one PNG, three to a row, `width` pixels wide."""
    height = round(width * pixels.shape[-2] / pixels.shape[-1])
    cell = (width + _GAP, height + _LINES * _LINE + _GAP)
    rows = -(-len(titles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * cell[0] + _GAP, rows * cell[1] + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for index, (picture, title) in enumerate(zip(pixels, titles, strict=True)):
        left, top = _GAP + index % COLUMNS * cell[0], _GAP + index // COLUMNS * cell[1]
        sheet.paste(_resized(picture, (width, height)), (left, top))
        lines = textwrap.wrap(title, width // 6, max_lines=_LINES, placeholder=" …")
        draw.multiline_text((left, top + height + 2), "\n".join(lines), fill=_INK, font=font, spacing=2)
    with atomic_file(path) as file:
        sheet.save(file, "PNG")
    return path


def save_cube_sheet(
    cubes: Tensor, panoramas: Tensor, titles: Sequence[str], path: Path, face: int = 96
) -> Path:
    """Write cubes [N,6,3,S,S] unfolded, each beside its panorama [N,3,H,2H] and above its title, two to a row, as one
    PNG; `face` is the side of a face in it. Pixels are in 0..1.
    """
    cell = (10 * face + 2 * _GAP, 3 * face + _LINES * _LINE + _GAP)
    rows = -(-len(titles) // CUBE_COLUMNS)
    sheet = Image.new("RGB", (CUBE_COLUMNS * cell[0] + _GAP, rows * cell[1] + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for index, (faces, panorama, title) in enumerate(zip(cubes, panoramas, titles, strict=True)):
        left, top = _GAP + index % CUBE_COLUMNS * cell[0], _GAP + index // CUBE_COLUMNS * cell[1]
        for (column, row), pixels in zip(UNFOLDED, faces, strict=True):
            sheet.paste(_resized(pixels, (face, face)), (left + column * face, top + row * face))
        sheet.paste(_resized(panorama, (6 * face, 3 * face)), (left + 4 * face + _GAP, top))
        lines = textwrap.wrap(title, cell[0] // 6, max_lines=_LINES, placeholder=" …")
        draw.multiline_text((left, top + 3 * face + 2), "\n".join(lines), fill=_INK, font=font, spacing=2)
    with atomic_file(path) as file:
        sheet.save(file, "PNG")
    return path


def _resized(pixels: Tensor, size: tuple[int, int]) -> Image.Image:
    return to_bytes_image(pixels).resize(size, Image.Resampling.LANCZOS)


def varied(kinds: Sequence[object], count: int) -> list[int]:
    """Indices of `count` items such that as many kinds as possible come before any kind comes again."""
    seen: dict[object, int] = {}
    order = []
    for index, kind in enumerate(kinds):
        seen[kind] = seen.get(kind, 0) + 1
        order.append((seen[kind], index))
    return [index for _, index in sorted(order)[:count]]
