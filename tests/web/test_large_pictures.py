"""Large pictures: a preview first, then the tiles that are seen, as exact as one texture of the whole."""

from __future__ import annotations

import io
import threading
from types import SimpleNamespace

import numpy
import pytest
import torch
from PIL import Image

from panodiff_core import geometry as geo
from panodiff_core.io.pyramid import TILE, cut_tiles, pyramid_levels
from tests.web.conftest import png_bytes, synthetic_panorama, wait_until
from tests.web.test_view_modes import (
    MAX_TOLERANCE,
    MEAN_TOLERANCE,
    POINTS_AS_THEY_ARE,
    SETUP,
    cases,
    compared,
    drawn,
    rendered,
)

HEIGHT = 3072
LAYER_BYTES = 4 * (TILE + 2) ** 2
SETTLED = "node => { const { tiles } = harness.view(node).picture ?? {};" \
    " return tiles && !tiles.timer && tiles.wanted.size > 0 && !tiles.busy" \
    " && tiles.pending.size === 0; }"  # fmt: skip


def encoded(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def stored(comfy, name: str, pixels: torch.Tensor) -> dict:
    """Put a picture [3,H,W] where the browser finds it, as the node does; what the node tells of it."""
    whole = Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy())
    *levels, preview = pyramid_levels(whole)
    comfy.pictures[f"{name}.png"] = encoded(preview)
    for index, level in enumerate(levels):
        for column, row, tile in cut_tiles(level):
            comfy.pictures[f"{name}_tile_{index}_{column}_{row}.png"] = encoded(tile)
    tiles = {"prefix": f"{name}_tile_", "levels": [list(level.size) for level in levels]}
    width, height = whole.size
    return {
        "filename": f"{name}.png", "subfolder": "", "type": "temp", "width": width, "height": height,
        "tiles": tiles,
    }  # fmt: skip


@pytest.fixture
def page(open_page, comfy):
    opened = open_page(comfy.address, 1100, 700)
    wait_until(opened, "window.harness")
    opened.evaluate(SETUP)
    return opened


@pytest.fixture(scope="module")
def large() -> torch.Tensor:
    """6144 pixels around, noise on noise: every pixel differs from its neighbours."""
    return synthetic_panorama(HEIGHT)


@pytest.fixture(scope="module")
def files(large) -> SimpleNamespace:
    """The files of `large`, made once, and what the node tells of them."""

    made = SimpleNamespace(pictures={})
    made.entry = stored(made, "large", large)
    return made


def place(page, entry: dict, most: int | None = None) -> int:
    """A viewer node that shows a stored picture, with `most` layers for tiles."""
    node = page.evaluate("harness.place('PanoDiff_ViewPanorama')")
    wait_until(page, "node => harness.view(node)?.renderer", node)
    if most:
        page.evaluate("([node, most]) => { harness.view(node).renderer.pool.most = most; }", [node, most])
    page.evaluate("([node, entry]) => harness.run(node, { panodiff_panorama: [entry] })", [node, entry])
    wait_until(page, "node => harness.nodes[node].box.querySelector('.pd360-has-picture')", node)
    return node


def asked_tiles(comfy) -> list[str]:
    return [name.removesuffix(".png").split("_tile_")[1] for name in comfy.asked if "_tile_" in name]


@pytest.fixture
def node(page, comfy, files) -> int:
    comfy.pictures |= files.pictures
    return place(page, files.entry)


EDGES = [
    geo.View("perspective", 96, 160, 12.0, 180.0, 2.0, 30.0),  # the back meridian
    geo.View("perspective", 96, 160, 15.0, 60.0, 90.0),  # the poles
    geo.View("perspective", 96, 160, 15.0, -178.0, -89.0),
    geo.View("perspective", 96, 160, 12.0, 60.0, 30.0),  # where four tiles meet
]


@pytest.mark.parametrize("mode", geo.VIEW_MODES)
def test_every_pixel_is_what_the_core_renders(page, node, large, mode):
    for view in [*cases(mode)[:3], *(EDGES if mode == "perspective" else [])]:
        seen = drawn(page, node, view, **POINTS_AS_THEY_ARE)
        mean, largest, _ = compared(seen, rendered(large, view), view)
        print(f"{mode:14} fov {view.fov_deg:5.1f} mean {mean * 255:.3f}/255 max {largest * 255:.2f}/255")
        assert mean <= MEAN_TOLERANCE and largest <= MAX_TOLERANCE, (view, mean * 255, largest * 255)
    assert page.locator(".pd360-notice").count() == 0


