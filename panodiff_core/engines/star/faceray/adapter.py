"""FaceRay attention: boundary tokens of a cube's faces look across the edges, in ray coordinates.

The first channels of a head are three-vectors in world axes. Queries, keys and values turn them into the frame of the
token's own viewing ray, and the result is turned back, so that two faces exchange directions that mean the same.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ....runtime.errors import InputError
from ..config import FaceRayConfig
from .layout import FaceRayLayout

CPU_QUERIES = 512
"""Queries that a CPU gathers neighbours for at a time."""


class FaceRayAdapter(nn.Module):
    """A residual for the boundary tokens of six faces; exactly 0 for all others, and for all before training.

    Every boundary token is projected once per call. `operations` provides `Linear`.
    """

    def __init__(self, width: int, config: FaceRayConfig, operations: Any = nn) -> None:
        super().__init__()
        self.heads, self.ray_subdim = config.heads, config.ray_subdim
        self.qkv = operations.Linear(width, 3 * config.adapter_dim, bias=False)
        self.out_proj = operations.Linear(config.adapter_dim, width)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Fresh weights: the projection as STAR's linears, and a zero output, so that training starts from STAR."""
        std = (3 * self.qkv.weight.shape[1]) ** -0.5
        nn.init.normal_(self.qkv.weight, std=std, generator=generator)
        nn.init.zeros_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, layout: FaceRayLayout, strength: float = 1.0) -> Tensor:
        """The residual of tokens x [cubes·rows, length, C], times `strength`, in the layout's arrangement.

        Raises InputError where x is arranged otherwise.
        """
        if x.shape[0] % layout.rows or x.shape[1] != layout.length:
            raise InputError(
                f"tokens {list(x.shape)} do not fit their layout: {layout.rows} rows per cube of {layout.length} "
                "tokens; build the layout for the scales that this call holds"
            )
        cubes = x.reshape(-1, layout.rows * layout.length, x.shape[2])
        tokens = self.qkv(cubes.index_select(1, layout.queries))
        with torch.autocast(x.device.type, enabled=False):
            seen = self._attend(tokens.float(), layout)
        delta = self.out_proj(seen.flatten(2).to(tokens.dtype))
        if strength != 1.0:
            delta = delta * strength
        out = delta.new_zeros(cubes.shape).index_copy_(1, layout.queries, delta)
        return out.view(x.shape)

    def _attend(self, tokens: Tensor, layout: FaceRayLayout) -> Tensor:
        """q, k and v of the boundary tokens [B, Q, 3·C'] → what each of them gathers [B, Q, heads, head width]."""
        q, k, v = tokens.unflatten(2, (3, self.heads, -1)).unbind(2)
        k, v = (each.index_select(1, layout.keys) for each in (k, v))
        q = turn(q, layout.query_frames, self.ray_subdim)
        k, v = (turn(each, layout.key_frames, self.ray_subdim) for each in (k, v))
        return turn(sparse_attention(q, k, v, layout), layout.query_frames.mT, self.ray_subdim)


def turn(x: Tensor, frames: Tensor, ray_subdim: int) -> Tensor:
    """Turn the vectors of x [B, T, heads, d] by the token's matrix of frames [T, 3, 3].

    Channel c·m + i of the first `ray_subdim` = 3·m is component c of vector i; the other channels stay.
    """
    if not ray_subdim:
        return x
    x_, y_, z_ = x[..., :ray_subdim].unflatten(-1, (3, 1, -1)).unbind(-3)
    columns = (frames[:, None, :, c, None] for c in range(3))
    turned = sum(column * part for column, part in zip(columns, (x_, y_, z_), strict=True))
    return torch.cat([turned.flatten(-2), x[..., ray_subdim:]], dim=-1)


def sparse_attention(q: Tensor, k: Tensor, v: Tensor, layout: FaceRayLayout) -> Tensor:
    """Softmax attention of queries [B, Q, heads, d] over their neighbours among keys and values [B, R, heads, d]."""
    # A CPU works in its caches (measured for 4500 queries: a fifth of the time); a GPU wants few launches.
    some = CPU_QUERIES if q.device.type == "cpu" else max(1, q.shape[1])
    parts = zip(q.split(some, dim=1), layout.neighbours.split(some), layout.seen.split(some), strict=True)
    return torch.cat([_attend_few(queries, k, v, *part) for queries, *part in parts], dim=1)


def _attend_few(q: Tensor, k: Tensor, v: Tensor, neighbours: Tensor, seen: Tensor) -> Tensor:
    picked = neighbours.flatten()
    k, v = (each.index_select(1, picked).unflatten(1, neighbours.shape) for each in (k, v))
    scores = (q[:, :, None] * k).sum(-1) / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(~seen[:, :, None], -torch.inf).softmax(dim=2)
    return (weights[..., None] * v).sum(dim=2)
