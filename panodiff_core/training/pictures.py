"""Pictures for a person who watches a training run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..data.folders import make_folder
from ..io.atomic import atomic_file
from ..io.images import to_bytes_image


def picture_grid(pictures: Tensor, columns: int, gap: int = 4) -> Tensor:
    """[N, 3, H, W] in 0..1 → one picture [3, rows·(H + gap) − gap, columns·(W + gap) − gap] on white."""
    count, _, height, width = pictures.shape
    rows = -(-count // columns)
    sheet = torch.ones(3, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for index, picture in enumerate(pictures):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[:, top : top + height, left : left + width] = picture.detach().float().cpu().clamp(0, 1)
    return sheet


def save_png(picture: Tensor, path: Path) -> None:
    """Write [3, H, W] in 0..1 as PNG, atomically. Raises InputError where it cannot, NumericalError for NaN."""
    make_folder(path.parent)
    with atomic_file(path) as file:
        to_bytes_image(picture).save(file, "PNG")
