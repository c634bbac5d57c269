"""What of a generation is computed together: units in the blocks, rows in self-attention, pictures in the head.

A *unit* is what belongs together: one picture, or the six faces of a cube.
"""

from __future__ import annotations

from collections.abc import Iterator

PASS_TOKENS = 1024
"""Tokens whose self-attention is computed together on a CPU, where a row has fewer: the finest scale of a 512-pixel
picture. More take more memory and no less time.
"""
LOGIT_BYTES = 2**24
"""What the logits of pictures that are drawn together may take: one picture's finest scale at 512 pixels."""


def units_together(units: int, tokens: int, most: int) -> Iterator[slice]:
    """Units of `tokens` tokens each that pass the blocks together, with at most so many tokens (one unit at least)."""
    return _slices(units, most // tokens)


def rows_together(rows: int, length: int) -> Iterator[slice]:
    """Rows of `length` tokens each that pass self-attention together."""
    return _slices(rows, PASS_TOKENS // length)


def pictures_together(units: int, group: int, each: int) -> Iterator[tuple[slice, slice]]:
    """Pictures whose logits, `each` bytes of one, are drawn together: whole units, or some of one unit's `group`."""
    most = pictures_at_once(each)
    for some in _slices(units, most // group):
        for pictures in _slices(group, most if some.stop - some.start == 1 else group):
            yield some, pictures


def pictures_at_once(each: int) -> int:
    """Most pictures that are drawn together when the logits of one take `each` bytes."""
    return max(1, LOGIT_BYTES // each)


def times(rows: slice, count: int) -> slice:
    """The rows of these units, of which each has so many."""
    return slice(rows.start * count, rows.stop * count)


def _slices(total: int, step: int) -> Iterator[slice]:
    step = max(1, step)
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))
