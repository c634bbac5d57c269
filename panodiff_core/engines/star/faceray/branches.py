"""The adapters as branches of STAR's blocks: which layout a call needs, and what the adapter gets to see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ....runtime.errors import InputError
from ..blocks import Branch
from ..config import FaceRayConfig
from ..scales import Scales
from ..span import Span
from .adapter import FaceRayAdapter
from .geometry import SeamRule
from .layout import FaceRayLayout, face_layout, sampler_layout

ADAPTER = "faceray_adapter"
"""Name of a block's adapter, and part of the name of each of its weights."""

MAX_STRENGTH = 4.0
"""Of what adapters add: far beyond what they were trained to do, and enough to see that it is too much."""


@dataclass(frozen=True)
class FaceRayBranches:
    """Gives each block its adapter, in the layout of the span that a call holds; `strength` 0 switches all off.

    A span without a leading token is six consecutive rows per cube, one with it (the masked sampler's) is one row per
    cube that must hold six times the same scale. A block without an adapter, such as those of the published masked
    sampler, gets none. Raises InputError for a strength that is not from 0 to `MAX_STRENGTH`.
    """

    config: FaceRayConfig
    scales: Scales
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_strength("strength", self.strength)

    def __call__(self, block: nn.Module, span: Span) -> Branch | None:
        adapter = getattr(block, ADAPTER, None)
        if adapter is None or self.strength == 0.0:
            return None

        def branch(normed: Tensor, raw: Tensor) -> Tensor:
            x = raw if self.config.adapter_input == "raw" else normed
            return adapter(x, self.layout(span, x.device), self.strength)

        return branch

    def layout(self, span: Span, device: torch.device | str = "cpu") -> FaceRayLayout:
        """Where the boundary tokens lie in tensors of `span`. Raises InputError for a sampler's span of no cube."""
        rule, sides = seam_rule(self.config), tuple(self.scales.sides[s] for s in span.scales)
        if not span.leading:
            return face_layout(sides, rule, device)
        if span.leading != 1 or len(sides) != 6 or len(set(sides)) != 1:
            raise InputError(
                f"the masked sampler of a cubemap takes a text token and six grids of one scale, got {span}"
            )
        return sampler_layout(sides[0], rule, device)


def check_strength(name: str, value: float) -> None:
    """Raises InputError for anything but a number from 0 to `MAX_STRENGTH`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0.0 <= value <= MAX_STRENGTH:
        raise InputError(
            f"{name} is {value!r}; pass a number from 0 to {MAX_STRENGTH:g}, 1 is as trained, 0 is off"
        )


class WithAdapters:
    """What a network of STAR gains with adapters; stands before its class. Needs `faceray` and `scales`."""

    faceray: FaceRayConfig
    scales: Scales

    def branches(self, strength: float = 1.0) -> FaceRayBranches:
        """The adapters for a call, times `strength`."""
        return FaceRayBranches(self.faceray, self.scales, strength)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Fresh weights: STAR's, and adapters that add nothing."""
        super().reset_parameters(generator)
        reset_adapters(self, generator)


def seam_rule(config: FaceRayConfig) -> SeamRule:
    """Which tokens touch a seam by the adapters' settings."""
    return SeamRule(config.strip_w, config.k, config.depth_matched)


def add_adapters(
    blocks: Iterable[nn.Module], width: int, config: FaceRayConfig, operations: Any = nn
) -> None:
    """Hang a fresh adapter onto every block; they add nothing until they are trained or filled."""
    for block in blocks:
        block.add_module(ADAPTER, FaceRayAdapter(width, config, operations))


def reset_adapters(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Fresh weights for all adapters in `module`."""
    for each in module.modules():
        if isinstance(each, FaceRayAdapter):
            each.reset_parameters(generator)


def freeze_backbone(module: nn.Module, trainable: Iterable[str] = ()) -> list[str]:
    """Leave only the adapters trainable, and the modules or parameters called in `trainable` ("encoder_proj",
    "blocks.29.ffn"); returns the names of all parameters that will learn.

    Raises InputError for a name that `module` does not have.
    """
    names = [name for name, _ in module.named_parameters()]
    wanted = tuple(trainable)
    for each in wanted:
        if not any(_within(name, each) for name in names):
            raise InputError(f"there is nothing called {each!r} to train; names are like {names[0]!r}")
    learning = []
    for name, parameter in module.named_parameters():
        learns = ADAPTER in name.split(".") or any(_within(name, each) for each in wanted)
        parameter.requires_grad_(learns)
        if learns:
            learning.append(name)
    return learning


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")
