"""The viewer on a node, in Chromium, with a page that plays ComfyUI: mount, run, resize, restore, remove."""

from __future__ import annotations

import math
import time

import pytest

from tests.web.conftest import png_bytes, synthetic_panorama, wait_until

VIEWER = "PanoDiff_ViewPanorama"


def result(*names: str, **more) -> dict:
    entries = [
        {"filename": name, "subfolder": "", "type": "temp", "width": 512, "height": 256} for name in names
    ]
    return {"panodiff_panorama": entries, **more}


def place(page, name: str = "pano.png") -> int:
    """A viewer node that ran and shows its picture."""
    node = page.evaluate("kind => harness.place(kind)", VIEWER)
    page.evaluate("([node, output]) => harness.run(node, output)", [node, result(name)])
    wait_until(page, "node => harness.nodes[node].box.querySelector('.pd360-has-picture')", node)
    return node


def box(page, node: int):
    return page.locator(".node").nth(
        sorted(page.evaluate("Object.keys(harness.nodes).map(Number)")).index(node)
    )


def readout(page, node: int) -> str:
    return box(page, node).locator(".pd360-angles").inner_text()


def settled(page, node: int) -> str:
    """The read-out once the camera has come to rest."""
    wait_until(page, "node => harness.view(node).frame === 0", node)
    return readout(page, node)


def wait_until_drawn(page, node: int) -> None:
    """Until the viewer's canvas holds the panorama rather than the empty sphere."""
    box(page, node).scroll_into_view_if_needed()
    wait_until(page, "node => harness.pixels(node).spread > 20", node)


@pytest.fixture
def page(open_page, comfy):
    opened = open_page(comfy.address, 1100, 700)
    wait_until(opened, "window.harness")
    return opened


def test_an_empty_viewer_says_what_to_do_and_loads_no_picture(page, comfy):
    node = page.evaluate("kind => harness.place(kind)", VIEWER)
    page.wait_for_selector(".pd360-canvas")
    assert "Run the workflow" in box(page, node).locator(".pd360-message").inner_text()
    assert comfy.asked == []
    assert page.evaluate("node => harness.nodes[node].widgets.filter(w => w.element).length", node) == 1
    assert page.evaluate("node => harness.nodes[node].widgets.at(-1).serialize", node) is False
    assert page.evaluate("node => harness.nodes[node].widgets.at(-1).options.serialize", node) is False


def test_other_nodes_are_left_alone_and_load_no_viewer(page):
    page.evaluate("harness.place('KSampler')")
    assert page.locator(".pd360").count() == 0
    assert page.evaluate("harness.counts().contexts") == 0


def test_a_result_is_shown_and_remembered(page, comfy):
    node = place(page)
    wait_until_drawn(page, node)
    shown = page.evaluate("node => harness.pixels(node)", node)
    assert 100 < shown["mean"] < 150
    assert comfy.asked == ["pano.png"]
    kept = page.evaluate("node => harness.nodes[node].properties.panodiff_panorama", node)
    assert kept["panodiff_panorama"][0]["filename"] == "pano.png"


def test_it_comes_back_after_a_reload(page, comfy):
    kept = {"panodiff_panorama": result("pano.png")}
    node = page.evaluate("([kind, kept]) => harness.load(kind, kept)", [VIEWER, kept])
    page.wait_for_selector(".pd360-has-picture")
    assert comfy.asked == ["pano.png"]  # configured and announced: still loaded once
    wait_until_drawn(page, node)


def test_a_picture_that_is_gone_is_explained(page):
    kept = {"panodiff_panorama": result("cleared.png")}
    node = page.evaluate("([kind, kept]) => harness.load(kind, kept)", [VIEWER, kept])
    page.wait_for_selector(".pd360-message")
    wait_until(
        page, "document.querySelector('.pd360-message').textContent.includes('Run the workflow again')"
    )
    assert box(page, node).locator(".pd360-error").count() == 0
    assert (
        len(page.problems) == 1 and "404" in page.problems.pop()
    )  # the browser's own line about the request


