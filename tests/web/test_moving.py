"""Sequences, videos, stereo pairs, cubemaps and parts of a panorama in Chromium, against the Python core."""

from __future__ import annotations

import io
import re

import pytest
import torch
from PIL import Image, PngImagePlugin

from panodiff_core import geometry as geo
from panodiff_core.geometry.cubemap import directions_to_faces, face_directions
from panodiff_core.io.page import write_viewer_page
from tests.web.conftest import VIEWER as MODULES
from tests.web.conftest import png_bytes, synthetic_panorama, wait_until
from tests.web.test_offline_page import canvas_pixels
from tests.web.test_view_modes import (
    NIGHT,
    POINTS_AS_THEY_ARE,
    SETUP,
    cases,
    compared,
    drawn,
    rendered,
)  # fmt: skip
from tests.web.test_widget import box

FRAMES = 6
LEVELS = [30 + 35 * index for index in range(FRAMES)]  # of grey
MIDDLE = """node => {
  const { canvas, context } = harness.view(node);
  return context.getImageData(canvas.width >> 1, canvas.height >> 1, 1, 1).data[0];
}"""
RECORD = """node => {
  const { canvas, context, drawn } = harness.view(node);
  window.seen = [];
  drawn.push(() => window.seen.push(context.getImageData(canvas.width >> 1, canvas.height >> 1, 1, 1).data[0]));
}"""


@pytest.fixture
def page(open_page, comfy):
    opened = open_page(comfy.address, 1100, 700, reduced_motion="reduce")
    wait_until(opened, "window.harness")
    opened.evaluate(SETUP)
    return opened


def show(page, comfy_class: str, *names: str, **more: str) -> int:
    """A viewer node that ran and shows the first of these files."""
    node = page.evaluate("kind => harness.place(kind)", f"PanoDiff_{comfy_class}")
    entries = [{"filename": name, "subfolder": "", "type": "temp", **more} for name in names]
    page.evaluate("([node, entries]) => harness.run(node, { panodiff_panorama: entries })", [node, entries])
    wait_until(page, "node => harness.nodes[node].box.querySelector('.pd360-has-picture')", node)
    return node


def batch(page, comfy) -> int:
    """A node with a batch of grey panoramas."""
    for index, level in enumerate(LEVELS):
        comfy.pictures[f"{index}.png"] = png_bytes(torch.full((3, 32, 64), level / 255))
    node = show(page, "ViewPanorama", *(f"{index}.png" for index in range(FRAMES)))
    wait_until(page, f"node => ({MIDDLE})(node) === {LEVELS[0]}", node)
    return node


def position(page, node: int) -> str:
    return box(page, node).locator(".pd360-player .pd360-value").inner_text()


def choose(page, label: str, value: str) -> None:
    """An entry of a list in the panel of views."""
    page.get_by_role("button", name="View modes and display").click()
    page.get_by_role("combobox", name=label).select_option(value)
    page.keyboard.press("Escape")


def test_a_batch_plays_without_flicker_and_keeps_the_view(page, comfy):
    node = batch(page, comfy)
    page.evaluate("node => harness.view(node).lookAt({ yawDeg: 77, pitchDeg: 11, fovDeg: 66 })", node)
    rate = page.get_by_label("fps")
    rate.fill("99")
    rate.press("Enter")
    assert rate.input_value() == "60"
    page.evaluate(RECORD, node)
    box(page, node).locator(".pd360").focus()
    page.keyboard.press(" ")
    wait_until(page, "new Set(window.seen).size === 6 && window.seen.length > 20")
    page.keyboard.press(" ")
    assert page.get_by_role("button", name="Play (Space)").is_visible()
    seen = page.evaluate("window.seen")
    assert set(seen) == set(LEVELS)  # whole pictures only: neither the empty sphere nor a mixture
    assert sorted(comfy.asked) == sorted(f"{index}.png" for index in range(FRAMES))  # each once
    pose = page.evaluate("node => harness.view(node).pose", node)
    assert [pose["yawDeg"], pose["pitchDeg"], pose["fovDeg"]] == pytest.approx([77, 11, 66])
    stopped = position(page, node)
    page.wait_for_timeout(200)
    assert position(page, node) == stopped
    assert page.evaluate("harness.counts().textures") == 1
    page.evaluate("node => harness.remove(node)", node)
    assert page.evaluate("harness.counts().textures") == 0


