"""The template in the real frontend: loaded, run, looked around in. In LiteGraph and in Nodes 2.0.

Set PANODIFF_SCREENSHOTS to a folder to keep the screenshots.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.conftest import chromium_path
from tests.server.comfy_server import PACK
from tests.server.conftest import FIRST, TEMPLATES, TINY
from tests.server.workflows import read_workflow, to_prompt

pytestmark = [pytest.mark.comfyui, pytest.mark.browser]

FLAGS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-first-run",
]
FRONTENDS = {"litegraph": False, "nodes_2": True}
# A word of its own for each: the server sends a node's text when the node runs, not when its result is cached.
UNKNOWN_WORDS = {"litegraph": "zeppelin", "nodes_2": "dirigible"}
WAIT_MS = 120_000
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Workflow.ShowMissingModelsWarning": False}

LISTEN = """() => {
  window.seen = {progress: [], previews: 0, errors: [], done: 0};
  const api = window.app.api ?? window.comfyAPI.api.api;
  api.addEventListener("progress", ({detail}) => window.seen.progress.push([detail.value, detail.max]));
  api.addEventListener("b_preview", () => window.seen.previews++);
  api.addEventListener("b_preview_with_metadata", () => window.seen.previews++);
  api.addEventListener("execution_success", () => window.seen.done++);
  api.addEventListener("execution_error", ({detail}) => window.seen.errors.push(detail.exception_message));
}"""
LOAD = """async (address) => {
  const workflow = await (await fetch(address)).json();
  await window.app.loadGraphData(workflow);
  const known = window.LiteGraph.registered_node_types;
  return workflow.nodes.map(node => node.type).filter(type => !(type in known));
}"""
SHOW_ALL = """() => {
  Object.assign(window.app.canvas.ds, {scale: 0.68, offset: [130, 130]});
  window.app.canvas.setDirty(true, true);
}"""
USE_TINY = """([name, word]) => {
  const find = type => window.app.graph.nodes.find(node => node.type === type);
  const set = (node, widget, value) => { node.widgets.find(w => w.name === widget).value = value; };
  set(find("PanoDiff_LoadDiT360"), "model", name);
  set(find("PanoDiff_EncodePrompt"), "prompt", `a calm ${word} at sunset`);
  set(find("PanoDiff_SampleDiT360"), "seed", Math.floor(Math.random() * 1e9));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module", params=FRONTENDS)
def page(request, server, browser) -> Iterator:
    """The frontend with the template loaded; its script errors fail the test."""
    server.post("/settings", {**SETTINGS, "Comfy.VueNodes.Enabled": FRONTENDS[request.param]})
    page = browser.new_page(viewport={"width": 1900, "height": 1100})
    problems: list[str] = []
    page.on("pageerror", lambda problem: problems.append(str(problem)))
    page.goto(server.address)
    page.wait_for_function("window.app?.extensionManager && window.app?.graph?.nodes", timeout=WAIT_MS)
    page.wait_for_timeout(2000)  # the frontend opens its own first workflow late
    page.evaluate(LISTEN)
    missing = page.evaluate(LOAD, f"/api/workflow_templates/{PACK}/{FIRST.name}")
    page.evaluate(SHOW_ALL)
    page.wait_for_selector(".pd360", state="attached", timeout=WAIT_MS)
    page.wait_for_timeout(500)
    page.name, page.missing = request.param, missing
    yield page
    ours = [problem for problem in problems if "panodiff" in problem.lower() or PACK in problem]
    page.close()
    assert not ours


def photograph(page, name: str) -> Image.Image:
    """A screenshot of the whole page; kept where PANODIFF_SCREENSHOTS says."""
    shot = page.screenshot()
    folder = os.environ.get("PANODIFF_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{page.name}_{name}.png").write_bytes(shot)
    return Image.open(io.BytesIO(shot))


def picture_of(page, locator) -> torch.Tensor:
    """The middle of an element as [3,h,w] in 0..1, without the frame, the read-out above and the buttons below."""
    box = locator.bounding_box()
    top = skipped(box["height"])
    clip = {"x": box["x"] + 4, "y": box["y"] + top, "width": box["width"] - 8, "height": box["height"] / 2}
    image = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.view(image.height, image.width, 3).permute(2, 0, 1) / 255


def skipped(height: float) -> int:
    """Rows of a viewer of this height above its picture's middle."""
    return round(0.22 * height)


def run(page) -> None:
    """Queues the workflow and waits for its end, by the frontend's own events."""
    page.evaluate("() => { window.seen.done = 0; window.app.queuePrompt(0); }")
    page.wait_for_function("window.seen.done > 0 || window.seen.errors.length > 0", timeout=WAIT_MS)


def wait_until(page, condition: Callable[[], bool]) -> None:
    """Tries `condition` until it holds; what the browser draws, it draws when it can."""
    for _ in range(120):
        if condition():
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"it never came true: {condition.__doc__}")


