"""Fingers and keys on the viewer: touch through the browser's debugging protocol, and every control by keyboard."""

from __future__ import annotations

import time

import pytest

from tests.web.conftest import wait_until
from tests.web.test_widget import box, place, settled

ALL = "button, input, select, textarea, a[href], [tabindex]"


@pytest.fixture
def page(open_page, comfy):
    opened = open_page(comfy.address, 1100, 900, has_touch=True, reduced_motion="reduce")
    wait_until(opened, "window.harness")
    return opened


class Fingers:
    """Events with times of their own, so that a busy machine does not turn a tap into a pause."""

    def __init__(self, page, node: int):
        self.session, self.clock = page.context.new_cdp_session(page), time.time()
        area = box(page, node).locator(".pd360-canvas").bounding_box()
        self.middle = (area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)

    def send(self, kind: str, *offsets: tuple[float, float], after: float = 0.02) -> None:
        """Fingers at these offsets from the middle, `after` seconds."""
        self.clock += after
        x, y = self.middle
        points = [{"x": x + right, "y": y + down, "id": id} for id, (right, down) in enumerate(offsets)]
        event = {"type": kind, "touchPoints": points, "timestamp": self.clock}
        self.session.send("Input.dispatchTouchEvent", event)

    def tap(self, right: float, down: float, after: float = 0.1) -> None:
        self.send("touchStart", (right, down), after=after)
        self.send("touchEnd", after=0.05)


def pose(page, node: int) -> dict:
    settled(page, node)
    return page.evaluate("node => harness.view(node).pose", node)


def seen_at(page, node: int, right: float, down: float) -> list[float]:
    """Longitude and latitude, in degrees, at an offset from the middle."""
    return page.evaluate(
        """([node, right, down]) => {
          const view = harness.view(node), [width, height] = view.surfaceSize;
          return view.lonLatAt(width / 2 + right, height / 2 + down).map((angle) => (angle * 180) / Math.PI);
        }""",
        [node, right, down],
    )


def test_a_finger_holds_the_picture(page):
    node = place(page)
    held = seen_at(page, node, 60, 20)
    fingers = Fingers(page, node)
    fingers.send("touchStart", (60, 20))
    for step in range(1, 7):
        fingers.send("touchMove", (60 - 20 * step, 20 + 5 * step))
    fingers.send("touchMove", (-60, 50), after=0.2)
    fingers.send("touchEnd")
    assert pose(page, node)["yawDeg"] > 10
    assert seen_at(page, node, -60, 50) == pytest.approx(held, abs=0.2)


def test_two_fingers_zoom_and_move(page):
    node = place(page)
    fingers = Fingers(page, node)
    fingers.send("touchStart", (-30, 0), (30, 0))
    for reach in (40, 50, 60):
        fingers.send("touchMove", (-reach, 0), (reach, 0))
    wait_until(page, "node => harness.view(node).pose.fovDeg < 46", node)
    close = pose(page, node)
    assert close["fovDeg"] == pytest.approx(45, rel=0.02) and abs(close["yawDeg"]) < 0.5
    for step in (20, 40):
        fingers.send("touchMove", (-60 + step, 0), (60 + step, 0))
    wait_until(page, "node => harness.view(node).pose.yawDeg < -3", node)
    moved = pose(page, node)
    assert moved["fovDeg"] == pytest.approx(45, rel=0.02) and moved["yawDeg"] < -3
    fingers.send("touchEnd")
    assert pose(page, node) == moved


def test_a_double_tap_brings_a_place_to_the_middle(page):
    node = place(page)
    wanted = seen_at(page, node, 90, -40)
    fingers = Fingers(page, node)
    fingers.tap(90, -40)
    fingers.tap(92, -41)
    now = pose(page, node)
    assert [now["yawDeg"], now["pitchDeg"]] == pytest.approx(wanted, abs=0.7)
    assert now["fovDeg"] == 90


