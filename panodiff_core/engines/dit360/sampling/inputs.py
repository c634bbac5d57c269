"""What a caller may ask for: sizes, seeds, options and conditions, checked and completed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ....conditioning.text import TextCondition
from ....layers.ring import PATCH
from ....runtime.errors import InputError
from ..config import SamplingOptions

log = logging.getLogger(__name__)


def check_condition(condition: TextCondition, cfg: float, config: Any) -> None:
    """Raise InputError when the condition is another model's, or `cfg` needs a negative that is not there.

    Warns when a negative is there for nothing. `config` is the transformer's.
    """
    if not isinstance(condition, TextCondition):
        raise InputError(f"condition is {type(condition).__name__}, another engine's: encode with this one")
    widths = condition.text.shape[-1], condition.pooled.shape[-1]
    wanted = config.joint_attention_dim, config.pooled_projection_dim
    if widths != wanted:
        raise InputError(
            f"the condition is {widths[0]} + {widths[1]} wide, this model takes {wanted[0]} + {wanted[1]}: "
            "encode the prompt with the same engine"
        )
    if cfg != 1.0 and condition.negative_text is None:
        raise InputError(f'cfg {cfg:g} needs a negative prompt: encode(prompt, negative=""), or use cfg 1')
    if cfg == 1.0 and any(text.strip() for text in condition.negative_prompts):
        log.warning("the negative prompt has no effect at cfg 1: raise cfg above 1 to use it")


def check_size(height: int, width: int, unit: int) -> None:
    """Raise InputError naming the nearest legal size unless both are multiples of `unit` pixels."""
    if height % unit or width % unit:
        near = [max(unit, (n + unit // 2) // unit * unit) for n in (height, width)]
        raise InputError(
            f"{width}×{height} pixels cannot be made: width and height must be multiples of {unit}; "
            f"the nearest legal size is {near[1]}×{near[0]}"
        )


def check_latents(latents: Tensor, channels: int, name: str = "latents") -> None:
    """Raise InputError unless `latents` are [B, channels, h, w] with even h and w."""
    if latents.ndim != 4 or latents.shape[1] != channels or 0 in latents.shape:
        raise InputError(f"{name} must be [B, {channels}, h, w], got {list(latents.shape)}")
    if latents.shape[2] % PATCH or latents.shape[3] % PATCH:
        raise InputError(f"{name} must have an even height and width, got {list(latents.shape)}")


def choose_size(
    options: dict, latents: Tensor | None, image_latents: Tensor | None, channels: int
) -> Tensor | None:
    """Which of the given latents fixes the size: the noise, or the picture unless a size is asked for.

    A size that contradicts the picture is refused later, with both in the message. Raises InputError for latents
    of a wrong shape.
    """
    for name, given in (("latents", latents), ("image_latents", image_latents)):
        if given is not None:
            check_latents(given, channels, name)
    if latents is None and options.get("height") is None and options.get("width") is None:
        return image_latents
    return latents


def choose_options(
    defaults: SamplingOptions,
    options: dict,
    latents: Tensor | None,
    sigmas: Sequence[float] | None,
    factor: int,
) -> SamplingOptions:
    """The model's defaults with the caller's options; given latents fix the size, given sigmas the steps.

    One of height and width implies the other. Raises InputError for an unknown or bad option.
    """
    options = {name: value for name, value in options.items() if value is not None}
    if latents is not None:
        options["height"], options["width"] = (n * factor for n in latents.shape[2:])
    elif isinstance(options.get("height"), int) and "width" not in options:
        options["width"] = 2 * options["height"]
    elif isinstance(options.get("width"), int) and "height" not in options:
        options["height"] = options["width"] // 2
    if sigmas is not None:
        options["steps"] = len([sigma for sigma in sigmas if sigma != 0])
    return defaults.changed(**options)


def bind_conditions(
    condition: TextCondition, batch: int, guidance: float, device: torch.device, dtype: torch.dtype
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...] | None]:
    """(text, pooled, guidance) on the device with one row per picture, and the same for the negative or None.

    Pictures of one prompt follow each other.
    """
    scale = torch.full((batch,), guidance, device=device)

    def rows(tensor: Tensor) -> Tensor:
        return tensor.to(device, dtype).repeat_interleave(batch // condition.batch, dim=0)

    positive = (rows(condition.text), rows(condition.pooled), scale)
    if condition.negative_text is None:
        return positive, None
    return positive, (rows(condition.negative_text), rows(condition.negative_pooled), scale)
