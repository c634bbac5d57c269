"""A contact sheet: pictures in a grid with their prompts below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...io.atomic import atomic_file
from ...io.images import to_bytes_image

COLUMNS = 3
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
        sheet.paste(to_bytes_image(picture).resize((width, height), Image.Resampling.LANCZOS), (left, top))
        lines = textwrap.wrap(title, width // 6, max_lines=_LINES, placeholder=" …")
        draw.multiline_text((left, top + height + 2), "\n".join(lines), fill=_INK, font=font, spacing=2)
    with atomic_file(path) as file:
        sheet.save(file, "PNG")
    return path


def varied(kinds: Sequence[object], count: int) -> list[int]:
    """Indices of `count` items such that as many kinds as possible come before any kind comes again."""
    seen: dict[object, int] = {}
    order = []
    for index, kind in enumerate(kinds):
        seen[kind] = seen.get(kind, 0) + 1
        order.append((seen[kind], index))
    return [index for _, index in sorted(order)[:count]]
