"""Things that stand in the world: boulders, pines, hot-air balloons, boats. Each is intersected per ray."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

from .attributes import Scene
from .ground import EYE_HEIGHT
from .noise import edge, fractal, lookup, mix, smoothstep
from .sky import Sky, rgb
from .skyline import tree_shape

_BALLOON_PAIRS = (
    ("e8402f", "fbe9c6"),
    ("f2a71b", "2f4f9e"),
    ("2fa39a", "fdf3dc"),
    ("d8477e", "ffd166"),
    ("5a48c8", "f4f4f4"),
    ("f26b21", "fff2d8"),
)


class Features:
    """The objects of one scene, from far to near, with the shadows they throw on the ground."""

    def __init__(self, scene: Scene, sky: Sky, pixel_angle: float, time: float):
        self.kind, self.sky, self.pixel = scene["feature"], sky, pixel_angle
        self.autumn = scene["season"] == "autumn"
        self.on_water = scene["place"] == "sea"
        self.snowy = scene["place"] == "snow"
        rng = random.Random(f"feature {scene.seed}")
        count = {"boulders": 7, "pines": 11, "balloons": 7, "boats": 6}.get(self.kind, 0)
        first = rng.random()
        self.items = []
        for i in range(count):
            azimuth = 2 * math.pi * (first + (i + rng.uniform(-0.32, 0.32)) / count)
            self.items.append((azimuth, rng.random(), rng.random(), rng.random()))
        self.items.sort(key=lambda item: -item[1])
        self.time = time

    def shadows(self, x: Tensor, z: Tensor) -> Tensor:
        """Light left on the ground [N] at x, z: 1 in the open, down to 0.45 in the middle of a shadow."""
        left = torch.ones_like(x)
        if self.kind not in ("boulders", "pines"):
            return left
        away = -self.sky.light_vector[[0, 2]] / self.sky.light_vector[1].clamp(min=0.35)
        for azimuth, far, size, _ in self.items:
            r, height, width = self._stand(far, size)
            cx = r * math.sin(azimuth) + float(away[0]) * height * 0.5
            cz = r * math.cos(azimuth) + float(away[1]) * height * 0.5
            stretch = 1.0 + float(away.norm()) * height / (2.0 * width)
            ux, uz = (away / away.norm()).tolist() if away.norm() > 1e-3 else (1.0, 0.0)
            along = ((x - cx) * ux + (z - cz) * uz) / (width * stretch)
            across = ((x - cx) * uz - (z - cz) * ux) / width
            left *= 1.0 - 0.55 * smoothstep(1.35, 0.55, (along**2 + across**2).sqrt())
        return left

    def paint(self, d: Tensor, out: Tensor) -> Tensor:
        """Paint every object over `out` [N, 3] for directions d [N, 3]."""
        draw = {
            "boulders": self._boulder,
            "pines": self._pine,
            "balloons": self._balloon,
            "boats": self._boat,
        }.get(self.kind)
        for item in self.items if draw else ():
            centre, radius = self._bound(item)
            near = torch.nonzero(d @ centre > math.cos(min(radius, math.pi)))[:, 0]
            if near.numel():
                face, cover = draw(d[near], *item)
                out = out.index_copy(0, near, torch.lerp(out[near], face, cover[:, None]))
        return out

    def _stand(self, far: float, size: float) -> tuple[float, float, float]:
        """Distance, height and half-width in metres of a boulder or a pine."""
        if self.kind == "boulders":
            radius = 0.8 + 1.1 * size
            return 3.6 + 7.0 * far, 1.3 * radius, radius
        tall = 5.5 + 4.0 * size
        return 8.5 + 12.0 * far, tall, 0.26 * tall

    def _bound(self, item) -> tuple[Tensor, float]:
        azimuth, far, size, _ = item
        if self.kind == "balloons":
            lat, radius = math.radians(16.0 + 32.0 * size), math.radians(10.0 + 6.0 * (1.0 - far)) * 1.8
        elif self.kind == "boats":
            lat, radius = 0.06, 0.42
        else:
            r, tall, _ = self._stand(far, size)
            lat, radius = math.atan((0.5 * tall - EYE_HEIGHT) / r), math.atan(0.75 * tall / r) + 0.15
        axis = [math.cos(lat) * math.sin(azimuth), math.sin(lat), math.cos(lat) * math.cos(azimuth)]
        return torch.tensor(axis), radius

    def _light(self, albedo: Tensor, normal: Tensor) -> Tensor:
        p = self.sky.palette
        strength = {"day": 0.85, "sunset": 0.75, "dusk": 0.4, "night": 0.30}[self.sky.hour]
        fill = {"day": 0.55, "sunset": 0.50, "dusk": 0.55, "night": 0.50}[self.sky.hour]
        direct = (normal @ self.sky.light_vector).clamp(min=0.0)
        up = 0.75 + 0.25 * normal[:, 1]
        return (albedo * (p.ambient * fill * up[:, None] + p.light * strength * direct[:, None])).clamp(
            0.0, 1.0
        )

    def _boulder(self, d: Tensor, azimuth: float, far: float, size: float, hue: float):
        r, _, radius = self._stand(far, size)
        base = -EYE_HEIGHT + (0.10 if self.on_water else 0.35) * radius
        squash = torch.tensor([1.0, 1.35 - 0.4 * hue, 1.0])
        centre = torch.tensor([r * math.sin(azimuth), base, r * math.cos(azimuth)]) * squash
        ray = d * squash
        length = ray.norm(dim=-1)
        b = (ray @ centre) / length
        off2 = centre.dot(centre) - b**2
        depth = radius - off2.clamp(min=0.0).sqrt()
        t = b - (radius**2 - off2).clamp(min=0.0).sqrt()
        hit = ray / length[:, None] * t[:, None]
        normal = (hit - centre) / radius * squash
        n = lookup(
            fractal(4, 1.3),
            hit[:, 0] * 0.21 + hit[:, 1] * 0.13 + 5 * hue,
            hit[:, 2] * 0.21 - hit[:, 1] * 0.17,
        )
        bumped = torch.nn.functional.normalize(
            normal + 1.6 * torch.stack([n[0] - 0.5, 0 * n[0], n[1] - 0.5], -1), dim=-1
        )
        albedo = mix(rgb("6e6862"), rgb("a89a88"), n[0]) * (0.8 + 0.3 * hue)
        if self.snowy:
            albedo = mix(albedo, rgb("f6faff"), smoothstep(0.35, 0.65, bumped[:, 1]))
        foot = (hit[:, 1] / squash[1] + EYE_HEIGHT).clamp(0.0, 0.5) * 2.0
        grounded = (hit[:, 1] / squash[1] > -EYE_HEIGHT).float()
        face = self._light(albedo * (0.45 + 0.55 * foot)[:, None], bumped)
        return face, edge(depth / r, self.pixel) * grounded

    def _pine(self, d: Tensor, azimuth: float, far: float, size: float, hue: float):
        r, tall, _ = self._stand(far, size)
        x, up = self._billboard(d, azimuth, r)
        grain = lookup(fractal(2, 1.1), x * 0.35 + hue, up * 0.35)
        cover, side = tree_shape(
            x / r, up / r, tall / r, torch.ones_like(x, dtype=torch.bool), grain[0], self.pixel
        )
        albedo = mix(rgb("234d2c"), rgb("4c8048"), torch.full_like(x, hue)) * (0.5 + 0.9 * grain[1])[:, None]
        if self.snowy:
            albedo = mix(
                albedo,
                rgb("f4f8ff"),
                smoothstep(0.5, 0.85, torch.frac(up / tall * 6.0) + 0.5 * (grain[0] - 0.5)),
            )
        albedo = torch.where(
            (up < 0.14 * tall)[:, None], rgb("5a4029") * (0.6 + 0.8 * grain[1])[:, None], albedo
        )
        normal = self._round(side, azimuth, 0.35)
        return self._light(albedo, normal), cover * (up > 0.0)

    def _balloon(self, d: Tensor, azimuth: float, far: float, size: float, hue: float):
        lat = math.radians(16.0 + 32.0 * size) + 0.02 * math.sin(self.time + 6.0 * hue)
        width = math.radians(10.0 + 6.0 * (1.0 - far))
        axis = torch.tensor(
            [math.cos(lat) * math.sin(azimuth), math.sin(lat), math.cos(lat) * math.cos(azimuth)]
        )
        right = torch.tensor([math.cos(azimuth), 0.0, -math.sin(azimuth)])
        down = -torch.linalg.cross(axis, right)
        down = down if down[1] < 0 else -down
        forward = (d @ axis).clamp(min=0.05)
        x, y = (d @ right) / forward / width, (d @ down) / forward / width
        # A sphere above, a cone towards the basket below: the envelope's outline in units of its radius.
        half = torch.where(y < 0.35, (1.0 - y**2).clamp(min=0.0).sqrt(), 0.937 - 0.93 * (y - 0.35)).clamp(
            min=0.0
        )
        envelope = edge((half - x.abs()) * width, self.pixel) * ((y < 1.18) & (y > -1.0))
        bulge = (x / half.clamp(min=0.05)).clamp(-1.0, 1.0)
        one, two = (rgb(c) for c in _BALLOON_PAIRS[int(hue * len(_BALLOON_PAIRS)) % len(_BALLOON_PAIRS)])
        stripe = torch.sin(torch.asin(bulge) * 7.0 + 6.0 * size) > 0
        albedo = torch.where(stripe[:, None], one, two)
        albedo = torch.where(((y - 0.30).abs() < 0.09)[:, None], one * 0.75, albedo)
        normal = (
            right * bulge[:, None]
            + down * y[:, None].clamp(-1.0, 1.0)
            - axis * (1.0 - bulge**2).clamp(min=0.0).sqrt()[:, None]
        )
        face = self._light(albedo, torch.nn.functional.normalize(normal, dim=-1))
        if self.sky.hour in ("night", "dusk"):
            face = (
                face + albedo * rgb("ffb45e") * (0.75 * torch.exp(-((y - 0.9) ** 2) * 1.4))[:, None]
            ).clamp(max=1.0)
        basket = edge((0.17 - x.abs()) * width, self.pixel) * edge(
            (0.14 - (y - 1.52).abs()) * width, self.pixel
        )
        ropes = 0.6 * ((x.abs() - 0.15).abs() < 0.03).float() * ((y > 1.1) & (y < 1.45)).float()
        face = torch.where((basket > envelope)[:, None], rgb("6b4a2b").expand_as(face), face)
        face = torch.where(
            (ropes > torch.maximum(envelope, basket))[:, None], rgb("4a3a30").expand_as(face), face
        )
        return face, torch.maximum(torch.maximum(envelope, basket), ropes)

    def _boat(self, d: Tensor, azimuth: float, far: float, size: float, hue: float):
        r = 9.0 + 14.0 * far
        x, up = self._billboard(d, azimuth, r)
        mirrored = up < 0.0
        tall = 5.0 + 2.5 * size
        y = up.abs() / tall
        lean = x / tall
        hull = (y < 0.16) & (lean.abs() < 0.30 - 0.35 * (0.16 - y)) & (y > 0.0)
        mast = (lean.abs() < 0.012) & (y < 1.0)
        main = (lean > 0.02) & (y > 0.2) & (lean < 0.36 * (1.0 - (y - 0.2) / 0.78))
        jib = (lean < -0.02) & (y > 0.2) & (lean > -0.24 * (1.0 - (y - 0.2) / 0.62))
        sail = mix(rgb("fbf6ea"), rgb("e4523a"), torch.full_like(x, 1.0 if hue > 0.6 else 0.0))
        face = torch.where(
            hull[:, None], rgb(("7a3b22", "24456e", "f0ede6")[int(hue * 3) % 3]), rgb("5b4632")
        )
        face = torch.where(main[:, None], sail, torch.where(jib[:, None], rgb("f4ead2"), face))
        lit = self._light(face, self._round(lean * 2.0 - 0.4, azimuth, 0.2))
        water = mix(lit, self.sky.palette.water, torch.full_like(x, 0.45))
        cover = (hull | mast | main | jib).float()
        wobble = 0.5 + 0.3 * torch.sin(up * 9.0 + 4.0 * hue)
        return torch.where(mirrored[:, None], water, lit), torch.where(
            mirrored & (y < 0.8), cover * wobble, cover * ~mirrored
        )

    def _billboard(self, d: Tensor, azimuth: float, r: float) -> tuple[Tensor, Tensor]:
        """Where a ray meets the upright plane facing the viewer at distance r: metres right of its axis, above ground."""
        forward = (d[:, 0] * math.sin(azimuth) + d[:, 2] * math.cos(azimuth)).clamp(min=0.05)
        right = d[:, 0] * math.cos(azimuth) - d[:, 2] * math.sin(azimuth)
        return right / forward * r, d[:, 1] / forward * r + EYE_HEIGHT

    def _round(self, side: Tensor, azimuth: float, lift: float) -> Tensor:
        """Normals [N, 3] of an upright round body seen `side` of -1..1 off its axis."""
        side = side.clamp(-1.0, 1.0)
        toward = -(1.0 - side**2).clamp(min=0.0).sqrt()
        sin, cos = math.sin(azimuth), math.cos(azimuth)
        normal = torch.stack(
            [side * cos + toward * sin, torch.full_like(side, lift), -side * sin + toward * cos], -1
        )
        return torch.nn.functional.normalize(normal, dim=-1)