def test_a_broken_picture_is_an_error_and_the_next_one_works(page, comfy):
    comfy.pictures["broken.png"] = b"\x89PNG\r\n\x1a\nnot a picture"
    node = page.evaluate("kind => harness.place(kind)", VIEWER)
    page.evaluate("([node, output]) => harness.run(node, output)", [node, result("broken.png")])
    page.wait_for_selector(".pd360-error")
    assert "cannot be read" in box(page, node).locator(".pd360-message").inner_text()
    page.evaluate("([node, output]) => harness.run(node, output)", [node, result("pano.png")])
    page.wait_for_selector(".pd360-has-picture")
    assert box(page, node).locator(".pd360-message").inner_text() == ""


def test_older_results_are_shown_from_the_queue_and_markup_stays_text(page, comfy):
    node = place(page)
    name = "<b id=injected>.png"
    comfy.pictures[name] = comfy.pictures["pano.png"]
    page.evaluate("outputs => harness.extension.onNodeOutputsUpdated(outputs)", {str(node): result(name)})
    wait_until_drawn(page, node)
    assert comfy.asked == ["pano.png", name]
    assert page.locator("#injected").count() == 0


def test_a_batch_is_paged(page, comfy):
    comfy.pictures["second.png"] = png_bytes(1 - synthetic_panorama(64))
    node = page.evaluate("kind => harness.place(kind)", VIEWER)
    page.evaluate("([node, output]) => harness.run(node, output)", [node, result("pano.png", "second.png")])
    page.wait_for_selector(".pd360-has-picture")
    wait_until_drawn(page, node)
    before = page.evaluate("node => harness.pixels(node)", node)
    page.get_by_role("button", name="Next picture").click()
    wait_until(
        page, "([node, mean]) => Math.abs(harness.pixels(node).mean - mean) > 1", [node, before["mean"]]
    )
    assert box(page, node).locator(".pd360-player .pd360-value").inner_text() == "2 / 2"
    page.get_by_role("button", name="Previous picture").click()
    wait_until(page, "document.querySelector('.pd360-player .pd360-value').textContent === '1 / 2'")


def test_drag_turns_with_the_hand_and_glides_on(page):
    node = place(page)
    area = box(page, node).locator(".pd360-canvas").bounding_box()
    x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
    session, start = page.context.new_cdp_session(page), time.time()

    def mouse(kind: str, step: int) -> None:
        """One event of a hand that moves 10 pixels to the left each 10 ms, however busy this machine is."""
        event = {"x": x - 10 * step, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
        session.send("Input.dispatchMouseEvent", {"type": kind, "timestamp": start + 0.01 * step, **event})

    mouse("mousePressed", 0)
    for step in range(1, 11):
        mouse("mouseMoved", step)
    mouse("mouseReleased", 10)
    thrown = settled(page, node)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 50, y, steps=5)
    page.wait_for_timeout(200)  # a hand that rests before letting go does not throw
    page.mouse.up()
    rested = settled(page, node)
    first, second = (
        float(text.split("yaw ")[1].split("°")[0].replace("−", "-")) for text in (thrown, rested)
    )
    half = area["width"] / 2  # pixels to the edge, which is 45° away
    held = [math.degrees(math.atan(pixels / half)) for pixels in (100, 90, 50)]
    glide = 0.28 * (held[0] - held[1]) / 0.01  # 0.28 s at the speed of the last 10 ms
    assert first - held[0] == pytest.approx(glide, rel=0.2)
    assert second - first == pytest.approx(-held[2], abs=0.15)  # what the hand held stayed under it