def test_template_loads_runs_and_turns(page, server) -> None:
    photograph(page, "loaded")
    assert page.missing == []
    assert page.evaluate("window.app.graph.nodes.every(node => !node.has_errors)")

    page.evaluate(USE_TINY, [TINY, UNKNOWN_WORDS[page.name]])
    run(page)
    page.wait_for_selector(".pd360-has-picture", state="attached", timeout=WAIT_MS)
    seen = page.evaluate("window.seen")
    assert not seen["errors"]
    assert seen["progress"][-1][0] == seen["progress"][-1][1] and seen["previews"] > 0
    viewer = page.locator(".pd360")

    def texts_are_shown() -> bool:
        """Unknown words and the seam report stand on their nodes."""
        texts = " ".join(page.locator(".pd360-text").all_text_contents())
        return UNKNOWN_WORDS[page.name] in texts and "Seam ratio" in texts

    def view_is_right() -> bool:
        """The viewer shows what the core takes out of the same file."""
        return agrees_with_core(page, server, viewer)

    wait_until(page, texts_are_shown)
    wait_until(page, view_is_right)
    photograph(page, "ran")
    box = viewer.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 160, y + 20, steps=8)
    page.mouse.up()
    wait_until(page, lambda: not agrees_with_core(page, server, viewer))
    photograph(page, "turned")


def agrees_with_core(page, server, viewer) -> bool:
    """Whether the viewer shows what the core takes out of the same file, looking forward and 90° wide."""
    from panodiff_core.geometry import equirect_to_perspective
    from panodiff_core.io.images import load_image

    entry = page.evaluate(
        "window.app.graph.nodes.find(n => n.type === 'PanoDiff_ViewPanorama').properties.panodiff_panorama"
    )["panodiff_panorama"][0]
    panorama = load_image(server.base / entry["type"] / entry.get("subfolder", "") / entry["filename"])
    box = viewer.bounding_box()
    height, width = round(box["height"]), round(box["width"])
    expected = equirect_to_perspective(panorama, height, width, fov_deg=90.0)[0]
    shown = picture_of(page, viewer)
    top = skipped(box["height"])
    expected = expected[:, top : top + shown.shape[1], 4 : 4 + shown.shape[2]]
    shown = shown[:, : expected.shape[1], : expected.shape[2]]
    both = torch.stack([shown.flatten(), expected.flatten()])
    return bool((shown - expected).abs().mean() < 0.04 and torch.corrcoef(both)[0, 1] > 0.97)


@pytest.mark.parametrize("template", [FIRST.name, "text_to_cubemap.json"])
def test_shipped_models_run_as_the_templates_stand(page, server, template) -> None:
    page.evaluate(LOAD, f"/api/workflow_templates/{PACK}/{template}")
    page.evaluate(SHOW_ALL)
    run(page)
    page.wait_for_selector(".pd360-has-picture", state="attached", timeout=WAIT_MS)
    assert not page.evaluate("window.seen.errors")

    def view_is_right() -> bool:
        """The viewer shows what the core takes out of the same file."""
        return agrees_with_core(page, server, page.locator(".pd360"))

    wait_until(page, view_is_right)
    photograph(page, f"shipped_{template.removesuffix('.json')}")


def test_second_run_is_cached_and_still_shows(page) -> None:
    page.evaluate(LOAD, f"/api/workflow_templates/{PACK}/{FIRST.name}")
    page.evaluate(SHOW_ALL)
    page.evaluate(USE_TINY, [TINY, UNKNOWN_WORDS[page.name]])
    run(page)
    page.wait_for_selector(".pd360-has-picture", state="attached", timeout=WAIT_MS)
    page.evaluate("window.seen.progress.length = 0")
    run(page)
    assert page.evaluate("window.seen.progress.length") == 0
    assert page.locator(".pd360-has-picture").count() == 1