def test_a_whole_file_is_cut_in_the_browser_as_exactly(page, comfy, large):
    comfy.pictures["whole.png"] = png_bytes(large)
    node = place(page, {"filename": "whole.png", "subfolder": "", "type": "temp"})
    assert page.evaluate("node => harness.view(node).picture.sphere", node) == [1536, 768]
    for view in [*EDGES, *(cases(mode)[0] for mode in ("flat", "planet", "cubemap_cross"))]:
        seen = drawn(page, node, view, **POINTS_AS_THEY_ARE)
        mean, largest, _ = compared(seen, rendered(large, view), view)
        assert mean <= MEAN_TOLERANCE and largest <= MAX_TOLERANCE, (view, mean * 255, largest * 255)
    assert comfy.asked == ["whole.png"]


WHOLE_TEXTURE = """async (node) => {
  const view = harness.view(node);
  const { tiles } = view.picture;
  const address = view.loaded.source.preview.replace("large.png", "whole.png");
  const { decoded, fetched } = await import("/extensions/PanoDiff/viewer/picture/decode.mjs");
  const bitmap = await decoded(await fetched(address));
  view.renderer.deleteTexture(view.picture);
  view.picture = view.renderer.createTexture({ bitmap, width: bitmap.width, height: bitmap.height });
}"""


@pytest.mark.parametrize("anisotropy", [1, 8])
def test_coarser_views_are_those_of_one_large_texture(page, comfy, files, large, anisotropy):
    """Averages over areas come from the levels of the pyramid as from the mipmaps of a texture."""
    comfy.pictures |= {**files.pictures, "whole.png": png_bytes(large)}
    node = page.evaluate("harness.place('PanoDiff_ViewPanorama')")
    wait_until(page, "node => harness.view(node)?.renderer", node)
    page.evaluate(
        "([node, value]) => { harness.view(node).renderer.anisotropy = value; }", [node, anisotropy]
    )
    page.evaluate("([node, entry]) => harness.run(node, { panodiff_panorama: [entry] })", [node, files.entry])
    wait_until(page, SETTLED, node)
    views = [
        geo.View("perspective", 360, 640, 100.0, 170.0, 10.0),
        geo.View("flat", 480, 960, 360.0, 30.0),
        geo.View("planet", 400, 400, 250.0, 0.0, -90.0),
        geo.View("fisheye", 600, 600, 180.0, 100.0, 40.0),
        geo.View("cubemap_cross", 600, 800, 360.0, 20.0),
    ]
    tiled = [drawn(page, node, view, seamLine=False) for view in views]
    assert page.evaluate("node => harness.view(node).picture.tiles.placed.size", node) > 8
    page.evaluate(WHOLE_TEXTURE, node)
    for view, seen in zip(views, tiled, strict=True):
        difference = (seen - drawn(page, node, view, seamLine=False)).abs()
        print(f"{view.mode:14} mean {difference.mean() * 255:.3f}/255 max {difference.max() * 255:.1f}/255")
        assert difference.mean() < (0.5 if anisotropy == 1 else 1.5) / 255, view


