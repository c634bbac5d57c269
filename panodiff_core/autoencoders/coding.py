"""Encode and decode panoramas of any size within a memory budget, straight into the caller's tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..runtime.errors import InputError, NumericalError
from ..runtime.memory import release_heap
from ..runtime.progress import OnTile, Tile
from .latents import scale, unscale
from .network import unroll
from .ring import ring_aware, to_pixels
from .streaming import StreamPlan, plan_stream, run_stream
from .tiles import TilePlan, largest_tiles, run_tiles

TILINGS = ("auto", "off", "global", "tiles")
WHOLE_MAPS = {"decode": 17, "encode": 14}
"""Peak of untiled coding, in maps of the first width at full resolution, as measured for FLUX."""
KEPT_BYTES = 32 * 2**20
"""What allocators and back ends may keep of what bands and tiles gave back. Measured on a CPU, where the heap is released
after each of them: none."""


@dataclass(frozen=True)
class Coding:
    """How to encode or decode pictures of one size. `bytes` is what one picture needs beside weights and result.

    `tiling` is what "auto" came to: "off" the network runs over the whole picture, "global" the same result in bands
    (`streaming`), "tiles" an approximation tile by tile (`tiles`).
    """

    vae: nn.Module
    task: str
    ring: bool
    tiling: str
    bytes: int
    plan: StreamPlan | TilePlan | None = None

    @property
    def parts(self) -> int:
        """Parts of one picture, for progress."""
        if self.plan is None:
            return 1
        return self.plan.bands if isinstance(self.plan, StreamPlan) else self.plan.tiles

    def run(
        self,
        x: Tensor,
        out: Tensor,
        device: torch.device,
        *,
        generator: torch.Generator | None = None,
        on_tile: OnTile | None = None,
    ) -> None:
        """Decode scaled latents x [B, C, h, w] into pixels `out` [B, 3, H, W] in 0..1, or encode the other way round,
        one picture at a time on `device`.

        Encoding gives the posterior's mode, or a sample of it with a CPU `generator`. Raises NumericalError for NaN or
        infinity in a result.
        """
        on_part = _count(len(x) * self.parts, on_tile)
        if self.plan is not None and device.type == "cpu":
            on_part = _releasing(on_part)
        for one, result in zip(x.split(1), out.split(1), strict=True):
            noise = None
            if generator is not None:
                noise = torch.randn(result.shape, generator=generator, dtype=self.vae.dtype)
            one = one.to(device, self.vae.dtype)
            self._run_one(
                unscale(one, self.vae) if self.task == "decode" else one * 2.0 - 1.0, result, noise, on_part
            )

    def _run_one(self, x: Tensor, result: Tensor, noise: Tensor | None, on_part: Callable[[], None]) -> None:
        decoding = self.task == "decode"

        def write(first: int, rows: Tensor) -> None:
            span = slice(first, first + rows.shape[2])
            if decoding:
                _check_finite(rows, "decoded")
                result[:, :, span] = to_pixels(rows)
                return
            latents = scale(_draw(rows, None if noise is None else noise[:, :, span]), self.vae)
            _check_finite(latents, "encoded")
            result[:, :, span] = latents

        coder = self.vae.decoder if decoding else self.vae.encoder
        with self._ring(coder):
            if isinstance(self.plan, TilePlan):
                units = (1, _factor(self.vae)) if decoding else (_factor(self.vae), 1)
                run_tiles(self.plan, x, units, self._whole, write, on_part)
            elif self.plan is not None:
                self._stream(x, write, on_part)
            else:
                write(0, self._whole(x))
                on_part()

    def _whole(self, x: Tensor) -> Tensor:
        """Decoder output, or the posterior's mean and log-variance."""
        if self.task == "decode":
            return self.vae.decode(x).sample
        return self.vae.encode(x).latent_dist.parameters

    def _stream(self, x: Tensor, write: Callable[[int, Tensor], None], on_part: Callable[[], None]) -> None:
        last = self.vae.quant_conv if self.task == "encode" else None
        first = self.vae.post_quant_conv if self.task == "decode" else None
        if first is not None:
            x = first(x)
        run_stream(self.plan, x, write if last is None else lambda row, rows: write(row, last(rows)), on_part)

    def _ring(self, coder: nn.Module) -> AbstractContextManager:
        # A tile that is not the whole ring must not wrap around itself.
        tiled = isinstance(self.plan, TilePlan) and not self.plan.columns.whole
        return ring_aware(coder) if self.ring and not tiled else nullcontext()


