"""Looking around by turning the device: sensors played through the browser's debugging protocol."""

from __future__ import annotations

import pytest

from tests.web.conftest import wait_until
from tests.web.test_widget import place

BUTTON = "Turn with the device (G)"
POSE = (
    "(node) => { const pose = harness.view(node).pose; return [pose.yawDeg, pose.pitchDeg, pose.rollDeg]; }"
)
# As Safari has it: sensors tell nothing before the page asked, and asking gives this answer.
ASKS = """DeviceOrientationEvent.requestPermission = async () => {
  window.asked = (window.asked ?? 0) + 1;
  return "%s";
};"""
PRESSED = "wanted => document.querySelector('.pd360-icon-gyroscope').getAttribute('aria-pressed') === wanted"


class Device:
    """A phone: turns, and shows its page upright or on its side."""

    def __init__(self, page):
        self.page = page
        self.session = page.context.new_cdp_session(page)

    def turn(self, alpha: float, beta: float, gamma: float) -> None:
        self.session.send(
            "DeviceOrientation.setDeviceOrientationOverride", {"alpha": alpha, "beta": beta, "gamma": gamma}
        )

    def lay_on_its_side(self) -> None:
        metrics = {"width": 1100, "height": 700, "deviceScaleFactor": 1, "mobile": True}
        orientation = {"type": "landscapePrimary", "angle": 90}
        self.session.send("Emulation.setDeviceMetricsOverride", {**metrics, "screenOrientation": orientation})
        wait_until(self.page, "screen.orientation.angle === 90")


@pytest.fixture
def page(open_page, comfy):
    opened = open_page(comfy.address, 1100, 700)
    wait_until(opened, "window.harness")
    return opened


def switch_on(page) -> None:
    page.get_by_role("button", name=BUTTON).click()
    wait_until(page, PRESSED, "true")


def wait_for_pose(page, node: int, yaw: float, pitch: float, roll: float) -> None:
    """Within what the device turns while it is switched on."""
    near = (
        f"node => ({POSE})(node).every((angle, axis) => Math.abs(angle - {[yaw, pitch, roll]}[axis]) < 0.12)"
    )
    wait_until(page, near, node)


def test_without_sensors_there_is_no_button_and_no_key(page):
    page.evaluate(ASKS % "granted")  # a desktop may have it, too
    node = place(page)
    page.evaluate("window.dispatchEvent(new DeviceOrientationEvent('deviceorientation', {}))")  # all null
    page.locator(".pd360").focus()
    page.keyboard.press("g")
    assert page.get_by_role("button", name=BUTTON).count() == 0
    assert page.evaluate(POSE, node) == [0, 0, 0]


def test_the_view_follows_the_device_from_where_it_looked(page):
    node = place(page)
    page.evaluate("node => harness.view(node).lookAt({ yawDeg: 120, pitchDeg: 40 })", node)
    device = Device(page)
    device.turn(200, 90, 0)
    button = page.get_by_role("button", name=BUTTON)
    button.wait_for()
    assert button.get_attribute("aria-pressed") == "false"
    page.wait_for_timeout(100)
    assert page.evaluate(POSE, node)[:2] == [120, 40]  # not before it was asked to
    switch_on(page)
    device.turn(200.1, 90, 0)
    wait_for_pose(page, node, 120, 0, 0)  # up and down are the device's own, the heading stays
    device.turn(170.1, 110, 0)
    wait_for_pose(page, node, 150, 20, 0)
    device.turn(110.1, 90, 0)
    wait_for_pose(page, node, -150, 0, 0)  # over the seam


def test_it_moves_there_smoothly_and_hands_still_turn_it(page):
    node = place(page)
    device = Device(page)
    device.turn(0, 90, 0)
    switch_on(page)
    device.turn(0, 89, 0)
    wait_until(page, f"node => Math.abs(({POSE})(node)[1] + 1) < 1e-6", node)  # it rests there
    page.evaluate(
        "node => { const view = harness.view(node), look = view.lookAt; window.poses = [];"
        " view.lookAt = (pose) => { window.poses.push(pose.pitchDeg); look.call(view, pose); }; }", node
    )  # fmt: skip
    device.turn(0, 129, 0)
    wait_for_pose(page, node, 0, 39, 0)
    steps = page.evaluate("window.poses")
    assert len(steps) >= 3 and steps == sorted(steps) and steps[0] < 35
    page.locator(".pd360").focus()
    page.keyboard.press("ArrowRight")  # turns by 9 degrees
    device.turn(0, 130, 0)
    wait_for_pose(page, node, 9, 40, 0)


def test_the_page_on_its_side_is_seen_upright_and_off_is_level_again(page):
    node = place(page)
    device = Device(page)
    device.lay_on_its_side()
    device.turn(30, 0, -90)
    page.get_by_role("button", name=BUTTON).wait_for()
    page.locator(".pd360").focus()
    page.keyboard.press("g")
    wait_until(page, PRESSED, "true")
    device.turn(30, 0, -60)
    wait_for_pose(page, node, 0, -30, 0)
    device.turn(30, 20, -60)
    wait_until(page, f"node => Math.abs(({POSE})(node)[2]) > 5", node)
    page.keyboard.press("g")
    wait_until(page, PRESSED, "false")
    yaw, pitch, _ = page.evaluate(POSE, node)
    wait_for_pose(page, node, yaw, pitch, 0)
    device.turn(60, 40, -60)
    page.wait_for_timeout(200)
    assert page.evaluate(POSE, node) == pytest.approx([yaw, pitch, 0], abs=0.1)  # the last of the way back


@pytest.mark.parametrize("answer", ["granted", "denied"])
def test_where_sensors_ask_first_the_click_asks(open_page, comfy, answer):
    page = open_page("about:blank", 1100, 700, is_mobile=True, has_touch=True)
    page.add_init_script(ASKS % answer)
    page.goto(comfy.address)
    wait_until(page, "window.harness")
    place(page)
    button = page.get_by_role("button", name=BUTTON)
    assert page.evaluate("window.asked") is None
    button.click()
    wait_until(page, "window.asked === 1")
    if answer == "granted":
        wait_until(page, PRESSED, "true")
    else:
        wait_until(page, "document.querySelector('.pd360-said')?.textContent.includes('motion sensors')")
        assert button.get_attribute("aria-pressed") == "false"


def test_a_removed_node_stops_listening(page):
    node = place(page)
    device = Device(page)
    device.turn(0, 90, 0)
    switch_on(page)
    page.evaluate("node => { window.gone = harness.view(node); harness.remove(node); }", node)
    before = page.evaluate("window.gone.camera.pose")
    device.turn(50, 50, 0)
    page.wait_for_timeout(200)
    assert page.evaluate("window.gone.camera.pose") == before
