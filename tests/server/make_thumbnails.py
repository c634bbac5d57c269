"""The templates' pictures, from a real ComfyUI: what a template saved, or a photograph of its graph.

Templates that need no file of the user's run as they stand. Those for FLUX are photographed in the frontend: their
weights are too large to run for a picture, and random ones would show noise.

COMFYUI_PATH=… python -m tests.server.make_thumbnails [NAME …]
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from panodiff_core.engines.star.sources import SOURCES
from tests.conftest import chromium_path
from tests.server.comfy_server import PACK, Server
from tests.server.conftest import TEMPLATES
from tests.server.stand_ins import write_example_picture
from tests.server.workflows import read_workflow, to_prompt

(STAR_TEXT,) = (source.folder for source in SOURCES if source.part == "text encoder")
SIZE, GRAPH_SIZE = (768, 384), (1024, 512)
LIMIT_SECONDS = 3600
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.VueNodes.Enabled": False,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.UseNewMenu": "Disabled",
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Graph.CanvasMenu": False,
    "Comfy.Minimap.Visible": False,
}
SHOW = """async (address) => {
  const workflow = await (await fetch(address)).json();
  await window.app.loadGraphData(workflow);
  const nodes = window.app.graph.nodes, edge = (of) => nodes.map(of);
  const left = Math.min(...edge(n => n.pos[0])) - 20, top = Math.min(...edge(n => n.pos[1])) - 50;
  const right = Math.max(...edge(n => n.pos[0] + n.size[0])) + 20;
  const bottom = Math.max(...edge(n => n.pos[1] + n.size[1])) + 20;
  const scale = Math.min(window.innerWidth / (right - left), window.innerHeight / (bottom - top));
  Object.assign(window.app.canvas.ds, {scale, offset: [
    -left + (window.innerWidth / scale - (right - left)) / 2, -top + (window.innerHeight / scale - (bottom - top)) / 2,
  ]});
  window.app.canvas.setDirty(true, true);
}"""


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as base:
        write_example_picture(Path(base))
        name_files(Path(base) / "models")
        server = Server(Path(base))
        try:
            definitions = server.get("/object_info")
            for path in (path for path in TEMPLATES if not names or path.stem in names):
                needs_files = any(node["properties"].get("models") for node in read_workflow(path)["nodes"])
                picture = photograph(server, path) if needs_files else result(server, path, definitions)
                picture.save(path.with_suffix(".jpg"), quality=88)
        finally:
            server.stop()


def name_files(models: Path) -> None:
    """Empty files of the names that templates choose, so that the frontend does not mark them as missing."""
    for path in TEMPLATES:
        for node in read_workflow(path)["nodes"]:
            for model in node["properties"].get("models", ()):
                file = models / model["directory"] / model["name"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
    for part in ("text_encoder", "tokenizer"):  # a folder, which properties.models cannot name
        (models / STAR_TEXT / part).mkdir(parents=True, exist_ok=True)


def result(server: Server, path: Path, definitions: dict) -> Image.Image:
    """What the template saves, as it stands."""
    run = server.run(to_prompt(read_workflow(path), definitions), seconds=LIMIT_SECONDS)
    if not run.succeeded:
        raise SystemExit(f"{path.name}: {run.named('execution_error')}")
    (entry,) = [image for output in run.outputs.values() for image in output.get("images", [])]
    picture = Image.open(io.BytesIO(server.view(entry))).convert("RGB")
    return picture.resize(SIZE, Image.Resampling.LANCZOS)


def photograph(server: Server, path: Path) -> Image.Image:
    """The template's graph in the frontend."""
    from playwright.sync_api import sync_playwright

    server.post("/settings", SETTINGS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 2 * GRAPH_SIZE[0], "height": 2 * GRAPH_SIZE[1]})
        page.goto(server.address)
        page.wait_for_function("window.app?.extensionManager && window.app?.graph?.nodes", timeout=120_000)
        page.wait_for_timeout(3000)  # the frontend opens its own first workflow late
        page.add_style_tag(content=".comfy-menu { display: none !important; }")
        page.evaluate(SHOW, f"/api/workflow_templates/{PACK}/{path.name}")
        page.wait_for_timeout(3000)
        shot = page.screenshot()
        browser.close()
    return Image.open(io.BytesIO(shot)).convert("RGB").resize(GRAPH_SIZE, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main(sys.argv[1:])
