"""Painting a mask on the sphere in Chromium: what a hand painted, what the node keeps, and what is shown."""

from __future__ import annotations

import base64
import itertools
import json

import pytest
import torch

from panodiff_core.geometry import (
    equirect_directions,
    equirect_to_perspective,
    mask_from_strokes,
    rotation_matrix,
)
from tests.web.conftest import wait_until
from tests.web.mask_vectors import PATH, vectors
from tests.web.test_widget import place

HEIGHT = 1024  # of the masks compared, as large as what the viewer shows
PIXEL_DEG = 180 / HEIGHT
TINT = torch.tensor([1.0, 0.24, 0.42], dtype=torch.float64)[:, None, None]


@pytest.fixture
def page(open_page, comfy):
    opened = open_page(comfy.address, 1100, 700, reduced_motion="reduce")
    wait_until(opened, "window.harness")
    return opened


def start(page, **pose) -> int:
    """A viewer that shows a picture from this pose, with the brush on."""
    node = place(page)
    page.evaluate("([node, pose]) => harness.view(node).lookAt(pose)", [node, pose])
    page.locator(".pd360").focus()
    page.keyboard.press("b")
    return node


def paint(page, places: list[tuple[float, float]]) -> None:
    """One stroke through places given as shares of the window."""
    box = page.locator(".pd360-canvas").bounding_box()
    for index, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=10 if index else 1)
        if index == 0:
            page.mouse.down()
    page.mouse.up()


def strokes_text(page, node: int) -> str:
    return page.evaluate("node => harness.values(node).mask_strokes", node)


def canvas_pixels(page, node: int) -> torch.Tensor:
    """What the viewer shows, [3,H,W] in 0..1."""
    wait_until(page, "node => harness.view(node).frame === 0", node)
    width, height, data = page.evaluate(
        """node => {
          const { canvas, context } = harness.view(node);
          const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
          let text = "";
          for (const value of data) text += String.fromCharCode(value);
          return [canvas.width, canvas.height, btoa(text)];
        }""",
        node,
    )
    pixels = torch.frombuffer(bytearray(base64.b64decode(data)), dtype=torch.uint8)
    return pixels.reshape(height, width, 4)[..., :3].permute(2, 0, 1).double() / 255


def painted_distance(
    page, places, fov: float, yaw: float, pitch: float, height: int = HEIGHT
) -> torch.Tensor:
    """Distance [height,2·height] in degrees to the way of a hand: straight in a perspective window, a great circle on the sphere."""
    box = page.locator(".pd360-canvas").bounding_box()
    ends = torch.tensor(places, dtype=torch.float64)
    between = torch.linspace(0, 1, 200, dtype=torch.float64)[:, None]
    way = torch.cat([a + (b - a) * between for a, b in itertools.pairwise(ends)])
    reach = torch.tensor(fov / 2).double().deg2rad().tan()
    right, up = (2 * way[:, 0] - 1) * reach, (1 - 2 * way[:, 1]) * reach * box["height"] / box["width"]
    rays = torch.stack([right, up, torch.ones_like(right)], -1)
    turn = rotation_matrix(yaw, pitch, 0.0, dtype=torch.float64)
    directions = torch.nn.functional.normalize(rays, dim=-1) @ turn.T
    sphere = equirect_directions(height, 2 * height, dtype=torch.float64, device="cpu")
    cosine = torch.stack([(row @ directions.T).amax(-1) for row in sphere])
    return cosine.clamp(-1, 1).acos().rad2deg()


def test_the_vectors_are_what_the_core_computes_today():
    assert json.loads(PATH.read_text(encoding="utf-8")) == vectors()


@pytest.mark.parametrize(("yaw", "pitch"), [(180.0, 0.0), (40.0, 84.0)], ids=["seam", "pole"])
def test_strokes_are_where_the_hand_painted(page, yaw, pitch):
    places = [(0.3, 0.35), (0.7, 0.4), (0.55, 0.7)]
    node = start(page, yawDeg=yaw, pitchDeg=pitch, fovDeg=80)
    before = canvas_pixels(page, node)
    paint(page, places)
    text = strokes_text(page, node)
    (stroke,) = json.loads(text)["strokes"]
    assert (stroke["mode"], stroke["radius_deg"]) == ("paint", 4)
    mask = mask_from_strokes(text, HEIGHT)
    off = (painted_distance(page, places, 80.0, yaw, pitch) - 4.0).abs()
    inside = painted_distance(page, places, 80.0, yaw, pitch) < 4.0
    wrong = (mask[0, 0] > 0.5) != inside
    assert inside.sum() > 1000 and off[wrong].max().item() < PIXEL_DEG
    moved = (mask[0, 0].roll(3, -1) > 0.5) != inside
    assert off[moved].max() > 2 * PIXEL_DEG or pitch > 80  # the comparison sees three pixels
    # The picture is tinted there, through the same lens.
    shown = canvas_pixels(page, node)
    height, width = shown.shape[1:]
    seen = equirect_to_perspective(mask.double(), height, width, 80.0, yaw, pitch)[0]
    expected = before + 0.55 * seen * (TINT - before)
    assert (shown - expected).abs().max() * 255 < 4 and (shown - before).abs().max() > 0.2


