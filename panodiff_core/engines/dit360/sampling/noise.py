"""What a seed draws: the noise, and where the ring turns."""

from __future__ import annotations

import torch
from torch import Tensor

from ....runtime.errors import InputError

SEED_SALT = 0x9E3779B97F4A7C15
"""Keeps the roll offsets independent of the noise that the same seed draws."""


def draw_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal noise, float32, drawn on the CPU in one go: the same picture on every device, and the
    noise that ComfyUI's samplers draw for this seed.
    """
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def choose_noise(shape: tuple[int, ...], seed: int, latents: Tensor | None) -> Tensor:
    """The caller's `latents`, or noise drawn from `seed`, of `shape` [B, C, h, w], float32.

    Raises InputError when the latents are not B, or not finite.
    """
    if latents is None:
        return draw_noise(shape, seed)
    if len(latents) != shape[0]:
        raise InputError(f"{len(latents)} latents were given for {shape[0]} pictures (prompts × batch_size)")
    if not torch.isfinite(latents).all():
        raise InputError("the latents given as noise have NaN or infinite values")
    return latents.float()


def roll_offsets(roll: str | tuple[int, ...], steps: int, columns: int, seed: int) -> tuple[int, ...] | None:
    """Token columns to roll before each of `steps` calls, or None for "off" (see `SamplingOptions.roll`)."""
    if roll == "off":
        return None
    if roll in ("alternate", "late"):
        first = steps // 2 if roll == "late" else 0
        return tuple((index % 2) * (columns // 2) if index >= first else 0 for index in range(steps))
    if roll == "random":
        generator = torch.Generator().manual_seed((seed ^ SEED_SALT) & (2**63 - 1))
        return tuple(torch.randint(columns, (steps,), generator=generator).tolist())
    return tuple(roll)
