"""Entering VR with a device that the test injects: each eye's pixels against the Python core."""

from __future__ import annotations

import base64

import pytest
import torch

from panodiff_core.geometry import equirect_to_perspective
from tests.web.conftest import synthetic_panorama, wait_until
from tests.web.test_large_pictures import SETTLED, stored
from tests.web.test_large_pictures import place as place_large
from tests.web.test_widget import place

SIZE = 96  # of each eye, in pixels
HEAD_YAW, HEAD_PITCH = 20.0, -10.0  # to the right, down
INNER, OUTER = 0.5, 0.8  # tangents of an eye's half angles: eyes see further outwards

# Glasses whose framebuffer is a texture that can be read.
DEVICE = """
const radians = (degrees) => (degrees * Math.PI) / 180;
const projection = (left, right, half) => Float32Array.of(
  2 / (left + right), 0, 0, 0,  0, 1 / half, 0, 0,
  (right - left) / (left + right), 0, -1, -1,  0, 0, -0.02, 0);
const head = (yawDeg, pitchDeg) => { // right and down, in a world that looks along -Z
  const [cy, sy, cp, sp] = [Math.cos(radians(yawDeg)), Math.sin(radians(yawDeg)),
    Math.cos(radians(pitchDeg)), Math.sin(radians(pitchDeg))];
  return Float32Array.of(cy, 0, sy, 0,  sy * sp, cp, -cy * sp, 0,  -sy * cp, sp, cy * cp, 0,  0, 0, 0, 1);
};

window.glasses = { compatible: 0, sessions: [], supported: true, refuse: null };
WebGL2RenderingContext.prototype.makeXRCompatible = async function () { window.glasses.compatible += 1; };
window.XRWebGLLayer = class {
  constructor(session, gl, options) {
    Object.assign(this, { gl, options, framebuffer: gl.createFramebuffer(), texture: gl.createTexture() });
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, 2 * SIZE, SIZE);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.texture, 0);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  }
  getViewport(view) {
    if (!session().eyes.includes(view)) throw new TypeError("not a view of this frame");
    return { x: view.eye === "left" ? 0 : SIZE, y: 0, width: SIZE, height: SIZE };
  }
  pixels() {
    const { gl } = this, data = new Uint8Array(2 * SIZE * SIZE * 4);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    gl.readPixels(0, 0, 2 * SIZE, SIZE, gl.RGBA, gl.UNSIGNED_BYTE, data);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    let text = "";
    for (const value of data) text += String.fromCharCode(value);
    return btoa(text);
  }
};
const session = () => window.glasses.sessions.at(-1);
class FakeSession extends EventTarget {
  constructor() {
    super();
    const transform = { matrix: head(HEAD_YAW, -HEAD_PITCH) };
    this.eyes = [
      { eye: "left", projectionMatrix: projection(OUTER, INNER, 0.6), transform },
      { eye: "right", projectionMatrix: projection(INNER, OUTER, 0.6), transform },
    ];
    Object.assign(this, { callbacks: [], ended: false });
  }
  updateRenderState({ baseLayer }) { this.layer = baseLayer; }
  async requestReferenceSpace(kind) { return { kind }; }
  requestAnimationFrame(callback) { this.callbacks.push(callback); }
  async end() { this.ended = true; this.callbacks = []; }
  /** One frame of the glasses. */
  step() {
    const callbacks = this.callbacks.splice(0);
    for (const callback of callbacks) {
      callback(0, { getViewerPose: (space) => (space.kind === "local" ? { views: this.eyes } : null) });
    }
    return callbacks.length;
  }
}
Object.defineProperty(navigator, "xr", { configurable: true, value: {
  async isSessionSupported(mode) { return window.glasses.supported && mode === "immersive-vr"; },
  async requestSession(mode) {
    if (!navigator.userActivation.isActive) throw new Error("needs a click");
    if (window.glasses.refuse) throw new Error(window.glasses.refuse);
    window.glasses.sessions.push(new FakeSession());
    return session();
  },
} });
"""
NUMBERS = {"SIZE": SIZE, "HEAD_YAW": HEAD_YAW, "HEAD_PITCH": HEAD_PITCH, "INNER": INNER, "OUTER": OUTER}
CONSTANTS = "".join(f"const {name} = {value};" for name, value in NUMBERS.items())


@pytest.fixture
def page(open_page, comfy):
    opened = open_page("about:blank", 1100, 700)
    opened.add_init_script(f"{{ {CONSTANTS} {DEVICE} }}")
    opened.goto(comfy.address)
    wait_until(opened, "window.harness")
    return opened


def enter(page):
    page.get_by_role("button", name="Enter VR (V)").click()
    wait_until(page, "window.glasses.sessions.at(-1)?.callbacks.length === 1")


def eyes(page) -> torch.Tensor:
    """What both eyes see now, side by side: [H,2W,3] in 0..255."""
    assert page.evaluate("window.glasses.sessions.at(-1).step()") == 1
    data = bytearray(base64.b64decode(page.evaluate("window.glasses.sessions.at(-1).layer.pixels()")))
    return torch.frombuffer(data, dtype=torch.uint8).view(SIZE, 2 * SIZE, 4).flip(0)[..., :3].double()