def test_keys_buttons_wheel_and_reset(page):
    node = place(page)
    viewer = box(page, node).locator(".pd360")
    viewer.hover()
    page.mouse.wheel(0, 300)
    assert "fov 90°" in settled(page, node)  # not focused: the wheel belongs to ComfyUI's canvas
    viewer.focus()
    page.mouse.wheel(0, -300)
    assert "fov 63°" in settled(page, node)  # 90 exp(-0.36)
    page.keyboard.press("Home")
    assert settled(page, node) == "F · yaw 0.0° · pitch 0.0° · fov 90°"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert "yaw 9.0° · pitch 9.0°" in settled(page, node)
    page.keyboard.press("+")
    assert "fov 72°" in settled(page, node)
    page.keyboard.press("-")
    page.keyboard.press("r")
    assert "yaw 0.0° · pitch 0.0° · fov 90°" in settled(page, node)
    for _ in range(8):  # into the toolbar, past views, save, capture, brush, measures, link and histogram
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.title") == "Zoom in (+)"
    page.keyboard.press("Enter")
    assert "fov 72°" in settled(page, node)


def test_reachable_names_for_assistive_technology(page):
    node = place(page)
    viewer = page.get_by_role("application", name="360° panorama viewer")
    assert viewer.get_attribute("tabindex") == "0"
    described = viewer.get_attribute("aria-describedby")
    assert "arrow keys" in page.locator(f"#{described}").text_content()
    viewer.focus()
    page.keyboard.press("ArrowRight")
    wait_until(page, "document.querySelector('.pd360 [aria-live]').textContent.startsWith('Yaw 9, pitch 0')")
    buttons = box(page, node).get_by_role("button").all()
    assert len(buttons) == 11 and all(button.get_attribute("title") for button in buttons)


def test_full_screen_by_key_and_back_by_button(page):
    node = place(page)
    box(page, node).locator(".pd360").focus()
    page.keyboard.press("f")
    wait_until(page, "document.fullscreenElement?.classList.contains('pd360')")
    wait_until(page, "node => harness.pixels(node).width > 900", node)
    assert page.evaluate("node => harness.pixels(node).spread", node) > 20
    page.get_by_role("button", name="Full screen (F)").click()
    wait_until(page, "!document.fullscreenElement")


def test_resizing_the_node_redraws(page):
    node = place(page)
    page.evaluate("node => harness.nodes[node].setSize([700, 520])", node)
    wait_until(page, "node => harness.pixels(node).width === 680", node)
    shown = page.evaluate("node => harness.pixels(node)", node)
    assert (shown["width"], shown["height"]) == (680, 500)
    assert shown["spread"] > 20


def test_two_fingers_zoom(open_page, comfy):
    page = open_page(comfy.address, 1100, 700, has_touch=True)
    wait_until(page, "window.harness")
    node = place(page)
    area = box(page, node).locator(".pd360-canvas").bounding_box()
    x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
    session = page.context.new_cdp_session(page)

    def touch(kind: str, reach: float) -> None:
        points = [{"x": x - reach, "y": y, "id": 0}, {"x": x + reach, "y": y, "id": 1}]
        session.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [] if kind == "touchEnd" else points}
        )

    touch("touchStart", 50)
    for reach in (60, 80, 100):
        touch("touchMove", reach)
    touch("touchEnd", 0)
    assert settled(page, node).endswith("fov 45°")  # twice the distance, half the angle
    pose = page.evaluate("node => harness.view(node).pose", node)
    assert abs(pose["yawDeg"]) < 1 and abs(pose["pitchDeg"]) < 1e-6  # opposite fingers do not turn, nor throw


def test_reduced_motion_does_not_glide(open_page, comfy):
    page = open_page(comfy.address, 1100, 700, reduced_motion="reduce")
    wait_until(page, "window.harness")
    node = place(page)
    area = box(page, node).locator(".pd360-canvas").bounding_box()
    page.mouse.move(area["x"] + 200, area["y"] + 100)
    page.mouse.down()
    page.mouse.move(area["x"] + 100, area["y"] + 100, steps=5)
    held = settled(page, node)
    page.mouse.up()
    assert settled(page, node) == held


def test_twenty_viewers_share_one_context_and_all_show_their_picture(page):
    nodes = [place(page) for _ in range(20)]
    counts = page.evaluate("harness.counts()")
    assert (counts["contexts"], counts["liveContexts"]) == (1, 1)
    assert counts["programs"] <= 2  # of the empty sphere and of the picture, whatever the number of viewers
    assert page.evaluate("harness.statistics()")["viewers"] == 20
    for node in nodes:
        wait_until_drawn(page, node)


