"""The offline page in Chromium, from file://, against what the Python core renders for the same view."""

from __future__ import annotations

import base64

import pytest
import torch

from panodiff_core.geometry.reproject import equirect_to_perspective
from panodiff_core.io.page import write_viewer_page
from tests.web.conftest import VIEWER, png_bytes, synthetic_panorama, wait_until

SIZE = (96, 160)  # height, width
POSES = (  # yaw, pitch, roll, fov: forward, the seam, both poles, rolled, wide, close
    (0.0, 0.0, 0.0, 70.0),
    (180.0, 0.0, 0.0, 70.0),
    (-179.3, 12.0, 0.0, 60.0),
    (33.0, 90.0, 0.0, 70.0),
    (-120.0, -90.0, 0.0, 70.0),
    (95.5, -38.25, 27.0, 65.0),
    (178.0, 71.0, -140.0, 70.0),
    (-47.0, 5.0, 0.0, 20.0),
)
# With rounding to bytes alone the mean error of the difference of two roundings is below 1/3.
MEAN_TOLERANCE, MAX_TOLERANCE = 0.5, 2.0


@pytest.fixture
def page(open_page, tmp_path, panorama):
    path = write_viewer_page(png_bytes(panorama), tmp_path / "pano.html", VIEWER, 'A <b>"calm"</b> sea & sky')
    opened = open_page(path.as_uri(), SIZE[1], SIZE[0])
    wait_until(opened, "viewer.panoramaView?.picture")
    return opened


def seen(page, yaw: float, pitch: float, roll: float, fov: float) -> torch.Tensor:
    """What the viewer's canvas holds for a pose, [H,W,3] in 0..255."""
    pose = {"yawDeg": yaw, "pitchDeg": pitch, "rollDeg": roll, "fovDeg": fov}
    page.evaluate("pose => viewer.panoramaView.lookAt(pose)", pose)
    return canvas_pixels(page)


def canvas_pixels(page) -> torch.Tensor:
    width, height, data = page.evaluate(
        """() => {
          const { canvas, context } = viewer.panoramaView;
          const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
          let text = "";
          for (const value of data) text += String.fromCharCode(value);
          return [canvas.width, canvas.height, btoa(text)];
        }"""
    )
    pixels = torch.frombuffer(bytearray(base64.b64decode(data)), dtype=torch.uint8)
    return pixels.reshape(height, width, 4)[..., :3].to(torch.float64)


def rendered(panorama: torch.Tensor, pose, height: int = SIZE[0], width: int = SIZE[1], antialias=False):
    """The Python core's picture of the same pose, [H,W,3] in 0..255."""
    yaw, pitch, roll, fov = pose
    picture = equirect_to_perspective(
        panorama.double()[None], height, width, fov, yaw, pitch, roll, antialias=antialias
    )
    return picture[0].permute(1, 2, 0) * 255


def errors(one: torch.Tensor, other: torch.Tensor) -> tuple[float, float]:
    difference = (one - other).abs()
    return difference.mean().item(), difference.max().item()


def test_every_view_is_what_the_core_renders(page, panorama):
    for pose in POSES:
        mean, largest = errors(seen(page, *pose), rendered(panorama, pose))
        assert mean <= MEAN_TOLERANCE and largest <= MAX_TOLERANCE, (pose, mean, largest)


def test_half_a_pixel_of_shift_is_noticed(page, panorama):
    """The test above can fail: half a source pixel, or a quarter of a window pixel, is far outside."""
    pose = POSES[0]
    view = seen(page, *pose)
    half_source_pixel = (pose[0] + 180 / panorama.shape[-1], *pose[1:])
    twice = rendered(panorama, pose, 2 * SIZE[0], 2 * SIZE[1])
    quarter_window_pixel = twice[::2, ::2]  # a quarter of a window pixel up and left of the centres
    assert errors(view, rendered(panorama, half_source_pixel))[0] > 4 * MEAN_TOLERANCE
    assert errors(view, quarter_window_pixel)[0] > 2 * MEAN_TOLERANCE


