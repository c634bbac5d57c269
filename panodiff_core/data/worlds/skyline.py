"""What stands on the horizon: ridges, tree lines and buildings, each a function of azimuth and elevation."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

from .attributes import Scene
from .noise import around, edge, fractal, lookup, mix, ring, smoothstep
from .sky import Sky, rgb

_LAND = {
    ("meadow", "summer"): "5f8a3c",
    ("meadow", "autumn"): "a5843a",
    ("mountains", "summer"): "5d7a4a",
    ("mountains", "autumn"): "9a7440",
    ("forest", "summer"): "3d6b35",
    ("forest", "autumn"): "a8622a",
}
_PLAIN = {"desert": "c98d52", "snow": "dfe9f4", "sea": "51664f", "city": "6f7680"}


class Skyline:
    """Layers from far to near, painted over the sky."""

    def __init__(self, scene: Scene, sky: Sky, pixel_angle: float):
        self.scene, self.sky, self.pixel = scene, sky, pixel_angle
        rng = random.Random(f"skyline {scene.seed}")
        self.seed = rng.randrange(1 << 20)
        self.land = rgb(_LAND.get((scene["place"], scene["season"]), _PLAIN.get(scene["place"], "70806a")))
        place, horizon = scene["place"], scene["horizon"]
        self.layers = []
        if place == "mountains":
            self.layers = [
                (self._peaks, 0, 0.85, 0.36),
                (self._peaks, 1, 0.36, 0.22),
                (self._hills, 2, 0.08, 0.08),
            ]
        elif horizon == "peaks":
            self.layers = [(self._peaks, 0, 0.42, 0.38), (self._peaks, 1, 0.17, 0.26)]
        elif horizon == "hills":
            self.layers = [(self._hills, 0, 0.13, 0.5), (self._hills, 1, 0.085, 0.25)]
        elif horizon == "flat":
            self.layers = [(self._hills, 0, 0.012, 0.6)] if place != "sea" else []
        if place == "forest":
            self.layers = [
                (self._hills, 0, 0.10, 0.55),
                (self._trees, 90, 0.16, 0.42),
                (self._trees, 52, 0.27, 0.22),
                (self._trees, 23, 0.52, 0.0),
            ]
        if place == "city":
            self.layers = [
                (self._buildings, 110, 0.22, 0.5),
                (self._buildings, 58, 0.38, 0.26),
                (self._buildings, 31, 0.62, 0.05),
            ]
        self.top = math.sin(math.atan(1.05 if place in ("city", "forest", "mountains") else 0.6))

    def paint(self, d: Tensor, out: Tensor) -> Tensor:
        """Paint every layer over `out` [N, 3] for directions d [N, 3] at or above the horizon."""
        if not self.layers:
            return out
        low = torch.nonzero(d[:, 1] < self.top)[:, 0]
        if low.numel() == 0:
            return out
        near = d[low]
        turns = torch.atan2(near[:, 0], near[:, 2]) / (2 * math.pi)
        rise = near[:, 1] / (near[:, 0] ** 2 + near[:, 2] ** 2).sqrt().clamp(min=1e-6)
        colour = out[low]
        for index, (layer, number, height, haze) in enumerate(self.layers):
            rng = random.Random(f"layer {self.seed} {index}")
            face, cover = layer(turns, rise, number, height, rng)
            fog = min(1.0, haze + (0.38 * (haze + 0.25) if self.sky.misty else 0.0))
            face = mix(face, self.sky.fog, torch.full_like(rise, fog))
            colour = torch.lerp(colour, face, cover[:, None])
        return out.index_copy(0, low, colour)

    def _shade(self, face: Tensor, lit: Tensor) -> Tensor:
        """Light a surface [N, 3] whose turn towards the light is `lit` [N] in 0..1."""
        p = self.sky.palette
        strength = {"day": 1.0, "sunset": 0.85, "dusk": 0.55, "night": 0.30}[self.sky.hour]
        fill = {"day": 0.62, "sunset": 0.55, "dusk": 0.75, "night": 0.75}[self.sky.hour]
        return (face * (p.ambient * fill + p.light * (strength * 0.62) * lit[:, None])).clamp(0.0, 1.0)

    def _side(self, turns: Tensor, slope: Tensor) -> Tensor:
        """How far a ridge with this slope along the azimuth faces the light, 0..1."""
        if not self.sky.has_light:
            return torch.full_like(turns, 0.5)
        light = math.atan2(float(self.sky.sun[0]), float(self.sky.sun[2]))
        offset = turns * (2 * math.pi) - light
        return (0.5 + 0.5 * (torch.sin(offset) * slope - 0.25 * torch.cos(offset))).clamp(0.0, 1.0)

    def _hills(self, turns: Tensor, rise: Tensor, number: int, height: float, rng: random.Random):
        profile = ring(rng.randrange(40), 2.0)
        top = height * (0.62 + 0.30 * around(profile, turns)).clamp(min=0.06)
        ahead = height * (0.62 + 0.30 * around(profile, turns + 0.004)).clamp(min=0.06)
        n = lookup(fractal(1, 1.3), turns * 9.0, rise * 2.2)
        slope = (top - ahead) * (40.0 / max(height, 0.05)) * 0.10 + 1.6 * (n[0] - 0.5)
        face = self._shade(self.land * (0.75 + 0.5 * n[1][:, None]), self._side(turns, slope.clamp(-1, 1)))
        return face, edge(top - rise, self.pixel)

    def _peaks(self, turns: Tensor, rise: Tensor, number: int, height: float, rng: random.Random):
        massif = around(ring(rng.randrange(40), 1.7), turns)
        crags = around(ring(40 + rng.randrange(40), 1.0), turns * 4.0)
        # Folding a smooth profile at zero turns its crossings into summits; the crags roughen the edge.
        summits = 1.0 - around(ring(80 + rng.randrange(40), 2.4), turns * 2.0).abs().clamp(max=1.8)
        top = height * (0.55 + 0.12 * massif + 0.42 * summits + 0.035 * crags).clamp(min=0.10)
        spurs = lookup(fractal(4, 1.5), turns * 6.0 + 0.35 * rise, rise * 1.1)
        wide = lookup(fractal(4, 1.5), turns * 6.0 + 0.35 * rise + 0.012, rise * 1.1 - 0.004)[0]
        lit = self._side(turns, ((spurs[0] - wide) * 14.0).clamp(-1.0, 1.0))
        rock = rgb("7b7470") * (0.8 + 0.4 * spurs[1][:, None])
        if self.scene["place"] == "desert":
            rock = rgb("b4693f") * (0.75 + 0.4 * spurs[1][:, None])
        line = 0.52 * height + 0.34 * height * (spurs[0] - 0.5)
        if self.scene["place"] == "desert":
            face = rock
        else:
            face = mix(rock, rgb("f4f8ff"), smoothstep(line, line + 0.12 * height, rise))
            foot = smoothstep(0.38 * height, 0.15 * height, rise + 0.2 * height * (spurs[1] - 0.5))
            face = torch.lerp(face, self.land.expand_as(face) * 0.8, (0.9 * foot)[:, None])
        return self._shade(face, lit), edge(top - rise, self.pixel)

    def _trees(self, turns: Tensor, rise: Tensor, number: int, height: float, rng: random.Random):
        """One tree per cell of azimuth, conifers and broadleaves mixed; a lower hedge closes the gaps."""
        table = torch.rand(4, number, generator=torch.Generator().manual_seed(rng.randrange(1 << 30)))
        conifers = 0.65 if self.scene["season"] == "summer" else 0.35
        cell = turns * number
        base = cell.floor()
        best = torch.zeros_like(rise)
        face = torch.zeros(rise.numel(), 3)
        grain = lookup(fractal(2, 1.1), turns * 26.0, rise * 4.2)
        for step in (-1.0, 0.0, 1.0):
            index = (base + step).long() % number
            shift, size, kind, hue = table[:, index]
            x = (cell - base - step - 0.25 - 0.5 * shift) * (2 * math.pi / number)
            tall = height * (0.6 + 0.4 * size)
            cover, inside = tree_shape(x, rise, tall, kind < conifers, grain[0], self.pixel)
            crown = self._leaf(kind < conifers, hue) * (0.62 + 0.55 * grain[1] + 0.25 * rise / tall)[:, None]
            crown = torch.where(
                (rise < 0.16 * tall)[:, None], rgb("4a3626") * (0.7 + 0.6 * grain[1][:, None]), crown
            )
            lit = self._side(turns, (inside * 0.9 + 1.4 * (grain[0] - 0.5)).clamp(-1.0, 1.0))
            face = torch.where((cover > best)[:, None], self._shade(crown, lit), face)
            best = torch.maximum(best, cover)
        hedge_top = height * (0.16 + 0.10 * grain[0])
        hedge = edge(hedge_top - rise, self.pixel)
        under = self._shade(self.land * 0.55 * (0.6 + 0.8 * grain[1][:, None]), torch.full_like(rise, 0.3))
        face = torch.where((hedge > best)[:, None], under, face)
        return face, torch.maximum(best, hedge)

    def _leaf(self, conifer: Tensor, hue: Tensor) -> Tensor:
        needles = mix(rgb("2c5a34"), rgb("3f7a44"), hue)
        if self.scene["season"] == "autumn":
            leaves = mix(rgb("d9932e"), rgb("b8401f"), hue)
        else:
            leaves = mix(rgb("4f8f38"), rgb("86ad42"), hue)
        return torch.where(conifer[:, None], needles, leaves)

    def _buildings(self, turns: Tensor, rise: Tensor, number: int, height: float, rng: random.Random):
        table = torch.rand(5, number, generator=torch.Generator().manual_seed(rng.randrange(1 << 30)))
        cell = turns * number
        index = cell.floor()
        size, hue, narrow, style, lights = table[:, index.long() % number]
        u = (cell - index - 0.5).abs()
        half = 0.40 + 0.10 * narrow
        top = height * (0.25 + 0.75 * size**1.6)
        setback = (style > 0.6) & (u > 0.28)
        top = torch.where(setback, top * 0.82, top)
        cover = edge((half - u) * (2 * math.pi / number), self.pixel) * edge(top - rise, self.pixel)
        mast = (style < 0.25) & (size > 0.5)
        pole = edge(0.010 - u * (2 * math.pi / number), self.pixel) * edge(top * 1.22 - rise, self.pixel)
        cover = torch.where(mast, torch.maximum(cover, pole), cover)
        wall = mix(rgb("8d8f96"), rgb("b58d76"), hue)
        wall = torch.where((style > 0.5)[:, None], mix(rgb("5d7388"), rgb("c9c4b8"), hue), wall)
        lit = self._side(turns, 1.5 * (cell - index - 0.5))
        face = self._shade(wall, lit)
        return self._windows(face, cell, index, rise, number, lights), cover

    def _windows(
        self, face: Tensor, cell: Tensor, index: Tensor, rise: Tensor, number: int, lights: Tensor
    ) -> Tensor:
        across = 5.0
        step = 2 * math.pi / number / across
        x, y = (cell - index) * across, rise / (step * 1.25)
        glass = ((x - x.floor() - 0.5).abs() < 0.30) & ((y - y.floor() - 0.5).abs() < 0.30)
        # A pane narrower than a pixel would only flicker: fade the pattern into its mean instead.
        sharp = min(1.0, max(0.25, step / (self.pixel * 2.0)))
        code = torch.frac(torch.sin(index * 127.1 + x.floor() * 311.7 + y.floor() * 74.7) * 43758.5453).abs()
        lamp = code < {"day": 0.0, "sunset": 0.25, "dusk": 0.45, "night": 0.5}[self.sky.hour] * (0.4 + lights)
        pane = torch.where(
            lamp[:, None], mix(rgb("ffd98a"), rgb("ffb45e"), code * 1.6), self.sky.palette.middle * 0.6
        )
        return torch.where(glass[:, None], torch.lerp(face, pane, 0.85 * sharp), face)


def tree_shape(x: Tensor, rise: Tensor, tall: Tensor, conifer: Tensor, grain: Tensor, pixel: float):
    """(coverage 0..1, how far right of its axis a ray passes, -1..1), both [N], of one tree `tall` high.

    `x` and `rise` [N] are across and above its foot, in radians as `pixel`, the angle of one pixel; `conifer` [N] says
    which of the two outlines it has and `grain` [N] in 0..1 frays them.
    """
    up = rise / tall
    saw = torch.frac(up * 6.0)
    cone = tall * (0.27 * (1.0 - up) + 0.05 * (1.0 - saw)) * (0.8 + 0.4 * grain)
    crown = tall * 0.36 * (1.0 - ((up - 0.62) / 0.40) ** 2).clamp(min=0.0).sqrt() * (0.72 + 0.5 * grain)
    half = torch.where(conifer, torch.where(up > 0.14, cone, 0.0), crown)
    half = torch.where((up < 0.4) & (half < 0.03 * tall), 0.03 * tall, half)
    cover = edge(half - x.abs(), pixel) * edge(tall - rise, pixel)
    return cover, (x / half.clamp(min=1e-3)).clamp(-1.0, 1.0)