def test_removing_nodes_frees_everything(page):
    nodes = [place(page) for _ in range(3)]
    assert page.evaluate("harness.counts().textures") == 3
    page.evaluate("node => harness.remove(node)", nodes[0])
    assert page.evaluate("harness.counts()")["textures"] == 2
    assert page.evaluate("harness.statistics()") == {
        "contexts": 1, "viewers": 2, "textures": 2, "textureBytes": 2 * round(512 * 256 * 4 * 4 / 3),
    }  # fmt: skip
    for node in nodes[1:]:
        page.evaluate("node => harness.remove(node)", node)
    wait_until(page, "harness.counts().liveContexts === 0")
    counts = page.evaluate("harness.counts()")
    assert (counts["textures"], counts["programs"]) == (0, 0)
    assert page.evaluate("harness.statistics()") == {
        "contexts": 0,
        "viewers": 0,
        "textures": 0,
        "textureBytes": 0,
    }
    wait_until_drawn(page, place(page))  # and a new node starts afresh


def test_running_again_replaces_the_texture(page):
    node = place(page)
    for _ in range(5):
        page.evaluate("([node, output]) => harness.run(node, output)", [node, result("pano.png")])
    wait_until(page, "document.querySelector('.pd360').getAttribute('aria-busy') === 'false'")
    assert page.evaluate("harness.counts().textures") == 1


def test_fifty_runs_of_a_node_leave_nothing_behind(page, comfy):
    comfy.pictures["other.png"] = png_bytes(1 - synthetic_panorama(256))
    node, session = place(page), page.context.new_cdp_session(page)

    def run(times: int) -> None:
        for _ in range(times):
            asked = len(comfy.asked)
            output = result("other.png" if asked % 2 else "pano.png")
            page.evaluate("([node, output]) => harness.run(node, output)", [node, output])
            wait_until(page, "document.querySelector('.pd360').getAttribute('aria-busy') === 'false'")
            assert len(comfy.asked) == asked + 1

    def held() -> dict:
        """Elements, also those that are in no page, listeners, and what lies on the graphics card."""
        wait_until_drawn(page, node)
        page.wait_for_timeout(1000)  # announcements are over
        session.send("HeapProfiler.collectGarbage")
        counters = session.send("Memory.getDOMCounters")
        return {**counters, **page.evaluate("harness.counts()"), **page.evaluate("harness.statistics()")}

    run(4)
    before = held()
    run(50)
    after = held()
    assert after.pop("nodes") < before.pop("nodes") + 5  # an announcement more or less
    assert after == before
    assert before["textureBytes"] == round(512 * 256 * 4 * 4 / 3)


def test_a_node_removed_before_the_viewer_arrived_leaves_nothing(page):
    page.evaluate("kind => harness.remove(harness.place(kind))", VIEWER)
    page.evaluate("import('/extensions/PanoDiff/viewer/node/widget.mjs').then(() => null)")
    page.wait_for_timeout(100)
    assert page.locator(".pd360").count() == 0
    assert page.evaluate("harness.counts().contexts") == 0


def test_a_lost_context_comes_back_with_its_picture(page):
    node = place(page)
    page.evaluate("harness.loseContext()")
    wait_until(page, "document.querySelector('.pd360-notices').textContent.includes('graphics card')")
    page.evaluate("harness.restoreContext()")
    wait_until(page, "document.querySelector('.pd360-notices').textContent === ''")
    wait_until(page, "harness.statistics().then(({ textures }) => textures === 1)")
    box(page, node).locator(".pd360").focus()
    page.keyboard.press("ArrowLeft")
    assert "yaw −9.0°" in settled(page, node)
    assert page.evaluate("node => harness.pixels(node).spread", node) > 20


