"""The enlarged picture that a second pass starts from, and what of it stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ....geometry.resize import resize_sphere
from ....layers.ring import unpack
from ....schedulers.flow_matching import FlowMatchScheduler
from ..sampling.image_to_image import Keep, SourceImage


@dataclass(frozen=True)
class EnlargedImage(SourceImage):
    """A picture to start from that was `factor` times as small, and whose large shapes stay.

    After every step, the part of the state that fits on the small grid is exchanged for that of the picture at the same
    noise, as ILVR does for DDPM (J. Choi et al., ICCV 2021). A tile sees a part of the sphere and takes it for a whole
    picture; what it would lay out anew, a horizon in the middle of the sky above all, is of this part. The pass is
    there for the rest.
    """

    factor: int = 2

    def to(self, device: torch.device) -> EnlargedImage:
        """The same on another device."""
        return EnlargedImage(self.latents.to(device), self.strength, None, self.factor)

    def keeper(self, noise: Tensor, enter: Callable[[Tensor], Tensor]) -> Keep:
        """See `SourceImage.keeper`. `enter` must lay the latents without padding."""
        height, width = noise.shape[2:]

        def keep(state: Tensor, sigma: float) -> Tensor:
            target = FlowMatchScheduler.add_noise(self.latents, noise, sigma)
            away = target - unpack(state, height, width)
            return state + enter(large_shapes(away, self.factor))

        return keep


def large_shapes(latents: Tensor, factor: int) -> Tensor:
    """What of latents [B, C, h, w] a grid `factor` times as coarse holds: means, spread again over the sphere."""
    return resize_sphere(F.avg_pool2d(latents, factor), factor)
