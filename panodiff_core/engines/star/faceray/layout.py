"""Where the boundary tokens lie in a tensor: the tables of one or several scales, laid over a sequence of tokens.

A layout says explicitly how a tensor is arranged, so that the adapter never guesses. Both kinds are cached per device
and belong to no state dict.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....runtime.errors import InputError
from .geometry import SeamRule, SeamTables, ray_frames, seam_tables


@dataclass(frozen=True)
class FaceRayLayout:
    """Boundary tokens of tensors [cubes·rows, length, C], in which `rows` consecutive rows make one cube.

    `queries` [Q]: positions in the rows·length tokens of a cube. `keys` [R]: which of the queries are somebody's
    neighbour. `neighbours` [Q, K]: positions in `keys`, 0 where `seen` [Q, K] is False; every query sees at least one.
    `query_frames` [Q, 3, 3] and `key_frames` [R, 3, 3]: D_ray in float32.
    """

    rows: int
    length: int
    queries: Tensor
    keys: Tensor
    neighbours: Tensor
    seen: Tensor
    query_frames: Tensor
    key_frames: Tensor


def face_layout(
    sides: Sequence[int], rule: SeamRule | None = None, device: torch.device | str = "cpu"
) -> FaceRayLayout:
    """Six rows per cube, one per face, each the tokens of the scales `sides` one after the other.

    One side for inference with a cache, where a tensor holds the current scale only; all of them for teacher forcing.
    Tokens see their own scale alone.
    """
    return _face_layout(tuple(sides), rule or SeamRule(), str(device))


def sampler_layout(
    side: int, rule: SeamRule | None = None, device: torch.device | str = "cpu"
) -> FaceRayLayout:
    """One row per cube: a text token, then the tokens of F, R, B, L, U and D at the scale `side`."""
    return _sampler_layout(side, rule or SeamRule(), str(device))


@functools.lru_cache(maxsize=256)
@torch.inference_mode(False)
def _face_layout(sides: tuple[int, ...], rule: SeamRule, device: str) -> FaceRayLayout:
    if not sides or min(sides) < 1:
        raise InputError(f"sides are {sides}; give the side length of at least one scale, each at least 1")
    length = sum(side**2 for side in sides)
    starts = [sum(side**2 for side in sides[:s]) for s in range(len(sides))]

    def placed(start: int, size: int) -> Callable[[Tensor], Tensor]:
        return lambda number: number // size * length + start + number % size

    places = [placed(start, side**2) for start, side in zip(starts, sides, strict=True)]
    return _lay_over(6, length, [seam_tables(side, rule) for side in sides], places, device)


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def _sampler_layout(side: int, rule: SeamRule, device: str) -> FaceRayLayout:
    if side < 1:
        raise InputError(f"side is {side}; a scale has a side of at least 1")
    return _lay_over(1, 1 + 6 * side**2, [seam_tables(side, rule)], [lambda number: 1 + number], device)


def _lay_over(
    rows: int,
    length: int,
    tables: Sequence[SeamTables],
    places: Sequence[Callable[[Tensor], Tensor]],
    device: str,
) -> FaceRayLayout:
    """One layout of several scales; `places` turn a scale's token numbers into positions in a cube."""
    widest = max(table.neighbours.shape[1] for table in tables)
    queries, frames, neighbours = [], [], []
    for table, place in zip(tables, places, strict=True):
        seen = table.neighbours >= 0
        found = torch.where(seen, place(table.neighbours.clamp(min=0)), -1)
        neighbours.append(torch.nn.functional.pad(found, (0, widest - found.shape[1]), value=-1))
        queries.append(place(table.queries))
        frames.append(ray_frames(table.side).flatten(0, 1)[table.queries])
    query, frame, neighbour = torch.cat(queries), torch.cat(frames), torch.cat(neighbours)
    order = query.argsort()  # ascending positions, for memory that is read in order
    query, frame, neighbour = query[order], frame[order], neighbour[order]
    referenced = neighbour[neighbour >= 0].unique()
    keys = torch.searchsorted(query, referenced)
    if not torch.equal(query[keys], referenced):
        raise AssertionError("a neighbour is no boundary token")
    to_key = torch.searchsorted(referenced, neighbour.clamp(min=int(referenced[0])))
    tensors = (query, keys, to_key, neighbour >= 0, frame, frame[keys])
    return FaceRayLayout(rows, length, *(each.to(device) for each in tensors))
