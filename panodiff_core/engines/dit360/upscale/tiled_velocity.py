"""The velocity of a picture too large for the network: one tile at a time, faded into its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ....autoencoders.tiles import TilePlan
from ....layers.ring import PATCH, pack
from ..model import RingGrid
from ..sampling import Predict


@dataclass(frozen=True)
class NetworkTile:
    """One tile: the tokens of the picture that it covers [n], their weights [n, 4C], and the network for its grid."""

    places: Tensor
    weights: Tensor
    grid: RingGrid
    predict: Predict


class TiledVelocity:
    """(tokens of a whole picture [B, N, 4C], σ) → their velocity: the network on one tile at a time, blended.

    `bind(ids)` gives the network for a grid with these position ids. Tiles that are as wide as the ring have `padding`
    columns on both sides, all others none. `on_tile()` is called after each of `plan.tiles` tiles.
    """

    def __init__(
        self,
        plan: TilePlan,
        padding: int,
        channels: int,
        bind: Callable[[Tensor], Predict],
        device: torch.device,
        on_tile: Callable[[], None],
    ) -> None:
        self.tiles = _lay_tiles(plan, padding, channels, bind, device)
        self.on_tile = on_tile
        self.weights = torch.zeros(plan.rows.length * plan.columns.length // 4, 4 * channels, device=device)
        for tile in self.tiles:
            self.weights.index_add_(0, tile.places, tile.weights)

    def __call__(self, tokens: Tensor, sigma: float) -> Tensor:
        total = torch.zeros_like(tokens)
        for tile in self.tiles:
            inside = tile.grid.pad(tokens.index_select(1, tile.places))
            velocity = tile.grid.crop(tile.predict(inside, sigma))
            total.index_add_(1, tile.places, velocity * tile.weights)
            self.on_tile()
        return total / self.weights


def _lay_tiles(
    plan: TilePlan, padding: int, channels: int, bind: Callable[[Tensor], Predict], device: torch.device
) -> list[NetworkTile]:
    tiles = []
    rows, columns = plan.rows.length // PATCH, plan.columns.length // PATCH
    line, around = torch.arange(rows, device=device) * columns, torch.arange(columns, device=device)
    for row, (top, bottom) in enumerate(plan.rows.spans()):
        grid = RingGrid(bottom - top, plan.columns.tile, padding, device=device)
        predict = bind(grid.ids)
        for column, (left, right) in enumerate(plan.columns.spans()):
            window = torch.outer(
                plan.rows.window(row, 1, device), plan.columns.window(column, 1, device)
            ).expand(1, channels, -1, -1)
            inside = around.roll(-left // PATCH)[: (right - left) // PATCH]
            places = (line[top // PATCH : bottom // PATCH, None] + inside).flatten()
            tiles.append(NetworkTile(places, pack(window)[0], grid, predict))
    return tiles
