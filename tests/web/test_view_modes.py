"""Every mode of the viewer in Chromium, pixel by pixel against the Python core, on a picture of fine texture.

Both sides read points, bilinear at full resolution; how the viewer averages where the window is coarser is
tested apart.
"""

from __future__ import annotations

import base64
import io
import json

import pytest
import torch
from PIL import Image

from panodiff_core import geometry as geo
from tests.web.conftest import png_bytes, synthetic_panorama, wait_until
from tests.web.view_vectors import PATH, POSES, vectors, view_of

HEIGHT = 512  # of the picture
NIGHT = torch.tensor([0.055, 0.063, 0.078], dtype=torch.float64)[:, None, None]  # the viewer's background
# Rounding to bytes alone makes a mean error of 1/4 and a maximum of 1/2.
MEAN_TOLERANCE, MAX_TOLERANCE, EXCLUDED = 0.3 / 255, 1 / 255, 0.005

# Draws a view of a mode and a pose into a canvas of any size and reads what the graphics side holds.
SETUP = """async () => {
  const { createLens } = await import("/extensions/PanoDiff/viewer/geometry/lens.mjs");
  const { DISPLAY, displayIn } = await import("/extensions/PanoDiff/viewer/picture/display.mjs");
  window.drawn = async (node, { mode, width, height, ...pose }, display) => {
    const view = harness.view(node);
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const lens = createLens(mode, {
      yawDeg: pose.yaw_deg, pitchDeg: pose.pitch_deg, rollDeg: pose.roll_deg, fovDeg: pose.fov_deg,
    }, width, height);
    const { gl } = view.renderer;
    const shown = displayIn(mode, { ...DISPLAY, ...display });
    await view.picture.tiles?.complete(lens, shown.smooth);
    view.renderer.draw(view.picture, lens, shown, canvas.getContext("2d"));
    const pixels = new Uint8Array(4 * width * height);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    let text = "";
    for (const value of pixels) text += String.fromCharCode(value);
    return btoa(text);
  };
}"""
POINTS_AS_THEY_ARE = {"smooth": False, "seamLine": False}


def place(page, name: str) -> int:
    """A viewer node that shows a picture."""
    node = page.evaluate("harness.place('PanoDiff_ViewPanorama')")
    show(page, node, name)
    return node


def show(page, node: int, name: str) -> None:
    entry = {"filename": name, "subfolder": "", "type": "temp"}
    page.evaluate("([node, entry]) => harness.run(node, { panodiff_panorama: [entry] })", [node, entry])
    wait_until(page, "node => harness.nodes[node].box.querySelector('.pd360-has-picture')", node)


@pytest.fixture
def page(open_page, comfy):
    opened = open_page(comfy.address, 1100, 700)
    wait_until(opened, "window.harness")
    opened.evaluate(SETUP)
    return opened


@pytest.fixture(scope="module")
def fine() -> torch.Tensor:
    return synthetic_panorama(HEIGHT)


@pytest.fixture
def node(page, comfy, fine) -> int:
    comfy.pictures["fine.png"] = png_bytes(fine)
    return place(page, "fine.png")


def drawn(page, node: int, view: geo.View, **display) -> torch.Tensor:
    """What the graphics side holds for a view, [3,H,W] in 0..1."""
    case = {name: getattr(view, name) for name in view.__dataclass_fields__}
    data = page.evaluate("([node, one, display]) => drawn(node, one, display)", [node, case, display])
    pixels = torch.frombuffer(bytearray(base64.b64decode(data)), dtype=torch.uint8)
    pixels = pixels.reshape(view.height, view.width, 4).flip(0)[..., :3]
    return pixels.permute(2, 0, 1).double() / 255


def rendered(picture: torch.Tensor, view: geo.View) -> torch.Tensor:
    """The core's picture of the same view, [3,H,W]."""
    shown = geo.equirect_to_view(picture.double()[None], view)[0]
    return shown + NIGHT * (1 - geo.view_coverage(view))