@pytest.mark.parametrize(
    "name, figures", [("pano.png", "of the second run"), ("broken.png", "No figures of this picture")]
)
def test_a_picture_that_was_loading_when_the_context_went_comes_with_its_figures(page, comfy, name, figures):
    comfy.pictures["broken.png"] = b"\x89PNG\r\n\x1a\nnot a picture"
    node, waiting = place(page), []
    output = result("pano.png")
    output["panodiff_panorama"][0]["measures"] = {"problem": "of the first run"}
    page.evaluate("([node, output]) => harness.run(node, output)", [node, output])
    wait_until(page, "document.querySelector('.pd360-measures').textContent.includes('of the first run')")
    page.route("**/api/view**", lambda route: waiting.append(route))
    output = result(name)
    output["panodiff_panorama"][0]["measures"] = {"problem": "of the second run"}
    page.evaluate("([node, output]) => harness.run(node, output)", [node, output])
    wait_until(page, "document.querySelector('.pd360').getAttribute('aria-busy') === 'true'")
    page.evaluate("harness.loseContext()")
    wait_until(page, "document.querySelector('.pd360-notices').textContent.includes('graphics card')")
    page.evaluate("harness.restoreContext()")
    wait_until(page, "document.querySelector('.pd360-notices').textContent === ''")
    while len(waiting) < 2:  # it is asked for again, now that there is a context
        page.wait_for_timeout(20)
    waiting[1].continue_()
    wait_until(page, "text => document.querySelector('.pd360-measures').textContent.includes(text)", figures)
    assert page.evaluate("harness.statistics()")["textures"] == (name == "pano.png")
    if name == "pano.png":
        wait_until_drawn(page, node)


def test_a_shader_that_does_not_build_is_told_and_leaves_no_texture(page):
    node = page.evaluate("kind => harness.place(kind)", VIEWER)
    page.wait_for_selector(".pd360-canvas")
    page.evaluate(
        "() => { const gl = WebGL2RenderingContext.prototype, original = gl.shaderSource; gl.shaderSource ="
        " function (shader, source) { original.call(this, shader, source.replace('READING POINTS', 'READING ?')); }; }"
    )
    page.evaluate("([node, output]) => harness.run(node, output)", [node, result("pano.png")])
    page.wait_for_selector(".pd360-error")
    assert "shader does not build" in box(page, node).locator(".pd360-message").inner_text()
    assert page.evaluate("harness.counts().textures") == 0
    assert page.evaluate("harness.statistics()")["textureBytes"] == 0


def test_full_screen_that_is_refused_is_told(page):
    node = place(page)
    box(page, node).locator(".pd360").focus()
    page.evaluate(
        "() => { Element.prototype.requestFullscreen = () => Promise.reject(new TypeError('Not in this frame')); }"
    )
    page.keyboard.press("f")
    assert box(page, node).locator(".pd360-said").inner_text() == "Not in this frame"


def test_a_viewer_whose_modules_do_not_arrive_says_so_and_goes_on_saying_it(page):
    page.route("**/viewer/node/widget.mjs", lambda route: route.abort())
    node = page.evaluate("kind => harness.place(kind)", VIEWER)
    wait_until(page, "document.querySelector('.node').textContent.includes('could not start this panel')")
    page.evaluate("([node, output]) => harness.run(node, output)", [node, result("pano.png")])
    page.evaluate("node => harness.remove(node)", node)
    page.wait_for_timeout(100)
    ours = [line for line in page.problems if "net::ERR" not in line]
    assert len(ours) == 1 and "could not start" in ours[0]  # once, whatever else asks for the viewer
    page.problems.clear()


def test_nothing_is_drawn_out_of_sight(page):
    node = place(page)
    page.evaluate("document.getElementById('graph').style.marginTop = '3000px'")
    wait_until(page, "node => !harness.view(node).onScreen && harness.view(node).frame === 0", node)
    page.evaluate(
        "node => { window.drawn = 0; const gl = WebGL2RenderingContext.prototype, draw = gl.drawArrays;"
        " gl.drawArrays = function (...args) { window.drawn += 1; return draw.apply(this, args); }; }", node
    )  # fmt: skip
    viewer = box(page, node).locator(".pd360")
    viewer.evaluate("element => element.focus({ preventScroll: true })")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert page.evaluate("window.drawn") == 0
    page.evaluate("document.getElementById('graph').style.marginTop = '0'")
    wait_until(page, "window.drawn > 0")
    assert "yaw 9.0°" in settled(page, node)


