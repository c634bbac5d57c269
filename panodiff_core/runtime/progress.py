"""What a sampler reports after every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Step:
    """One finished sampling step.

    `index` counts from 1 to `total`. `sigma` is the noise level that `latents` have now (0 after the last
    step). `latents` and `denoised` are scaled model latents [B, C, h, w] without padding columns; `denoised`
    is the network's present estimate of the clean latents, the one to preview. Neither is in the `repr`: what is
    printed is one line.
    """

    index: int
    total: int
    sigma: float
    latents: Tensor = field(repr=False)
    denoised: Tensor = field(repr=False)


OnStep = Callable[[Step], None]
"""Called after each step; raise `Cancelled` in it to stop."""


@dataclass(frozen=True)
class Tile:
    """One finished part of coding pictures with a VAE; `index` counts from 1 to `total`, all pictures together."""

    index: int
    total: int


OnTile = Callable[[Tile], None]
"""Called after each part; raise `Cancelled` in it to stop."""
