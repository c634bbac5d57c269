"""Measures in Chromium: the panel's figures, what is under the pointer, and the seam heat map, against the core."""

from __future__ import annotations

import base64
import math
import re

import numpy
import pytest
import torch

from panodiff_core import geometry as geo
from panodiff_core import seam_report
from panodiff_core.metrics.ring import profile_bands
from tests.web.conftest import png_bytes, wait_until
from tests.web.test_view_modes import SETUP, drawn, rendered

HEIGHT = 512
READING = re.compile(r"(Pointer|Middle): lon (\S+)° · lat (\S+)° · x (\d+) · y (\d+) · RGB (\d+) (\d+) (\d+)")


def seamed(height: int = HEIGHT) -> torch.Tensor:
    """[3,H,2H] in 0..1, rounded to bytes: smooth with a little noise, a step at the seam from 45° to 9° north, a
    pinch at the lower pole.
    """
    generator = torch.Generator().manual_seed(8)
    directions = geo.equirect_directions(height, 2 * height, dtype=torch.float32, device="cpu")
    picture = 0.4 + 0.2 * directions.movedim(-1, 0)
    picture[:, height // 4 : 9 * height // 20, :height] += 0.25 * torch.linspace(1, 0, height)
    noise = torch.rand((3, height, 2 * height), generator=generator) - 0.5
    picture += 0.03 * noise
    picture[:, -height // 16 :] += 0.3 * noise[:, -height // 16 :]
    return (picture.clamp(0, 1) * 255).round() / 255


def measures_of(picture: torch.Tensor) -> dict:
    """What View Panorama sends; tests of the nodes compare it with the report."""
    report = seam_report(picture)
    figures = {name: float(values) for name, values in report.per_picture.items()}
    rows = [float(f"{value:.4g}") for value in profile_bands(report.rows, 256)[0].tolist()]
    return {**figures, "verdict": report.verdict(), "rows": rows}


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    return seamed()


@pytest.fixture
def page(open_page, comfy, picture):
    opened = open_page(comfy.address, 1100, 700, reduced_motion="reduce")
    comfy.pictures["seamed.png"] = png_bytes(picture)
    wait_until(opened, "window.harness")
    opened.evaluate(SETUP)
    return opened


def place(page, measures: dict | None = None, name: str = "seamed.png") -> int:
    """A viewer node that shows a picture, with the panel of measures open."""
    node = page.evaluate("harness.place('PanoDiff_ViewPanorama')")
    entry = {"filename": name, "subfolder": "", "type": "temp"}
    entry |= {} if measures is None else {"measures": measures}
    page.evaluate("([node, entry]) => harness.run(node, { panodiff_panorama: [entry] })", [node, entry])
    wait_until(page, "node => harness.nodes[node].box.querySelector('.pd360-has-picture')", node)
    page.evaluate("node => harness.view(node).root.focus()", node)
    page.keyboard.press("m")
    return node


def figures(page) -> dict[str, str]:
    names, texts = (page.locator(f".pd360-measures {tag}").all_inner_texts() for tag in ("dt", "dd"))
    return dict(zip(names, texts, strict=True))


def chart(page) -> torch.Tensor:
    """[96,448,4] bytes of the chart."""
    data = page.evaluate(
        """() => {
          const canvas = document.querySelector(".pd360-measures canvas");
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let text = "";
          for (const value of data) text += String.fromCharCode(value);
          return btoa(text);
        }"""
    )
    return torch.frombuffer(bytearray(base64.b64decode(data)), dtype=torch.uint8).reshape(96, 448, 4)


def test_the_panel_shows_the_numbers_and_words_of_the_report(page, picture):
    report = seam_report(picture)
    place(page, measures_of(picture))
    shown = figures(page)
    assert shown["Seam"] == report.verdict() == "a step shows at the seam"
    ratios = [f"{getattr(report, f'ratio_{distance}'):.2f}" for distance in (1, 2, 8, 16)]
    assert shown["Ratio at 1, 2, 8, 16 px"] == " · ".join(ratios) and float(ratios[0]) > 3
    assert shown["Step larger than"] == f"{100 * report.wrap_rank:.0f} % of columns"
    top, bottom = report.pole_variance_top, report.pole_variance_bottom
    assert shown["Pole variance"] == f"{top:.4f} top · {bottom:.4f} bottom" and bottom > 20 * top
    rows = profile_bands(report.rows, 256)[0]
    lat = 90 - 180 * (int(rows.argmax()) + 0.5) / 256
    number, angle = re.fullmatch(r"largest (\S+) at lat (\S+)°", shown["Ratio by row"]).groups()
    assert float(number) == pytest.approx(rows.max().item(), abs=0.0051 + 5e-4 * rows.max().item())
    assert float(angle) == pytest.approx(lat, abs=0.0501) and 9 < lat < 45


def test_the_chart_is_the_profile_on_a_scale_of_powers_of_two(page, picture):
    measures = measures_of(picture)
    place(page, measures)
    pixels = chart(page)
    assert any(ratio > 4 for ratio in measures["rows"]) and any(ratio < 0.9 for ratio in measures["rows"])
    for index in range(0, 256, 5):
        ratio, column = measures["rows"][index], int((index + 0.5) * 448 / 256)
        filled = pixels[:, column, 3] > 127
        height = (
            min(max(math.log2(ratio), -2), 4) * 16
        )  # 96 pixels for 6 powers; the line of 1 is 64 from the top
        assert filled[:64].sum().item() == pytest.approx(max(height, 0), abs=1.01), index
        assert filled[64:].sum().item() == pytest.approx(max(-height, 0), abs=1.01), index
        neighbours = measures["rows"][max(index - 1, 0) : index + 2]  # a column may hold two bars
        if abs(height) > 2 and len({ratio > 1.6 for ratio in neighbours}) == 1:
            amber = pixels[filled, column, 0].double().mean().item() > 200
            assert amber == (ratio > 1.6), index


def test_results_without_figures_and_pictures_without_measures_say_so(page, picture):
    place(page, {"problem": "this picture is <b>30 x 20</b>"})
    assert figures(page) == {"": "this picture is <b>30 x 20</b>"}
    assert not page.locator(".pd360-measures canvas").is_visible()
    node = place(page)
    assert page.locator(".pd360-measures").last.locator("dd").inner_text() == (
        "No figures of this picture. View Panorama measures panoramas when it runs, Cube Seam Report the edges of cubemaps."
    )
    output = {"panodiff_panorama": [
        {"filename": "seamed.png", "subfolder": "", "type": "temp", "measures": measures_of(picture)}]}  # fmt: skip
    page.evaluate("([node, output]) => harness.run(node, output)", [node, output])
    wait_until(page, "() => document.querySelectorAll('.pd360-measures dd').length === 6")
    kept = page.evaluate("node => harness.nodes[node].properties.panodiff_panorama", node)
    assert kept["panodiff_panorama"][0]["measures"]["verdict"] == "a step shows at the seam"


def test_figures_return_with_the_picture_after_a_reload(page, picture):
    entry = {"filename": "seamed.png", "subfolder": "", "type": "temp", "measures": measures_of(picture)}
    kept = {"panodiff_panorama": {"panodiff_panorama": [entry]}}
    page.evaluate("kept => harness.load('PanoDiff_ViewPanorama', kept)", kept)
    wait_until(page, "document.querySelectorAll('.pd360-measures dd').length === 5")


POSES = {
    "perspective": (170.0, 25.0, 80.0), "flat": (40.0, 0.0, 120.0), "zenith": (20.0, 90.0, 90.0),
    "planet": (-60.0, -50.0, 200.0), "fisheye": (175.0, -10.0, 170.0), "pannini": (-179.0, 5.0, 140.0),
    "cubemap_cross": (10.0, 20.0, 360.0),
}  # fmt: skip


@pytest.mark.parametrize("mode", POSES)
def test_the_read_out_is_the_pixel_under_the_pointer(page, picture, mode):
    node = place(page)
    page.evaluate("node => harness.nodes[node].setSize([960, 600])", node)  # the panel lies at the right
    wait_until(page, "node => harness.view(node).canvas.width > 800", node)
    yaw, pitch, fov = POSES[mode]
    page.evaluate(
        """([node, mode, pose]) => {
          harness.view(node).setMode(mode, { atOnce: true });
          harness.view(node).lookAt(pose);
        }""",
        [node, mode, {"yawDeg": yaw, "pitchDeg": pitch, "fovDeg": fov}],
    )
    pose, width, height = page.evaluate(
        "node => { const { pose, canvas } = harness.view(node); return [pose, canvas.width, canvas.height] }",
        node,
    )
    view = geo.View(mode, height, width, pose["fovDeg"], pose["yawDeg"], pose["pitchDeg"])
    directions, covered = geo.view_directions(view), geo.view_coverage(view) == 1
    box = page.locator(".pd360-canvas").bounding_box()
    found = 0
    for across, down in ((0.06, 0.3), (0.2, 0.55), (0.33, 0.2), (0.4, 0.7), (0.47, 0.5)):
        j, i = int(across * width), int(down * height)
        page.mouse.move(box["x"] + j + 0.5, box["y"] + i + 0.5)
        text = page.locator(".pd360-measures > p").inner_text()
        if not covered[i, j]:
            assert text == "Pointer: outside of the picture" or not covered[i - 1 : i + 2].all()
            continue
        # The pointer may be rounded to whole window pixels: half a one to either side.
        found += 1
        who, *numbers = READING.fullmatch(text.replace("−", "-")).groups()
        lon, lat, x, y, *colour = (float(number) for number in numbers)
        near = directions[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].reshape(-1, 3)
        reach = (near - directions[i, j]).norm(dim=-1).max().item() * HEIGHT / math.pi
        east, up, forward = directions[i, j].tolist()
        expected = math.atan2(east, forward), math.atan2(up, math.hypot(east, forward))
        column = (expected[0] / (2 * math.pi) + 0.5) * 2 * HEIGHT - 0.5
        row = (0.5 - expected[1] / math.pi) * HEIGHT - 0.5
        off = abs(x - column) % (2 * HEIGHT)
        stretch = 1 / max(math.cos(expected[1]), 1e-3)
        assert who == "Pointer"
        assert min(off, 2 * HEIGHT - off) <= 0.5 + 0.5 * min(reach, 1) * stretch, (text, column)
        assert abs(y - row) <= 0.5 + 0.5 * min(reach, 1), (text, row)
        assert abs(lat - math.degrees(expected[1])) <= 0.06 + 0.5 * reach * 180 / HEIGHT
        inside = [(x + 0.5) / (2 * HEIGHT) * 360 - 180, 90 - (y + 0.5) / HEIGHT * 180]
        assert max(abs(lon - inside[0]), abs(lat - inside[1])) <= 0.5 * 180 / HEIGHT + 0.051
        assert colour == (picture[:, int(y), int(x)] * 255).round().tolist()
    assert found >= 3


def test_keys_read_the_middle_and_screen_readers_hear_it(page, picture):
    node = place(page)
    box = page.locator(".pd360-canvas").bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 200)
    assert page.locator(".pd360-measures > p").inner_text().startswith("Pointer: lon")
    assert not page.evaluate("document.querySelector('.pd360-aims')")
    page.evaluate("node => harness.view(node).lookAt({ yawDeg: 20, pitchDeg: -12 })", node)
    page.keyboard.press("ArrowRight")
    wait_until(page, "node => harness.view(node).frame === 0", node)
    yaw = page.evaluate("node => harness.view(node).pose.yawDeg", node)
    text = page.locator(".pd360-measures > p").inner_text()
    who, lon, lat, x, y, *colour = READING.fullmatch(text.replace("−", "-")).groups()
    assert (who, float(lon), float(lat)) == ("Middle", pytest.approx(yaw, abs=0.051), -12.0) and yaw > 20
    column, row = math.floor((yaw / 360 + 0.5) * 2 * HEIGHT), math.floor((0.5 + 12 / 180) * HEIGHT)
    assert (int(x), int(y)) == (column, row)
    assert [int(value) for value in colour] == (picture[:, row, column] * 255).round().tolist()
    assert page.evaluate("document.querySelector('.pd360-aims')") is not None
    wait_until(page, "text => document.querySelector('.pd360 [aria-live]').textContent === text", text)


def test_key_and_button_open_and_close_the_panel(page):
    place(page)
    panel, button = (
        page.get_by_role("group", name="Measures"),
        page.get_by_role("button", name="Measures (M)"),
    )
    assert panel.is_visible() and button.get_attribute("aria-expanded") == "true"
    page.keyboard.press("m")
    assert not panel.is_visible() and button.get_attribute("aria-expanded") == "false"
    assert not page.evaluate("document.querySelector('.pd360-aims')")
    button.focus()
    page.keyboard.press("Enter")
    assert panel.is_visible()
    page.evaluate("Object.keys(harness.nodes).forEach((node) => harness.remove(node))")
    assert page.locator(".pd360-measures").count() == 0
    assert page.evaluate("harness.counts().textures") == 0


def test_the_panel_of_views_switches_the_heat_map(page):
    node = place(page)
    page.get_by_role("button", name="View modes and display").click()
    switch = page.get_by_role("button", name="Seam heat map")
    switch.click()
    assert switch.get_attribute("aria-pressed") == "true"
    assert page.evaluate("node => harness.view(node).display.heat", node) is True


def mipmap(picture: torch.Tensor, level: int) -> numpy.ndarray:
    """[3,H,W] in 0..1: halved `level` times by the mean of four, rounded to bytes each time."""
    for _ in range(level):
        picture = (torch.nn.functional.avg_pool2d(picture[None], 2)[0] * 255).round() / 255
    return picture.double().numpy()


def average_of(pixels: numpy.ndarray) -> float:
    height = pixels.shape[1]
    rows = numpy.floor((numpy.arange(64) + 0.5) * height / 64).astype(int)
    steps = numpy.maximum(numpy.abs(numpy.diff(pixels[:, rows], axis=2)) - 1 / 255, 0)
    return max(steps.mean() * math.pi / 2, 0.5 / 255)


def heated(picture: torch.Tensor, view: geo.View, level: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The definition of the heat map: colours [3,H,W], and where they do not hang on a rounding [H,W]."""
    pixels = mipmap(picture, level)
    height, width = pixels.shape[1:]
    x, y, z = geo.view_directions(view).double().numpy().transpose(2, 0, 1)
    lon, lat = numpy.arctan2(x, z), numpy.arctan2(y, numpy.hypot(x, z))
    across, down = (lon / (2 * math.pi) + 0.5) * width - 0.5, (0.5 - lat / math.pi) * height
    left = numpy.floor(across).astype(int) % width
    row = numpy.clip(numpy.floor(down).astype(int), 0, height - 1)
    change = numpy.abs(pixels[:, row, (left + 1) % width] - pixels[:, row, left])
    jump = numpy.maximum(change - 1 / 255, 0).mean(0)
    heat = jump / (average_of(pixels) * numpy.maximum(numpy.cos(lat), 1 / 16))
    share = numpy.log2(numpy.maximum(heat, 1)) / 4
    colour = numpy.clip(3 * share - numpy.arange(3)[:, None, None], 0, 1)
    grey = rendered(picture, view).mean(0).numpy() / 4
    safe = (numpy.abs(across - across.round()) > 0.01) & (numpy.abs(down - down.round()) > 0.01)
    return numpy.maximum(colour, grey), safe & (geo.view_coverage(view) == 1).numpy()


CLOSE = {
    "seam": geo.View("seam", 96, 160, 40.0, 180.0, 27.0),
    "perspective": geo.View("perspective", 96, 160, 30.0, 179.0, 20.0),
    "nadir": geo.View("nadir", 96, 160, 40.0, 20.0, -90.0),
    "planet": geo.View("planet", 96, 160, 40.0, 175.0, 30.0),
    "fisheye": geo.View("fisheye", 96, 160, 40.0, 180.0, -60.0),
}


@pytest.mark.parametrize("mode", CLOSE)
def test_the_heat_map_is_its_definition_pixel_by_pixel(page, picture, mode):
    node = place(page)
    seen = drawn(page, node, CLOSE[mode], heat=True, smooth=False, seamLine=False).numpy()
    expected, safe = heated(picture, CLOSE[mode], 0)
    error = numpy.abs(seen - expected)[:, safe]
    print(
        f"{mode:12} mean {error.mean() * 255:.3f}/255 max {error.max() * 255:.2f}/255, kept {safe.mean():.3f}"
    )
    assert safe.mean() > 0.9 and error.mean() < 0.5 / 255 and error.max() < 2.5 / 255
    # Half a column of shift is not within the tolerance.
    shifted, _ = heated(picture.roll(1, -1), CLOSE[mode], 0)
    assert numpy.abs(seen - shifted)[:, safe].mean() > 5 * error.mean() + 2 / 255


def test_a_wide_window_shows_the_seam_through_mipmaps(page, picture):
    node = place(page)
    view = geo.View("seam", 90, 180, 360.0, 180.0)  # 5.7 columns per window pixel: the third mipmap
    seen = drawn(page, node, view, heat=True, seamLine=False).numpy()
    expected, safe = heated(picture, view, 3)
    error = numpy.abs(seen - expected)[:, safe]
    print(f"mean {error.mean() * 255:.2f}/255")
    assert error.mean() < 4 / 255
    others = heated(picture, view, 0)[0], heated(picture, view, 2)[0]
    assert min(numpy.abs(seen - other)[:, safe].mean() for other in others) > 3 * error.mean()
    red = seen[0]
    assert red[25:40, 89:91].min() > 0.9  # the step at the seam, from 45° to 9° north
    assert red[42:70, 89:91].mean() < 0.5 and red[5:20, 89:91].mean() < 0.5
    assert red[86:].mean() > 0.8 and red[20:70, :80].mean() < 0.4  # the pinch


def test_a_calm_picture_is_calm_and_an_open_one_has_no_seam(page, comfy):
    """Rounding to bytes is no heat; where a picture ends on the sphere there is nothing to compare with."""
    calm = torch.linspace(0.3, 0.32, 64)[:, None].expand(64, 128)
    hottest = {}
    for name, pixels in (
        ("calm", calm),
        ("open", torch.linspace(0, 1, 96).expand(64, 96)),
        ("closed", torch.linspace(0, 1, 128).expand(64, 128)),
    ):
        comfy.pictures[f"{name}.png"] = png_bytes(pixels.expand(3, -1, -1))
        node = place(page, name=f"{name}.png")
        seen = drawn(page, node, geo.View("flat", 90, 180, 360.0), heat=True, smooth=False)
        hottest[name] = (seen.amax(0) - seen.amin(0))[35:55].max().item(), seen[:, 35:55].max().item()
    assert max(hottest["calm"]) < 0.1
    assert max(hottest["open"]) < 0.5 and hottest["closed"][1] > 0.99
