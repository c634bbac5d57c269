"""losses.safetensors: the published maps and losses, and the exact yaw rotation."""

from __future__ import annotations

from collections.abc import Iterator

from ..losses import cube_loss, cube_map_published, flow_loss, yaw_loss, yaw_rotate, yaw_rotate_published
from .rows import Row, Vectors, compare

NAME = "losses"
BOUND = 1e-5


def check(vectors: Vectors) -> Iterator[Row]:
    """Every result of the file; its angles are read from the names."""
    t = vectors.tensors(NAME)
    pair = t["in.pred"], t["in.target"]

    def row(key: str, got) -> Row:
        return compare(NAME, key, got, t[key], BOUND)

    yield row("main.loss", flow_loss(*pair))
    for key in sorted(t):
        parts = key.split(".")
        if key.startswith("derived.yaw_exact."):
            yield row(key, yaw_rotate(pair[0], float(".".join(parts[2:-1]))))
        elif parts[0] == "yaw" and parts[-1] == "pred":
            yield row(key, yaw_rotate_published(pair[0], float(".".join(parts[1:-1]))))
        elif parts[0] == "yaw" and parts[-1] == "loss":
            yield row(key, yaw_loss(*pair, float(".".join(parts[1:-1]))))
        elif key.startswith("yaw_crop."):
            yield row(key, yaw_rotate_published(t["in.crop"], float(".".join(parts[1:]))))
        elif key.startswith("smooth_ring.yaw."):
            yield row(key, yaw_rotate_published(t["in.smooth_ring"], float(".".join(parts[2:]))))
    yield row("cube.pred", cube_map_published(pair[0]))
    yield row("cube_crop", cube_map_published(t["in.crop"]))
    yield row("cube.loss", cube_loss(*pair))