def test_a_picture_that_is_not_2_to_1_is_letterboxed_with_a_warning(page, comfy):
    comfy.pictures["wide.png"] = png_bytes(synthetic_panorama(256)[:, 72:184])
    node = place(page, "wide.png")
    assert "512 × 112 is not 2:1" in box(page, node).locator(".pd360-notice").inner_text()
    viewer = box(page, node).locator(".pd360")
    viewer.focus()
    for _ in range(10):
        page.keyboard.press("ArrowUp")
    assert "pitch 90.0°" in settled(page, node)
    shown = page.evaluate("node => harness.pixels(node)", node)
    assert shown["mean"] < 40  # up there is no picture


TEXT_NODES = (
    "PanoDiff_ReportSeam",
    "PanoDiff_ReportCubeSeams",
    "PanoDiff_EncodePrompt",
    "PanoDiff_EncodeFacePrompts",
    "PanoDiff_LoadSTAR",
)


@pytest.mark.parametrize("kind", TEXT_NODES)
def test_text_is_shown_and_comes_back(page, kind):
    node = page.evaluate("kind => harness.place(kind)", kind)
    page.evaluate("([node, output]) => harness.run(node, output)", [node, {"text": ["ratio 1.01\nrank 0.4"]}])
    wait_until(page, "document.querySelector('.pd360-text')?.textContent === 'ratio 1.01\\nrank 0.4'")
    kept = page.evaluate("node => harness.nodes[node].properties", node)
    other = page.evaluate("([kind, kept]) => harness.load(kind, kept)", [kind, kept])
    wait_until(page, "document.querySelectorAll('.pd360-text')[1]?.textContent === 'ratio 1.01\\nrank 0.4'")
    page.evaluate("node => harness.remove(node)", other)
    assert page.locator(".pd360-text").count() == 1


# Names of the buttons that a hand cannot reach: outside of the viewer, or under something else.
UNREACHABLE = """node => {
  const { root, overlay } = harness.view(node), outer = root.getBoundingClientRect();
  const reached = (button) => {
    const { left, right, top, bottom } = button.getBoundingClientRect();
    if (left < outer.left || right > outer.right || top < outer.top || bottom > outer.bottom) return false;
    return [[left, top], [right, bottom]].every(([x, y]) =>
      document.elementFromPoint(0.8 * x + 0.1 * (left + right), 0.8 * y + 0.1 * (top + bottom)) === button);
  };
  return [...overlay.toolbar.children].filter((button) => !reached(button)).map((button) => button.title);
}"""


@pytest.mark.parametrize("width", [240, 320, 450, 600, 1000])
def test_nothing_covers_the_toolbar_at_any_width(page, width):
    node = place(page)
    viewer = box(page, node).locator(".pd360")
    page.evaluate("([node, size]) => harness.nodes[node].setSize(size)", [node, [width, 260]])
    wait_until(page, "([node, width]) => harness.pixels(node).width === width", [node, width - 20])
    assert page.evaluate(UNREACHABLE, node) == []
    viewer.focus()
    for key in "mbh":  # measures, brush and histogram, which stay open
        page.keyboard.press(key)
        assert page.evaluate(UNREACHABLE, node) == [], key
    viewer.locator(".pd360-icon-options").click()
    assert page.evaluate(UNREACHABLE, node) == []
    outer, panel = (
        viewer.bounding_box(),
        viewer.get_by_role("group", name="View modes and display").bounding_box(),
    )
    assert panel["y"] >= outer["y"] and panel["height"] >= 90  # three lines of it, at least
    for part in (".pd360-toolbar", ".pd360-readout", ".pd360-panel >> visible=true"):
        inner = viewer.locator(part).first.bounding_box()
        assert inner["x"] >= outer["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"]