def test_without_loop_it_stops_at_the_last_and_begins_again(page, comfy):
    node = batch(page, comfy)
    box(page, node).locator(".pd360").focus()
    assert page.get_by_role("button", name="Loop (L)").get_attribute("aria-pressed") == "true"
    page.keyboard.press("l")
    assert page.get_by_role("button", name="Loop (L)").get_attribute("aria-pressed") == "false"
    page.keyboard.press(" ")
    assert page.get_by_role("button", name="Pause (Space)").is_visible()
    wait_until(page, "document.querySelector('.pd360-icon-play').title === 'Play (Space)'")
    assert position(page, node) == "6 / 6"
    page.keyboard.press(" ")
    wait_until(page, "document.querySelector('.pd360-player .pd360-value').textContent !== '6 / 6'")


def test_the_slider_works_by_keyboard_and_buttons_keep_their_space_key(page, comfy):
    node = batch(page, comfy)
    slider = page.get_by_role("slider", name="Position")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "2 / 6"
    wait_until(page, f"node => ({MIDDLE})(node) === {LEVELS[1]}", node)
    page.keyboard.press("End")
    wait_until(page, f"node => ({MIDDLE})(node) === {LEVELS[5]}", node)
    box(page, node).locator(".pd360").focus()
    page.keyboard.press(",")
    assert position(page, node) == "5 / 6"
    page.get_by_role("button", name="Next picture (.)").focus()
    page.keyboard.press(" ")
    assert position(page, node) == "6 / 6"
    assert page.get_by_role("button", name="Play (Space)").is_visible()  # it did not play
    # The next run keeps the position; a single picture has no bar and no keys of it.
    page.evaluate(
        "([node, entries]) => harness.run(node, { panodiff_panorama: entries })",
        [node, [{"filename": f"{index}.png", "subfolder": "", "type": "temp"} for index in (3, 4)]],
    )
    wait_until(page, f"node => ({MIDDLE})(node) === {LEVELS[4]}", node)
    assert position(page, node) == "2 / 2"
    page.evaluate(
        "([node, entries]) => harness.run(node, { panodiff_panorama: entries })",
        [node, [{"filename": "pano.png", "subfolder": "", "type": "temp"}]],
    )
    wait_until(page, "node => harness.pixels(node).spread > 20", node)
    assert not page.locator(".pd360-player").is_visible()
    assert page.evaluate("node => harness.view(node).keys.has('l')", node) is False


def test_the_bar_stays_inside_a_narrow_viewer(page, comfy):
    node = batch(page, comfy)
    page.evaluate("node => harness.nodes[node].setSize([240, 340])", node)
    wait_until(page, "node => harness.pixels(node).width === 220", node)
    outer = box(page, node).locator(".pd360").bounding_box()
    for part in box(page, node).locator(".pd360-player :is(button, input)").all():
        inner = part.bounding_box()
        assert inner["x"] >= outer["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"]
    assert page.get_by_role("slider", name="Position").bounding_box()["width"] > 60


def test_a_playing_sequence_rests_out_of_sight(page, comfy):
    node = batch(page, comfy)
    box(page, node).locator(".pd360").focus()
    page.keyboard.press(" ")
    page.evaluate("document.getElementById('graph').style.marginTop = '3000px'")
    wait_until(page, "document.querySelector('.pd360-icon-play').title === 'Play (Space)'")
    page.evaluate("document.getElementById('graph').style.marginTop = '0'")
    wait_until(page, "document.querySelector('.pd360-icon-play').title === 'Pause (Space)'")
    assert page.get_by_role("slider", name="Position").is_visible()