ADD_SAVERS = """(prefix) => {
  const graph = window.app.graph;
  const viewer = graph.nodes.find(node => node.type === "PanoDiff_ViewPanorama");
  const add = (type, x, y) => {
    const node = window.LiteGraph.createNode(type);
    node.pos = [viewer.pos[0] + x, viewer.pos[1] + y];
    graph.add(node);
    return node;
  };
  const save = (name, y) => {
    const node = add("SaveImage", 900, y);
    node.widgets.find(w => w.name === "filename_prefix").value = `${prefix}_${name}`;
    return node;
  };
  viewer.connect(0, save("image", 0), 0);
  const made = add("MaskToImage", 860, 400);
  viewer.connect(2, made, 0);
  made.connect(0, save("mask", 500), 0);
}"""
HANDED_BACK = """() => {
  const viewer = window.app.graph.nodes.find(node => node.type === "PanoDiff_ViewPanorama");
  const names = ["yaw_deg", "pitch_deg", "roll_deg", "fov_deg", "width", "height", "mask_strokes"];
  return Object.fromEntries(names.map(name => [name, viewer.widgets.find(w => w.name === name).value]));
}"""


def test_captured_view_and_painted_mask_are_what_the_next_run_gives(page, server) -> None:
    from panodiff_core.geometry import equirect_to_perspective, mask_from_strokes
    from panodiff_core.io.images import load_image

    assert page.evaluate(LOAD, f"/api/workflow_templates/{PACK}/{FIRST.name}") == []
    page.evaluate(SHOW_ALL)
    page.evaluate(USE_TINY, [TINY, UNKNOWN_WORDS[page.name]])
    page.evaluate(ADD_SAVERS, f"captured_{page.name}")
    run(page)
    page.wait_for_selector(".pd360-has-picture", state="attached", timeout=WAIT_MS)
    pose = {"yawDeg": 172.34, "pitchDeg": -21.06, "fovDeg": 75.51}
    page.evaluate("pose => document.querySelector('.pd360').panoramaView.lookAt(pose)", pose)
    viewer = page.locator(".pd360")
    viewer.focus()
    page.keyboard.press("c")
    page.keyboard.press("b")
    box = viewer.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 3
    places = page.evaluate("window.app.graph.nodes.map(node => [...node.pos])")
    page.mouse.move(x - 60, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 20, steps=6)
    page.mouse.up()
    photograph(page, "painted")
    assert page.evaluate("window.app.graph.nodes.map(node => [...node.pos])") == places  # no node was dragged
    viewer.focus()
    page.keyboard.press("b")
    run(page)
    assert not page.evaluate("window.seen.errors")
    back = page.evaluate(HANDED_BACK)
    view = [back[name] for name in ("fov_deg", "yaw_deg", "pitch_deg", "roll_deg")]
    assert view == [75.5, 172.3, -21.1, 0]
    entry = page.evaluate(
        "window.app.graph.nodes.find(n => n.type === 'PanoDiff_ViewPanorama').properties.panodiff_panorama"
    )["panodiff_panorama"][0]
    panorama = load_image(server.base / entry["type"] / entry.get("subfolder", "") / entry["filename"])
    image, mask = (
        load_image(max((server.base / "output").glob(f"captured_{page.name}_{name}_*.png")))[0]
        for name in ("image", "mask")
    )
    expected = equirect_to_perspective(panorama, back["height"], back["width"], *view, mode="bicubic")[0]
    assert image.shape == expected.shape
    assert (
        image - expected.clamp(0, 1)
    ).abs().max() < 2 / 255  # the panorama was rounded to bytes on its way
    painted = mask_from_strokes(back["mask_strokes"], panorama.shape[2])[0]
    assert (mask - painted).abs().max() <= 1 / 255 and painted.mean() > 1e-3
    # The brush went over the middle of the upper third of the captured window.
    seen = equirect_to_perspective(painted[None], back["height"], back["width"], *view)[0, 0]
    assert seen[round(back["height"] * 0.36), back["width"] // 2] > 0.9


def test_help_and_names_reach_the_user(page) -> None:
    node = "window.app.graph.nodes.find(n => n.type === 'PanoDiff_SampleDiT360')"
    assert page.evaluate(f"{node}.title") == "Sample DiT360"
    definition = page.evaluate(f"{node}.constructor.nodeData.input.required.width[1].tooltip")
    assert "twice the height" in definition


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_every_template_opens_as_it_was_meant(page, definitions, path) -> None:
    """No node is missing, and the frontend sends the same prompt that the other tests send: it understands every widget
    and link."""
    assert page.evaluate(LOAD, f"/api/workflow_templates/{PACK}/{path.name}") == []
    sent = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    expected = to_prompt(read_workflow(path), definitions)
    assert set(sent) == set(expected)
    for number, node in expected.items():
        got = {name: value for name, value in sent[number]["inputs"].items() if name in node["inputs"]}
        assert (sent[number]["class_type"], got) == (node["class_type"], node["inputs"])
