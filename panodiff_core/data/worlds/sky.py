"""The sky: gradient, sun, moon, stars and clouds, as a function of direction."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .attributes import Scene
from .noise import fractal, lookup, mix, smoothstep


def rgb(text: str) -> Tensor:
    """A colour [3] in 0..1 from six hexadecimal digits."""
    return torch.tensor([int(text[i : i + 2], 16) / 255.0 for i in (0, 2, 4)])


@dataclass(frozen=True)
class Palette:
    """Colours of one hour: sky at the zenith and the horizon, the light, clouds in light and shade, fill light."""

    zenith: Tensor
    middle: Tensor
    horizon: Tensor
    glow: Tensor
    light: Tensor
    cloud_lit: Tensor
    cloud_shade: Tensor
    ambient: Tensor
    water: Tensor


PALETTES = {
    "day": Palette(
        rgb("1f63c4"),
        rgb("5aa2ea"),
        rgb("cfe6f5"),
        rgb("fff3d0"),
        rgb("fff4dc"),
        rgb("ffffff"),
        rgb("9fb2c8"),
        rgb("a9bfd6"),
        rgb("0f4a6e"),
    ),
    "sunset": Palette(
        rgb("35477f"),
        rgb("d77a6a"),
        rgb("ffb35c"),
        rgb("ffd27a"),
        rgb("ffb066"),
        rgb("ffc58f"),
        rgb("8a5266"),
        rgb("96707a"),
        rgb("3a3350"),
    ),
    "dusk": Palette(
        rgb("1d2150"),
        rgb("6a4a8c"),
        rgb("e58a9a"),
        rgb("ff9a86"),
        rgb("c890b8"),
        rgb("d38aa8"),
        rgb("4a3f6c"),
        rgb("6c5f8e"),
        rgb("2a2750"),
    ),
    "night": Palette(
        rgb("050a1e"),
        rgb("0d1838"),
        rgb("24355c"),
        rgb("b9cdf0"),
        rgb("a9bfe6"),
        rgb("51638c"),
        rgb("1a2440"),
        rgb("2c3a5c"),
        rgb("070f22"),
    ),
}
_OVERCAST_TINT = {
    "day": rgb("aab4bd"),
    "sunset": rgb("b08c80"),
    "dusk": rgb("6d6480"),
    "night": rgb("2a3450"),
}
_ELEVATION_DEG = {"day": (24.0, 48.0), "sunset": (7.0, 14.0), "dusk": (-3.0, -1.0), "night": (18.0, 42.0)}


class Sky:
    """The sky of one scene. Azimuths here are before the scene's yaw: the renderer turns the rays instead."""

    def __init__(self, scene: Scene, time: float = 0.0):
        rng = random.Random(f"sky {scene.seed}")
        self.hour = scene["time"]
        self.cover = scene["sky"] or "cloudy"
        self.misty = scene["air"] == "misty"
        base = PALETTES[self.hour]
        self.palette = _overcast(base, self.hour) if self.cover == "overcast" else base
        elevation = math.radians(rng.uniform(*_ELEVATION_DEG[self.hour]))
        azimuth = math.radians((scene.light_azimuth_deg or 0.0) - scene.yaw_deg)
        self.sun = torch.tensor(
            [
                math.cos(elevation) * math.sin(azimuth),
                math.sin(elevation),
                math.cos(elevation) * math.cos(azimuth),
            ]
        )
        self.has_light = scene.light_azimuth_deg is not None
        # A light below the horizon still shades the land from its side.
        self.light_vector = torch.nn.functional.normalize(self.sun + torch.tensor([0.0, 0.25, 0.0]), dim=0)
        if not self.has_light:
            self.light_vector = torch.tensor([0.0, 1.0, 0.0])
        self.texture = fractal(rng.randrange(6), 1.55)
        self.offset = (rng.random() + 0.004 * time, rng.random())
        self.scale = rng.uniform(0.10, 0.16)
        self.threshold = rng.uniform(0.46, 0.54)
        self.star_seed = rng.randrange(4)
        self.fog = mix(self.palette.horizon, self.palette.cloud_shade, torch.tensor(0.25))

    def colour(self, d: Tensor) -> Tensor:
        """Colour [N, 3] seen along unit directions d [N, 3]; rays below the horizon see the horizon's colour."""
        p = self.palette
        y = d[:, 1].clamp(min=0.0)
        out = mix(p.horizon, p.middle, smoothstep(0.0, 0.32, y))
        out = torch.lerp(out, p.zenith.expand_as(out), smoothstep(0.12, 0.95, y)[:, None])
        if self.has_light:
            out = self._light(d, out)
        if self.hour in ("night", "dusk") and self.cover != "overcast":
            out = out + self._stars(d)
        if self.cover != "clear":
            out = self._clouds(d, y, out)
        if self.misty:
            out = mix_into(out, self.fog, 0.85 * torch.exp(-y * 5.0) + 0.1)
        return out

    def _light(self, d: Tensor, out: Tensor) -> Tensor:
        p = self.palette
        cosine = d @ self.sun
        wide, tight = {"day": (10.0, 0.35), "sunset": (5.0, 0.75), "dusk": (3.5, 0.7), "night": (28.0, 0.35)}[
            self.hour
        ]
        low = torch.exp(-d[:, 1].clamp(min=0.0) * 3.0) if self.hour in ("sunset", "dusk") else 1.0
        out = mix_into(out, p.glow, tight * torch.exp((cosine - 1.0) * wide) * low)
        if self.hour == "dusk":
            return out
        radius = {"day": 3.0, "sunset": 5.0, "night": 4.0}[self.hour]
        angle = torch.acos(cosine.clamp(-1.0, 1.0)) * (180.0 / math.pi)
        disc = smoothstep(radius + 0.6, radius - 0.6, angle)
        halo = 0.6 * torch.exp(-((angle / (radius * 2.2)) ** 2))
        out = mix_into(out, p.light, halo)
        if self.hour == "night":
            spots = lookup(fractal(3, 1.3), d[:, 0] * 2.2 + d[:, 2] * 1.3, d[:, 1] * 2.2)[0]
            face = rgb("f4f1e4") * (0.78 + 0.22 * spots[:, None])
            return torch.lerp(out, face, disc[:, None])
        core = torch.tensor([1.0, 1.0, 0.94]) if self.hour == "day" else torch.tensor([1.0, 0.93, 0.66])
        return mix_into(out, core, disc)

    def _stars(self, d: Tensor) -> Tensor:
        # The stereographic map keeps small circles round, so one flat texture of dots serves the whole dome.
        scale = 0.47 / (1.0 + d[:, 1].clamp(min=0.0))
        dots, dust = lookup(_star_map(self.star_seed), d[:, 0] * scale + 0.5, d[:, 2] * scale + 0.5)
        strength = (1.0 if self.hour == "night" else 0.35) * smoothstep(0.02, 0.25, d[:, 1])
        band = torch.exp(-(((d @ torch.tensor([0.62, 0.30, 0.72])) / 0.22) ** 2)) * dust
        blue = torch.tensor([0.55, 0.62, 0.85])
        return strength[:, None] * (dots[:, None] + 0.22 * band[:, None] * blue)

    def _clouds(self, d: Tensor, y: Tensor, out: Tensor) -> Tensor:
        p = self.palette
        reach = self.scale / (y + 0.10)
        u, v = d[:, 0] * reach + self.offset[0], d[:, 2] * reach + self.offset[1]
        n, fine = lookup(self.texture, u, v)
        toward = 0.018
        lit = lookup(self.texture, u + self.light_vector[0] * toward, v + self.light_vector[2] * toward)[0]
        if self.cover == "overcast":
            shade = (0.30 + 0.8 * (n - 0.5) + 0.35 * (fine - 0.5)).clamp(0.0, 1.0)
            sheet = mix(p.middle, p.cloud_lit, shade)
            return torch.lerp(out, sheet, (0.92 * smoothstep(0.0, 0.10, y))[:, None])
        density = smoothstep(self.threshold, self.threshold + 0.30, n + 0.10 * (fine - 0.5))
        light = (0.62 + 3.2 * (n - lit)).clamp(0.0, 1.0) * (1.0 - 0.35 * density)
        colour = mix(p.cloud_shade, p.cloud_lit, light)
        near_sun = torch.exp((d @ self.sun - 1.0) * 6.0) if self.has_light else torch.zeros_like(y)
        colour = mix_into(colour, p.light, 0.45 * near_sun)
        return torch.lerp(out, colour, (0.95 * density * smoothstep(0.0, 0.14, y))[:, None])


