"""The viewer in the real frontend, in LiteGraph and in Nodes 2.0: what it holds, keeps and gives back.

The panorama is a picture from disk, so that no model has to run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.test_browser import (
    FRONTENDS,
    LISTEN,
    SETTINGS,
    WAIT_MS,
    agrees_with_core,
    browser,  # noqa: F401  a fixture
    run,
    wait_until,
)
from tests.web.test_mask import paint, painted_distance

pytestmark = [pytest.mark.comfyui, pytest.mark.browser]

POLICY = "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:"  # what --disable-api-nodes sends
WATCH = """(() => {
  window.graphics = { contexts: new Set(), held: {} };
  window.refused = [];
  const { contexts, held } = window.graphics, GL = WebGL2RenderingContext.prototype;
  for (const kind of ["Texture", "Program", "Shader", "VertexArray", "Framebuffer", "Buffer"]) {
    held[kind] = 0;
    for (const [verb, step] of [["create", 1], ["delete", -1]]) {
      const original = GL[verb + kind];
      GL[verb + kind] = function (...args) {
        contexts.add(this);
        if (step > 0 || args[0]) held[kind] += step;
        return original.apply(this, args);
      };
    }
  }
  document.addEventListener("securitypolicyviolation", (event) =>
    window.refused.push(`${event.violatedDirective} ${event.blockedURI} in ${event.sourceFile}`));
})()"""
HELD = """() => ({
  ...window.graphics.held, live: [...window.graphics.contexts].filter((gl) => !gl.isContextLost()).length,
})"""
NOTHING = dict.fromkeys(("Texture", "Program", "Shader", "VertexArray", "Framebuffer", "Buffer", "live"), 0)
STATISTICS = (
    "import('/extensions/PanoDiff/viewer/gl/renderer.mjs').then(({ shared: { renderer } }) => ({"
    "  viewers: renderer.viewers.size, textures: renderer.textures.size,"
    "  textureBytes: [...renderer.textures].reduce((sum, { bytes }) => sum + bytes, 0),"
    "}))"
)
# A picture from disk, `count` viewers of it side by side, and the first one's mask saved.
BUILD = """async ([picture, count, prefix]) => {
  await window.app.loadGraphData({ last_node_id: 0, last_link_id: 0, nodes: [], links: [], groups: [], version: 0.4 });
  const { graph } = window.app;
  const add = (type, x, y, widgets = {}) => {
    const node = window.LiteGraph.createNode(type);
    node.pos = [x, y];
    graph.add(node);
    for (const [name, value] of Object.entries(widgets)) node.widgets.find((w) => w.name === name).value = value;
    return node;
  };
  const source = add("LoadImage", 0, 0, { image: picture });
  const viewers = Array.from({ length: count }, (_, index) =>
    add("PanoDiff_ViewPanorama", 360 + 520 * (index % 5), 640 * Math.floor(index / 5)));
  for (const viewer of viewers) source.connect(0, viewer, 0);
  const made = add("MaskToImage", 0, 500);
  viewers[0].connect(2, made, 0);
  made.connect(0, add("SaveImage", 0, 600, { filename_prefix: prefix }), 0);
  const scale = count > 1 ? 0.3 : 1;
  Object.assign(window.app.canvas.ds, { scale, offset: [90 / scale, 90 / scale] });
  window.app.canvas.setDirty(true, true);
}"""
VIEWERS = "window.app.graph.nodes.filter((node) => node.type === 'PanoDiff_ViewPanorama')"


@pytest.fixture(params=FRONTENDS)
def page(request, server, browser) -> Iterator:  # noqa: F811
    """The frontend, empty, counting graphics objects and what the content security policy refuses."""
    server.post("/settings", {**SETTINGS, "Comfy.VueNodes.Enabled": FRONTENDS[request.param]})
    context = browser.new_context(viewport={"width": 1900, "height": 1100})
    context.add_init_script(WATCH)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda problem: problems.append(str(problem)))
    answer = page.goto(server.address)
    assert POLICY in answer.headers["content-security-policy"]
    wait_for_frontend(page)
    page.name = request.param
    yield page
    # The frontend itself asks other servers, in vain.
    refused = page.evaluate("window.refused.filter((line) => /PanoDiff|^\\S+ (blob|data)/.test(line))")
    context.close()
    assert not [problem for problem in problems if "panodiff" in problem.lower()]
    assert refused == []


def wait_for_frontend(page) -> None:
    page.wait_for_function("window.app?.extensionManager && window.app?.graph?.nodes", timeout=WAIT_MS)
    page.wait_for_timeout(2000)  # the frontend opens its own first workflow late
    page.evaluate(LISTEN)


def show(page, count: int = 1) -> None:
    """Viewers that ran and show the picture."""
    page.evaluate(BUILD, ["example.png", count, f"mask_{page.name}"])
    run(page)
    assert not page.evaluate("window.seen.errors")
    page.wait_for_function(
        f"document.querySelectorAll('.pd360-has-picture').length === {count}", timeout=WAIT_MS
    )


def test_the_picture_returns_after_the_page_was_loaded_again(page, server) -> None:
    show(page)
    before = page.evaluate(f"{VIEWERS}[0].properties.panodiff_panorama.panodiff_panorama[0].filename")
    page.wait_for_timeout(3000)  # the frontend keeps a draft of the workflow, in its own time
    page.reload()
    wait_for_frontend(page)
    page.wait_for_selector(".pd360-has-picture", state="attached", timeout=WAIT_MS)
    assert page.evaluate(f"{VIEWERS}[0].properties.panodiff_panorama.panodiff_panorama[0].filename") == before

    def view_is_right() -> bool:
        """The viewer shows what the core takes out of the same file."""
        return agrees_with_core(page, server, page.locator(".pd360"))

    wait_until(page, view_is_right)


def test_deleted_nodes_leave_nothing_on_the_graphics_card(page) -> None:
    show(page, 2)
    held = page.evaluate(HELD)
    assert (held["Texture"], held["live"], held["Shader"]) == (2, 1, 0)
    page.evaluate(f"window.app.graph.remove({VIEWERS}[0])")
    assert page.evaluate(HELD)["Texture"] == 1
    page.evaluate(f"window.app.graph.remove({VIEWERS}[0])")
    page.wait_for_function("() => document.querySelectorAll('.pd360').length === 0", timeout=WAIT_MS)
    assert page.evaluate(HELD) == NOTHING
    show(page)  # and a new one starts afresh
    page.evaluate("window.app.loadGraphData({ nodes: [], links: [], groups: [], version: 0.4 })")
    page.wait_for_function("() => document.querySelectorAll('.pd360').length === 0", timeout=WAIT_MS)
    assert page.evaluate(HELD) == NOTHING


def test_twenty_viewers_of_one_graph_share_a_context_that_is_never_lost(page) -> None:
    show(page, 20)
    held = page.evaluate(HELD)
    assert (held["Texture"], held["live"]) == (20, 1)
    assert page.evaluate("window.graphics.contexts.size") == 1
    statistics = page.evaluate(STATISTICS)
    assert (statistics["viewers"], statistics["textures"]) == (20, 20)
    assert statistics["textureBytes"] == 20 * round(512 * 256 * 4 * 4 / 3)
    assert page.locator(".pd360-notice").count() == 0  # nor one that says a context was lost


def test_the_viewer_fills_its_node(page) -> None:
    show(page)
    grow = f"""height => {{
      const viewer = {VIEWERS}[0], box = document.querySelector(`[data-node-id="${{viewer.id}}"]`);
      viewer.setSize([640, height]);
      if (box) box.style.setProperty("--node-height", `${{height}}px`); // as dragging its corner does
      window.app.canvas.setDirty(true, true);
    }}"""

    def viewer_is_high() -> bool:
        """All of the node is the viewer's, but for the title, six slots and six values."""
        node, inner = page.evaluate(f"[{VIEWERS}[0].size[1], document.querySelector('.pd360').offsetHeight]")
        return node >= height and node - inner < 350

    for height in (800, 950):
        page.evaluate(grow, height)
        wait_until(page, viewer_is_high)


def test_the_mask_is_within_a_pixel_of_where_the_hand_painted(page, server) -> None:
    from panodiff_core.io.images import load_image

    show(page)
    pose = {"yawDeg": 168.0, "pitchDeg": 24.0, "fovDeg": 80.0}
    page.evaluate("pose => document.querySelector('.pd360').panoramaView.lookAt(pose)", pose)
    page.locator(".pd360").focus()
    page.keyboard.press("b")
    places = [(0.3, 0.3), (0.7, 0.4), (0.5, 0.6)]
    paint(page, places)
    run(page)
    assert not page.evaluate("window.seen.errors")
    mask = load_image(max((server.base / "output").glob(f"mask_{page.name}_*.png")))[0, 0]
    height, _ = mask.shape
    distance = painted_distance(page, places, 80.0, 168.0, 24.0, height)
    inside = distance < 4.0  # the brush's radius in degrees
    off, wrong = (distance - 4.0).abs(), (mask > 0.5) != inside
    assert inside.sum() > 500
    assert not wrong.any() or off[wrong].max() < 180 / height
    moved = (mask.roll(3, 1) > 0.5) != inside
    assert off[moved].max() > 2 * 180 / height  # the comparison sees three pixels
