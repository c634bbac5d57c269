"""The viewer's settings in ComfyUI's dialog, and its language, in a page that plays ComfyUI."""

from __future__ import annotations

import json

import pytest

from panodiff_core.io.page import write_viewer_page
from tests.web.conftest import VIEWER as MODULES
from tests.web.conftest import WEB, png_bytes, wait_until
from tests.web.test_widget import VIEWER, box, place, settled

LOCALES = WEB.parent / "locales"
TOUCHED = "PanoDiff.Viewer."


@pytest.fixture
def page(open_page, comfy):
    opened = open_page(comfy.address, 1100, 700, reduced_motion="reduce")
    wait_until(opened, "window.harness")
    return opened


def open_with(open_page, comfy, kept: dict, **options):
    """A page whose server knows these settings of the person."""
    page = open_page("about:blank", 1100, 700, reduced_motion="reduce", **options)
    page.add_init_script(f"window.keptSettings = {json.dumps(kept)};")
    page.goto(comfy.address)
    wait_until(page, "window.harness")
    return page


def choose(page, name: str, value) -> None:
    page.evaluate(
        "([id, value]) => harness.app.extensionManager.setting.set(id, value)", [TOUCHED + name, value]
    )


def drag(page, node: int) -> float:
    """How far yaw changes when a hand moves 100 pixels to the left through the middle."""
    area = box(page, node).locator(".pd360-canvas").bounding_box()
    x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
    page.evaluate("node => harness.view(node).lookAt({ yawDeg: 0, pitchDeg: 0, fovDeg: 90 })", node)
    page.mouse.move(x + 50, y)
    page.mouse.down()
    page.mouse.move(x - 50, y, steps=4)
    page.mouse.up()
    settled(page, node)
    return page.evaluate("node => harness.view(node).pose.yawDeg", node)


def test_every_setting_reaches_open_viewers_at_once_and_new_ones(page):
    first = place(page)
    plain = drag(page, first)
    assert plain > 10
    choose(page, "InvertDrag", True)
    assert drag(page, first) == pytest.approx(-plain, rel=0.05)
    choose(page, "Sensitivity", 0.5)
    assert drag(page, first) == pytest.approx(-plain / 2, rel=0.05)
    choose(page, "DefaultMode", "planet")
    assert page.evaluate("node => harness.view(node).mode", first) == "planet"
    second = place(page)
    assert page.evaluate("node => harness.view(node).mode", second) == "planet"
    page.evaluate("node => harness.view(node).setMode('perspective')", second)
    assert drag(page, second) == pytest.approx(-plain / 2, rel=0.05)
    choose(page, "InvertDrag", False)  # changes nothing else
    assert page.evaluate("node => harness.view(node).mode", second) == "perspective"
    assert drag(page, second) == pytest.approx(plain / 2, rel=0.05)


def test_what_the_person_chose_before_counts_from_the_start(open_page, comfy):
    kept = {TOUCHED + "DefaultMode": "flat", TOUCHED + "InvertDrag": True}
    page = open_with(open_page, comfy, kept)
    node = place(page)
    assert page.evaluate("node => harness.view(node).mode", node) == "flat"
    page.evaluate("node => harness.view(node).setMode('perspective')", node)
    assert drag(page, node) < -10


def test_a_mode_that_is_not_there_any_more_is_ignored(open_page, comfy):
    page = open_with(open_page, comfy, {TOUCHED + "DefaultMode": "hyperbolic"})
    assert page.evaluate("node => harness.view(node).mode", place(page)) == "perspective"


def test_the_dialog_can_translate_every_setting(page):
    settings = page.evaluate(
        """import("/extensions/PanoDiff/viewer/geometry/modes.mjs").then(({ MODE_NAMES }) => ({
             modes: MODE_NAMES,
             settings: harness.extension.settings.map(({ id, name, tooltip, category, type, options }) =>
               ({ id, name, tooltip, category, type, options })),
           }))"""
    )
    expected, categories = {}, set()
    for one in settings["settings"]:
        entry = {"name": one["name"], "tooltip": one["tooltip"]}
        if one.get("options"):
            entry["options"] = {option["text"]: option["text"] for option in one["options"]}
            assert [option["value"] for option in one["options"]] == settings["modes"]
        expected[one["id"].replace(".", "_")] = entry
        categories |= set(one["category"][:2])
    assert len(expected) == 3
    assert json.loads((LOCALES / "en" / "settings.json").read_text(encoding="utf-8")) == expected
    for main in LOCALES.glob("*/main.json"):
        assert set(json.loads(main.read_text(encoding="utf-8"))["settingsCategories"]) == categories


def test_the_names_of_modes_in_the_dialog_are_the_viewers_own(page):
    texts = page.evaluate(
        """Promise.all(["en", "de"].map((name) => import(`/extensions/PanoDiff/viewer/texts/${name}.mjs`)))
             .then(([{ EN }, { DE }]) => harness.extension.settings.at(-1).options.map(({ text, value }) =>
               [text, EN[value], DE[value]]))"""
    )
    german = json.loads((LOCALES / "de" / "settings.json").read_text(encoding="utf-8"))
    names = german["PanoDiff_Viewer_DefaultMode"]["options"]
    assert [[text, text, names[text]] for text, _, _ in texts] == texts


def test_the_viewer_speaks_comfyuis_language_and_fetches_no_other(open_page, comfy):
    page = open_with(open_page, comfy, {"Comfy.Locale": "de"}, locale="en-US")
    fetched = []
    page.on("request", lambda request: fetched.append(request.url))
    node = place(page)
    assert page.locator(".pd360").get_attribute("aria-label") == "360°-Panorama-Betrachter"
    assert "Neigung 0.0° · Bildwinkel 90°" in settled(page, node)
    box(page, node).locator(".pd360").focus()
    page.keyboard.press("6")
    page.keyboard.press("c")
    assert "mit 1 zur Perspektive wechseln" in page.locator(".pd360-said").inner_text()
    other = page.evaluate("harness.place('PanoDiff_ReportSeam')")
    wait_until(page, "document.querySelector('.pd360-text')?.textContent.startsWith('Wird gefüllt')")
    page.evaluate("node => harness.remove(node)", other)
    tables = {url.rsplit("/", 1)[1] for url in fetched if "/texts/" in url}
    assert tables == {"text.mjs", "de.mjs"}


@pytest.mark.parametrize("locale", ["ja", "en"])
def test_other_languages_are_told_in_english(open_page, comfy, locale):
    page = open_with(open_page, comfy, {"Comfy.Locale": locale}, locale="de-DE")
    page.evaluate("kind => harness.place(kind)", VIEWER)
    page.wait_for_selector(".pd360-message")
    assert page.locator(".pd360-message").inner_text() == "Run the workflow, then look around here."


@pytest.mark.parametrize(
    ("locale", "language", "link", "readout"),
    [("de-AT", "de", "Bild speichern", "Drehung"), ("fr-FR", "en", "Save picture", "yaw")],
)
def test_the_offline_page_speaks_the_browsers_language(
    open_page, tmp_path, panorama, locale, language, link, readout
):
    path = write_viewer_page(png_bytes(panorama), tmp_path / "pano.html", MODULES, "A calm sea")
    page = open_page(path.as_uri(), 480, 288, locale=locale)
    wait_until(page, "viewer.panoramaView?.picture")
    assert page.evaluate("document.documentElement.lang") == language
    assert page.locator("#download").inner_text() == link
    assert readout in page.locator(".pd360-angles").text_content()
