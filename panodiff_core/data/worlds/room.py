"""Indoor worlds: a box room with a window towards the light, furniture blocks and a hanging lamp."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

from .attributes import Scene
from .noise import edge, fractal, lookup, mix, smoothstep
from .sky import Sky, rgb

_WALL = {"white": "e9e4da", "blue": "6f97c8", "green": "7fa878", "red": "b8574a", "yellow": "e2bd5c"}
_EYE = 1.5


class Room:
    """A room whose window wall faces the scene's light azimuth."""

    def __init__(self, scene: Scene, sky: Sky, pixel_angle: float):
        rng = random.Random(f"room {scene.seed}")
        self.scene, self.sky, self.pixel = scene, sky, pixel_angle
        self.turn = math.radians((scene.light_azimuth_deg or 0.0) - scene.yaw_deg)
        self.size = torch.tensor([rng.uniform(2.3, 3.2), 1.4, rng.uniform(2.3, 3.2)])
        self.floor_y, self.ceiling_y = -_EYE, 1.3
        self.eye = torch.tensor([rng.uniform(-0.4, 0.4), 0.0, rng.uniform(-0.5, 0.1)])
        self.wall = rgb(_WALL[scene["wall"]])
        self.window = (rng.uniform(0.75, 1.25), -0.65, 0.85)
        self.rug = rgb(rng.choice(["9c2f36", "2f5f8c", "d0a24a", "3d6b52"]))
        self.art = [
            (rng.uniform(-1, 1), rng.choice(["d8502f", "2f6f9c", "e8b93a", "4a8c5a"])) for _ in range(4)
        ]
        self.blocks = _furniture(scene["furniture"], rng, self.size)
        self.lamp_at = torch.tensor([rng.uniform(-0.5, 0.5), 0.55, rng.uniform(0.5, 1.0)])
        self.lamp_on = scene["lamp"] == "on"
        bright = {"day": 1.0, "sunset": 0.80, "dusk": 0.66, "night": 0.42}[scene["time"]]
        self.day_light = bright
        self.fill = (
            sky.palette.light * (0.55 * bright) + (rgb("ffc98a") * 0.42 if self.lamp_on else 0.0) + 0.10
        )

    def colour(self, d: Tensor) -> Tensor:
        """Colour [N, 3] along unit directions d [N, 3]."""
        sin, cos = math.sin(self.turn), math.cos(self.turn)
        d = torch.stack([d[:, 0] * cos - d[:, 2] * sin, d[:, 1], d[:, 0] * sin + d[:, 2] * cos], -1)
        limit = torch.where(
            d > 0,
            torch.stack([self.size[0], torch.tensor(self.ceiling_y), self.size[2]]) - self.eye,
            torch.stack([-self.size[0], torch.tensor(self.floor_y), -self.size[2]]) - self.eye,
        )
        reach = limit / torch.where(d.abs() < 1e-6, torch.full_like(d, 1e-6).copysign(d), d)
        t, axis = reach.min(-1)
        p = self.eye + d * t[:, None]
        out = self._shell(p, d, axis)
        for box in self.blocks:
            out, t = self._block(d, t, out, box)
        return self._lamp(d, t, out)

    def _shell(self, p: Tensor, d: Tensor, axis: Tensor) -> Tensor:
        out = torch.zeros_like(p)
        for mask, paint in (
            ((axis == 1) & (d[:, 1] < 0), self._floor),
            ((axis == 1) & (d[:, 1] > 0), self._ceiling),
            (axis != 1, self._walls),
        ):
            inside = torch.nonzero(mask)[:, 0]
            if inside.numel():
                out[inside] = paint(p[inside], d[inside], axis[inside])
        return out

    def _lit(self, albedo: Tensor, p: Tensor, extra: Tensor | float = 0.0) -> Tensor:
        """Room light: the window's, falling with distance from it, the lamp's, and darker corners."""
        from_window = 1.15 - 0.16 * (self.size[2] - p[:, 2])
        light = self.fill[None] * from_window[:, None]
        if self.lamp_on:
            gap = (p - self.lamp_at).norm(dim=-1)
            light = light + rgb("ffb765") * (0.85 / (0.7 + gap**2))[:, None]
        gaps = (
            torch.stack(
                [
                    self.size[0] - p[:, 0].abs(),
                    self.size[2] - p[:, 2].abs(),
                    p[:, 1] - self.floor_y,
                    self.ceiling_y - p[:, 1],
                ],
                -1,
            )
            .sort(-1)
            .values[:, 1]
        )
        corner = 0.62 + 0.38 * smoothstep(0.0, 0.5, gaps)
        return (albedo * light * corner[:, None] + extra).clamp(0.0, 1.0)

    def _floor(self, p: Tensor, d: Tensor, axis: Tensor) -> Tensor:
        x, z = p[:, 0], p[:, 2]
        n = lookup(fractal(3, 1.2), x * 0.21 + 0.3, z * 0.21)
        if self.scene["floor"] == "wood":
            row = (x / 0.32).floor()
            shift = torch.frac(torch.sin(row * 91.7) * 437.5).abs() * 1.6
            plank = ((z + shift) / 1.6).floor()
            tone = torch.frac(torch.sin(row * 12.9 + plank * 78.2) * 43758.5).abs()
            grain = lookup(fractal(2, 1.1), x * 1.1, z * 0.12 + tone)[0]
            seam = torch.minimum(torch.frac(x / 0.32), torch.frac((z + shift) / 1.6) * 5.0) < 0.06
            albedo = mix(rgb("8a5a2f"), rgb("c98f54"), (0.25 + 0.5 * tone + 0.6 * (grain - 0.5)).clamp(0, 1))
            albedo = albedo * torch.where(seam, 0.6, 1.0)[:, None]
        elif self.scene["floor"] == "tiles":
            odd = torch.remainder((x / 0.6).floor() + (z / 0.6).floor(), 2.0)
            albedo = mix(rgb("3c4048"), rgb("e6e2da"), odd) * (0.9 + 0.25 * (n[0] - 0.5))[:, None]
        else:
            albedo = mix(rgb("8f7f9a"), rgb("b3a3b4"), n[0]) * (0.8 + 0.4 * n[1])[:, None]
        rug = (x / 1.25) ** 2 + ((z - 0.6) / 0.95) ** 2
        ringed = self.rug * (1.0 + 0.35 * torch.sign(torch.sin(rug.sqrt() * 22.0)))[:, None]
        albedo = torch.where((rug < 1.0)[:, None], ringed * (0.8 + 0.3 * n[1])[:, None], albedo)
        return self._lit(albedo * self._contact(x, z)[:, None], p, self._sun_patch(x, z))

    def _contact(self, x: Tensor, z: Tensor) -> Tensor:
        shade = torch.ones_like(x)
        for low, high, _, _ in self.blocks:
            if low[1] > self.floor_y + 0.6:
                continue
            gap = torch.maximum(
                torch.maximum(low[0] - x, x - high[0]), torch.maximum(low[2] - z, z - high[2])
            )
            shade *= 0.55 + 0.45 * smoothstep(-0.1, 0.35, gap)
        return shade

    def _sun_patch(self, x: Tensor, z: Tensor) -> Tensor:
        half, low, high = self.window
        if self.scene["time"] not in ("day", "sunset"):
            return torch.zeros(x.numel(), 3)
        drop = 0.75 if self.scene["time"] == "day" else 0.42
        run = self.size[2] - z
        y = self.floor_y + run * drop
        inside = (
            smoothstep(half, half - 0.12, (x - 0.25 * run).abs())
            * smoothstep(low, low + 0.15, y)
            * smoothstep(high, high - 0.15, y)
        )
        bars = 1.0 - 0.6 * (((x - 0.25 * run).abs() < 0.05) | ((y - 0.5 * (low + high)).abs() < 0.05)).float()
        return self.sky.palette.light * (0.42 * inside * bars)[:, None]

    def _ceiling(self, p: Tensor, d: Tensor, axis: Tensor) -> Tensor:
        n = lookup(fractal(1, 1.1), p[:, 0] * 0.3, p[:, 2] * 0.3)[0]
        beams = (torch.frac(p[:, 0] / 1.1) - 0.5).abs() < 0.07
        albedo = (
            torch.where(beams[:, None], rgb("8c6a48"), rgb("efebe2")) * (0.92 + 0.16 * (n - 0.5))[:, None]
        )
        return self._lit(albedo, p)

    def _walls(self, p: Tensor, d: Tensor, axis: Tensor) -> Tensor:
        side = axis == 0
        u = torch.where(side, p[:, 2], p[:, 0])
        y = p[:, 1]
        n = lookup(fractal(2, 1.2), u * 0.35 + axis * 0.37, y * 0.35)
        albedo = self.wall * (0.92 + 0.22 * (n[0] - 0.5))[:, None]
        wains = y < -0.75
        albedo = torch.where(wains[:, None], albedo * 0.72 + 0.06, albedo)
        albedo = torch.where(
            ((y + 0.75).abs() < 0.04)[:, None] | (y < self.floor_y + 0.14)[:, None], rgb("f0ece4"), albedo
        )
        out = self._lit(albedo, p)
        out = self._pictures(out, p, u, y, side)
        front = ~side & (p[:, 2] > 0)
        out = torch.where(front[:, None], self._window(out, d, u, y), out)
        return self._door(out, p, u, y, ~side & (p[:, 2] < 0))

    def _pictures(self, out: Tensor, p: Tensor, u: Tensor, y: Tensor, side: Tensor) -> Tensor:
        for sign, (at, paint) in zip((1, -1), self.art, strict=False):
            dx, dy = (u - at).abs(), (y - 0.25).abs()
            here = side & (torch.sign(p[:, 0]) == sign) & (dx < 0.55) & (dy < 0.40)
            canvas = mix(rgb(paint), rgb("f5efe2"), lookup(fractal(0, 1.8), u * 0.23 + at, y * 0.23)[0])
            canvas = torch.where(((dx > 0.47) | (dy > 0.32))[:, None], rgb("4a3524"), canvas)
            out = torch.where(here[:, None], self._lit(canvas, p), out)
        return out

    def _window(self, out: Tensor, d: Tensor, u: Tensor, y: Tensor) -> Tensor:
        half, low, high = self.window
        middle = 0.5 * (low + high)
        inside = (u.abs() < half) & (y > low) & (y < high)
        frame = (u.abs() < half + 0.10) & (y > low - 0.10) & (y < high + 0.10)
        bars = (u.abs() < 0.035) | ((y - middle).abs() < 0.035)
        sin, cos = math.sin(self.turn), math.cos(self.turn)
        world = torch.stack([d[:, 0] * cos + d[:, 2] * sin, d[:, 1], -d[:, 0] * sin + d[:, 2] * cos], -1)
        view = self.sky.colour(world) * 1.05
        hill = edge(0.05 + 0.04 * torch.sin(u * 2.3 + self.size[0] * 9.0) - d[:, 1], self.pixel)
        view = torch.lerp(
            view, (rgb("6d8a52") * (0.35 + 0.65 * self.day_light)).expand_as(view), hill[:, None]
        )
        trim = rgb("f6f2ea") * (0.45 + 0.55 * min(1.0, float(self.fill.mean()) * 1.3))
        out = torch.where(frame[:, None], trim.expand_as(out), out)
        return torch.where((inside & ~bars)[:, None], view.clamp(0.0, 1.0), out)

    def _door(self, out: Tensor, p: Tensor, u: Tensor, y: Tensor, back: Tensor) -> Tensor:
        at = 0.45 * float(self.size[0])
        dx = (u + at).abs()
        panel = ((dx - 0.24).abs() < 0.03) | ((y + 0.35).abs() < 0.03)
        wood = torch.where(panel[:, None], rgb("5c3d22"), rgb("845a34"))
        door = back & (dx < 0.46) & (y < 0.55)
        return torch.where(door[:, None], self._lit(wood, p), out)

    def _block(self, d: Tensor, t: Tensor, out: Tensor, box) -> tuple[Tensor, Tensor]:
        low, high, colour, kind = box
        inverse = 1.0 / torch.where(d.abs() < 1e-6, torch.full_like(d, 1e-6).copysign(d), d)
        a, b = (low - self.eye) * inverse, (high - self.eye) * inverse
        enter, axis = torch.minimum(a, b).max(-1)
        leave = torch.maximum(a, b).min(-1).values
        hit = torch.nonzero((enter < leave) & (enter > 0.05) & (enter < t))[:, 0]
        if hit.numel() == 0:
            return out, t
        p = self.eye + d[hit] * enter[hit, None]
        facing = torch.tensor([0.80, 1.08, 0.92])[axis[hit]]
        n = lookup(fractal(2, 1.0), (p[:, 0] + p[:, 1]) * 0.5, (p[:, 2] - p[:, 1]) * 0.5)
        albedo = colour * (facing * (0.85 + 0.3 * n[0]))[:, None]
        if kind == "books":
            run = torch.where(axis[hit] == 0, p[:, 2], p[:, 0])
            albedo = _books(albedo, run, p[:, 1], axis[hit] != 1)
        t = t.index_copy(0, hit, enter[hit])
        return out.index_copy(0, hit, self._lit(albedo, p)), t

    def _lamp(self, d: Tensor, t: Tensor, out: Tensor) -> Tensor:
        to = self.lamp_at - self.eye
        along = d @ to
        off = (to.dot(to) - along**2).clamp(min=0.0).sqrt()
        ahead = (along > 0) & (along < t + 0.3)
        globe = edge((0.24 - off) / to.norm(), self.pixel) * ahead
        shade = rgb("fff0c2") if self.lamp_on else rgb("cfc6b4") * (0.3 + 0.5 * float(self.fill.mean()))
        wire = (d * torch.tensor([to[2], 0.0, -to[0]])).sum(-1).abs() / to[[0, 2]].norm() < self.pixel * 0.5
        cord = (
            wire & (d[:, 1] > to[1] / to.norm()) & (d[:, 0] * to[0] + d[:, 2] * to[2] > 0) & (d[:, 1] < 0.72)
        )
        out = torch.where(cord[:, None], rgb("3a3430").expand_as(out), out)
        if self.lamp_on:
            out = out + rgb("ffc879") * (0.55 * torch.exp(-((off / 0.55) ** 2)) * ahead)[:, None]
        rim = (0.75 + 0.25 * (1.0 - (off / 0.24).clamp(max=1.0) ** 2))[:, None]
        return torch.lerp(out, (shade * rim).expand_as(out), globe[:, None]).clamp(0.0, 1.0)