def test_decoded_pictures_stay_within_their_budget(page, comfy):
    node = batch(page, comfy)
    held = page.evaluate(
        """async (node) => {
          const { Sequence } = await import("/extensions/PanoDiff/viewer/moving/sequence.mjs");
          const view = harness.view(node), size = 4 * 64 * 32, bitmaps = new Set(), most = [];
          const sources = Array.from({ length: 6 }, (_, index) =>
            `/api/view?filename=${index}.png&subfolder=&type=temp&rand=`);
          const player = { view, loop: true, fps: 60, show() {}, play() {} };
          const sequence = new Sequence(sources, {}, player, 3 * size + 5);
          sequence.playing = true; // then it decodes as much ahead as it may
          for (let at = 0; at < 12; at += 1) {
            await sequence.seek(at % 6);
            for (const { picture } of sequence.frames.values()) if (picture) bitmaps.add(picture.bitmap);
            await Promise.all([...sequence.frames.values()].map(({ arriving }) => arriving));
            for (const { picture } of sequence.frames.values()) bitmaps.add(picture.bitmap);
            most.push([...bitmaps].filter(({ width }) => width > 0).length);
          }
          sequence.dispose();
          return [bitmaps.size, Math.max(...most), [...bitmaps].filter(({ width }) => width > 0).length];
        }""",
        node,
    )
    decoded, most, left = held
    assert decoded > 6 and most == 3 and left == 0


def test_a_sequence_keeps_to_the_clock_and_waits_for_what_is_not_decoded(page, comfy):
    node = batch(page, comfy)
    positions = page.evaluate(
        """async (node) => {
          const { Sequence } = await import("/extensions/PanoDiff/viewer/moving/sequence.mjs");
          const sources = Array.from({ length: 6 }, (_, index) =>
            `/api/view?filename=${index}.png&subfolder=&type=temp&rand=`);
          const player = {
            view: harness.view(node), loop: true, fps: 10, show() {}, play() {}, seek: (at) => sequence.seek(at),
          };
          const sequence = new Sequence(sources, {}, player);
          await sequence.seek(0);
          const positions = [];
          const tick = (now) => {
            sequence.tick(now);
            cancelAnimationFrame(sequence.timer);
            positions.push(sequence.position);
          };
          sequence.shownAt = 0;
          sequence.frames.delete(1);
          tick(130);
          for (let index = 0; index < 6; index += 1) await sequence.frame(index).arriving;
          for (const now of [150, 160, 200, 450, 540, 551, 661]) tick(now);
          player.loop = false;
          tick(2000);
          tick(2200);
          sequence.dispose();
          return positions;
        }""",
        node,
    )
    # At 130 the next is not decoded. 450 and 2000 come late and leave pictures out.
    assert positions == [0, 1, 1, 2, 4, 4, 5, 0, 5, 5]


