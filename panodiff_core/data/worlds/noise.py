"""Fractal textures that tile, how a ray looks them up, and the ramps between colours.

Each texture is Gaussian noise shaped in the Fourier domain, so its amplitude falls as a power of frequency: one lookup
brings every octave at once, where summing octaves of lattice noise would cost a lookup each.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

SIZE = 512


@lru_cache(maxsize=64)
def fractal(seed: int, slope: float = 1.6, channels: int = 2) -> Tensor:
    """Tileable textures [1, channels, SIZE + 1, SIZE + 1], uniform in 0..1, amplitude spectrum ~ frequency^-slope.

    The last row and column repeat the first, so that a bilinear lookup wraps.
    """
    generator = torch.Generator().manual_seed(1000 + seed)
    white = torch.fft.fft2(torch.randn(channels, SIZE, SIZE, generator=generator))
    ky = torch.fft.fftfreq(SIZE)[:, None] * SIZE
    kx = torch.fft.fftfreq(SIZE)[None, :] * SIZE
    radius = (ky**2 + kx**2).sqrt().clamp(min=1.0)
    field = torch.fft.ifft2(white * radius**-slope).real
    field = (field - field.mean((1, 2), keepdim=True)) / field.std((1, 2), keepdim=True)
    uniform = 0.5 * (1.0 + torch.erf(field / math.sqrt(2.0)))
    return _wrapped(uniform)


@lru_cache(maxsize=4)
def wave_slopes(seed: int) -> Tensor:
    """Slopes [1, 2, SIZE + 1, SIZE + 1] of a tileable rough water surface, roughly unit variance."""
    generator = torch.Generator().manual_seed(2000 + seed)
    white = torch.fft.fft2(torch.randn(SIZE, SIZE, generator=generator))
    ky = torch.fft.fftfreq(SIZE)[:, None] * SIZE
    kx = torch.fft.fftfreq(SIZE)[None, :] * SIZE
    radius = (ky**2 + kx**2).sqrt().clamp(min=1.0)
    height = white * torch.where(radius < 3, 0.0, radius**-2.0)
    slopes = torch.stack([torch.fft.ifft2(1j * k * height).real for k in (kx, ky)])
    return _wrapped(slopes / slopes.std())


@lru_cache(maxsize=64)
def ring(seed: int, slope: float = 1.3, size: int = 4096) -> Tensor:
    """A periodic profile [size] over the azimuth, zero mean and unit variance, amplitude spectrum ~ frequency^-slope."""
    generator = torch.Generator().manual_seed(3000 + seed)
    spectrum = torch.fft.rfft(torch.randn(size, generator=generator))
    k = torch.arange(spectrum.numel()).clamp(min=1).float()
    shaped = spectrum * torch.where(k < 2, 0.0, k**-slope)
    profile = torch.fft.irfft(shaped, n=size)
    return (profile - profile.mean()) / profile.std()


def lookup(texture: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Bilinear lookup of a tileable texture at u, v [N] in periods; returns [channels, N]."""
    grid = torch.stack([u - u.floor(), v - v.floor()], -1).mul_(2.0).sub_(1.0)
    out = torch.nn.functional.grid_sample(
        texture, grid[None, None], align_corners=True, padding_mode="border"
    )
    return out[0, :, 0]


def around(profile: Tensor, turns: Tensor) -> Tensor:
    """Linear lookup of a periodic profile at an azimuth [N] in turns."""
    x = (turns - turns.floor()) * profile.numel()
    i = x.floor()
    j = i.long() % profile.numel()
    a = profile[j]
    return a + (profile[(j + 1) % profile.numel()] - a) * (x - i)


def smoothstep(low: float | Tensor, high: float | Tensor, x: Tensor) -> Tensor:
    """0 below `low`, 1 above `high`, a smooth cubic between."""
    t = ((x - low) / (high - low)).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def edge(depth: Tensor, pixel: float) -> Tensor:
    """Coverage 0..1 of a pixel whose centre lies `depth` radians inside an edge."""
    return (depth / pixel + 0.5).clamp(0.0, 1.0)


def mix(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """a + (b - a) t over the last axis; `t` lacks that axis."""
    return torch.lerp(a.expand(*t.shape, 3), b.expand(*t.shape, 3), t[..., None])


def _wrapped(field: Tensor) -> Tensor:
    return torch.nn.functional.pad(field[None], (0, 1, 0, 1), mode="circular")
