"""One run of the sampler: what was asked for, checked and complete, and how it runs on a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ....conditioning.text import TextCondition
from ....layers.ring import PATCH
from ....runtime.memory import free_bytes
from ....runtime.progress import OnStep
from ....schedulers.flow_matching import FlowMatchConfig
from ....schedulers.true_cfg import CFGFlowMatchScheduler, choose_batched
from ..config import SamplingOptions
from ..model import FluxNetwork, RingGrid
from ..model.memory import forward_bytes, forward_tokens
from .image_to_image import SourceImage
from .inputs import bind_conditions
from .noise import roll_offsets
from .ring import lay_noise_levels, sample_ring
from .step_cache import check_cached_roll, step_cache

Place = Callable[[int], AbstractContextManager[torch.device]]
"""Bytes of activations → a context in which the transformer is on the device that it gives."""


@dataclass(frozen=True)
class SamplingJob:
    """One run, checked and complete: `noise` [B, C, h, w], a picture to start from or None, options that fit both.

    `seed` turns the ring. `sigmas` and `true_cfg_batched` are those of `engine.sample`. Raises InputError when steps
    are to be cached and the ring is turned too many ways for it.
    """

    condition: TextCondition
    options: SamplingOptions
    noise: Tensor
    source: SourceImage | None
    seed: int
    sigmas: Sequence[float] | None
    true_cfg_batched: bool | None

    def __post_init__(self) -> None:
        check_cached_roll(self.options.step_cache, self.offsets)

    @property
    def offsets(self) -> tuple[int, ...] | None:
        """Token columns to turn the ring before each step, or None."""
        return roll_offsets(self.options.roll, self.options.steps, self.noise.shape[3] // PATCH, self.seed)

    def run(
        self, transformer: nn.Module, config: FlowMatchConfig, place: Place, on_step: OnStep | None
    ) -> Tensor:
        """The latents [B, C, h, w], float32 on the CPU. Raises NumericalError when a step gives NaN."""
        options, length = self.options, self.condition.text.shape[1]
        memory = forward_bytes(transformer, self.noise.shape, length, options)
        need = memory if options.cfg == 1.0 or self.true_cfg_batched else memory // 2
        with place(need) as device, step_cache(transformer, options.step_cache) as cache:
            scheduler = CFGFlowMatchScheduler(config, options.cfg, self._batched(memory, device))
            grid = RingGrid(*self.noise.shape[2:], options.padding, device=device)
            lay_noise_levels(scheduler, options, grid, self.sigmas)
            network = cache.keyed(FluxNetwork(transformer, grid.ids, length))
            bound = bind_conditions(
                self.condition, len(self.noise), options.guidance, device, transformer.dtype
            )
            result = sample_ring(
                scheduler,
                scheduler.guide(network, *bound),
                grid,
                self.noise.to(device),
                source=None if self.source is None else self.source.to(device),
                offsets=self.offsets,
                solver=options.solver,
                on_step=on_step,
                on_turn=cache.turn,
            )
            return result.cpu()

    def _batched(self, memory: int, device: torch.device) -> bool:
        """Whether both prompts of true guidance run in one call, which takes `memory` bytes."""
        if self.true_cfg_batched is not None or self.options.cfg == 1.0:
            return bool(self.true_cfg_batched)
        tokens = forward_tokens(self.noise.shape, self.condition.text.shape[1], self.options)
        return choose_batched(tokens, memory, free_bytes(device))
