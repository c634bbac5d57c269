"""A second pass at 2 or 4 times the size: image to image in tiles that wrap around the ring.

The picture is enlarged on the sphere, encoded, noised, and denoised again. No step sees all of it: tiles of about the
size that the model was trained for run one after the other, and their velocities fade into each other before the step is
taken (O. Bar-Tal et al., "MultiDiffusion", ICML 2023). The grid of tiles is turned along the ring before every step, so
that no border stays where it was.

A tile is to the network a plain picture of its own: ids from 0, no ring padding, the shift of its own token count. On our
small model that is nearest to rendered truth; ids that say where on the sphere a tile lies, or one tile for all, lose
detail or paint ghosts, and so does enlarging latents instead of pixels (benchmarks/upscale.py). It has a price: a model of
panoramas expects a horizon in the middle of a picture, and paints a faint one into a tile of sky. So what the small
picture could hold is put back after every step (`enlarged`).

All sizes are in latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ....autoencoders.tiles import TilePlan
from ....conditioning.text import TextCondition
from ....geometry.resize import resize_sphere
from ....layers.ring import PATCH, check_padding
from ....pictures import Panorama
from ....runtime.checks import check_count
from ....runtime.errors import InputError
from ....runtime.memory import free_bytes
from ....runtime.progress import OnStep, OnTile, Tile
from ....schedulers.true_cfg import CFGFlowMatchScheduler, choose_batched
from ..config import SamplingOptions
from ..model import FluxNetwork, RingGrid
from ..model.memory import forward_bytes, forward_tokens
from ..sampling import choose_noise, lay_noise_levels, roll_offsets, sample_ring
from ..sampling.image_to_image import SourceImage, read_source
from ..sampling.inputs import (
    bind_conditions,
    check_condition,
    check_latents,
    check_size,
    choose_options,
)
from .enlarged import EnlargedImage
from .tiled_velocity import TiledVelocity
from .tiles import FACTORS, STRENGTH, plan_upscale, tile_shifts

if TYPE_CHECKING:
    from ..engine import DiT360Engine


def upscale(
    engine: DiT360Engine,
    source: Tensor | Panorama,
    condition: TextCondition,
    *,
    factor: int = 2,
    strength: float = STRENGTH,
    seed: int = 0,
    noise: Tensor | None = None,
    tile: tuple[int, int] | None = None,
    overlap: int | tuple[int, int] | None = None,
    keep_layout: bool = True,
    sigmas: Sequence[float] | None = None,
    true_cfg_batched: bool | None = None,
    memory_gb: float | None = None,
    on_step: OnStep | None = None,
    on_tile: OnTile | None = None,
    **options,
) -> Tensor:
    """Scaled latents [B, C, h, w], or a panorama, → scaled latents [B, C, factor·h, factor·w], float32 on the CPU.

    `strength` is that of `engine.sample`: how much is made anew. `seed` draws the noise; `noise`, of the result's shape,
    replaces it. `tile` (height, width) is the largest tile, the model's own size by default, and `overlap` (one number
    or one per axis) what neighbours share at least, a quarter by default; `plan_upscale` fits both to the size.
    `keep_layout` puts what the small picture could hold back after every step (`enlarged`); without it, this is image to
    image in tiles, and a high strength may paint a horizon into every one of them.
    `options` and `true_cfg_batched` are those of `engine.sample`, without size and `step_cache`; `roll` and `padding`
    count only where one tile is as wide as the ring. `memory_gb` limits decoding and encoding. `on_step(Step)` is called after every step,
    `on_tile(Tile)` after every tile and every part of the coding, each stage counted from 1; both may raise `Cancelled`.

    Raises InputError for what does not fit, before anything is computed, and NumericalError for NaN.
    """
    shape = _target_shape(engine, source, factor)
    choice = _choose(engine, options, shape, sigmas)
    plan = plan_upscale(*shape[2:], _own_size(engine) if tile is None else tile, overlap)
    if plan.columns.whole:
        check_padding(choice.padding, shape[3] // PATCH)
    check_count("seed", seed, 0, 2**64 - 1)
    check_condition(condition, choice.cfg, engine.transformer.config)
    _check_batch(condition, noise, shape)
    noise = choose_noise(shape, seed, noise)
    # Read with the noise in the picture's place: a bad strength is refused before anything is decoded.
    begin = read_source(noise, strength, None, noise.shape, choice.steps)
    latents = enlarge(engine, source, factor, memory_gb, on_tile)
    begin = (
        EnlargedImage(latents, strength, factor=factor) if keep_layout else replace(begin, latents=latents)
    )
    if on_step is not None:
        engine.preview(begin.latents[:1])  # fits its map before the transformer moves in
    job = SecondPass(condition, choice, plan, begin, noise, seed, sigmas, true_cfg_batched)
    return job.run(engine, on_step, on_tile)


@dataclass(frozen=True)
class SecondPass:
    """One second pass, checked and complete: `begin` is the enlarged picture, `noise` of its shape [B, C, h, w]."""

    condition: TextCondition
    choice: SamplingOptions
    plan: TilePlan
    begin: SourceImage
    noise: Tensor
    seed: int
    sigmas: Sequence[float] | None
    true_cfg_batched: bool | None

    def run(self, engine: DiT360Engine, on_step: OnStep | None, on_tile: OnTile | None) -> Tensor:
        """The latents [B, C, h, w] on the CPU."""
        choice, plan, text = self.choice, self.plan, self.condition.text.shape[1]
        tiled = (*self.noise.shape[:2], plan.rows.tile, plan.columns.tile)
        memory = forward_bytes(engine.transformer, tiled, text, choice)
        one_call = choice.cfg == 1.0 or self.true_cfg_batched
        need = (memory if one_call else memory // 2) + 8 * self.noise.nbytes
        with engine.placement.use("transformer", engine.stages["transformer"], need) as device:
            batched = self.true_cfg_batched
            if batched is None:
                batched = choose_batched(forward_tokens(tiled, text, choice), memory, free_bytes(device))
            scheduler = CFGFlowMatchScheduler(engine.scheduler_config, choice.cfg, batched)
            padding = choice.padding if plan.columns.whole else 0
            lay_noise_levels(scheduler, choice, RingGrid(*tiled[2:], padding), self.sigmas)
            result = sample_ring(
                scheduler,
                self._velocity(engine, scheduler, padding, device, on_tile),
                RingGrid(*self.noise.shape[2:], 0, device=device),
                self.noise.to(device),
                source=self.begin.to(device),
                offsets=self._offsets(),
                solver=choice.solver,
                on_step=on_step,
            )
            return result.cpu()

    def _velocity(
        self,
        engine: DiT360Engine,
        scheduler: CFGFlowMatchScheduler,
        padding: int,
        device: torch.device,
        on_tile: OnTile | None,
    ) -> TiledVelocity:
        net, text = engine.transformer, self.condition.text.shape[1]
        positive, negative = bind_conditions(
            self.condition, len(self.noise), self.choice.guidance, device, net.dtype
        )
        steps = scheduler.steps - self.begin.first_step(scheduler.steps)
        calls = 2 * steps - 1 if self.choice.solver == "heun" else steps
        return TiledVelocity(
            self.plan,
            padding,
            self.noise.shape[1],
            lambda ids: scheduler.guide(FluxNetwork(net, ids, text), positive, negative),
            device,
            _count(calls * self.plan.tiles, on_tile),
        )

    def _offsets(self) -> tuple[int, ...] | None:
        """Token columns to turn the ring before each step: where the tiles lie, or where one tile begins."""
        columns, steps = self.plan.columns, self.choice.steps
        if columns.whole:
            return roll_offsets(self.choice.roll, steps, columns.length // PATCH, self.seed)
        return tile_shifts(columns, steps)


def enlarge(
    engine: DiT360Engine,
    source: Tensor | Panorama,
    factor: int,
    memory_gb: float | None = None,
    on_tile: OnTile | None = None,
) -> Tensor:
    """What the second pass starts from: `source` as a picture, `factor` times as large, encoded on the ring.

    Enlarged latents would decode to artefacts: they are no linear function of the pixels.
    """
    coding = {"memory_gb": memory_gb, "on_tile": on_tile}
    picture = source if isinstance(source, Panorama) else engine.decode(source, **coding)
    return engine.encode_image(resize_sphere(picture.pixels, factor).clamp_(0.0, 1.0), **coding)


def _target_shape(engine: DiT360Engine, source: Tensor | Panorama, factor: int) -> tuple[int, int, int, int]:
    if isinstance(factor, bool) or factor not in FACTORS:
        raise InputError(f"factor must be one of {', '.join(map(str, FACTORS))}, got {factor!r}")
    if isinstance(source, Panorama):
        check_size(*source.pixels.shape[2:], engine.size_multiple)
        height, width = (n // engine.vae_factor for n in source.pixels.shape[2:])
        batch = len(source.pixels)
    elif isinstance(source, Tensor):
        check_latents(source, engine.latent_channels, "source")
        if not torch.isfinite(source).all():
            raise InputError("source has NaN or infinite values")
        batch, _, height, width = source.shape
    else:
        raise InputError(f"source must be a Panorama or latents [B, C, h, w], got {type(source).__name__}")
    return batch, engine.latent_channels, factor * height, factor * width


def _choose(
    engine: DiT360Engine, options: dict, shape: tuple[int, ...], sigmas: Sequence[float] | None
) -> SamplingOptions:
    for name in ("height", "width"):
        if options.get(name) is not None:
            raise InputError(f"{name} cannot be chosen: the size is that of the source times factor")
    if options.get("step_cache"):
        raise InputError("step_cache cannot be used in tiles, which see another part in every step: use 0")
    options = {**options, "step_cache": 0.0}
    sized = torch.empty(shape, device="meta")
    return choose_options(engine.config.defaults, options, sized, sigmas, engine.vae_factor)


def _own_size(engine: DiT360Engine) -> tuple[int, int]:
    defaults = engine.config.defaults
    return defaults.height // engine.vae_factor, defaults.width // engine.vae_factor


def _check_batch(condition: TextCondition, noise: Tensor | None, shape: tuple[int, ...]) -> None:
    if shape[0] % condition.batch:
        raise InputError(
            f"{condition.batch} prompts for {shape[0]} pictures: give one prompt, or one per picture"
        )
    if noise is not None and tuple(noise.shape) != shape:
        raise InputError(f"noise must be of the result's shape {list(shape)}, got {list(noise.shape)}")


def _count(total: int, on_tile: OnTile | None) -> Callable[[], None]:
    numbers = iter(range(1, total + 1))
    return lambda: on_tile(Tile(next(numbers), total)) if on_tile is not None else None