def test_single_slow_distant_and_dragging_taps_do_not(page):
    node = place(page)
    fingers = Fingers(page, node)
    fingers.tap(90, -40)
    fingers.tap(90, -40, after=0.6)  # too late
    fingers.tap(-90, 40)  # elsewhere
    fingers.tap(-90, 40, after=0.6)
    fingers.send("touchStart", (-90, 40))
    fingers.send("touchEnd", after=0.6)  # held
    now = pose(page, node)
    assert (now["yawDeg"], now["pitchDeg"]) == (0, 0)
    fingers.tap(90, -40, after=1)
    fingers.send("touchStart", (90, -40))
    fingers.send("touchMove", (40, -40))
    fingers.send("touchEnd")
    dragged = pose(page, node)
    assert 3 < dragged["yawDeg"] < 20  # by the drag; the place under the tap was 35 degrees away


def test_a_double_click_does_the_same_and_the_brush_keeps_its_clicks(page):
    node = place(page)
    wanted = seen_at(page, node, -80, 30)
    x, y = Fingers(page, node).middle
    page.mouse.dblclick(x - 80, y + 30)
    now = pose(page, node)
    assert [now["yawDeg"], now["pitchDeg"]] == pytest.approx(wanted, abs=0.1)
    page.keyboard.press("b")
    page.mouse.dblclick(x + 80, y - 60)
    assert pose(page, node) == now
    assert page.evaluate("node => JSON.parse(harness.values(node).mask_strokes).strokes.length", node) == 2


def test_every_control_is_reached_by_tab_is_named_and_shows_its_focus(page, comfy):
    comfy.pictures["second.png"] = comfy.pictures["pano.png"]
    node = place(page)
    entries = [{"filename": name, "subfolder": "", "type": "temp"} for name in ("pano.png", "second.png")]
    page.evaluate("([node, all]) => harness.run(node, { panodiff_panorama: all })", [node, entries])
    wait_until(page, "!document.querySelector('.pd360-player').hidden")
    viewer = page.locator(".pd360")
    viewer.focus()
    page.keyboard.press("3")  # the seam's own switches
    page.keyboard.press("b")  # the brush's own bar
    viewer.locator(".pd360-icon-options").press("Enter")
    controls = page.evaluate(
        """(all) => {
          const found = [...document.querySelectorAll(".pd360 " + all.split(", ").join(", .pd360 "))];
          window.controls = found.filter((one) => one.checkVisibility());
          const nameOf = (one) => one.ariaLabel || one.textContent || one.labels?.[0]?.textContent || one.title;
          return window.controls.map(nameOf);
        }""",
        ALL,
    )
    assert len(controls) > 30 and all(name and name.strip() for name in controls), controls
    viewer.focus()
    reached = set()
    for _ in controls:
        page.keyboard.press("Tab")
        index, ring = page.evaluate(
            """() => {
              const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
              return [window.controls.indexOf(document.activeElement), `${outlineStyle} ${outlineWidth}`];
            }"""
        )
        if index >= 0:
            assert ring == "solid 2px", (controls[index], ring)
        reached.add(index)
    missed = [name for index, name in enumerate(controls) if index not in reached]
    assert not missed


def test_every_button_works_by_key(page):
    node = place(page)
    viewer = page.locator(".pd360")
    viewer.locator(".pd360-icon-zoomIn").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert pose(page, node)["fovDeg"] == pytest.approx(90 * 0.64, abs=0.1)
    viewer.locator(".pd360-icon-options").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")  # from the mode that is on to the next
    page.keyboard.press("Enter")
    assert page.evaluate("node => harness.view(node).mode", node) == "flat"
    page.get_by_role("slider", name="Exposure").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("node => harness.view(node).display.exposureEv", node) == pytest.approx(0.1)
    page.keyboard.press("Escape")
    assert viewer.locator(".pd360-icon-options").get_attribute("aria-expanded") == "false"
    assert page.evaluate("document.activeElement.className").endswith("pd360-icon-options")