def test_the_preview_is_seen_first_and_then_only_what_is_looked_at_is_fetched(page, comfy, files, large):
    gate = threading.Event()
    answer = comfy.answer

    def gated(target: str):
        found = answer(target)
        if "_tile_" in target:
            gate.wait(30)
        return found

    comfy.answer = gated
    comfy.pictures |= files.pictures
    node = place(page, files.entry)
    assert comfy.asked[0] == "large.png"
    wait_until(page, "node => harness.view(node).picture.tiles.pending.size > 0", node)
    assert page.locator('[aria-busy="true"] .pd360-progress').count() == 1
    preview = torch.nn.functional.avg_pool2d(large.double(), 4)
    shown = page.evaluate("node => harness.pixels(node)", node)
    expected = rendered(preview, geo.View("perspective", shown["height"], shown["width"], 90.0)) * 255
    assert (shown["mean"], shown["spread"]) == pytest.approx(
        (expected.mean().item(), expected.std().item()), abs=2
    )
    # A view of something else: what was not asked for yet is not asked for any more.
    page.evaluate("node => harness.view(node).lookAt({ yawDeg: 180, fovDeg: 20 })", node)
    wait_until(page, "node => harness.view(node).picture.tiles.wanted.has('0_0_1')", node)
    gate.set()
    wait_until(page, SETTLED, node)
    placed = page.evaluate("node => [...harness.view(node).picture.tiles.placed.keys()]", node)
    assert {"0_0_1", "0_5_1"} <= set(placed) and all(key[2] in "05" for key in placed)
    assert len(set(asked_tiles(comfy)) - set(placed)) <= 4  # under way when the view turned
    wait_until(page, "!document.querySelector('[aria-busy=\"true\"]')")


def test_one_tile_is_uploaded_per_frame(page, comfy, files):
    page.evaluate(
        "() => { window.uploads = []; const gl = WebGL2RenderingContext.prototype, old = gl.texSubImage3D;"
        " gl.texSubImage3D = function (...args) { uploads.push(document.timeline.currentTime);"
        " return old.apply(this, args); }; }"
    )
    comfy.pictures |= files.pictures
    node = place(page, files.entry)
    page.evaluate("node => harness.view(node).setDisplay({ smooth: false })", node)
    wait_until(page, SETTLED, node)
    uploads = page.evaluate("window.uploads")
    assert len(uploads) >= 6 and len(set(uploads)) == len(uploads)


def test_the_least_recently_seen_tiles_give_way_within_the_budget(page, comfy, files, large):
    comfy.pictures |= files.pictures
    node = place(page, files.entry, most=5)
    wait_until(page, SETTLED, node)
    total = page.evaluate("harness.statistics()")["textureBytes"]
    assert 5 * LAYER_BYTES < total < 5 * LAYER_BYTES + 1536 * 768 * 4 * 4 / 3 + 1000
    places = [(0, 0), (120, 0), (-120, 20), (30, -88), (0, 0)]
    for yaw, pitch in places:
        view = geo.View("perspective", 96, 160, 8.0, float(yaw), float(pitch))
        # A pole sees six tiles, one more than there is room for: it is then less fine.
        tolerance = 60 / 255 if abs(pitch) > 80 else MEAN_TOLERANCE
        mean = compared(drawn(page, node, view, **POINTS_AS_THEY_ARE), rendered(large, view), view)[0]
        assert mean <= tolerance, (view, mean * 255)
        statistics = page.evaluate("harness.statistics()")
        assert statistics["textureBytes"] == total
        assert page.evaluate("node => harness.view(node).picture.tiles.placed.size", node) <= 5
    assert asked_tiles(comfy).count("0_3_1") >= 2  # gone meanwhile, and fetched again


def test_viewers_share_the_budget_and_a_robbed_one_recovers_when_it_moves(page, comfy, files, large):
    comfy.pictures |= files.pictures
    first = place(page, files.entry, most=4)
    second = place(page, files.entry)
    front, back = (geo.View("perspective", 96, 160, 8.0, yaw) for yaw in (0.0, 179.0))
    for node, view in ((first, front), (second, back), (first, front)):
        seen = drawn(page, node, view, **POINTS_AS_THEY_ARE)
        assert compared(seen, rendered(large, view), view)[0] <= MEAN_TOLERANCE
    assert (
        page.evaluate("harness.statistics()")["textures"] == 2 * 2 + 1
    )  # previews, tables, the shared layers
    asked = len(comfy.asked)
    page.wait_for_timeout(300)
    assert len(comfy.asked) <= asked + 8  # they do not rob each other forever


