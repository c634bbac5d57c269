"""A ring for encoders and decoders that work in tiles, where a convolution cannot reach the other end.

Both ends are widened by a margin of what lies beyond them (`layers.ring.pad_ring`). The surroundings of the seam are
then computed twice, once at either end, and the two fade into one another.
"""

from __future__ import annotations

import torch
from torch import Tensor


def crop_fading(x: Tensor, margin: int) -> Tensor:
    """Undo `pad_ring` of what was computed from widened input: [..., w + 2·margin] → [..., w].

    The columns −margin … margin−1 around the seam are there twice; they fade linearly from what the right end holds
    to what the left end holds. `margin` is at most w/2.
    """
    if margin == 0:
        return x
    width = x.shape[-1] - 2 * margin
    weight = (torch.arange(2 * margin, device=x.device, dtype=x.dtype) + 0.5) / (2 * margin)
    seam = torch.lerp(x[..., width:], x[..., : 2 * margin], weight)
    return torch.cat([seam[..., margin:], x[..., 2 * margin : width], seam[..., :margin]], dim=-1)
