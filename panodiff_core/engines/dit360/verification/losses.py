"""losses.safetensors: the published maps and losses, and the exact yaw rotation."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import Tensor

from ....verification import Results, Row
from ..losses import cube_loss, cube_map_published, flow_loss, yaw_loss, yaw_rotate, yaw_rotate_published
from .folder import DiT360Vectors

NAME = "losses"
BOUND = 1e-5


def check(vectors: DiT360Vectors) -> Iterator[Row]:
    """Every result of the file; its angles are read from the names."""
    t = Results(NAME, vectors.tensors(NAME))
    pair = t["in.pred"], t["in.target"]

    def row(key: str, got: Tensor) -> Row:
        return t.row(key, got, BOUND)

    yield from t.rows("main.loss", flow_loss(*pair), BOUND)
    yield from t.rows("cube.pred", cube_map_published(pair[0]), BOUND)
    yield from t.rows("cube.loss", cube_loss(*pair), BOUND)
    if "cube_crop" in t:
        yield row("cube_crop", cube_map_published(t["in.crop"]))
    for key in sorted(t):
        parts = key.split(".")
        if re.fullmatch(r"derived\.yaw_exact\..+\.pred", key):
            yield row(key, yaw_rotate(pair[0], float(".".join(parts[2:-1]))))
        elif parts[0] == "yaw" and parts[-1] == "pred":
            yield row(key, yaw_rotate_published(pair[0], float(".".join(parts[1:-1]))))
        elif parts[0] == "yaw" and parts[-1] == "loss":
            yield row(key, yaw_loss(*pair, float(".".join(parts[1:-1]))))
        elif key.startswith("yaw_crop."):
            yield row(key, yaw_rotate_published(t["in.crop"], float(".".join(parts[1:]))))
        elif key.startswith("smooth_ring.yaw."):
            yield row(key, yaw_rotate_published(t["in.smooth_ring"], float(".".join(parts[2:]))))
    yield from t.left()