def expected(panorama: torch.Tensor, yaw: float, left: float, right: float) -> torch.Tensor:
    """The core's picture of an eye, cut out of a symmetric one whose pixels are a twentieth as wide."""
    fine = 20
    step = (left + right) / SIZE / fine
    count = round(2 * max(left, right) / step)
    fov = 2 * torch.rad2deg(torch.tensor(count * step / 2, dtype=torch.float64).atan()).item()
    height = round(2 * 0.6 / step)
    height += height % 2
    picture = equirect_to_perspective(
        panorama.double()[None], height, count, fov, yaw, HEAD_PITCH, 0.0, mode="bilinear"
    )[0]
    # Centres of the eye's pixels, in pixels of the fine picture; rows are measured in the same step.
    columns = count / 2 + ((torch.arange(SIZE) + 0.5) / SIZE * (left + right) - left) / step
    rows = height / 2 + ((torch.arange(SIZE) + 0.5) / SIZE * 1.2 - 0.6) / step
    grid = torch.stack(
        [(2 * columns / count - 1).expand(SIZE, SIZE), (2 * rows / height - 1)[:, None].expand(SIZE, SIZE)],
        -1,
    )
    eye = torch.nn.functional.grid_sample(picture[None], grid[None].double(), align_corners=False)
    return eye[0].permute(1, 2, 0) * 255


def test_each_eye_sees_what_the_core_renders_for_it(page, panorama):
    node = place(page)
    page.evaluate("node => harness.view(node).lookAt({ yawDeg: 100, pitchDeg: 30, fovDeg: 60 })", node)
    enter(page)
    assert page.evaluate("window.glasses.compatible") == 1
    shown = eyes(page)
    yaw = 100 + HEAD_YAW  # the head looks on from where the viewer did; up and down are its own
    for eye, (left, right) in enumerate([(OUTER, INNER), (INNER, OUTER)]):
        seen = shown[:, eye * SIZE : (eye + 1) * SIZE]
        error = (seen - expected(panorama, yaw, left, right)).abs()
        assert error.mean() < 1 and error.max() < 8, (eye, error.mean(), error.max())
        # A degree would be seen, and so would the other eye's picture.
        assert (seen - expected(panorama, yaw + 1, left, right)).abs().mean() > 4
        assert (seen - expected(panorama, yaw, right, left)).abs().mean() > 4


def test_glasses_fetch_the_tiles_that_they_see(page, comfy):
    large = synthetic_panorama(3072)
    node = place_large(page, stored(comfy, "large", large))
    page.evaluate(
        "node => { const view = harness.view(node); view.setDisplay({ smooth: false });"
        " view.lookAt({ yawDeg: -100, fovDeg: 10 }); }",
        node,
    )
    wait_until(page, SETTLED, node)
    placed = "node => [...harness.view(node).picture.tiles.placed.keys()]"
    assert page.evaluate(placed, node) == ["0_1_1"]
    enter(page)
    target = expected(large, -100.0 + HEAD_YAW, OUTER, INNER)
    blurred = (eyes(page)[:, :SIZE] - target).abs().mean()
    for _ in range(300):  # the glasses draw on
        eyes(page)
        if {"0_1_2", "0_2_1", "0_2_2"} <= set(page.evaluate(placed, node)):
            break
        page.wait_for_timeout(20)
    sharp = (eyes(page)[:, :SIZE] - target).abs().mean()
    assert sharp < 0.7 * blurred, (sharp, blurred)
    page.evaluate("node => harness.remove(node)", node)  # or it would still load when the server goes


def test_the_viewer_on_the_page_goes_on_and_the_glasses_show_its_settings(page):
    node = place(page)
    enter(page)
    before = eyes(page)
    page.evaluate("node => harness.view(node).setDisplay({ exposureEv: -4 })", node)
    wait_until(page, "node => harness.pixels(node).mean < 60", node)
    assert eyes(page).mean() < before.mean() / 2
    assert page.evaluate("node => harness.pixels(node).mean", node) > 5


def test_the_heat_map_stays_on_the_page(page):
    """Its averages are measured in another framebuffer, in the middle of a drawing."""
    node = place(page)
    enter(page)
    page.evaluate("node => harness.view(node).setDisplay({ exposureEv: -4 })", node)
    plain = eyes(page)
    page.evaluate("node => harness.view(node).setDisplay({ exposureEv: -2 })", node)
    brighter = eyes(page)
    page.evaluate("node => harness.view(node).setDisplay({ exposureEv: -4, heat: true })", node)
    assert torch.equal(eyes(page), plain) and not torch.equal(brighter, plain)


def test_the_session_ends_with_the_node(page):
    node = place(page)
    enter(page)
    page.evaluate("node => harness.remove(node)", node)
    wait_until(page, "window.glasses.sessions.at(-1).ended")


def test_a_refusal_is_told(page):
    place(page)
    page.evaluate("window.glasses.refuse = 'the headset sleeps'")
    page.locator(".pd360").focus()
    page.keyboard.press("v")
    wait_until(page, "document.querySelector('.pd360-said')?.textContent.includes('the headset sleeps')")


def test_its_module_is_fetched_with_the_first_entry_only(page):
    fetched = []
    page.on("request", lambda request: fetched.append(request.url))
    place(page)
    page.get_by_role("button", name="Enter VR (V)").wait_for()
    assert any(url.endswith("/node/vr.mjs") for url in fetched)
    assert not any(url.endswith("/gl/vr.mjs") for url in fetched)
    enter(page)
    assert any(url.endswith("/gl/vr.mjs") for url in fetched)


def test_without_glasses_there_is_no_button(page):
    page.evaluate("window.glasses.supported = false")
    place(page)
    page.wait_for_timeout(200)
    assert page.get_by_role("button", name="Enter VR (V)").count() == 0
