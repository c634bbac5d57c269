"""The equirectangular picture as a sphere: pixels, longitude and latitude, directions.

World axes: +X right, +Y up, +Z forward, left-handed, seen from inside. Pixel centres: lon = ((j + 1/2) / W -
1/2) 2 pi, lat = (1/2 - (i + 1/2) / H) pi. The image centre is forward; column W is column 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .checks import check_directions, check_size


def lonlat_to_directions(lon: Tensor, lat: Tensor) -> Tensor:
    """Unit directions [...,3] for longitude (positive to the right) and latitude (positive up), radians."""
    across = torch.cos(lat)
    return torch.stack(
        torch.broadcast_tensors(across * torch.sin(lon), torch.sin(lat), across * torch.cos(lon)), -1
    )


def directions_to_lonlat(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Longitude in [-pi, pi] and latitude in [-pi/2, pi/2] of directions [...,3] of any length.

    At the exact poles the longitude is 0 and gradients stay finite. Raises `InputError` unless the last size
    is 3.
    """
    check_directions(directions)
    x, y, z = directions.unbind(-1)
    squared = x * x + z * z
    pole = squared == 0
    # A second `where` keeps NaN out of the gradients of atan2 and sqrt at the pole.
    z = torch.where(pole, torch.ones_like(z), z)
    across = torch.where(pole, torch.zeros_like(z), torch.where(pole, torch.ones_like(z), squared).sqrt())
    return torch.atan2(x, z), torch.atan2(y, across)


def lonlat_to_equirect_pixels(lon: Tensor, lat: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Pixel coordinates, centres at whole numbers: x in [-1/2, W - 1/2], y in [-1/2, H - 1/2]."""
    x = (lon / (2.0 * math.pi) + 0.5) * width - 0.5
    y = (0.5 - lat / math.pi) * height - 0.5
    return x, y


def equirect_pixels_to_lonlat(x: Tensor, y: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Longitude and latitude (radians) of pixel coordinates, the inverse of `lonlat_to_equirect_pixels`."""
    lon = ((x + 0.5) / width - 0.5) * (2.0 * math.pi)
    lat = (0.5 - (y + 0.5) / height) * math.pi
    return lon, lat


def equirect_directions(
    height: int, width: int, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> Tensor:
    """Unit directions [H,W,3] through the pixel centres of an equirectangular picture."""
    check_size("height", height)
    check_size("width", width)
    columns = torch.arange(width, dtype=dtype, device=device)
    rows = torch.arange(height, dtype=dtype, device=device)
    lon, lat = equirect_pixels_to_lonlat(columns, rows[:, None], height, width)
    return lonlat_to_directions(lon, lat)
