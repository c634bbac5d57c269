"""How far a conversion is from a function known on the whole sphere, each library judged by its own
convention.

Libraries disagree on where the pixels of a picture lie, and on how the faces are ordered, turned and
mirrored. All combinations are tried and the one with the smallest error counts, so that nobody is charged for
a convention.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from panodiff_core.geometry import face_frames
from panodiff_core.geometry.sphere import lonlat_to_directions

PLACEMENTS = ("centre", "corner", "left")


def places(count: int, placement: str) -> Tensor:
    """Pixel positions in -1..1: at pixel centres, from border to border, or at the pixels' left borders."""
    index = torch.arange(count, dtype=torch.float64)
    if placement == "corner":
        return 2 * index / (count - 1) - 1
    return (2 * index + (placement == "centre")) / count - 1


def truth(directions: Tensor) -> Tensor:
    """A smooth function without symmetry: [...,3] to three channels in 0..1, float64."""
    x, y, z = directions.unbind(-1)
    red = torch.sin(3.1 * x + 1.3 * y + 0.4) * torch.cos(2.3 * z - 0.7)
    green = torch.cos(2.7 * y - 1.9 * z + 1.1 * x)
    blue = x * y + 0.7 * torch.sin(3.3 * z + 0.2) - 0.4 * y
    return 0.5 + 0.3 * torch.stack([red, green, blue])


def truth_equirect(height: int, placement: str = "centre") -> Tensor:
    """The function as an equirectangular picture [3,H,2H], float32."""
    lon = places(2 * height, placement) * torch.pi
    lat = -places(height, placement) * torch.pi / 2
    return truth(lonlat_to_directions(lon, lat[:, None])).float()


def truth_faces(size: int, placement: str) -> Tensor:
    """The function on our six faces [6,3,S,S], float32."""
    at = places(size, placement)
    n, a, b = (face_frames(torch.float64)[:, k].view(6, 1, 1, 3) for k in range(3))
    plane = n + at[None, :, None] * a - at[:, None, None] * b
    return truth(torch.nn.functional.normalize(plane, dim=-1)).transpose(0, 1).float()


def turned(faces: Tensor, turn: int) -> Tensor:
    """One of the eight ways to turn and mirror square pictures [...,S,S]."""
    faces = faces.flip(-1) if turn >= 4 else faces
    return faces.rot90(turn % 4, (-2, -1))


def measure_error(contestant, height: int, size: int) -> dict[str, dict]:
    """Root mean square and largest error both ways, over every pixel, in the most favourable convention."""
    tries = []
    for source in PLACEMENTS:
        picture = contestant.picture(truth_equirect(height, source))
        faces = as_faces(contestant.to_cube(picture), size)
        for placement in PLACEMENTS:
            order, best = match_faces(faces, truth_faces(size, placement))
            tries.append((error(faces, best), order, f"equirect {source}, cube {placement}"))
    there, order, convention = min(tries, key=lambda t: t[0]["rms"])
    back = min(
        (
            back_error(contestant, height, size, order, *pair)
            for pair in itertools.product(PLACEMENTS, PLACEMENTS)
        ),
        key=lambda e: e["rms"],
    )
    return {"to_cube": {**there, "convention": convention}, "to_equirect": back}


def back_error(contestant, height: int, size: int, order, cube: str, equirect: str) -> dict:
    """Error of the way back from faces laid out as `order` says."""
    truth_cube = truth_faces(size, cube)
    faces = torch.stack([turned(truth_cube[face], turn) for face, turn in order]).contiguous()
    out = as_picture(contestant.to_equirect(contestant.faces(faces)))
    return {**error(out, truth_equirect(height, equirect)), "convention": f"cube {cube}, equirect {equirect}"}


def match_faces(faces: Tensor, reference: Tensor) -> tuple[list[tuple[int, int]], Tensor]:
    """For every face the (face, turn) of the reference that it looks like, and that reference."""
    order, found = [], []
    for face in faces:
        candidates = [(f, t, turned(reference[f], t)) for f in range(6) for t in range(8)]
        f, t, best = min(
            candidates, key=lambda c: float((face[:, ::8, ::8] - c[2][:, ::8, ::8]).abs().mean())
        )
        order.append((f, t))
        found.append(best)
    return order, torch.stack(found)


def error(out: Tensor, exact: Tensor) -> dict[str, float]:
    difference = (out.double() - exact.double()).abs()
    return {"rms": float(difference.square().mean().sqrt()), "max": float(difference.max())}


def as_faces(out, size: int) -> Tensor:
    """Whatever a library returns as a cube: [6,3,S,S]."""
    if isinstance(out, list):
        return torch.stack([torch.from_numpy(np.ascontiguousarray(face)).permute(2, 0, 1) for face in out])
    if out.shape[-1] == 6 * size:
        return torch.stack(out.reshape(3, size, 6 * size).split(size, -1))
    return out.reshape(6, 3, size, size)


def as_picture(out) -> Tensor:
    """Whatever a library returns as an equirectangular picture: [3,H,W]."""
    if isinstance(out, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(out)).permute(2, 0, 1)
    return out.reshape(3, *out.shape[-2:])
