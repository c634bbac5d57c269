"""Capturing and saving what the viewer shows, in Chromium: the node's inputs and files against the core."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from panodiff_core.geometry import equirect_to_perspective
from tests.web.conftest import wait_until
from tests.web.test_widget import place


@pytest.fixture
def page(open_page, comfy):
    opened = open_page(comfy.address, 1100, 700, reduced_motion="reduce")
    wait_until(opened, "window.harness")
    return opened


def look(page, node: int, **pose) -> None:
    page.evaluate("([node, pose]) => harness.view(node).lookAt(pose)", [node, pose])
    page.locator(".pd360").focus()


def said(page) -> str:
    return page.locator(".pd360-said").inner_text()


def saved(page, tmp_path) -> tuple[str, torch.Tensor]:
    """The name and pixels [3,H,W] of the file that the key S makes."""
    with page.expect_download() as download:
        page.keyboard.press("s")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    with Image.open(path) as image:
        flat = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
        return path.name, flat.view(image.height, image.width, 3).permute(2, 0, 1).double() / 255


def difference(shown: torch.Tensor, panorama: torch.Tensor, view: dict) -> torch.Tensor:
    """From the core's picture of the same view, in 1/255."""
    height, width = shown.shape[1:]
    expected = equirect_to_perspective(panorama.double()[None], height, width, mode="bilinear", **view)[0]
    return (shown - expected).abs() * 255


def test_captured_inputs_render_what_is_seen(page, panorama, tmp_path):
    node = place(page)
    look(page, node, yawDeg=171.234, pitchDeg=-38.277, fovDeg=61.918)
    page.keyboard.press("c")
    values = page.evaluate("node => harness.values(node)", node)
    view = {name: values[name] for name in ("yaw_deg", "pitch_deg", "roll_deg", "fov_deg")}
    assert view == {"yaw_deg": 171.2, "pitch_deg": -38.3, "roll_deg": 0, "fov_deg": 61.9}
    pose = page.evaluate("node => harness.view(node).pose", node)  # the view moved to the tenths
    assert [pose["yawDeg"], pose["fovDeg"]] == pytest.approx([171.2, 61.9], abs=1e-9)
    width, height = values["width"], values["height"]
    window = page.evaluate(
        "node => { const { width, height } = harness.view(node).canvas; return [width, height] }", node
    )
    assert width % 8 == height % 8 == 0 and abs(height - width * window[1] / window[0]) <= 0.5
    assert abs(width - 1024) < 128 and f"{width} × {height}" in said(page)
    name, shown = saved(page, tmp_path)
    assert name == f"perspective_yaw171_pitch-38_{width}x{height}.png"
    assert difference(shown, panorama, view).mean() < 0.5 and difference(shown, panorama, view).max() < 2
    # A thirtieth of a degree would be seen.
    assert difference(shown, panorama, {**view, "yaw_deg": 171.234}).max() > 3


def test_sizes_are_chosen_and_the_window_is_saved_as_it_is(page, tmp_path):
    node = place(page)
    page.get_by_role("button", name="View modes and display").click()
    choice = page.get_by_role("combobox", name="Longer side of pictures")
    choice.select_option("512")
    page.keyboard.press("Escape")
    look(page, node)
    page.keyboard.press("c")
    values = page.evaluate("node => harness.values(node)", node)
    assert abs(values["width"] - 512) <= 64
    page.evaluate("node => harness.view(node).setDisplay({ length: 'window' })", node)
    look(page, node)
    window = page.evaluate(
        "node => { const { width, height } = harness.view(node).canvas; return [height, width] }", node
    )
    _, shown = saved(page, tmp_path)
    assert list(shown.shape[1:]) == window


def test_other_lenses_are_explained_and_change_nothing(page):
    node = place(page)
    before = page.evaluate("node => harness.values(node)", node)
    look(page, node)
    page.keyboard.press("6")
    page.get_by_role("button", name="Capture this view for the next run (C)").click()
    assert "press 1" in said(page)
    assert page.evaluate("node => harness.values(node)", node) == before
    page.locator(".pd360").focus()
    page.keyboard.press("5")
    page.keyboard.press("c")
    assert page.evaluate("node => harness.values(node).pitch_deg", node) == -90


def test_a_node_without_the_input_is_told_and_nothing_is_thrown(page):
    node = place(page)
    page.evaluate(
        "node => { const { widgets } = harness.nodes[node]; widgets.splice(widgets.findIndex(({ name }) => name === 'fov_deg'), 1); }",
        node,
    )
    look(page, node, yawDeg=12.0)
    page.keyboard.press("c")
    assert said(page) == "This node has no input “fov_deg”; restart ComfyUI after an update."