def compared(one: torch.Tensor, other: torch.Tensor, view: geo.View) -> tuple[float, float, float]:
    """Mean error, maximum error and excluded share."""
    kept = ~geo.view_discontinuities(view)
    difference = (one - other).abs()[:, kept]
    return difference.mean().item(), difference.max().item(), 1 - kept.double().mean().item()


def cases(mode: str) -> list[geo.View]:
    found = [view_of(case) for case in json.loads(PATH.read_text(encoding="utf-8"))["cases"]]
    return [view for view in found if view.mode == mode]


def test_the_vectors_are_what_the_core_computes_today():
    stored, fresh = json.loads(PATH.read_text(encoding="utf-8")), json.loads(json.dumps(vectors()))
    assert stored["modes"] == fresh["modes"] and len(stored["cases"]) == len(fresh["cases"]) == 10 * POSES
    for old, new in zip(stored["cases"], fresh["cases"], strict=True):
        assert view_of(old) == view_of(new)
        for before, now in zip(old["points"], new["points"], strict=True):
            assert before["pixel"] == now["pixel"]
            assert before["covered"] == pytest.approx(now["covered"], abs=1e-8)
            assert before["direction"] == (now["direction"] and pytest.approx(now["direction"], abs=1e-11))


@pytest.mark.parametrize("mode", geo.VIEW_MODES)
def test_every_pixel_is_what_the_core_renders_and_half_a_pixel_of_shift_is_noticed(page, node, fine, mode):
    shifted = geo.rotation_matrix(180 / fine.shape[-1], 0, 0).T  # half a pixel of the picture
    worst_mean = worst = most_excluded = 0.0
    for view in cases(mode):
        seen, expected = drawn(page, node, view, **POINTS_AS_THEY_ARE), rendered(fine, view)
        mean, largest, excluded = compared(seen, expected, view)
        assert mean <= MEAN_TOLERANCE and largest <= MAX_TOLERANCE, (view, mean * 255, largest * 255)
        assert excluded <= EXCLUDED, (view, excluded)
        worst_mean, worst = max(worst_mean, mean), max(worst, largest)
        most_excluded = max(most_excluded, excluded)
        off = geo.sample_equirect(fine.double()[None], geo.view_directions(view) @ shifted)[0]
        wrong = (seen - off).abs()[:, geo.view_coverage(view) == 1]
        assert wrong.mean() > 10 * MEAN_TOLERANCE and wrong.max() > 10 * MAX_TOLERANCE, view
    print(f"{mode:14} mean {worst_mean * 255:.3f}/255 max {worst * 255:.2f}/255 excluded {most_excluded:.3%}")


def test_half_a_window_pixel_of_shift_is_noticed(page, node, fine):
    """A window twice as fine has its pixel centres a quarter of a pixel beside those of the coarse one."""
    for mode in geo.VIEW_MODES:
        view = cases(mode)[0]
        fov = min(view.fov_deg, 100.0)
        coarse = geo.View(mode, view.height, view.width, fov, 20.0, -30.0)
        double = geo.View(mode, 2 * view.height, 2 * view.width, fov, 20.0, -30.0)
        off = rendered(fine, double)[:, ::2, ::2]
        assert compared(drawn(page, node, coarse, **POINTS_AS_THEY_ARE), off, coarse)[0] > 10 * MEAN_TOLERANCE