def plan_coding(
    vae: nn.Module,
    task: str,
    height: int,
    width: int,
    *,
    ring: bool = True,
    tiling: str = "auto",
    memory_gb: float | None = None,
    room: int | None = None,
) -> Coding:
    """Choose how to "decode" or "encode" (`task`) a picture of height × width pixels.

    One picture needs at most `memory_gb` (2³⁰ bytes) beside the weights, its result included; None sets no limit.
    "auto" runs the whole picture at once where that fits into `memory_gb` or, without it, into the `room` that the
    device has (bytes; None is not known), else "global", which gives the same result and takes up to about four times
    the work when memory is scarce. "tiles" is never chosen by itself. Raises InputError for an unknown tiling, and for a
    `memory_gb` that is too small, with the smallest that works.
    """
    if tiling not in TILINGS:
        raise InputError(f"unknown tiling {tiling!r}: choose from {', '.join(TILINGS)}")
    if tiling == "tiles" and not ring:
        raise InputError("tiles wrap around the ring: use tiling 'off' or 'global' with ring=False")
    budget = _budget(memory_gb)
    size = Size(vae, task, height, width)
    left = None if budget is None else budget - size.result_bytes
    if tiling == "auto" and left is None and room is not None and size.whole_bytes > room:
        return _within_room(size, ring, room)
    if tiling == "auto":
        tiling = "off" if left is None or size.whole_bytes <= left else "global"
    if tiling == "off":
        plan, need = None, size.whole_bytes
    else:
        plan = size.plan(tiling, None if left is None else left - KEPT_BYTES)
        need = plan.bytes + KEPT_BYTES
    if left is not None and need > left:
        least = need if plan is None else size.plan(tiling, 0).bytes + KEPT_BYTES
        raise InputError(
            f"to {task} {width}×{height} pixels with tiling {tiling!r} takes at least "
            f"{_round_up_gb(least + size.result_bytes):.3f} GB beside the weights, and memory_gb allows "
            f"{memory_gb:g}: raise it, make a smaller picture" + ("" if plan else ", or use tiling 'auto'")
        )
    return Coding(vae, task, ring, tiling, need, plan)


def _within_room(size: Size, ring: bool, room: int) -> Coding:
    """Bands that leave a tenth of the room to spare, or the narrowest there are: it was measured, not promised."""
    plan = size.stream(max(0, room - room // 10 - size.result_bytes - KEPT_BYTES))
    return Coding(size.vae, size.task, ring, "global", plan.bytes + KEPT_BYTES, plan)


@dataclass(frozen=True)
class Size:
    """What coding pictures of height × width pixels needs."""

    vae: nn.Module
    task: str
    height: int
    width: int

    @property
    def factor(self) -> int:
        """Pixels per latent and axis."""
        return _factor(self.vae)

    @property
    def whole_bytes(self) -> int:
        """Peak of the activations of untiled coding."""
        maps = WHOLE_MAPS[self.task] * self.vae.config.block_out_channels[0]
        return maps * self.height * self.width * self.vae.dtype.itemsize

    @property
    def result_bytes(self) -> int:
        """One finished picture or its latents, float32."""
        channels = 3 if self.task == "decode" else self.vae.config.latent_channels / self.factor**2
        return int(4 * channels * self.height * self.width)

    def plan(self, tiling: str, budget: int | None) -> StreamPlan | TilePlan:
        """Of "global" or "tiles", the plan within `budget` bytes; that with the least memory where none fits."""
        return self.tiles(budget) if tiling == "tiles" else self.stream(budget)

    def tiles(self, budget: int | None) -> TilePlan:
        """See `plan_tiles`; without a budget the largest tiles of the whole height that are no larger than 128."""
        rows, columns = self.height // self.factor, self.width // self.factor
        each = self.whole_bytes // (rows * columns)
        return largest_tiles(rows, columns, 128 * rows * each if budget is None else budget, each)

    def stream(self, budget: int | None) -> StreamPlan:
        """See `plan_stream`."""
        coder, rows, columns = self.vae.encoder, self.height, self.width
        channels = 3
        if self.task == "decode":
            coder, rows, columns = self.vae.decoder, rows // self.factor, columns // self.factor
            channels = self.vae.config.latent_channels
        return plan_stream(unroll(coder), channels, rows, columns, self.vae.dtype.itemsize, budget)


def _budget(memory_gb: float | None) -> int | None:
    if memory_gb is None:
        return None
    if isinstance(memory_gb, bool) or not isinstance(memory_gb, (int, float)) or not 0 < memory_gb < math.inf:
        raise InputError(f"memory_gb must be a number above 0, got {memory_gb!r}")
    return int(memory_gb * 2**30)


def _round_up_gb(count: int) -> float:
    """Bytes as GB (2³⁰ bytes) with three digits, rounded up so that the figure suffices when given back."""
    return math.ceil(count / 2**30 * 1000) / 1000


def _factor(vae: nn.Module) -> int:
    return 2 ** (len(vae.config.block_out_channels) - 1)


def _count(total: int, on_tile: OnTile | None) -> Callable[[], None]:
    numbers = iter(range(1, total + 1))
    return lambda: on_tile(Tile(next(numbers), total)) if on_tile is not None else None


def _releasing(on_part: Callable[[], None]) -> Callable[[], None]:
    """Keeps a process within the plan: the parts' memory goes back after each."""

    def release() -> None:
        release_heap()
        on_part()

    return release


def _check_finite(values: Tensor, what: str) -> None:
    if not torch.isfinite(values).all():
        raise NumericalError(f"NaN or infinity in the {what} picture, stage vae: use bfloat16 or float32")


def _draw(parameters: Tensor, noise: Tensor | None) -> Tensor:
    """The mode of a posterior of mean and log-variance, or the sample that `noise` makes of it."""
    mean, logvar = parameters.chunk(2, dim=1)
    if noise is None:
        return mean
    return mean + torch.exp(0.5 * logvar.clamp(-30.0, 20.0)) * noise.to(mean)
