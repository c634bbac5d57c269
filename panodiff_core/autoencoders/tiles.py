"""Encode or decode a panorama tile by tile, the tiles wrapping in width (dit360 spec, section 5.3).

Every tile is coded on its own: group norms and attention see that tile alone, so that the result is close to the
untiled one and not equal to it (`streaming` is exact). Two ways to lay tiles side by side, at about the same cost and
error for the same tile:

- "blend": neighbours overlap by `overlap` and fade into each other over it. No border shows; the default.
- "crop": every tile has a halo of `overlap` on both sides, which is thrown away. From 18 latents on, the reach of the
  decoder's convolutions, what differs between neighbours is their statistics alone, and that is a step at the border.

Tiles that split the height differ far more than tiles that split the width, because sky and ground then have statistics
of their own; `plan_tiles` splits the height only when nothing else fits. All sizes are in latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..runtime.errors import InputError

FORMS = ("blend", "crop")
OVERLAP, HALO, MIN_STRIDE = 24, 18, 4
"""What `plan_tiles` chooses: overlap of blended tiles, halo of cropped ones, and the least stride."""


@dataclass(frozen=True)
class Axis:
    """Tiles of `tile` along an axis of `length`, `overlap` shared with each neighbour; tile = length is one tile.

    Raises InputError unless 0 <= overlap <= stride, and for a ring (`wraps`) unless the stride divides the length.
    """

    length: int
    tile: int
    overlap: int = 0
    wraps: bool = False
    form: str = "blend"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise InputError(f"unknown form {self.form!r} of tiles: choose from {', '.join(FORMS)}")
        if self.whole:
            return
        if not 0 < self.tile < self.length:
            raise InputError(f"tiles must be from 1 to {self.length} latents, got {self.tile}")
        most = self.length if self.form == "crop" else self.stride
        if self.stride < 1 or not 0 <= self.overlap <= most:
            raise InputError(
                f"tiles of {self.tile} cannot overlap by {self.overlap}: a tile of its own must remain, and at most half "
                "of a blended tile may overlap"
            )
        if self.wraps and self.length % self.stride:
            raise InputError(
                f"tiles of {self.tile} with overlap {self.overlap} do not close the ring of {self.length} latents: "
                f"their stride {self.stride} must divide it"
            )

    @property
    def whole(self) -> bool:
        """One tile is all."""
        return self.tile == self.length

    @property
    def stride(self) -> int:
        """From one tile to the next."""
        return self.tile - self.overlap * (2 if self.form == "crop" else 1)

    def spans(self) -> list[tuple[int, int]]:
        """First and last+1 of every tile; a ring's may leave 0..length, a line's are cut off there."""
        if self.whole:
            return [(0, self.length)]
        lead = self.overlap if self.form == "crop" else 0
        count = self.length if self.wraps or lead else self.length - self.overlap
        starts = [k * self.stride - lead for k in range(max(1, math.ceil(count / self.stride)))]
        if self.wraps:
            return [(start, start + self.tile) for start in starts]
        return [(max(0, start), min(self.length, start + self.tile)) for start in starts]

    def window(self, index: int, unit: int, device: torch.device) -> Tensor:
        """Weights of the output of tile `index`, `unit` of them per latent.

        Blended tiles: ramps (j + ½)/(unit·overlap) at both ends, none where a line ends. Cropped tiles: 1 inside, 0 on
        the halo.
        """
        first, last = self.spans()[index]
        if self.form == "crop":
            place = torch.arange(unit * first, unit * last, device=device) - unit * index * self.stride
            return ((place >= 0) & (place < unit * self.stride) | self.whole).float()
        weights = torch.ones(unit * (last - first), device=device)
        size = unit * self.overlap
        if self.whole or not size:
            return weights
        ramp = (torch.arange(size, device=device) + 0.5) / size
        if self.wraps or index > 0:
            weights[:size] = ramp
        if self.wraps or last < self.length:
            weights[-size:] = ramp.flip(0)
        return weights


@dataclass(frozen=True)
class TilePlan:
    """Tiles along both axes, and what one needs in bytes beside weights and result."""

    rows: Axis
    columns: Axis
    bytes: int = 0

    @property
    def tiles(self) -> int:
        """Tiles of one picture."""
        return len(self.rows.spans()) * len(self.columns.spans())

    @property
    def whole(self) -> bool:
        """One tile is the whole picture: coded on the ring, exactly."""
        return self.rows.whole and self.columns.whole


def plan_tiles(
    height: int, width: int, budget_bytes: int | None, latent_bytes: int, form: str = "blend"
) -> TilePlan:
    """The largest legal tiles of a latent height × width within a budget.

    `latent_bytes` is what coding one latent of a tile takes, all its pixels' activations together. The whole picture
    where it fits (or where `budget_bytes` is None), else tiles of the whole height, else of a part of it. Raises
    InputError naming the smallest budget that works.
    """
    plan = largest_tiles(height, width, budget_bytes, latent_bytes, form)
    if budget_bytes is not None and plan.bytes > budget_bytes:
        raise InputError(
            f"{budget_bytes} bytes are too few for tiles of {height}×{width} latents: the smallest budget that works "
            f"is {plan.bytes} bytes"
        )
    return plan


def largest_tiles(
    height: int, width: int, budget_bytes: int | None, latent_bytes: int, form: str = "blend"
) -> TilePlan:
    """`plan_tiles`, but the smallest tiles where nothing fits: compare `bytes` with the budget."""
    smallest: TilePlan | None = None
    for rows in _lines(height, form):
        span = max(last - first for first, last in rows.spans())
        for columns in _rings(width, form):
            plan = TilePlan(rows, columns, latent_bytes * span * columns.tile)
            if budget_bytes is None or plan.bytes <= budget_bytes:
                return plan
            if smallest is None or plan.bytes < smallest.bytes:
                smallest = plan
    return smallest


def _rings(width: int, form: str) -> Iterator[Axis]:
    yield Axis(width, width, wraps=True)
    for stride in (s for s in range(width // 2, MIN_STRIDE - 1, -1) if width % s == 0):
        overlap = HALO if form == "crop" else min(OVERLAP, stride)
        tile = stride + overlap * (2 if form == "crop" else 1)
        if tile < width:
            yield Axis(width, tile, overlap, True, form)


def _lines(height: int, form: str) -> Iterator[Axis]:
    yield Axis(height, height)
    for count in range(2, height // MIN_STRIDE + 1):
        if form == "crop":
            stride = math.ceil(height / count)
            overlap, share = min(HALO, stride), 2
        else:
            overlap, share = min(OVERLAP, height // (count + 1)), 1
            stride = math.ceil((height - overlap) / count)
        if stride + share * overlap < height:
            yield Axis(height, stride + share * overlap, overlap, False, form)


def run_tiles(
    plan: TilePlan,
    x: Tensor,
    units: tuple[int, int],
    code: Callable[[Tensor], Tensor],
    write: Callable[[int, Tensor], None],
    on_tile: Callable[[], None],
) -> None:
    """Code x [1, C, h, w] tile by tile; finished rows [1, C', n, w'] float32 go to `write(first row, rows)`.

    `units` are x's and the result's pixels per latent, (1, 8) to decode. `code(tile)` is the plain coder, or the
    ring-aware one where the columns are whole. Shifting x by multiples of the columns' stride shifts the result and
    changes nothing else. `on_tile()` is called after each of `plan.tiles` tiles and may raise to stop.
    """
    carry = shared = None
    spans = plan.rows.spans()
    ends = [first for first, _ in spans[1:]] + [plan.rows.length]
    for index, (first, last) in enumerate(spans):
        band = _code_strip(plan.columns, x[:, :, units[0] * first : units[0] * last], units, code, on_tile)
        weights = plan.rows.window(index, units[1], band.device)
        band *= weights[:, None]
        if carry is not None:
            band[:, :, : len(shared)] += carry
            weights[: len(shared)] += shared
        kept = units[1] * (ends[index] - first)
        write(units[1] * first, band[:, :, :kept] / weights[:kept, None])
        carry, shared = band[:, :, kept:], weights[kept:]


def _code_strip(axis: Axis, strip: Tensor, units: tuple[int, int], code, on_tile) -> Tensor:
    """One row of tiles around the ring: Σ weight·tile / Σ weight, both modulo the width."""
    total = weight = None
    for index, span in enumerate(axis.spans()):
        read, written = (
            torch.arange(unit * span[0], unit * span[1], device=strip.device) % (unit * axis.length)
            for unit in units
        )
        tile = code(strip if axis.whole else strip.index_select(3, read)).float()
        window = axis.window(index, units[1], strip.device)
        if total is None:
            total = tile.new_zeros(*tile.shape[:3], units[1] * axis.length)
            weight = tile.new_zeros(units[1] * axis.length)
        # At most two tiles meet in a pixel, so that the order of the sum, and with it the rotation, is of no matter.
        total.index_add_(3, written, tile * window)
        weight.index_add_(0, written, window)
        on_tile()
    return total / weight