def test_keys_erase_change_the_brush_and_take_back(page):
    node = start(page, yawDeg=10, pitchDeg=5, fovDeg=90)
    eraser = page.get_by_role("button", name="Eraser")
    radius = page.get_by_role("slider", name="Radius")
    page.keyboard.press("]")
    assert radius.get_attribute("aria-valuetext") == "5.0°"
    paint(page, [(0.3, 0.4), (0.6, 0.4)])
    page.keyboard.press("e")
    assert eraser.get_attribute("aria-pressed") == "true"
    page.keyboard.press("[")
    paint(page, [(0.45, 0.3), (0.45, 0.5)])
    page.keyboard.press("e")
    page.keyboard.down("Shift")
    paint(page, [(0.5, 0.3), (0.5, 0.5)])
    page.keyboard.up("Shift")
    kept = json.loads(strokes_text(page, node))["strokes"]
    assert [(one["mode"], one["radius_deg"]) for one in kept] == [("paint", 5), ("erase", 4), ("erase", 4)]
    page.keyboard.press("z")
    page.keyboard.press("z")
    assert len(json.loads(strokes_text(page, node))["strokes"]) == 1
    page.keyboard.press("Shift+Z")
    assert json.loads(strokes_text(page, node))["strokes"] == kept[:2]
    page.keyboard.press("p")
    middle = json.loads(strokes_text(page, node))["strokes"][-1]
    assert middle["points"] == [[pytest.approx(10, abs=2e-3), pytest.approx(5, abs=2e-3)]]
    page.keyboard.press("z")
    page.get_by_role("button", name="Clear").click()
    assert strokes_text(page, node) == ""
    page.get_by_role("button", name="Undo").click()
    assert json.loads(strokes_text(page, node))["strokes"] == kept[:2]
    # Another node that gets the same text, as after a reload, shows the same; clearing the text clears it.
    text, other = strokes_text(page, node), place(page)
    fill = """([node, text]) => {
      const one = harness.nodes[node];
      one.widgets.find(({ name }) => name === "mask_strokes").value = text;
      one.onConfigure({});
    }"""
    for given, count in ((text, 2), ("{", 0), (text, 2), ("", 0)):
        page.evaluate(fill, [other, given])
        wait_until(
            page, "([node, count]) => harness.view(node).mask.strokes.length === count", [other, count]
        )
        if count:  # two pictures and two masks
            wait_until(page, "harness.statistics().then(({ textures }) => textures === 4)")
        if given == "{":
            assert "cannot be read" in page.locator(".pd360-said").last.inner_text()
            page.evaluate("node => harness.nodes[node].box.querySelector('.pd360-icon-paint').click()", other)
            page.get_by_role("button", name="Clear").last.click()
            assert strokes_text(page, other) == ""
    for one in (node, other):
        page.evaluate("node => harness.remove(node)", one)
    wait_until(page, "harness.counts().textures === 0")


def test_the_left_button_paints_and_the_right_one_looks_around(page):
    node = start(page, yawDeg=0, pitchDeg=0, fovDeg=90)
    box = page.locator(".pd360-canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    paint(page, [(0.5, 0.4), (0.6, 0.4)])
    assert page.evaluate("node => harness.view(node).pose.yawDeg", node) == 0
    page.mouse.move(x, y)
    page.mouse.down(button="right")
    page.mouse.move(x - 60, y, steps=4)
    page.mouse.up(button="right")
    assert page.evaluate("node => harness.view(node).pose.yawDeg", node) > 5
    assert len(json.loads(strokes_text(page, node))["strokes"]) == 1
    page.get_by_role("button", name="Paint a mask (B)").click()
    assert not page.get_by_role("group", name="Brush").is_visible()
    text = strokes_text(page, node)
    paint(page, [(0.5, 0.4), (0.4, 0.4)])
    page.locator(".pd360").focus()
    page.keyboard.press("z")
    assert strokes_text(page, node) == text  # off: a drag turns the view, and the keys are free
    assert page.evaluate("node => harness.view(node).mask.strokes.length", node) == 1
