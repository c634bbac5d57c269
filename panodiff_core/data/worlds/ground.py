"""The land and the water below the horizon."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from .attributes import Scene
from .noise import fractal, lookup, mix, smoothstep, wave_slopes
from .sky import Sky, rgb
from .skyline import Skyline

EYE_HEIGHT = 1.6


class Ground:
    """A flat world seen from 1.6 m: materials by position, lakes and sea as mirrors with waves."""

    def __init__(self, scene: Scene, sky: Sky, skyline: Skyline, pixel_angle: float, time: float):
        rng = random.Random(f"ground {scene.seed}")
        self.scene, self.sky, self.skyline, self.pixel = scene, sky, skyline, pixel_angle
        self.origin = (rng.uniform(0, 500.0), rng.uniform(0, 500.0))
        self.waves = wave_slopes(rng.randrange(3))
        self.drift = 0.6 * time
        self.rough = rng.uniform(0.06, 0.16) if scene["place"] == "sea" else rng.uniform(0.015, 0.04)
        self.shore = rng.uniform(5.0, 9.0)
        self.flowers = rgb(rng.choice(["f2c230", "e2507a", "f4f0e8", "8c66d6", "e8502f"]))
        self.tiling = rng.choice([1.2, 2.0, 3.0])
        self.fog = rng.uniform(60.0, 110.0) if sky.misty else 420.0

    def colour(self, d: Tensor, shadows) -> Tensor:
        """Colour [N, 3] along directions d [N, 3] that point below the horizon; `shadows` maps x, z to light left 0..1."""
        reach = EYE_HEIGHT / (-d[:, 1]).clamp(min=1e-4)
        x, z = d[:, 0] * reach, d[:, 2] * reach
        blur = self.pixel * reach * reach / EYE_HEIGHT
        if self.scene["place"] == "sea":
            out = self._water(d, x, z, blur)
        else:
            out = self._land(x, z, blur) * shadows(x, z)[:, None]
            if self.scene["water"] == "lake":
                out = self._lake(d, x, z, reach, blur, out)
        # Distant ground takes the colour of the air, most of all near the horizon.
        haze = 1.0 - torch.exp(-reach / self.fog)
        return mix(out, self.sky.fog.expand_as(out), haze * (0.95 if self.sky.misty else 0.75))

    def _lake(self, d: Tensor, x: Tensor, z: Tensor, reach: Tensor, blur: Tensor, out: Tensor) -> Tensor:
        bank = lookup(fractal(5, 2.0), x * 0.012 + self.origin[0], z * 0.012 + self.origin[1])[0]
        level = smoothstep(self.shore, self.shore * 1.5, reach) - 0.9 * (bank - 0.52).clamp(min=0.0) * 2.0
        wet = smoothstep(0.30, 0.42, level)
        inside = torch.nonzero(wet > 0)[:, 0]
        if inside.numel() == 0:
            return out
        water = self._water(d[inside], x[inside], z[inside], blur[inside])
        rim = (0.55 + 0.45 * smoothstep(0.9, 0.2, wet[inside]))[:, None]
        return out.index_copy(0, inside, torch.lerp(out[inside] * rim, water, wet[inside, None]))

    def _water(self, d: Tensor, x: Tensor, z: Tensor, blur: Tensor) -> Tensor:
        slope = torch.zeros(2, d.shape[0])
        for scale, weight in ((0.03, 0.7), (0.11, 0.5), (0.45, 0.4)):
            keep = (1.3 - blur * scale * 14.0).clamp(0.06, 1.0) * weight
            slope += keep * lookup(
                self.waves, x * scale + self.drift * scale, z * scale - 0.7 * self.drift * scale
            )
        slope *= self.rough
        normal = torch.nn.functional.normalize(
            torch.stack([-slope[0], torch.ones_like(slope[0]), -slope[1]], -1), dim=-1
        )
        facing = -(d * normal).sum(-1).clamp(max=-0.002)
        mirror = d + 2.0 * facing[:, None] * normal
        mirror = torch.stack([mirror[:, 0], mirror[:, 1].abs(), mirror[:, 2]], -1)
        seen = self.skyline.paint(mirror, self.sky.colour(mirror))
        shine = 0.03 + 0.92 * (1.0 - facing).clamp(0.0, 1.0) ** 4
        deep = self.sky.palette.water * (0.85 + 2.2 * (slope[0] + slope[1]).clamp(-0.2, 0.4))[:, None]
        return torch.lerp(deep, seen * 0.96, shine[:, None])

    def _land(self, x: Tensor, z: Tensor, blur: Tensor) -> Tensor:
        paint = {"desert": self._sand, "snow": self._snow, "city": self._paving}.get(
            self.scene["place"], self._grass
        )
        albedo, relief = paint(x, z, blur)
        p = self.sky.palette
        strength = {"day": 0.78, "sunset": 0.62, "dusk": 0.36, "night": 0.22}[self.sky.hour]
        fill = {"day": 0.62, "sunset": 0.58, "dusk": 0.85, "night": 0.85}[self.sky.hour]
        high = 0.35 + 0.65 * float(self.sky.light_vector[1])
        light = (high + relief).clamp(0.0, 1.4)[:, None] * p.light * strength
        return (albedo * (p.ambient * fill + light)).clamp(0.0, 1.0)

    def _noise(
        self, x: Tensor, z: Tensor, scale: float, blur: Tensor, texture: int = 0, slope: float = 1.4
    ) -> Tensor:
        """Two noises [2, N] in -0.5..0.5, faded out where a pixel covers more than a period's finest detail."""
        n = lookup(fractal(texture, slope), x * scale + self.origin[0], z * scale + self.origin[1]) - 0.5
        return n * (1.25 - blur * scale * 5.0).clamp(0.08, 1.0)

    def _relief(
        self, x: Tensor, z: Tensor, scale: float, blur: Tensor, texture: int, slope: float, step: float
    ) -> Tensor:
        """How much steeper towards the light the surface is: a difference along the light's azimuth."""
        lx, lz = float(self.sky.light_vector[0]) * step, float(self.sky.light_vector[2]) * step
        a = self._noise(x, z, scale, blur, texture, slope)[0]
        return a - self._noise(x + lx, z + lz, scale, blur, texture, slope)[0]

    def _sand(self, x: Tensor, z: Tensor, blur: Tensor):
        broad = self._noise(x, z, 0.02, blur, 1, 1.9)
        phase = x * 0.9 + z * 0.35 + 5.0 * broad[0]
        ripple = torch.sin(phase * 4.2 + 3.0 * self._noise(x, z, 0.12, blur, 2)[0]) * (
            1.1 - blur * 1.6
        ).clamp(0.0, 1.0)
        dune = torch.sin(x * 0.16 + z * 0.10 + 9.0 * broad[1])
        grain = self._noise(x, z, 0.9, blur, 3, 0.9)[0]
        albedo = mix(rgb("c98a4b"), rgb("f0c987"), (0.5 + 0.30 * dune + 0.5 * broad[0]).clamp(0, 1))
        albedo = albedo * (1.0 + 0.14 * ripple + 0.22 * grain)[:, None]
        return albedo, 0.22 * dune + 0.10 * ripple

    def _snow(self, x: Tensor, z: Tensor, blur: Tensor):
        drift = self._noise(x, z, 0.035, blur, 1, 1.8)
        fine = self._noise(x, z, 0.35, blur, 3, 1.1)
        albedo = mix(rgb("c3d6ee"), rgb("ffffff"), (0.62 + 0.7 * drift[0] + 0.35 * fine[0]).clamp(0, 1))
        sparkle = (fine[1] > 0.46).float() * (1.0 - blur).clamp(0.0, 1.0)
        return albedo + 0.12 * sparkle[:, None], 2.2 * self._relief(x, z, 0.035, blur, 1, 1.8, 0.6)

    def _grass(self, x: Tensor, z: Tensor, blur: Tensor):
        autumn = self.scene["season"] == "autumn"
        place = self.scene["place"]
        low, high = (rgb("7a5a22"), rgb("c9a545")) if autumn else (rgb("2c5a24"), rgb("7ba645"))
        if place == "forest":
            low, high = (rgb("5e3a1a"), rgb("b9702c")) if autumn else (rgb("2e3d1e"), rgb("5f7a38"))
        broad = self._noise(x, z, 0.02, blur, 1, 1.7)
        blades = self._noise(x, z, 0.45, blur, 2, 1.15)
        albedo = mix(low, high, (0.5 + 0.75 * broad[0] + 0.60 * blades[0]).clamp(0, 1))
        if place == "mountains":
            stones = smoothstep(0.12, 0.22, self._noise(x, z, 0.08, blur, 4, 1.3)[0])
            albedo = mix(albedo, rgb("77726c") * (0.95 + 0.8 * blades[1][:, None]), stones)
        if place == "meadow" and not autumn:
            patch = smoothstep(0.0, 0.2, broad[1])
            bloom = smoothstep(0.24, 0.30, self._noise(x, z, 0.40, blur, 3, 0.7)[1])
            albedo = mix(albedo, self.flowers.expand_as(albedo), 0.95 * patch * bloom)
        return albedo, 1.2 * self._relief(x, z, 0.20, blur, 2, 1.15, 0.15)

    def _paving(self, x: Tensor, z: Tensor, blur: Tensor):
        u, v = x / self.tiling, z / self.tiling
        iu, iv = u.floor(), v.floor()
        gap = torch.maximum((u - iu - 0.5).abs(), (v - iv - 0.5).abs())
        code = torch.frac(torch.sin(iu * 12.9898 + iv * 78.233) * 43758.5453).abs()
        sharp = (1.3 - blur / self.tiling * 2.0).clamp(0.0, 1.0)
        grain = self._noise(x, z, 0.5, blur, 3, 1.0)[0]
        checker = torch.remainder(iu + iv, 2.0) - 0.5
        tone = 0.58 + (0.09 * checker + 0.12 * (code - 0.5)) * sharp + 0.22 * grain
        joint = (smoothstep(0.455, 0.485, gap) * sharp)[:, None]
        albedo = tone[:, None] * torch.tensor([1.0, 0.97, 0.92])
        return albedo * (1.0 - 0.45 * joint), torch.zeros_like(x)