def _books(albedo: Tensor, run: Tensor, y: Tensor, upright: Tensor) -> Tensor:
    shelf = (y / 0.42).floor()
    spine = (run / 0.075).floor()
    code = torch.frac(torch.sin(spine * 12.9 + shelf * 37.7) * 43758.5).abs()
    colours = torch.stack([rgb(c) for c in ("a33b2e", "2e5a88", "d9b04a", "3f7a55", "ece3d0", "5a3d6e")])
    book = colours[(code * 6).long().clamp(0, 5)]
    top = torch.frac(y / 0.42) < 0.72 + 0.2 * code
    return torch.where((upright & top & (torch.frac(y / 0.42) > 0.06))[:, None], book, albedo)


def _furniture(kind: str, rng: random.Random, size: Tensor) -> list[tuple[Tensor, Tensor, Tensor, str]]:
    """Boxes (low corner, high corner, colour, kind) of one furniture set, standing away from the window."""
    side = rng.choice((-1.0, 1.0))
    fabric = rgb(rng.choice(["3f6f8f", "a8483a", "5b7a4a", "c28a3a", "6d5a8c"]))
    wood, light = rgb("6e4526"), rgb("efe8dc")
    x, back, y0 = float(size[0]), -float(size[2]), -_EYE

    def box(x0, x1, y_low, y_high, z0, z1, colour, style="plain"):
        xs = sorted((side * x0, side * x1))
        return (torch.tensor([xs[0], y0 + y_low, z0]), torch.tensor([xs[1], y0 + y_high, z1]), colour, style)

    if kind == "sofa":
        return [
            box(x - 0.95, x - 0.05, 0.10, 0.45, -1.0, 1.1, fabric),
            box(x - 0.30, x - 0.05, 0.45, 0.95, -1.0, 1.1, fabric * 0.9),
            box(x - 0.95, x - 0.05, 0.45, 0.66, -1.2, -1.0, fabric * 0.85),
            box(x - 0.95, x - 0.05, 0.45, 0.66, 1.1, 1.3, fabric * 0.85),
            box(x - 2.0, x - 1.35, 0.34, 0.42, -0.5, 0.6, wood),
        ]
    if kind == "table":
        cx = x - 1.25
        legs = [
            box(cx + i, cx + i + 0.09, 0.0, 0.72, j, j + 0.09, wood)
            for i in (-0.6, 0.5)
            for j in (-0.85, 0.75)
        ]
        seat = [box(cx - 0.2, cx + 0.25, 0.42, 0.50, j, j + 0.42, fabric) for j in (-1.45, 1.0)]
        rest = [box(cx - 0.2, cx + 0.25, 0.50, 1.0, j, j + 0.06, fabric * 0.85) for j in (-1.45, 1.36)]
        return [box(cx - 0.65, cx + 0.65, 0.72, 0.80, -0.9, 0.9, wood * 1.25), *legs, *seat, *rest]
    if kind == "bed":
        return [
            box(x - 2.05, x - 0.05, 0.0, 0.35, -1.0, 0.6, wood),
            box(x - 2.0, x - 0.1, 0.35, 0.56, -0.95, 0.55, fabric),
            box(x - 0.75, x - 0.15, 0.56, 0.70, -0.8, 0.4, light),
            box(x - 0.10, x, 0.0, 1.15, -1.05, 0.65, wood * 0.9),
            box(x - 0.55, x - 0.1, 0.0, 0.5, 0.75, 1.2, wood * 1.2),
        ]
    return [
        box(x - 0.42, x - 0.02, 0.0, 2.15, -1.3, 1.2, wood, "books"),
        box(x - 1.5, x - 1.0, 0.0, 0.45, 0.2, 0.7, fabric),
        box(-x + 0.02, -x + 0.4, 0.0, 1.1, back + 0.9, back + 2.2, wood * 1.1, "books"),
    ]