def test_a_large_picture_is_read_as_exactly(page, comfy):
    """8192 pixels around: half a thousandth of a radian of error would be a whole pixel."""
    height = 4096
    generator = torch.Generator().manual_seed(3)
    rows = torch.randint(0, 256, (3, height, 1), generator=generator)
    columns = torch.randint(0, 256, (3, 1, 2 * height), generator=generator)
    large = ((rows + columns) // 2).double() / 255
    comfy.pictures["large.png"] = png_bytes(large)
    node = place(page, "large.png")
    for mode, fov in (
        ("perspective", 30.0),
        ("planet", 60.0),
        ("fisheye", 90.0),
        ("flat", 20.0),
        ("cubemap_cross", 90.0),
    ):
        view = geo.View(mode, 96, 160, fov, 178.0, 33.0, 12.0)
        seen = drawn(page, node, view, **POINTS_AS_THEY_ARE)
        mean, largest, _ = compared(seen, rendered(large, view), view)
        print(f"{mode:14} mean {mean * 255:.3f}/255 max {largest * 255:.2f}/255")
        assert mean <= MEAN_TOLERANCE and largest <= MAX_TOLERANCE, (mode, mean * 255, largest * 255)


@pytest.mark.parametrize("mode", geo.VIEW_MODES)
def test_coarse_views_are_averaged_without_a_line(page, node, fine, mode):
    """Where a window pixel sees many texels they are averaged as the core averages by supersampling, also
    across the back meridian and the edges of faces.
    """
    fov = {"perspective": 110.0, "zenith": 110.0, "nadir": 110.0, "pannini": 150.0}.get(mode, 270.0)
    view = geo.View(mode, 60, 80, fov, 180.0, 25.0)
    seen = drawn(page, node, view, seamLine=False)
    rays = 8
    many = rendered(fine, geo.View(mode, 60 * rays, 80 * rays, fov, 180.0, 25.0))
    averaged = torch.nn.functional.avg_pool2d(many, rays)
    covered = (geo.view_coverage(view) == 1) & ~geo.view_discontinuities(view, margin=0.5)
    error, unsmoothed = (
        (one - averaged).abs().mean(0) for one in (seen, drawn(page, node, view, **POINTS_AS_THEY_ARE))
    )
    print(
        f"{mode:14} error {error[covered].mean() * 255:.2f}/255, points {unsmoothed[covered].mean() * 255:.2f}/255"
    )
    assert error[covered].mean() < 6 / 255
    # No line of its own: the worst column and row are not far from the others.
    for axis in (0, 1):
        lines = (error * covered).sum(axis) / covered.sum(axis).clamp(min=20)
        assert lines.max() < 4 * error[covered].mean(), (mode, axis)


def test_long_areas_at_the_poles_are_averaged_where_the_graphics_card_can(page, comfy, fine):
    """Software renderers read round areas only; a card reads long ones, which the poles need."""
    view = geo.View("zenith", 60, 80, 60.0, 20.0)
    averaged = torch.nn.functional.avg_pool2d(rendered(fine, geo.View("zenith", 480, 640, 60.0, 20.0)), 8)
    comfy.pictures["fine.png"] = png_bytes(fine)
    errors = []
    for anisotropy in (1, 8):
        node = page.evaluate("harness.place('PanoDiff_ViewPanorama')")
        wait_until(page, "node => harness.view(node)?.renderer", node)
        page.evaluate(
            "([node, value]) => { harness.view(node).renderer.anisotropy = value; }", [node, anisotropy]
        )
        show(page, node, "fine.png")
        errors.append((drawn(page, node, view) - averaged).abs().mean().item() * 255)
    print("round {:.2f}/255, long {:.2f}/255".format(*errors))
    assert errors[1] < 3 and errors[1] < 0.7 * errors[0]


def grey(level: float, height: int = 64) -> torch.Tensor:
    return torch.full((3, height, 2 * height), round(level * 255) / 255)


def test_contrast_shows_a_step_at_the_seam_that_the_eye_misses(page, comfy):
    picture = grey(0.3, HEIGHT)
    picture[:, :, HEIGHT:] += 2 / 255  # a step in the middle of the picture, and one at the seam
    comfy.pictures["step.png"] = png_bytes(picture)
    node = place(page, "step.png")
    view = geo.View("seam", 96, 160, 60.0)
    plain, enlarged = (
        drawn(page, node, view, seamLine=False, contrast=contrast)[0, 48] * 255 for contrast in (False, True)
    )
    assert (plain[77] - plain[82]).item() == pytest.approx(2, abs=0.1)
    assert 10 < (enlarged[77] - enlarged[82]).item() <= 16.1
    assert enlarged[[0, -1]].sub(127.5).abs().max() < 4  # far from the step all is grey
    elsewhere = drawn(page, node, geo.View("flat", 96, 160, 60.0, 180.0), contrast=True)[0, 48] * 255
    assert torch.equal(elsewhere, plain)  # contrast belongs to the seam view


def test_the_line_at_the_seam_leaves_gaps_and_follows_the_roll(page, comfy):
    comfy.pictures["grey.png"] = png_bytes(grey(0.3))
    node = place(page, "grey.png")
    changed = (drawn(page, node, geo.View("seam", 96, 160, 60.0)) - drawn(
        page, node, geo.View("seam", 96, 160, 60.0), seamLine=False)).abs().amax(0) > 0.05  # fmt: skip
    assert (
        0.2 < changed[:, 79:81].double().mean() < 0.5
        and not changed[:, :78].any()
        and not changed[:, 82:].any()
    )
    rolled = (drawn(page, node, geo.View("seam", 96, 160, 60.0, roll_deg=90.0)) - 0.3).abs().amax(0) > 0.05
    assert rolled[47:49].any() and not rolled[:46].any() and not rolled[50:].any()


def test_exposure_gamma_and_the_ground_behind_transparency(page, comfy):
    comfy.pictures["grey.png"] = png_bytes(grey(0.5))
    node = place(page, "grey.png")
    view = geo.View("perspective", 16, 32, 90.0)

    def value(**display) -> float:
        return drawn(page, node, view, **display)[0, 8, 8].item()

    middle = round(0.5 * 255) / 255
    linear = ((middle + 0.055) / 1.055) ** 2.4
    assert value() == pytest.approx(middle, abs=1e-6)
    assert value(exposureEv=1) == pytest.approx(1.055 * (2 * linear) ** (1 / 2.4) - 0.055, abs=3 / 255)
    assert value(exposureEv=-2) == pytest.approx(1.055 * (linear / 4) ** (1 / 2.4) - 0.055, abs=3 / 255)
    assert value(exposureEv=4) == 1.0
    assert value(gamma=2.0) == pytest.approx(middle**0.5, abs=2 / 255)
    clear = Image.new("RGBA", (64, 32), (255, 0, 0, 0))
    stream = io.BytesIO()
    clear.save(stream, "PNG")
    comfy.pictures["clear.png"] = stream.getvalue()
    node = place(page, "clear.png")
    night = drawn(page, node, view)
    assert (night - NIGHT).abs().max() < 1 / 255
    squares = drawn(page, node, view, checker=True)[0]
    assert squares.unique().mul(255).round().tolist() == [107.0, 148.0]
    assert squares[0, 0] != squares[0, 8] and squares[0, 0] == squares[8, 8]


def mode_of(page, node: int) -> str:
    return page.evaluate("node => harness.view(node).mode", node)


def test_keys_choose_modes_and_the_read_out_names_them(page, node):
    page.locator(".pd360").focus()
    names = {}
    for key in "2345678901":
        page.keyboard.press(key)
        wait_until(page, "node => harness.view(node).frame === 0", node)
        names[mode_of(page, node)] = page.locator(".pd360-angles").inner_text()
    assert list(names) == [*list(geo.VIEW_MODES)[1:], "perspective"]
    assert names["flat"] == "Flat · F · yaw 0.0° · pitch 0.0° · zoom 100 %"
    assert names["planet"].startswith("Little planet / tunnel · F · yaw 0.0° · pitch −90.0° · fov 2")
    assert names["perspective"] == "F · yaw 0.0° · pitch 0.0° · fov 90°"
    page.keyboard.press("3")
    wait_until(
        page, "document.querySelector('.pd360 [aria-live]').textContent.startsWith('Seam. Yaw 180, pitch 0')"
    )


def test_the_panel_chooses_modes_by_mouse_and_keyboard(page, node):
    opener = page.get_by_role("button", name="View modes and display")
    panel = page.get_by_role("group", name="View modes and display")
    assert opener.get_attribute("aria-expanded") == "false" and not panel.is_visible()
    opener.focus()
    page.keyboard.press("Enter")
    assert opener.get_attribute("aria-expanded") == "true" and panel.is_visible()
    assert page.evaluate("document.activeElement.textContent") == "1Perspective"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert mode_of(page, node) == "flat"
    pressed = page.get_by_role("group", name="View mode", exact=True).locator("[aria-pressed=true]")
    assert [text.split() for text in pressed.all_inner_texts()] == [["2", "Flat"]]
    line = panel.get_by_role("button", name="Line at the seam")
    assert not line.is_visible()  # only where it does something
    panel.get_by_role("button", name="Seam", exact=False).first.click()
    assert mode_of(page, node) == "seam" and line.get_attribute("aria-pressed") == "true"
    line.click()
    assert line.get_attribute("aria-pressed") == "false"
    assert page.evaluate("node => harness.view(node).display.seamLine", node) is False
    slider = panel.get_by_role("slider", name="Exposure")
    slider.focus()
    yaw = page.evaluate("node => harness.view(node).pose.yawDeg", node)
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "+0.5 EV"
    assert page.evaluate("node => harness.view(node).pose.yawDeg", node) == yaw  # the arrows are the slider's
    panel.get_by_role("button", name="Reset display").click()
    assert slider.get_attribute("aria-valuetext") == "+0.0 EV"
    page.keyboard.press("Escape")
    assert not panel.is_visible()
    assert page.evaluate("document.activeElement.title") == "View modes and display"


def test_reduced_motion_changes_modes_at_once(open_page, comfy, fine):
    page = open_page(comfy.address, 1100, 700, reduced_motion="reduce")
    wait_until(page, "window.harness")
    node = place(page, "pano.png")
    page.locator(".pd360").focus()
    page.keyboard.press("6")
    assert page.evaluate("node => harness.view(node).modes.progress", node) == 1
    assert mode_of(page, node) == "planet"


def test_a_change_of_mode_draws_until_it_is_over_and_no_longer(page, node):
    page.evaluate(
        "() => { window.frames2 = 0; const gl = WebGL2RenderingContext.prototype, draw = gl.drawArrays;"
        " gl.drawArrays = function (...args) { window.frames2 += 1; return draw.apply(this, args); }; }"
    )
    page.locator(".pd360").focus()
    page.keyboard.press("6")
    wait_until(
        page, "node => harness.view(node).modes.progress === 1 && harness.view(node).frame === 0", node
    )
    frames = page.evaluate("window.frames2")
    assert frames >= 3
    page.wait_for_timeout(200)
    assert page.evaluate("window.frames2") == frames


def test_a_hand_holds_the_picture_in_flat_view_and_reads_longitude_and_latitude(page, node):
    page.emulate_media(reduced_motion="reduce")
    page.evaluate("node => harness.view(node).setMode('flat', { atOnce: true })", node)
    page.evaluate("node => harness.view(node).lookAt({ fovDeg: 90 })", node)
    box = page.locator(".pd360-canvas").bounding_box()
    at = "([node, x, y]) => harness.view(node).lonLatAt(x, y)"
    before = page.evaluate(at, [node, 100, 90])
    page.mouse.move(box["x"] + 100, box["y"] + 90)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 120, steps=6)
    page.mouse.up()
    assert page.evaluate(at, [node, 160, 120]) == pytest.approx(before, abs=2e-3)
    pose = page.evaluate("node => harness.view(node).pose", node)
    assert pose["yawDeg"] == pytest.approx(-60 * 90 / box["width"], abs=0.2)
    assert pose["pitchDeg"] == pytest.approx(30 * 90 / box["width"], abs=0.2)
