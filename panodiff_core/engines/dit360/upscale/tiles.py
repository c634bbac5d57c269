"""How the second pass lays its tiles: sizes in latents, all even, so that no token is cut."""

from __future__ import annotations

import math

from ....autoencoders.tiles import Axis, TilePlan
from ....layers.ring import PATCH
from ....runtime.errors import InputError

FACTORS, STRENGTH = (2, 4), 0.3
"""How many times as large a second pass makes a picture, and how much it makes anew by default."""
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


def plan_upscale(
    height: int, width: int, tile: tuple[int, int], overlap: int | tuple[int, int] | None = None
) -> TilePlan:
    """Tiles of at most `tile` (height, width) that share at least `overlap` with their neighbours, by default a quarter.

    An axis no longer than its tile is one tile. Along the ring the stride must divide the width, along the height the
    tiles are spread evenly; overlaps grow and tiles shrink to fit, but never share more than half of a tile.
    Raises InputError for odd numbers or an overlap of more than half a tile, and where no stride fits the width.
    """
    _check_pair("tile", tile)
    if overlap is None:
        overlap = (tile[0] // 8 * 2, tile[1] // 8 * 2)
    elif isinstance(overlap, int):
        overlap = (overlap, overlap)
    _check_pair("overlap", overlap)
    for name, size, shared in zip(("height", "width"), tile, overlap, strict=True):
        if size < 2 * PATCH or not 0 <= 2 * shared <= size:
            raise InputError(
                f"tiles of {name} {size} cannot overlap by {shared} latents: a tile has at least {2 * PATCH}, "
                "and at most half of it overlaps a neighbour"
            )
    return TilePlan(_line(height, tile[0], overlap[0]), _ring(width, tile[1], overlap[1]))


def _check_pair(name: str, pair: object) -> None:
    good = isinstance(pair, (tuple, list)) and len(pair) == 2
    good = good and all(isinstance(n, int) and not isinstance(n, bool) and n % PATCH == 0 for n in pair)
    if not good:
        raise InputError(f"{name} must be two even numbers of latents (height, width), got {pair!r}")


def tile_shifts(columns: Axis, steps: int) -> tuple[int, ...]:
    """Token columns 0 … stride − 1 to turn the ring before each step, spread by the golden section."""
    stride = columns.stride // PATCH
    return tuple(int(stride * (index * GOLDEN % 1.0)) for index in range(steps))


def _ring(length: int, tile: int, overlap: int) -> Axis:
    if tile >= length:
        return Axis(length, length, wraps=True)
    least = max(PATCH, tile // 4)
    strides = [s for s in range(tile - overlap, least - 1, -1) if s % PATCH == 0 and length % s == 0]
    if not strides:
        raise InputError(
            f"no even stride from {least} to {tile - overlap} divides the width of {length} latents: "
            "choose another tile width or a smaller overlap"
        )
    stride = strides[0]
    tile = min(tile, 2 * stride)
    return Axis(length, tile, tile - stride, wraps=True)


def _line(length: int, tile: int, overlap: int) -> Axis:
    if tile >= length:
        return Axis(length, length)
    count = math.ceil((length - overlap) / (tile - overlap))
    # The second bound keeps at most half of a tile shared: there smaller tiles cover as much.
    stride = max(_even_up((length - tile) / (count - 1)), _even_up(length / (count + 1)))
    tile = min(tile, 2 * stride)
    return Axis(length, tile, tile - stride)


def _even_up(value: float) -> int:
    return PATCH * math.ceil(value / PATCH)
