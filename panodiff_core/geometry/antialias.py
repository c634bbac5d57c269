"""When and how a picture is read at a coarser resolution than it has.

Reading a picture at points aliases once the points lie much farther apart than its texels. The texel spacing
of a picture is taken where it is coarsest (equator, face centre, image centre): that is the detail it can be
trusted to hold everywhere. Up to a ratio of sqrt(2), the nearer of "same size" and "half size", bilinear
interpolation alone reads every texel and nothing is filtered (1024x2048 to 512-pixel faces: 1.27). Beyond it
every target pixel is the mean of k x k rays spread evenly over it, and from a ratio of 4 on they read a
box-averaged copy of the source whose texels are still at most half a target pixel.

Rays, rather than a blur or a mipmap alone, because the footprint of a target pixel changes shape and shrinks
to a half at the middle of a cube face's edges: rays follow it exactly and soften nothing where the target is
finer than the source. Their cost stays near one read per source texel.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from .layouts import Layout

THRESHOLD = math.sqrt(2.0)


def oversampling(source: Layout, target: Layout) -> tuple[int, int]:
    """(pool, rays): average pool x pool source texels first, then cast rays x rays rays per target pixel."""
    ratio = target.pitch / source.pitch
    if ratio <= THRESHOLD:
        return 1, 1
    pool = 1
    while 4 * pool <= ratio and source.divides(2 * pool):
        pool *= 2
    return pool, math.ceil(ratio / pool - 1e-9)


def average(pixels: Tensor, factor: int) -> Tensor:
    """Mean over factor x factor blocks of [...,H,W]."""
    if factor == 1:
        return pixels
    lead = pixels.shape[:-2]
    pooled = F.avg_pool2d(pixels.reshape(-1, 1, *pixels.shape[-2:]), factor)
    return pooled.reshape(*lead, *pooled.shape[-2:])
