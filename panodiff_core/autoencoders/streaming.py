"""Encode or decode a picture of any size exactly: bands of rows advance through the network together.

The picture's group-norm statistics and the attention of the middle block are those of the whole picture, so that the
result equals the untiled one to rounding. Between two *cuts* a band is computed in one go from the maps stored at the
first cut to those stored at the second; the closer the cuts, the more is stored and the less is computed twice:

- "conv": a cut after every convolution; nothing is computed twice.
- "block": a cut after every residual block and before every resampling.
- "stage": cuts at changes of size only; least memory, and the statistics of every norm cost a pass of their own.

Each size of the maps takes the closest cuts that fit the budget. Bands have the full width, so that inside
`ring_aware` the convolutions wrap by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from .network import Operation
from .statistics import Moments, attend, normalise

GRAINS = ("conv", "block", "stage")
MIN_ROWS, MAX_ROWS = 8, 512
WORK_BYTES = 2**30
"""A band's own memory stays below this: larger bands gain nothing."""
SLACK = 2.5
"""Memory of a convolution over that of its input and output: the back ends' own layouts and work areas."""


@dataclass(frozen=True)
class Interval:
    """Operations first..last−1 between two cuts, in bands of `band` output rows; `passes` are the inner norms whose
    statistics need a pass before. `rows` are the input rows of each operation, and at the end the output rows.
    """

    first: int
    last: int
    passes: tuple[int, ...]
    rows: tuple[int, ...]
    band: int
    maps_bytes: int
    work_bytes: int

    @property
    def bytes(self) -> int:
        """What this interval needs: both cuts' maps and one band."""
        return self.maps_bytes + self.work_bytes

    @property
    def bands(self) -> int:
        """Bands computed, all passes together."""
        ends = [self.rows[stop - self.first] for stop in self.passes] + [self.rows[-1]]
        return sum(-(-rows // self.band) for rows in ends)


@dataclass(frozen=True)
class StreamPlan:
    """How to run `operations` over a picture, and what it needs in bytes beside weights and result."""

    operations: tuple[Operation, ...]
    intervals: tuple[Interval, ...]

    @property
    def bytes(self) -> int:
        """Peak of the activations."""
        return max(interval.bytes for interval in self.intervals)

    @property
    def bands(self) -> int:
        """Bands that one picture takes."""
        return sum(interval.bands for interval in self.intervals)


def plan_stream(
    operations: list[Operation], channels: int, rows: int, width: int, itemsize: int, budget: int | None
) -> StreamPlan:
    """The cheapest plan for one input [1, channels, rows, width] within `budget` bytes (None: no limit).

    When nothing fits, the plan with the least memory: compare its `bytes` with the budget.
    """
    intervals: list[Interval] = []
    for stage in range(operations[-1].stage + 1):
        first = intervals[-1].last if intervals else 0
        chosen: list[Interval] | None = None
        for grain in GRAINS:
            ends = _cuts(operations, first, stage, grain)
            sizes = channels, rows, width
            tried = _intervals(operations, first, ends, sizes, itemsize, budget)
            peak = max(interval.bytes for interval in tried)
            if chosen is None or peak < max(interval.bytes for interval in chosen):
                chosen = tried
            if budget is None or peak <= budget:
                break
        intervals += chosen
    return StreamPlan(tuple(operations), tuple(intervals))


def _cuts(operations: list[Operation], first: int, stage: int, grain: str) -> list[int]:
    """Where the intervals of `stage` end. An "up" goes with what follows it: its own output is the largest map."""
    ends = []
    for index in range(first, len(operations)):
        if operations[index].stage != stage:
            break
        kind, following = operations[index].kind, operations[index + 1 : index + 2]
        after = following[0].kind if following else "end"
        barrier = "attention" in (kind, after) or after == "end" or following[0].stage != stage
        block = grain != "stage" and (kind == "join" or after == "down")
        fine = grain == "conv" and kind in ("conv", "up", "down") and after != "join"
        if barrier or block or fine:
            ends.append(index + 1)
    return ends


def _intervals(operations, first, ends, sizes, itemsize, budget) -> list[Interval]:
    channels, rows, width = _size_at(operations, first, *sizes)
    skip = 0
    intervals = []
    for last in ends:
        interval, skip = _interval(operations, first, last, (channels, rows, width), skip, itemsize, budget)
        intervals.append(interval)
        channels, rows, width = _size_at(operations[first:last], last - first, channels, rows, width)
        first = last
    return intervals


def _size_at(operations, count: int, channels: int, rows: int, width: int) -> tuple[int, int, int]:
    for operation in operations[:count]:
        channels, rows, width = operation.channels, operation.resized(rows), operation.resized(width)
    return channels, rows, width


def _interval(operations, first, last, size, skip: int, itemsize: int, budget) -> tuple[Interval, int]:
    """The interval with the tallest bands that fit, and the bytes of the skip that is still alive after it."""
    part = operations[first:last]
    heights, inputs = [size[1]], size[0] * size[1] * size[2] * itemsize
    for operation in part:
        heights.append(operation.resized(heights[-1]))
    after = _size_at(part, len(part), *size)
    kinds = [operation.kind for operation in part]
    kept = 0 if "join" in kinds else inputs if kinds[0] == "fork" else skip
    maps = inputs + after[0] * after[1] * after[2] * itemsize + skip
    if kinds == ["attention"]:
        work, band = 5 * inputs, heights[-1]
    else:
        limit = WORK_BYTES if budget is None else min(WORK_BYTES, budget - maps)
        band, work = _tallest(part, size, heights, itemsize, limit)
    passes = tuple(first + i for i, kind in enumerate(kinds) if kind == "norm" and set(kinds[:i]) - {"fork"})
    return Interval(first, last, passes, tuple(heights), band, maps, work), kept


def _tallest(part, size, heights, itemsize: int, limit: int) -> tuple[int, int]:
    band = min(MAX_ROWS, heights[-1])
    while True:
        work = _work(part, size, heights, band, itemsize)
        if work <= limit or band <= MIN_ROWS:
            return band, work
        band = max(MIN_ROWS, band // 2)


def _work(part, size, heights, band: int, itemsize: int) -> int:
    """Peak of a band of `band` output rows in the middle of the picture."""
    start = heights[-1] // 2 - band // 2
    ranges = _ranges(part, heights, start, start + band)
    channels, _, width = size
    held, skip, largest = channels * (ranges[0][1] - ranges[0][0]) * width, 0, 0
    for operation, (start, stop) in zip(part, ranges, strict=False):
        width = operation.resized(width)
        area = operation.resized(stop - start) * width
        made = operation.channels * area
        if operation.kind == "up":
            extra = channels * area  # enlarged, not yet convolved
        elif operation.kind == "join" and operation.module is not None:
            extra = (operation.module.in_channels + operation.channels) * area
        else:
            extra = 0
        largest = max(largest, held + made + extra + skip)
        skip = {"fork": held, "join": 0}.get(operation.kind, skip)
        held, channels = made, operation.channels
    return int(SLACK * largest * itemsize)


def _ranges(part, heights, first: int, last: int) -> list[tuple[int, int]]:
    """Rows of every operation's input that output rows [first, last) need, and those rows themselves."""
    ranges = [(max(0, first), min(heights[-1], last))]
    for operation, rows in zip(reversed(part), reversed(heights[:-1]), strict=True):
        ranges.append(operation.reads(*ranges[-1], rows))
    return ranges[::-1]


@dataclass
class _State:
    """Maps at a cut: `h`, and `skip` where a residual block is open."""

    h: Tensor
    skip: Tensor | None = None


def run_stream(
    plan: StreamPlan, x: Tensor, write: Callable[[int, Tensor], None], on_band: Callable[[], None]
) -> None:
    """Run the plan on `x` [1, C, rows, W]; finished rows go to `write(first row, band)`, top to bottom.

    `on_band()` is called after each of `plan.bands` bands and may raise to stop. Use inside `ring_aware`.
    """
    state, norms = _State(x), {}
    del x
    for interval in plan.intervals:
        state = _advance(plan.operations, interval, state, norms, write, on_band)


def _advance(operations, interval: Interval, state: _State, norms: dict, write, on_band) -> _State:
    """From one cut to the next: gather the statistics that are missing, then compute."""
    first, last = interval.first, interval.last
    for stop in interval.passes:
        moments = Moments(operations[stop].module.num_groups)
        rows = interval.rows[: stop - first + 1]
        for _, band in _bands(operations[first:stop], rows, interval.band, state, norms, first):
            moments.add(band)
            on_band()
        norms[stop] = moments.per_channel(operations[stop].channels, state.h.device)
    upcoming = last
    if last < len(operations) and operations[last].kind == "fork":
        upcoming += 1
    watched = upcoming < len(operations) and operations[upcoming].kind == "norm"
    moments = Moments(operations[upcoming].module.num_groups) if watched else None
    result = _store(operations, interval, state, norms, moments, write, on_band)
    if watched:
        norms[upcoming] = moments.per_channel(operations[upcoming].channels, result.h.device)
    return result


def _store(operations, interval: Interval, state: _State, norms, moments, write, on_band) -> _State:
    """The final pass of an interval: into a new map, or to `write` at the network's end."""
    part, final = operations[interval.first : interval.last], interval.last == len(operations)
    if part[0].kind == "attention":
        bands = iter([(0, attend(part[0].module, state.h, WORK_BYTES // 4))])
    else:
        bands = _bands(part, interval.rows, interval.band, state, norms, interval.first)
    made = state.h  # stays when all goes to `write`
    for start, band in bands:
        if moments is not None:
            moments.add(band)
        if final:
            write(start, band)
        else:
            if start == 0:
                made = band.new_empty(1, band.shape[1], interval.rows[-1], band.shape[3])
            made[:, :, start : start + band.shape[2]] = band
        on_band()
    kinds = [operation.kind for operation in part]
    skip = None if "join" in kinds else state.h if kinds[0] == "fork" else state.skip
    return _State(made, skip)


def _bands(part, rows, height: int, state: _State, norms, first: int) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, rows[-1], height):
        yield start, _compute(part, _ranges(part, rows, start, start + height), state, norms, first)


def _compute(part, ranges, state: _State, norms, first: int) -> Tensor:
    """One band through `part`; `origin` is the row of the picture at which `skip` begins."""
    begin, end = ranges[0]
    h, skip, origin = state.h[:, :, begin:end], state.skip, 0
    for index, operation in enumerate(part):
        begin, (start, stop) = ranges[index][0], ranges[index + 1]
        if operation.kind == "fork":
            skip, origin = h, begin
        elif operation.kind == "join":
            joined = skip[:, :, start - origin : stop - origin]
            h = h + (joined if operation.module is None else operation.module(joined))
            skip = None
        elif operation.kind == "norm":
            h = operation.act(normalise(operation.module, h, *norms[first + index]))
        else:
            offset = start - operation.resized(begin)
            h = operation.module(h)[:, :, offset : offset + stop - start]
    return h
