"""Directions to colours: the one renderer behind panoramas, cube faces and perspective views of a world."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...geometry.sphere import equirect_directions
from ...runtime.errors import InputError
from .attributes import Scene
from .features import Features
from .ground import Ground
from .room import Room
from .sky import Sky
from .skyline import Skyline


@torch.autocast("cpu", enabled=False)  # a training that renders on the way may compute in 16 bits
def render(scene: Scene, directions: Tensor, time: float = 0.0, pixel_angle: float = math.pi / 256) -> Tensor:
    """Colour seen along each direction.

    Args:
        scene: the world.
        directions: unit vectors [..., 3], float32 (+X right, +Y up, +Z ahead).
        time: seconds; clouds drift, waves run and balloons bob.
        pixel_angle: the angle in radians that one pixel covers, for antialiasing. Views that are to agree exactly
            must pass the same one.

    Returns colours [..., 3] in 0..1 on the directions' device. Raises InputError for another last dimension than 3.
    """
    if directions.shape[-1] != 3:
        raise InputError(
            f"directions have shape {tuple(directions.shape)}; the last dimension must be 3 (x, y, z)."
        )
    d = _unyaw(directions.detach().to("cpu", torch.float32).reshape(-1, 3), scene.yaw_deg)
    sky = Sky(scene, time)
    if scene["place"] == "room":
        return Room(scene, sky, pixel_angle).colour(d).reshape(directions.shape).to(directions.device)
    out = _outdoor(scene, sky, d, time, pixel_angle)
    return out.clamp(0.0, 1.0).reshape(directions.shape).to(directions.device)


def render_equirect(scene: Scene, height: int, width: int, time: float = 0.0) -> Tensor:
    """The scene as an equirectangular picture [3, height, width] in 0..1. Raises InputError for a size below 1."""
    rays = equirect_directions(height, width)
    return render(scene, rays, time, math.pi / height).permute(2, 0, 1).contiguous()


def _outdoor(scene: Scene, sky: Sky, d: Tensor, time: float, pixel: float) -> Tensor:
    skyline = Skyline(scene, sky, pixel)
    ground = Ground(scene, sky, skyline, pixel, time)
    features = Features(scene, sky, pixel, time)
    up = torch.nonzero(d[:, 1] >= 0.0)[:, 0]
    down = torch.nonzero(d[:, 1] < 0.0)[:, 0]
    out = torch.empty_like(d)
    if up.numel():
        out[up] = skyline.paint(d[up], sky.colour(d[up]))
    if down.numel():
        out[down] = ground.colour(d[down], features.shadows)
    return features.paint(d, out)


def _unyaw(d: Tensor, yaw_deg: float) -> Tensor:
    if yaw_deg == 0.0:
        return d
    sin, cos = math.sin(math.radians(yaw_deg)), math.cos(math.radians(yaw_deg))
    return torch.stack([d[:, 0] * cos - d[:, 2] * sin, d[:, 1], d[:, 0] * sin + d[:, 2] * cos], -1)