def test_a_drag_ends_where_the_read_out_says(page, panorama):
    page.emulate_media(reduced_motion="reduce")
    page.set_viewport_size({"width": 480, "height": 288})
    wait_until(page, "viewer.panoramaView.canvas.width === 480")
    page.evaluate("viewer.panoramaView.lookAt({ yawDeg: 170, pitchDeg: 0, rollDeg: 0, fovDeg: 70 })")
    page.mouse.move(300, 130)
    page.mouse.down()
    page.mouse.move(100, 180, steps=8)
    page.mouse.up()
    wait_until(page, "viewer.panoramaView.frame === 0")
    pose = page.evaluate("viewer.panoramaView.pose")
    assert -170 < pose["yawDeg"] < -140 and pose["pitchDeg"] > 3  # across the seam, and up
    angles = (pose["yawDeg"], pose["pitchDeg"], pose["rollDeg"], pose["fovDeg"])
    mean, largest = errors(canvas_pixels(page), rendered(panorama, angles, 288, 480))
    assert mean <= MEAN_TOLERANCE and largest <= MAX_TOLERANCE
    assert "pitch" in page.locator(".pd360-angles").text_content()


def test_a_coarse_view_of_a_fine_picture_is_averaged(open_page, tmp_path):
    fine = synthetic_panorama(512)
    path = write_viewer_page(png_bytes(fine), tmp_path / "fine.html", VIEWER)
    page = open_page(path.as_uri(), SIZE[1], SIZE[0])
    wait_until(page, "viewer.panoramaView?.picture")
    for pose in ((180.0, 0.0, 0.0, 100.0), (20.0, 85.0, 0.0, 100.0)):
        view = seen(page, *pose)
        averaged, picked = rendered(fine, pose, antialias=True), rendered(fine, pose)
        assert errors(view, averaged)[0] < 8  # two ways of averaging noise
        assert view.diff(dim=1).std() < 0.8 * picked.diff(dim=1).std()
    # No line at the back, where the texture coordinate jumps: the middle columns look like all others.
    steps = seen(page, 180.0, 0.0, 0.0, 100.0).diff(dim=1).abs().mean(dim=(0, 2))
    middle = steps[SIZE[1] // 2 - 2 : SIZE[1] // 2 + 2]
    assert middle.max() < steps.mean() + 4 * steps.std()


def test_the_page_shows_its_title_as_text_and_offers_the_picture(page, panorama):
    assert page.locator("h1").inner_text() == 'A <b>"calm"</b> sea & sky'
    assert page.title() == 'A <b>"calm"</b> sea & sky'
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Save picture").click()
    assert waiting.value.suggested_filename == "pano.png"
    assert waiting.value.path().read_bytes() == png_bytes(panorama)


def test_keys_work_without_a_click(page):
    page.keyboard.press("ArrowRight")
    wait_until(page, "viewer.panoramaView.pose.yawDeg > 1")


def test_without_scripts_or_webgl_the_flat_picture_is_seen(open_page, tmp_path, panorama):
    path = write_viewer_page(png_bytes(panorama), tmp_path / "pano.html", VIEWER)
    page = open_page(path.as_uri(), 400, 200, java_script_enabled=False)
    assert page.locator("#picture").is_visible() and not page.locator("#viewer").is_visible()
    page = open_page("about:blank", 400, 200)
    page.add_init_script("HTMLCanvasElement.prototype.getContext = ((old) => function (kind, ...rest) {"
                         " return kind === 'webgl2' ? null : old.call(this, kind, ...rest); })"
                         "(HTMLCanvasElement.prototype.getContext);")  # fmt: skip
    page.goto(path.as_uri())
    page.wait_for_selector("#picture", state="visible")
    assert "no WebGL2" in page.locator("#problem").inner_text()


def test_a_picture_beyond_the_graphics_card_is_cut_into_tiles(open_page, tmp_path, panorama):
    path = write_viewer_page(png_bytes(panorama), tmp_path / "pano.html", VIEWER)
    page = open_page("about:blank", SIZE[1], SIZE[0])
    page.add_init_script("WebGL2RenderingContext.prototype.getParameter = ((old) => function (name) {"
                         " return name === this.MAX_TEXTURE_SIZE ? 256 : old.call(this, name); })"
                         "(WebGL2RenderingContext.prototype.getParameter);")  # fmt: skip
    page.goto(path.as_uri())
    wait_until(page, "viewer.panoramaView?.picture")
    assert page.evaluate("viewer.panoramaView.picture.full") and not page.locator(".pd360-notice").count()
    wait_until(page, "viewer.panoramaView.picture.tiles.placed.size === 1")
    assert page.evaluate("viewer.panoramaView.picture.sphere") == [256, 128]
    assert page.evaluate("viewer.panoramaView.picture.tiles.sphere") == [512, 256]