def test_a_missing_tile_stays_blurred_and_is_said(page, comfy, files, large):
    comfy.pictures |= files.pictures
    view = geo.View("perspective", 96, 160, 8.0, 20.0)
    del comfy.pictures["large_tile_0_3_1.png"]
    node = place(page, files.entry)
    seen = drawn(page, node, view, **POINTS_AS_THEY_ARE)
    preview = rendered(torch.nn.functional.avg_pool2d(large.double(), 4), view)
    assert (seen - preview).abs().mean() < 1 / 255 < (seen - rendered(large, view)).abs().mean()
    notice = page.locator(".pd360-notice").inner_text()
    assert notice == "Parts of the picture stay blurred. The picture is not on the server any more."
    assert asked_tiles(comfy).count("0_3_1") == 1
    page.problems.clear()  # the browser reports the missing file
    comfy.pictures["small.png"] = png_bytes(large[:, ::16, ::16])
    entry = {"filename": "small.png", "subfolder": "", "type": "temp"}
    page.evaluate("([node, entry]) => harness.run(node, { panodiff_panorama: [entry] })", [node, entry])
    wait_until(page, "document.querySelectorAll('.pd360-notice').length === 0")  # of the picture before


def test_a_lost_context_comes_back_with_its_tiles(page, node, large):
    wait_until(page, SETTLED, node)
    before = page.evaluate("harness.statistics()")
    page.evaluate("harness.loseContext()")
    wait_until(page, "node => harness.view(node).picture === null", node)
    page.evaluate("harness.restoreContext()")
    wait_until(page, SETTLED, node)
    assert page.evaluate("harness.statistics()") == before
    view = EDGES[0]
    seen = drawn(page, node, view, **POINTS_AS_THEY_ARE)
    assert compared(seen, rendered(large, view), view)[0] <= MEAN_TOLERANCE


def test_running_again_and_removing_the_node_free_everything(page, node, files):
    wait_until(page, SETTLED, node)
    before = page.evaluate("harness.statistics()")
    for _ in range(3):
        page.evaluate(
            "([node, entry]) => { window.old = harness.view(node).picture;"
            " harness.run(node, { panodiff_panorama: [entry] }); }", [node, files.entry],
        )  # fmt: skip
        wait_until(page, "node => harness.view(node).picture !== window.old", node)
        wait_until(page, SETTLED, node)
        assert page.evaluate("harness.statistics()") == before
    assert page.evaluate("harness.counts().textures") == before["textures"] == 3
    page.evaluate("node => harness.remove(node)", node)
    wait_until(page, "harness.counts().textures === 0")
    assert page.evaluate("harness.statistics()")["textureBytes"] == 0


@pytest.mark.parametrize(("width", "height"), [(5000, 1300), (2000, 4600)])
def test_parts_of_the_sphere_are_tiled_as_well(page, comfy, width, height):
    pixels = torch.rand((3, height, width), generator=torch.Generator().manual_seed(4))
    entry = stored(comfy, "large", pixels)
    comfy.pictures["whole.png"] = png_bytes(pixels)
    node = place(page, entry)
    views = [
        geo.View("perspective", 96, 160, fov, yaw, 1.0)
        for fov, yaw in ((8.0, 3.0), (6.0, 179.0), (60.0, 30.0))
    ]
    tiled = [drawn(page, node, view, **POINTS_AS_THEY_ARE) for view in views]
    page.evaluate(WHOLE_TEXTURE, node)
    for view, seen in zip(views, tiled, strict=True):
        difference = (seen - drawn(page, node, view, **POINTS_AS_THEY_ARE)).abs()
        assert difference.mean() <= 0.3 / 255 and difference.max() <= 1.01 / 255, view
    assert "is not 2:1" in page.locator(".pd360-notice").inner_text()


def test_a_saved_picture_waits_for_its_tiles(page, node, large):
    page.evaluate("node => { const view = harness.view(node); view.setDisplay({ length: '2048' });"
                  " view.setMode('flat', { atOnce: true }); view.lookAt({ fovDeg: 60 }); }", node)  # fmt: skip
    with page.expect_download() as download:
        page.locator(".pd360").focus()
        page.keyboard.press("s")
    with Image.open(download.value.path()) as picture:
        saved = torch.from_numpy(numpy.array(picture.convert("RGB"))).permute(2, 0, 1).double() / 255
    view = geo.View("flat", saved.shape[1], saved.shape[2], 60.0)
    assert max(saved.shape) > 2000  # finer than the picture, so its points are read
    assert (saved - rendered(large, view)).abs().mean() <= MEAN_TOLERANCE
