"""Large pictures as previews and tiles."""

from __future__ import annotations

import numpy
import pytest
from PIL import Image

from panodiff_core.io.pyramid import PREVIEW, TILE, cut_tiles, pyramid_levels


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(numpy.random.default_rng(1).integers(0, 256, (height, width, 3), numpy.uint8))


def test_levels_are_averages_of_areas_down_to_the_preview():
    picture = noise(4 * PREVIEW // 2 + 4, PREVIEW + 2)
    levels = pyramid_levels(picture)
    assert [level.size for level in levels] == [(4100, 2050), (2050, 1025), (1024, 512)]
    blocks = numpy.asarray(picture, numpy.float64).reshape(1025, 2, 2050, 2, 3).mean((1, 3))
    assert abs(numpy.asarray(levels[1]) - blocks).max() <= 0.5 + 1e-6
    assert [level.size for level in pyramid_levels(noise(300, 5001))] == [
        (300, 5001),
        (150, 2500),
        (75, 1250),
    ]
    assert pyramid_levels(noise(PREVIEW, 4))[0].size == (PREVIEW, 4)


def test_tiles_hold_their_part_and_what_lies_next_to_it_on_the_sphere():
    picture = noise(2600, 1300)
    pixels = numpy.asarray(picture)
    tiles = {(column, row): numpy.asarray(tile) for column, row, tile in cut_tiles(picture)}
    assert sorted(tiles) == [(column, row) for column in range(3) for row in range(2)]
    assert tiles[0, 0].shape == (TILE + 2, TILE + 2, 3) and tiles[2, 1].shape == (278, 554, 3)
    for (column, row), tile in tiles.items():
        for y in (0, 1, 100, tile.shape[0] - 1):
            for x in (0, 1, 77, tile.shape[1] - 1):
                j, i = column * TILE + x - 1, row * TILE + y - 1
                beyond = i < 0 or i >= 1300  # the same row again, half a turn around
                i = -1 - i if i < 0 else 2599 - i if beyond else i
                assert (tile[y, x] == pixels[i, (j + 1300 * beyond) % 2600]).all(), (column, row, x, y)


@pytest.mark.parametrize(("width", "height"), [(1500, 300), (300, 1500)])
def test_edges_are_repeated_where_the_sphere_is_open(width, height):
    picture = noise(width, height)
    pixels = numpy.asarray(picture)
    first = numpy.asarray(next(cut_tiles(picture))[2])
    assert (first[0, 1:200] == first[1, 1:200]).all()
    assert (first[1:200, 0] == pixels[:199, -1 if width > height else 0]).all()