def mix_into(out: Tensor, colour: Tensor, amount: Tensor) -> Tensor:
    """Move colours out [N, 3] towards one colour [3] by `amount` [N]."""
    return out + (colour - out) * amount[:, None]


def _overcast(p: Palette, hour: str) -> Palette:
    tint = _OVERCAST_TINT[hour]
    grey = [0.25 * c + 0.75 * tint for c in (p.zenith, p.middle, p.horizon)]
    return Palette(
        grey[0] * 0.8,
        grey[1] * 0.82,
        grey[2] * 1.05,
        tint,
        tint * 1.05,
        (tint * 1.18).clamp(max=1.0),
        tint * 0.62,
        tint * 0.86,
        0.5 * p.water + 0.3 * tint,
    )


@lru_cache(maxsize=4)
def _star_map(seed: int, size: int = 1024, count: int = 520) -> Tensor:
    generator = torch.Generator().manual_seed(4000 + seed)
    xy = torch.rand(count, 2, generator=generator) * size
    brightness = 0.25 + 0.9 * torch.rand(count, generator=generator) ** 4
    dots = torch.zeros(size, size)
    axis = torch.arange(-12, 13)
    for (x, y), b in zip(xy.tolist(), brightness.tolist(), strict=True):
        width = 1.7 + 1.6 * b
        rows = (int(y) + axis) % size
        cols = (int(x) + axis) % size
        blob = torch.exp(-((axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * width**2)))
        dots[rows[:, None], cols[None, :]] += b * blob
    dust = torch.nn.functional.interpolate(
        fractal(seed, 1.2)[:, :1, :-1, :-1], size=(size, size), mode="bilinear"
    )[0, 0]
    both = torch.stack([dots, dust])
    return torch.nn.functional.pad(both[None], (0, 1, 0, 1), mode="circular")
