"""Flow matching: the noise schedule of FLUX and its solvers.

A latent at noise level σ is x = (1 − σ)·x₀ + σ·ε and the network predicts the velocity v = ε − x₀ = dx/dσ.
Formulas: dit360 spec, sections 1.1 and 2.3; figures agree with the reference scheduler to 2e-7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import torch
from torch import Tensor

from ..runtime.errors import InputError

GRIDS = ("linear", "quadratic", "cosine")
"""Base grids u_i, i = 0 … n−1: 1 − i/n; (1 − i/n)²; (1 − cos(π·(1 − i/n)))/2. FLUX was trained for linear."""

SOLVERS = ("euler", "heun")

MU_LIMIT = 60.0
"""Beyond this e^μ leaves no float32 noise level between 1 and 0; a 4096×8192 picture has μ ≈ 23."""


@dataclass(frozen=True)
class FlowMatchConfig:
    """The fields of a `FlowMatchEulerDiscreteScheduler` config that change the result; defaults are
    FLUX.1-dev's.

    With `use_dynamic_shifting` the shift follows the number of tokens; otherwise it is the constant `shift`.
    Raises InputError for a field that is no number, or out of range.
    """

    num_train_timesteps: int = 1000
    shift: float = 3.0
    use_dynamic_shifting: bool = True
    base_shift: float = 0.5
    max_shift: float = 1.15
    base_image_seq_len: int = 256
    max_image_seq_len: int = 4096

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise InputError(f"{field.name} must be a number, got {value!r}")
        if self.shift <= 0.0 or self.num_train_timesteps <= 0:
            raise InputError("shift and num_train_timesteps must be above 0")
        if self.max_image_seq_len <= self.base_image_seq_len:
            raise InputError("max_image_seq_len must be above base_image_seq_len")


class FlowMatchScheduler:
    """A grid of noise levels and the steps between them.

    `sigmas` [n + 1] float32 on the CPU falls from 1 to 0 once `set_timesteps` was called.
    """

    def __init__(self, config: FlowMatchConfig | None = None) -> None:
        self.config = config or FlowMatchConfig()
        self.sigmas = torch.empty(0)
        self._grid: list[float] = []

    def mu(self, tokens: int) -> float:
        """The shift exponent for `tokens` image tokens entering the network (padding columns included)."""
        c = self.config
        if not c.use_dynamic_shifting:
            return math.log(c.shift)
        slope = (c.max_shift - c.base_shift) / (c.max_image_seq_len - c.base_image_seq_len)
        return slope * tokens + c.base_shift - slope * c.base_image_seq_len

    def set_timesteps(
        self,
        steps: int,
        mu: float | None = None,
        method: str = "linear",
        sigmas: Sequence[float] | None = None,
    ) -> None:
        """Lay the grid: `steps` base values of `method` (or `sigmas` as given), shifted by `mu`, then 0.

        Shift: σ = e^μ / (e^μ + 1/u − 1); `mu=None` leaves the grid unshifted. Raises InputError for fewer
        than one step, an unknown method, or sigmas that do not fall within 1 ≥ σ > 0.
        """
        base = _base_grid(steps, method) if sigmas is None else _given_grid(sigmas)
        if mu is not None:
            if not abs(mu) <= MU_LIMIT:
                raise InputError(f"mu must lie within ±{MU_LIMIT:g}, got {mu}")
            base = [1.0 / (1.0 + math.exp(-mu) * (1.0 / u - 1.0)) for u in base]
        self.sigmas = torch.tensor([*base, 0.0], dtype=torch.float64).float()
        self._grid = self.sigmas.tolist()

    @property
    def steps(self) -> int:
        """Number of steps on the grid."""
        return max(len(self._grid) - 1, 0)

    @property
    def timesteps(self) -> Tensor:
        """num_train_timesteps · σ of each step, [n] float32."""
        return self.sigmas[:-1] * self.config.num_train_timesteps

    def sigma(self, index: int) -> float:
        """Noise level before step `index`; `sigma(steps)` is 0."""
        return self._grid[index]

    def step(self, velocity: Tensor, index: int, latents: Tensor) -> Tensor:
        """One Euler step: x + (σ_{i+1} − σ_i)·v."""
        return latents + (self._grid[index + 1] - self._grid[index]) * velocity

    def heun_step(self, velocity: Tensor, next_velocity: Tensor, index: int, latents: Tensor) -> Tensor:
        """One Heun step: the mean of the velocities at both ends; `next_velocity` is taken at the Euler
        step's end.

        The last step ends at σ = 0, where the network was never trained: use `step` there.
        """
        return self.step((velocity + next_velocity) / 2.0, index, latents)

    @staticmethod
    def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor | float) -> Tensor:
        """(1 − σ)·x₀ + σ·ε; `sigma` a number or one per sample [B]."""
        sigma = _per_sample(sigma, clean)
        return (1.0 - sigma) * clean + sigma * noise

    @staticmethod
    def get_velocity(clean: Tensor, noise: Tensor) -> Tensor:
        """The training target ε − x₀."""
        return noise - clean

    @staticmethod
    def denoised(latents: Tensor, velocity: Tensor, sigma: Tensor | float) -> Tensor:
        """The estimate of x₀ that a velocity implies: x − σ·v."""
        return latents - _per_sample(sigma, latents) * velocity

    @staticmethod
    def compute_snr(sigma: Tensor | float) -> Tensor:
        """Signal-to-noise ratio ((1 − σ)/σ)²; infinite at σ = 0."""
        sigma = torch.as_tensor(sigma, dtype=torch.float32)
        return ((1.0 - sigma) / sigma) ** 2


def _per_sample(sigma: Tensor | float, like: Tensor) -> Tensor | float:
    if isinstance(sigma, Tensor) and sigma.ndim == 1:
        return sigma.to(like).view(-1, *[1] * (like.ndim - 1))
    return sigma


def _base_grid(steps: int, method: str) -> list[float]:
    if steps < 1:
        raise InputError(f"steps must be at least 1, got {steps}")
    linear = [1.0 - i / steps for i in range(steps)]
    if method == "linear":
        return linear
    if method == "quadratic":
        return [u * u for u in linear]
    if method == "cosine":
        return [(1.0 - math.cos(math.pi * u)) / 2.0 for u in linear]
    raise InputError(f"unknown sigma grid {method!r}: choose one of {', '.join(GRIDS)}")


def _given_grid(sigmas: Sequence[float]) -> list[float]:
    grid = [float(s) for s in sigmas]
    if grid and grid[-1] == 0.0:
        grid.pop()
    falling = all(a > b for a, b in pairwise(grid))
    if not grid or not falling or not (grid[-1] > 0.0 and grid[0] <= 1.0):
        raise InputError(f"sigmas must fall strictly within 1 ≥ σ > 0, got {list(sigmas)}")
    return grid
