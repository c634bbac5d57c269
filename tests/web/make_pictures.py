"""The pictures of View Panorama's help page: the viewer itself, in a page that plays ComfyUI, on a rendered world.

python -m tests.web.make_pictures
"""

from __future__ import annotations

import io

import torch
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from panodiff_core.data.worlds import render_equirect, sample_scene
from tests.conftest import chromium_path
from tests.server.stand_ins import EXAMPLE_SEED
from tests.web.conftest import CHROMIUM_FLAGS, WEB, PlayedComfyUI, png_bytes, wait_until
from tests.web.test_measures import measures_of
from tests.web.test_widget import VIEWER, place, result

FOLDER = WEB / "docs" / "images"
HEIGHT = 1024  # of the panorama
SIZE = (600, 420)  # of the viewer in a picture, in pixels
SMALL = (290, 180)  # of a mode's picture
QUALITIES = (80, 70, 60, 50)  # the first that makes a small file
MOST_BYTES = 60_000
MODES = """Promise.all(["geometry/modes", "texts/en"].map((name) => import(`/extensions/PanoDiff/viewer/${name}.mjs`)))
  .then(([{ MODE_NAMES, keyOf }, { EN }]) => MODE_NAMES.map((mode) => [mode, keyOf(mode), EN[mode]]))"""
SHEET = """<style>
body { margin: 0; background: #1b1f26; color: #e9edf3; font: 13px/1.3 system-ui, sans-serif; }
main { display: grid; grid-template-columns: 1fr 1fr; gap: 8px 6px; padding: 6px; }
figure { margin: 0; } img { display: block; width: 100%; border-radius: 6px; } figcaption { margin: 3px 2px; }
</style><main>"""


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    played = PlayedComfyUI()
    world = render_equirect(sample_scene(EXAMPLE_SEED), HEIGHT, 2 * HEIGHT)
    cut = world.clone()
    cut[:, HEIGHT // 2 :] *= torch.linspace(1, 0.7, 2 * HEIGHT)  # the ground darkens towards the seam
    played.pictures |= {"world.png": png_bytes(world), "cut.png": png_bytes(cut)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1000, "height": 800}, reduced_motion="reduce")
        page.goto(played.address)
        wait_until(page, "window.harness")
        node = place(page, "world.png")
        modes(page, node, browser.new_page(viewport={"width": SIZE[0], "height": 400}))
        tools(page, node)
        page.evaluate("node => harness.remove(node)", node)
        measures(page, measures_of(cut))
        browser.close()
    played.server.shutdown()


def modes(page: Page, node: int, sheet: Page) -> None:
    """Every mode at home, on one sheet."""
    resize(page, node, *SMALL)
    figures = []
    for mode, key, name in page.evaluate(MODES):
        page.evaluate(
            "([node, mode]) => { const view = harness.view(node); view.setMode(mode); view.drawNow(); }",
            [node, mode],
        )
        data = page.evaluate("node => harness.view(node).canvas.toDataURL()", node)
        figures.append(f'<figure><img src="{data}"><figcaption><b>{key}</b> {name}</figcaption></figure>')
    sheet.set_content(SHEET + "".join(figures))
    save(sheet.screenshot(full_page=True), "modes")
    page.evaluate("node => harness.view(node).setMode('perspective')", node)


def tools(page: Page, node: int) -> None:
    resize(page, node, *SIZE)
    viewer = page.locator(".pd360")
    page.evaluate("node => harness.view(node).lookAt({ yawDeg: 30, pitchDeg: -4, fovDeg: 85 })", node)
    viewer.focus()
    page.keyboard.press("c")
    save(viewer.screenshot(), "capture")
    page.evaluate("node => harness.view(node).overlay.said.remove()", node)

    page.keyboard.press("b")
    area = viewer.bounding_box()
    x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
    page.mouse.move(x - 120, y - 40)
    page.mouse.down()
    for right, down in ((-60, -70), (10, -50), (60, -70), (110, -20)):
        page.mouse.move(x + right, y + down, steps=6)
    page.mouse.up()
    page.wait_for_timeout(300)
    save(viewer.screenshot(), "mask")
    page.keyboard.press("b")
    page.evaluate("node => harness.view(node).mask.clear()", node)

    page.keyboard.press("3")
    viewer.locator(".pd360-icon-options").click()
    page.get_by_role("button", name="Contrast × 8").click()
    page.wait_for_timeout(300)
    save(viewer.screenshot(), "seam")


def measures(page: Page, figures: dict) -> None:
    """The panel of measures of a picture with a cut, which the window shows."""
    node = page.evaluate("kind => harness.place(kind)", VIEWER)
    output = result("cut.png")
    output["panodiff_panorama"][0]["measures"] = figures
    page.evaluate("([node, output]) => harness.run(node, output)", [node, output])
    wait_until(page, "document.querySelector('.pd360-has-picture')")
    resize(page, node, *SIZE)
    page.evaluate("node => harness.view(node).lookAt({ yawDeg: 170, pitchDeg: -12, fovDeg: 85 })", node)
    viewer = page.locator(".pd360")
    viewer.focus()
    page.keyboard.press("m")
    area = viewer.bounding_box()
    page.mouse.move(area["x"] + 160, area["y"] + 260)
    page.wait_for_timeout(300)
    save(viewer.screenshot(), "measures")


def resize(page: Page, node: int, width: int, height: int) -> None:
    """Give the viewer itself this size; the node has a border of 10 pixels."""
    page.evaluate("([node, size]) => harness.nodes[node].setSize(size)", [node, [width + 20, height + 20]])
    wait_until(page, f"node => harness.pixels(node).width === {width}", node)


def save(shot: bytes, name: str) -> None:
    path = FOLDER / f"view_panorama_{name}.webp"
    for quality in QUALITIES:
        Image.open(io.BytesIO(shot)).convert("RGB").save(path, quality=quality, method=6)
        if path.stat().st_size <= MOST_BYTES:
            break
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
