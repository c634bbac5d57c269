"""Comparing pictures and viewers in Chromium: wipe, blink, difference, links, and the histogram, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from panodiff_core.geometry import View, equirect_to_perspective, view_coverage
from panodiff_core.io.page import write_viewer_page
from tests.web.conftest import VIEWER, png_bytes, synthetic_panorama, wait_until
from tests.web.test_mask import canvas_pixels
from tests.web.test_widget import place, result

OTHER = 1 - synthetic_panorama(128).flip(-1)  # of another size
POSE = {"yawDeg": 171.0, "pitchDeg": 12.0, "rollDeg": 4.0, "fovDeg": 80.0}


@pytest.fixture
def page(open_page, comfy):
    comfy.pictures["other.png"] = png_bytes(OTHER)
    opened = open_page(comfy.address, 1100, 700, reduced_motion="reduce")
    wait_until(opened, "window.harness")
    return opened


def run(page, node: int, name: str = "pano.png", *others: str) -> None:
    output = {**result(name), "panodiff_compare": result(*others)["panodiff_panorama"]}
    page.evaluate("([node, output]) => harness.run(node, output)", [node, output])


def start(page, other: str = "other.png") -> int:
    """A viewer that compares two pictures, from a pose."""
    node = page.evaluate("harness.place('PanoDiff_ViewPanorama')")
    run(page, node, "pano.png", other)
    wait_until(page, "node => harness.nodes[node].box.querySelector('[data-compare=wipe]')", node)
    page.evaluate("([node, pose]) => harness.view(node).lookAt(pose)", [node, POSE])
    page.locator(".pd360").focus()
    return node


def choose(page, way: str):
    page.get_by_role("group", name="Compare").get_by_role("button", name=way).click()


def seen(page, node: int) -> np.ndarray:
    """What the viewer shows, [H,W,3] in 0..255."""
    return (canvas_pixels(page, node) * 255).round().permute(1, 2, 0).numpy().astype(np.int64)


def alone(page, node: int) -> tuple[np.ndarray, np.ndarray]:
    """A and B, each as the viewer shows it alone."""
    choose(page, "A alone")
    first = seen(page, node)
    choose(page, "Blink")
    while page.get_by_role("button", name="Blink").inner_text() != "Blink: B":
        page.keyboard.press("a")
    return first, seen(page, node)


def set_mode(page, node: int, mode: str) -> None:
    page.evaluate("([node, mode]) => harness.view(node).setMode(mode, { atOnce: true })", [node, mode])


def textures(page) -> int:
    return page.evaluate("harness.statistics()")["textures"]


@pytest.mark.parametrize("mode", ["perspective", "seam", "planet", "cubemap_cross"])
def test_wipe_shows_a_left_and_b_right_of_a_line_that_moves(page, mode):
    node = start(page)
    set_mode(page, node, mode)
    first, second = alone(page, node)
    assert np.abs(first - second).mean() > 10
    choose(page, "Wipe")
    divider = page.get_by_role("slider", name="Divider")

    def check(percent: float, slack: float = 1e-9) -> None:
        wait_until(page, "node => harness.view(node).frame === 0", node)
        edge = float(divider.input_value())
        assert edge == pytest.approx(percent, abs=slack)
        assert divider.get_attribute("aria-valuetext") == f"A {round(edge)} percent"
        shown, column = seen(page, node), round(edge / 100 * first.shape[1])
        assert np.array_equal(shown[:, :column], first[:, :column])
        assert np.array_equal(shown[:, column:], second[:, column:])

    check(50)
    divider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    check(53)
    yaw = page.evaluate("node => harness.view(node).pose.yawDeg", node)
    box = page.locator(".pd360-canvas").bounding_box()
    x, y = box["x"] + 0.53 * box["width"], box["y"] + box["height"] / 3
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.2 * box["width"], y, steps=5)
    page.mouse.up()
    check(20, 0.6)
    assert page.evaluate("node => harness.view(node).pose.yawDeg", node) == yaw
    page.keyboard.press("Home")
    check(0)
    if mode == "seam":
        return  # which a hand cannot turn
    # Beside the line the hand is on the picture.
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 40, y, steps=4)
    page.mouse.up()
    assert page.evaluate("node => harness.view(node).pose.yawDeg", node) != yaw
    assert float(divider.input_value()) == 0


def test_blink_alternates_and_a_key_changes_at_once(open_page, comfy):
    comfy.pictures["other.png"] = png_bytes(OTHER)
    page = open_page(comfy.address, 1100, 700)
    wait_until(page, "window.harness")
    node = start(page)
    first, second = alone(page, node)
    page.evaluate(
        "() => { const old = window.setInterval; window.waits = [];"
        " window.setInterval = (action, wait) => { window.waits.push(wait); return old(action, wait); }; }"
    )
    choose(page, "Blink")
    button = page.get_by_role("button", name="Blink")
    means = {"Blink: A": first, "Blink: B": second}
    means = {name: picture.reshape(-1, 3)[::7].mean() for name, picture in means.items()}
    said = []
    while len(said) < 5:  # A and B in turn, twice
        text, mean = page.evaluate(
            """node => {
              const view = harness.view(node);
              view.drawNow();
              return [view.root.querySelectorAll(".pd360-compare button")[2].textContent, harness.pixels(node).mean];
            }""",
            node,
        )
        assert mean == pytest.approx(means[text], abs=1e-6)
        said += [text] if said[-1:] != [text] else []
        page.wait_for_timeout(60)
    assert set(page.evaluate("window.waits")) == {500}  # twice a second
    choose(page, "A alone")
    page.wait_for_timeout(700)
    assert button.inner_text() == "Blink" and np.array_equal(seen(page, node), first)


def test_with_reduced_motion_only_the_key_blinks(page):
    node = start(page)
    choose(page, "Blink")
    button = page.get_by_role("button", name="Blink")
    before = button.inner_text()
    page.wait_for_timeout(1200)
    assert button.inner_text() == before == "Blink: A"
    first = seen(page, node)
    page.keyboard.press("a")
    assert button.inner_text() == "Blink: B"
    assert page.locator(".pd360 [aria-live]").text_content() == "Blink: B"
    assert np.abs(seen(page, node) - first).mean() > 10


def heat(page, error: np.ndarray) -> np.ndarray:
    """The colours of errors in 0..1."""
    colors = np.array(page.evaluate(
        "import('/extensions/PanoDiff/viewer/gl/error_colours.mjs').then(({ ERROR_COLOURS }) => ERROR_COLOURS)"
    ))  # fmt: skip
    stops = np.linspace(0, 1, len(colors))
    return np.stack([np.interp(error.clip(0, 1), stops, colors[:, axis]) for axis in range(3)], -1)


@pytest.mark.parametrize("mode", ["perspective", "flat", "planet", "fisheye", "cubemap_3x2"])
def test_difference_is_numpys_through_the_colour_map(page, mode):
    node = start(page)
    set_mode(page, node, mode)
    first, second = alone(page, node)
    largest = np.abs(first - second).max(-1)
    pose = page.evaluate("node => harness.view(node).pose", node)
    angles = [pose[name] for name in ("fovDeg", "yawDeg", "pitchDeg", "rollDeg")]
    covered = (view_coverage(View(mode, *largest.shape, *angles)) == 1).numpy()
    assert covered.mean() > 0.5
    choose(page, "Difference")
    scale = page.get_by_role("slider", name="Scale")
    legend = page.locator(".pd360-legend")
    for text, most, factor in (
        ("× 8", "031.9 / 255", 8),
        ("× 16", "015.9 / 255", 16),
        ("× 32", "07.97 / 255", 32),
    ):
        assert scale.get_attribute("aria-valuetext") == text and legend.inner_text().replace("\n", "") == most
        error = np.abs(seen(page, node) - heat(page, factor * largest / 255)).max(-1)
        assert error[covered].max() <= 1
        scale.focus()
        page.keyboard.press("ArrowRight")
    scale.press("Home")
    shown = seen(page, node)
    wrong = heat(page, np.abs(first - second).mean(-1) / 255)
    assert np.abs(shown - wrong).max() > 5  # the comparison sees another measure
    if mode == "perspective":
        height, width = shown.shape[:2]
        expected = [
            equirect_to_perspective(one.double()[None], height, width, *angles)[0]
            for one in (synthetic_panorama(), OTHER)
        ]
        apart = (expected[0] - expected[1]).abs().amax(0).numpy()
        off = np.abs(shown - heat(page, apart))
        assert off.mean() < 1 and off.max() < 6


def test_equal_pictures_have_no_difference_and_no_drawing_is_kept(page):
    node = start(page, "pano.png")
    assert textures(page) == 2
    choose(page, "Difference")
    page.get_by_role("slider", name="Scale").press("End")
    assert (seen(page, node) == np.round(heat(page, np.zeros(1)))).all()
    assert textures(page) == 2  # drawings of the window are gone with the frame
    choose(page, "Wipe")
    assert textures(page) == 2
    choose(page, "Difference")
    wait_until(page, "harness.statistics().then(({ textures }) => textures === 2)")
    run(page, node, "pano.png")  # the wire was taken off
    wait_until(page, "harness.statistics().then(({ textures }) => textures === 1)")
    assert not page.get_by_role("group", name="Compare").is_visible()
    run(page, node, "pano.png", "other.png")
    wait_until(page, "harness.statistics().then(({ textures }) => textures === 2)")
    page.evaluate("node => harness.remove(node)", node)
    wait_until(page, "harness.counts().liveContexts === 0")
    counts = page.evaluate("harness.counts()")
    assert (counts["textures"], counts["programs"], textures(page)) == (0, 0, 0)


def test_a_saved_comparison_is_what_is_seen_and_leaves_nothing(page, tmp_path):
    node = start(page)
    page.evaluate("node => harness.view(node).setDisplay({ length: 'window' })", node)
    for way in ("Wipe", "Difference"):
        choose(page, way)
        shown = seen(page, node)
        with page.expect_download() as download:
            page.get_by_role("button", name="Save this view").click()
        download.value.save_as(tmp_path / "saved.png")
        with Image.open(tmp_path / "saved.png") as image:
            assert np.array_equal(np.asarray(image.convert("RGB")), shown)
    assert textures(page) == 2


def test_a_lost_context_comes_back_with_both_pictures(page):
    node = start(page)
    choose(page, "Difference")
    before = seen(page, node)
    page.evaluate("harness.loseContext()")
    wait_until(page, "document.querySelector('.pd360-notices').textContent.includes('graphics card')")
    page.evaluate("harness.restoreContext()")
    wait_until(page, "node => harness.view(node).picture", node)
    wait_until(page, "harness.statistics().then(({ textures }) => textures === 2)")
    assert np.array_equal(seen(page, node), before)


def test_what_cannot_be_compared_is_told(page, comfy):
    comfy.pictures["wide.png"] = png_bytes(synthetic_panorama(256)[:, 64:192])
    node = start(page, "wide.png")
    notices = page.locator(".pd360-notice")
    assert notices.count() == 1 and "B: 512 × 128 is not 2:1" in notices.inner_text()
    assert (
        notices.bounding_box()["y"] == page.locator(".pd360-notices").bounding_box()["y"]
    )  # at the top, without A's
    for times in (2, 3):  # each run brings the same notice, which stands there once
        run(page, node, "pano.png", "wide.png")
        while comfy.asked.count("wide.png") < times or page.evaluate("harness.statistics()")["textures"] < 2:
            page.wait_for_timeout(20)
        page.wait_for_timeout(100)
        assert notices.count() == 1
    run(page, node, "pano.png", "cleared.png")
    wait_until(
        page, "document.querySelector('.pd360-notices').textContent.includes('B: The picture is not on')"
    )
    assert textures(page) == 1 and not page.get_by_role("group", name="Compare").is_visible()
    assert "404" in page.problems.pop()


def test_linked_viewers_move_together_until_one_is_unlinked_or_gone(page):
    nodes = [place(page) for _ in range(3)]

    def poses() -> list:
        wait_until(page, "Object.keys(harness.nodes).every(node => harness.view(node).frame === 0)")
        return page.evaluate(
            "Object.keys(harness.nodes).map(node => harness.view(node))"
            ".map(({ mode, pose }) => [mode, pose.yawDeg, pose.pitchDeg])"
        )

    viewers = page.locator(".pd360")
    for index in (0, 1):
        viewers.nth(index).focus()
        page.keyboard.press("k")
    assert viewers.nth(1).locator(".pd360-said").inner_text() == "Linked viewers on this page: 2."
    assert viewers.nth(0).locator(".pd360-icon-link").get_attribute("aria-pressed") == "true"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert poses() == [["perspective", 9, 9], ["perspective", 9, 9], ["perspective", 0, 0]]
    assert np.array_equal(seen(page, nodes[0]), seen(page, nodes[1]))
    viewers.nth(0).focus()
    page.keyboard.press("6")
    assert [mode for mode, *_ in poses()] == ["planet", "planet", "perspective"]
    page.keyboard.press("1")
    viewers.nth(2).focus()
    page.keyboard.press("k")  # who joins goes where the others are
    assert poses() == [["perspective", 9, 9]] * 3
    page.evaluate("node => harness.remove(node)", nodes[0])
    page.keyboard.press("ArrowLeft")
    assert poses() == [["perspective", 0, 9]] * 2
    page.keyboard.press("k")
    page.keyboard.press("ArrowLeft")
    assert poses() == [["perspective", 0, 9], ["perspective", -9, 9]]
    page.keyboard.press("k")
    assert viewers.nth(1).locator(".pd360-said").inner_text() == "Linked viewers on this page: 2."
    for node in nodes[1:]:
        page.evaluate("node => harness.remove(node)", node)
    wait_until(page, "harness.counts().textures === 0")
    place(page)
    viewers.focus()
    page.keyboard.press("k")  # those that went are not counted any more
    assert viewers.locator(".pd360-said").inner_text() == "Linked viewers on this page: 1."


def test_linked_viewers_can_be_compared_and_nothing_else_is_loaded_for_it(page, comfy):
    comfy.pictures["other.png"] = png_bytes(OTHER)
    nodes = [place(page), place(page)]
    run(page, nodes[1], "other.png")
    wait_until(page, "node => harness.view(node).picture.size[0] === 256", nodes[1])
    viewers, bars = page.locator(".pd360"), page.locator(".pd360-compare")
    pixels = [seen(page, node) for node in nodes]
    assert np.abs(pixels[0] - pixels[1]).mean() > 10
    for index in (0, 1):
        assert not bars.nth(index).is_visible()
        viewers.nth(index).focus()
        page.keyboard.press("k")

    def way(index: int, name: str) -> np.ndarray:
        bars.nth(index).get_by_role("button", name=name).click()
        return seen(page, nodes[index])

    # Nobody asked for a comparison yet; each has the other as B.
    wait_until(
        page, "[...document.querySelectorAll('.pd360')].every(({ dataset }) => dataset.compare === 'first')"
    )
    assert bars.nth(0).is_visible() and bars.nth(1).is_visible() and textures(page) == 2
    for index in (0, 1):
        assert np.array_equal(seen(page, nodes[index]), pixels[index])
        shown, middle = way(index, "Wipe"), pixels[0].shape[1] // 2
        assert np.array_equal(shown[:, :middle], pixels[index][:, :middle])
        assert np.array_equal(shown[:, middle:], pixels[1 - index][:, middle:])
    largest = np.abs(pixels[0] - pixels[1]).max(-1)
    assert np.abs(way(0, "Difference") - heat(page, 8 * largest / 255)).max() <= 1
    assert textures(page) == 2
    # A new picture of the other viewer is compared at once, without a touch of this one.
    run(page, nodes[1], "pano.png")
    black = heat(page, np.zeros(1))
    wait_until(
        page,
        """([node, black]) => {
          const view = harness.view(node);
          const { data } = view.context.getImageData(0, 0, view.canvas.width, view.canvas.height);
          return data.every((value, at) => at % 4 === 3 || value === black[at % 4]);
        }""",
        [nodes[0], np.round(black[0]).tolist()],
    )
    # A picture that came with A is B, whatever is linked.
    run(page, nodes[0], "pano.png", "other.png")
    wait_until(page, "harness.statistics().then(({ textures }) => textures === 3)")
    assert np.abs(seen(page, nodes[0]) - black).max() > 50
    run(page, nodes[0], "pano.png")
    wait_until(page, "harness.statistics().then(({ textures }) => textures === 2)")
    assert (seen(page, nodes[0]) == np.round(black)).all()
    viewers.nth(0).focus()
    page.keyboard.press("k")
    wait_until(
        page, "[...document.querySelectorAll('.pd360')].every(({ dataset }) => dataset.compare === '')"
    )
    assert not bars.nth(0).is_visible() and not bars.nth(1).is_visible()
    # Nor is anything left to compare when the other one goes.
    viewers.nth(0).focus()
    page.keyboard.press("k")
    wait_until(page, "node => harness.view(node).root.dataset.compare !== ''", nodes[0])
    page.evaluate("node => harness.remove(node)", nodes[1])
    wait_until(page, "node => harness.view(node).root.dataset.compare === ''", nodes[0])
    assert textures(page) == 1


def numbers(pixels: np.ndarray) -> tuple[np.ndarray, str]:
    """Counts [4,256] of luminance and channels at the rows and columns that the viewer counts, and its text."""
    height, width = pixels.shape[:2]
    step = int(np.ceil(np.sqrt(height * width / 65536)))
    some = pixels[::step, ::step].reshape(-1, 3)
    luminance = 0.2126 * some[:, 0] + 0.7152 * some[:, 1] + 0.0722 * some[:, 2]
    counts = [np.bincount(of, minlength=256) for of in (np.floor(luminance + 0.5).astype(int), *some.T)]
    shares = luminance.mean() / 255, (some.min(-1) == 0).mean(), (some.max(-1) == 255).mean()
    mean, dark, bright = (f"{100 * share:.1f} %" for share in shares)
    return np.array(counts), f"mean {mean}, clipped {dark} dark, {bright} bright."


def bars(page, index: int) -> np.ndarray:
    """Height [256] of the highest bar of each value as it is drawn, in pixels."""
    return np.array(page.evaluate(
        """index => {
          const canvas = document.querySelectorAll(".pd360-histogram canvas")[index];
          const { data } = canvas.getContext("2d").getImageData(0, 0, 256, canvas.height);
          return Array.from({ length: 256 }, (_, value) => {
            let height = 0;
            for (let row = 0; row < canvas.height; row += 1) height += data[4 * (row * 256 + value) + 3] / 255;
            return height;
          });
        }""", index
    ))  # fmt: skip


@pytest.mark.parametrize("size", [(320, 240), (900, 620)])
def test_histogram_counts_are_numpys_on_the_canvas(page, comfy, size):
    node = start(page)
    page.evaluate("([node, size]) => harness.nodes[node].setSize(size)", [node, size])
    wait_until(page, "([node, width]) => harness.pixels(node).width === width - 20", [node, size[0]])
    page.evaluate("node => harness.view(node).setDisplay({ exposureEv: 1.2 })", node)  # something is clipped
    both = alone(page, node)
    live = page.locator(".pd360 [aria-live]")
    page.wait_for_timeout(1500)  # what was still to be announced is
    page.locator(".pd360").focus()
    page.keyboard.press("h")
    assert live.text_content().startswith("A: mean")
    panel = page.locator(".pd360-histogram")
    texts = []
    for index, (name, pixels) in enumerate(zip("AB", both, strict=True)):
        counts, text = numbers(pixels)
        assert (counts.sum(-1) == counts[0].sum()).all() and " 0.0 % bright" not in text
        texts.append(f"{name}: {text}")
        most = np.sort(counts.ravel())[-13]
        expected = (64 * counts.max(0) / most).clip(max=64)
        off = bars(page, index) - expected  # the tops of two channels in one pixel add up
        assert off.min() > -0.25 and off.max() < 1 and np.median(np.abs(off)) < 0.05
        counted = page.evaluate(
            """async ([node, second]) => {
              const { countValues } = await import("/extensions/PanoDiff/viewer/compare/histogram.mjs");
              const view = harness.view(node), { width, height } = view.canvas;
              document.querySelectorAll(".pd360-compare button")[second ? 2 : 0].click();
              view.drawNow();
              const { data } = view.context.getImageData(0, 0, width, height);
              const step = Math.ceil(Math.sqrt((width * height) / 65536));
              return countValues(data, width, step).counts.map((of) => [...of]);
            }""",
            [node, index],
        )
        assert np.array_equal(counts, np.array(counted))
    assert panel.get_attribute("aria-label").strip() == f"Histogram. {' '.join(texts)}"
    # It follows the view, and without a second picture there is one.
    page.keyboard.press("ArrowRight")
    expected = numbers(alone(page, node)[0])[1]
    wait_until(
        page,
        "text => document.querySelector('.pd360-histogram').textContent.includes(text)",
        f"A: {expected}",
    )
    run(page, node, "pano.png")
    wait_until(page, "document.querySelectorAll('.pd360-histogram canvas').length === 1")
    page.get_by_role("button", name="Histogram (H)").click()
    assert not panel.is_visible()


def test_the_offline_page_compares_what_it_is_given(open_page, tmp_path, panorama):
    path = write_viewer_page(png_bytes(panorama), tmp_path / "pano.html", VIEWER)
    page = open_page(path.as_uri(), 480, 288, reduced_motion="reduce")
    wait_until(page, "viewer.panoramaView?.picture")
    group = page.get_by_role("group", name="Compare")
    assert not group.is_visible()
    data = list(png_bytes(OTHER))
    page.evaluate(
        "data => viewer.panoramaView.compare(new Blob([Uint8Array.from(data)], { type: 'image/png' }))", data
    )
    assert group.is_visible() and page.get_by_role("slider", name="Divider").is_visible()
    page.evaluate("viewer.panoramaView.compare(null)")
    assert not group.is_visible()