def webm(levels: list[int], width: int = 128, height: int = 64, below: int | None = None) -> bytes:
    """A video of grey pictures, ten a second; `below` is the level of their lower half."""
    av = pytest.importorskip("av", reason="no PyAV: pip install -r requirements-dev.txt")
    stream = io.BytesIO()
    with av.open(stream, "w", format="webm") as container:
        track = container.add_stream("libvpx", rate=10)
        track.width, track.height, track.pix_fmt, track.bit_rate = width, height, "yuv420p", 2_000_000
        for level in levels:
            picture = torch.full((height, width, 3), level, dtype=torch.uint8)
            if below is not None:
                picture[height // 2 :] = below
            frame = av.VideoFrame.from_ndarray(picture.numpy(), format="rgb24")
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return stream.getvalue()


def near(level: int) -> str:
    return f"node => Math.abs(({MIDDLE})(node) - {level}) < 6"


def test_a_video_plays_seeks_and_is_let_go(page, comfy):
    levels = [30 + 20 * index for index in range(10)]
    comfy.pictures["film.webm"] = webm(levels)
    page.evaluate(
        """() => {
          const create = document.createElement;
          window.videos = [];
          document.createElement = function (name, ...rest) {
            const made = create.call(this, name, ...rest);
            if (name === "video") window.videos.push(made);
            return made;
          };
        }"""
    )
    node = show(page, "ViewVideo", "film.webm", kind="video")
    wait_until(page, near(levels[0]), node)
    assert page.evaluate("window.videos[0].muted && window.videos[0].paused")
    assert position(page, node) == "0.0 / 1.0 s" and not page.get_by_label("fps").is_visible()
    slider = page.get_by_role("slider", name="Position")
    slider.focus()
    page.keyboard.press("End")
    wait_until(page, near(levels[9]), node)
    page.keyboard.press("Home")
    wait_until(page, near(levels[0]), node)
    assert slider.get_attribute("aria-valuetext").startswith("0.0 / ")
    page.evaluate(RECORD, node)
    box(page, node).locator(".pd360").focus()
    page.keyboard.press(" ")
    wait_until(page, "new Set(window.seen).size > 4 && !window.videos[0].paused")
    assert all(min(abs(value - level) for level in levels) < 6 for value in page.evaluate("window.seen"))
    page.keyboard.press("l")
    wait_until(
        page, "window.videos[0].ended && document.querySelector('.pd360-icon-play').title === 'Play (Space)'"
    )
    assert page.evaluate("harness.counts().textures") == 1
    page.evaluate("node => harness.remove(node)", node)
    assert page.evaluate("harness.counts().textures") == 0
    assert page.evaluate("!window.videos[0].hasAttribute('src') && window.videos[0].paused")


def test_a_stereo_video_has_two_eyes_and_a_broken_one_is_explained(page, comfy):
    comfy.pictures["pair.webm"] = webm([60, 60, 140, 140], 128, 128, below=220)
    node = show(page, "ViewVideo", "pair.webm", kind="video")
    wait_until(page, near(60), node)
    page.get_by_role("slider", name="Position").focus()
    page.keyboard.press("End")
    wait_until(page, near(140), node)
    choose(page, "Eye", "right")
    wait_until(page, near(220), node)
    assert page.evaluate("harness.counts().textures") == 2
    comfy.pictures["broken.webm"] = b"not a video"
    page.evaluate(
        "node => harness.run(node, { panodiff_panorama: ["
        "{ filename: 'broken.webm', subfolder: '', type: 'temp', kind: 'video' }] })", node
    )  # fmt: skip
    page.wait_for_selector(".pd360-error")
    assert "this browser cannot play" in box(page, node).locator(".pd360-message").inner_text()
    assert page.evaluate("harness.counts().textures") == 0


READING = re.compile(r"x (\d+) · y (\d+) · RGB (\d+) (\d+) (\d+)")


def middle_reading(page, node: int) -> list[int]:
    """x, y, R, G and B in the middle of the window, as the panel of measures says them."""
    page.evaluate("node => harness.view(node).root.focus()", node)
    page.keyboard.press("m")
    page.keyboard.press("ArrowRight")
    text = page.locator(".pd360-measures > p").inner_text()
    page.keyboard.press("m")
    return [int(number) for number in READING.search(text).groups()]


@pytest.mark.parametrize("layout", ["below", "beside"])
def test_stereo_pairs_are_known_and_each_eye_is_what_the_core_renders(page, comfy, panorama, layout):
    left, right = panorama, synthetic_panorama().flip(2)
    comfy.pictures["pair.png"] = png_bytes(torch.cat([left, right], 1 if layout == "below" else 2))
    node = show(page, "ViewPanorama", "pair.png")
    notice = box(page, node).locator(".pd360-notice").inner_text()
    assert "stereo pair" in notice and layout in notice
    view = cases("perspective")[3]
    for eye, expected in (
        ("left", rendered(left, view)),
        ("right", rendered(right, view)),
        ("both", torch.cat([rendered(left, view)[:1], rendered(right, view)[1:]])),
    ):
        choose(page, "Eye", eye)
        shown = page.evaluate("node => harness.view(node).display.eye", node)
        mean, largest, _ = compared(drawn(page, node, view, **POINTS_AS_THEY_ARE, eye=shown), expected, view)
        assert mean < 0.4 / 255 and largest <= 1.01 / 255, (eye, mean * 255, largest * 255)
        if eye != "both":  # the measures read what is seen
            x, y, *value = middle_reading(page, node)
            assert value == ((left, right)[eye == "right"][:, y, x] * 255).round().int().tolist()
    assert page.evaluate("harness.counts().textures") == 2
    choose(page, "Stereo picture", "one")
    wait_until(page, "harness.counts().textures === 1")
    wait_until(page, "document.querySelector('.pd360-notices').textContent.includes('is not 2:1')")
    page.evaluate("node => harness.remove(node)", node)
    assert page.evaluate("harness.counts().textures") == 0


def laid(faces: torch.Tensor) -> torch.Tensor:
    """[6,3,S,S] -> [3,2S,3S] as the node writes them."""
    return torch.cat([torch.cat(list(faces[:3]), 2), torch.cat(list(faces[3:]), 2)], 1)


def read_faces(faces: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bilinear values [3,H,W] of directions [H,W,3], and where no texel of another face counts."""
    size = faces.shape[-1]
    face, u, v = directions_to_faces(directions)
    column, row = (u + 1) / 2 * size - 0.5, (1 - v) / 2 * size - 0.5
    inside = (torch.minimum(column, row) >= 0) & (torch.maximum(column, row) <= size - 1)
    left, top = (place.floor().clamp(0, size - 2).long() for place in (column, row))
    across, down = column - left, row - top
    texel = [faces[face, :, top + i, left + j].permute(2, 0, 1) for i in (0, 1) for j in (0, 1)]
    upper, lower = (texel[index] + (texel[index + 1] - texel[index]) * across for index in (0, 2))
    return upper + (lower - upper) * down, inside


@pytest.mark.parametrize("mode", geo.VIEW_MODES)
def test_cube_faces_are_sampled_as_they_are(page, comfy, mode):
    size = 128
    noise = torch.rand((6, 3, size, size), generator=torch.Generator().manual_seed(8))
    faces = (noise * 255).round().double() / 255
    comfy.pictures["cube.png"] = png_bytes(laid(faces))
    node = show(page, "ViewCubemap", "cube.png", kind="cubemap")
    for view in cases(mode)[:4]:
        values, inside = read_faces(faces, geo.view_directions(view))
        covered = geo.view_coverage(view)
        kept = inside & ~geo.view_discontinuities(view) | (covered == 0)
        assert kept.double().mean() > 0.9
        expected = values * covered + NIGHT * (1 - covered)
        wrong = (drawn(page, node, view, **POINTS_AS_THEY_ARE) - expected).abs()[:, kept]
        assert wrong.mean() < 0.5 / 255 and wrong.max() <= 3 / 255, (view, wrong.max() * 255)
    assert page.evaluate("harness.counts().textures") == 1
    page.evaluate("node => harness.remove(node)", node)
    assert page.evaluate("harness.counts().textures") == 0


def colours(directions: torch.Tensor) -> torch.Tensor:
    """A smooth function [3,...] of unit directions [...,3]."""
    x, y, z = directions.unbind(-1)
    return torch.stack([0.5 + 0.4 * x, 0.5 + 0.4 * y, 0.5 + 0.3 * z + 0.1 * x * y])


@pytest.mark.parametrize("mode", geo.VIEW_MODES)
def test_cube_edges_show_no_line(page, comfy, mode):
    """Faces of a smooth function: every pixel, at edges and corners too, read as points and averaged."""
    faces = colours(face_directions(64, dtype=torch.float64)).movedim(0, 1)
    comfy.pictures["smooth.png"] = png_bytes(laid(faces))
    node = show(page, "ViewCubemap", "smooth.png", kind="cubemap")
    for view in cases(mode)[:4]:
        covered = geo.view_coverage(view)
        expected = colours(geo.view_directions(view)) * covered + NIGHT * (1 - covered)
        kept = ~geo.view_discontinuities(view)
        for settings, most in ((POINTS_AS_THEY_ARE, 2.5), ({"seamLine": False}, 6)):
            wrong = (drawn(page, node, view, **settings) - expected).abs()[:, kept]
            assert wrong.mean() < 1 / 255 and wrong.max() <= most / 255, (view, wrong.max() * 255)


CROP = {"left": 400, "top": 60, "width": 200, "height": 120}  # across the back meridian of 512 × 256


def cropped(panorama: torch.Tensor, **changes: int) -> bytes:
    """The part of a panorama as a PNG file with GPano fields."""
    part = CROP | changes
    rows = panorama[:, CROP["top"] : CROP["top"] + CROP["height"]]
    pixels = rows.roll(-CROP["left"], 2)[:, :, : CROP["width"]]
    fields = {
        "CroppedAreaLeftPixels": part["left"], "CroppedAreaTopPixels": part["top"],
        "CroppedAreaImageWidthPixels": part["width"], "CroppedAreaImageHeightPixels": part["height"],
        "FullPanoWidthPixels": 512, "FullPanoHeightPixels": 256,
    }  # fmt: skip
    packet = " ".join(f'GPano:{name}="{value}"' for name, value in fields.items())
    info = PngImagePlugin.PngInfo()
    info.add_itxt(
        "XML:com.adobe.xmp", f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {packet}/></x:xmpmeta>'
    )
    with Image.open(io.BytesIO(png_bytes(pixels))) as image:
        stream = io.BytesIO()
        image.save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


def test_a_part_of_a_panorama_is_shown_where_its_file_says(open_page, tmp_path, panorama):
    path = write_viewer_page(cropped(panorama), tmp_path / "part.html", MODULES)
    page = open_page(path.as_uri(), 320, 200)
    wait_until(page, "viewer.panoramaView?.picture")
    assert "A part of a panorama of 512 × 256" in page.locator(".pd360-notice").inner_text()
    page.evaluate("viewer.panoramaView.setDisplay({ smooth: false })")
    mask = torch.zeros(1, 1, 256, 512, dtype=torch.float64)
    columns = torch.arange(CROP["left"], CROP["left"] + CROP["width"]) % 512
    mask[:, :, CROP["top"] : CROP["top"] + CROP["height"], columns] = 1
    for yaw, pitch in ((180.0, 0.0), (150.0, 25.0), (-140.0, -20.0), (0.0, 0.0)):
        page.evaluate(
            "([yawDeg, pitchDeg]) => viewer.panoramaView.lookAt({ yawDeg, pitchDeg, rollDeg: 0, fovDeg: 80 })",
            [yaw, pitch],
        )
        seen = canvas_pixels(page).permute(2, 0, 1)
        view = geo.View("perspective", seen.shape[1], seen.shape[2], 80.0, yaw, pitch)
        share = geo.equirect_to_view(mask, view)[0, 0]
        whole = geo.equirect_to_view(panorama.double()[None], view)[0] * 255
        assert (share == 1).any() == (yaw != 0)
        wrong = (seen - whole).abs()[:, share == 1]
        assert wrong.numel() == 0 or (wrong.mean() < 0.5 and wrong.max() <= 2)
        outside = seen[:, share == 0]  # the empty sphere with its lines
        assert outside.numel() == 0 or outside.max() < 90


def test_contradicting_fields_are_said_and_a_script_may_give_the_crop(page, comfy, panorama):
    comfy.pictures["wrong.png"] = cropped(panorama, top=250)
    node = show(page, "ViewPanorama", "wrong.png")
    notices = box(page, node).locator(".pd360-notices")
    assert "contradict" in notices.inner_text() and "200 × 120 is not 2:1" in notices.inner_text()
    page.evaluate(
        "([node, crop]) => harness.view(node).show('/api/view?filename=wrong.png&subfolder=&type=temp&rand=', { crop })",
        [node, {**CROP, "fullWidth": 512, "fullHeight": 256}],
    )
    wait_until(
        page, "document.querySelector('.pd360-notices').textContent.startsWith('A part of a panorama')"
    )
    page.evaluate("node => harness.view(node).setDisplay({ smooth: false })", node)
    view = geo.View("perspective", 96, 160, 60.0, 180.0, 0.0)
    mean, largest, _ = compared(drawn(page, node, view, **POINTS_AS_THEY_ARE), rendered(panorama, view), view)
    assert mean < 0.4 / 255 and largest <= 1.01 / 255
