"""The self-contained viewer page: what it holds, what it refuses, and that a good page is never lost."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from panodiff_core.io.page import ENTRY_MODULE, link_modules, write_viewer_page
from panodiff_core.runtime.errors import InputError

VIEWER = Path(__file__).resolve().parents[2] / "web" / "viewer"


def picture(kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 4), (200, 120, 40)).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize(("kind", "mime"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp")])
def test_the_picture_is_in_the_page_byte_for_byte(tmp_path, kind, mime):
    page = write_viewer_page(picture(kind), tmp_path / "sea.html", VIEWER, "a sea").read_text(
        encoding="utf-8"
    )
    found = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', page)
    assert [(mime, picture(kind))] == [(name, base64.b64decode(data)) for name, data in found]
    assert f'download="sea.{mime}"' in page


def test_a_picture_given_as_a_path_keeps_its_name(tmp_path):
    (tmp_path / "my pano.png").write_bytes(picture())
    page = write_viewer_page(tmp_path / "my pano.png", tmp_path / "p.html", VIEWER).read_text(
        encoding="utf-8"
    )
    assert 'download="my pano.png"' in page


def test_the_title_is_text(tmp_path):
    title = "\"night\" & </title><script>alert(1)</script> 'sea' ü 海"
    page = write_viewer_page(picture(), tmp_path / "p.html", VIEWER, title).read_text(encoding="utf-8")
    assert page.count("<script") == 1
    assert f"<title>{html.escape(title)}</title>" in page


def test_the_page_needs_and_allows_nothing_from_outside(tmp_path):
    page = write_viewer_page(picture(), tmp_path / "p.html", VIEWER).read_text(encoding="utf-8")
    assert "http://" not in page and "https://" not in page
    assert not re.search(r"^\s*(import|export)\b", page, re.MULTILINE)
    script = re.search(r'<script type="module">(.*)</script>', page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data: blob:; script-src 'sha256-{digest}'" in page


def test_every_module_of_the_viewer_appears_before_it_is_needed():
    script = link_modules(VIEWER, ENTRY_MODULE)
    order = re.findall(r"^const (module_\w+) = \(\(\) => \{$", script, re.MULTILINE)
    assert len(order) == len(set(order)) >= 8 and order[-1] == "module_standalone"
    for position, name in enumerate(order):
        first_use = script.index(f"}} = {name};") if f"}} = {name};" in script else len(script)
        assert script.index(f"const {name} = ") < first_use, (position, name)


def modules(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.mjs").write_text(text, encoding="utf-8")
    return folder


def test_the_linker_keeps_names_private_and_exports_apart(tmp_path):
    modules(
        tmp_path,
        a='import { two } from "./b.mjs";\nconst own = 1;\nexport const three = own + two;\n',
        b="const own = 2;\nexport const two = own;\nexport async function wait() {}\nexport class Box {}\n",
    )
    assert link_modules(tmp_path, "a.mjs") == (
        "const module_b = (() => {\nconst own = 2;\nconst two = own;\nasync function wait() {}\nclass Box {}\n"
        "\nreturn { two, wait, Box };\n})();\n"
        "const module_a = (() => {\nconst { two } = module_b;\nconst own = 1;\nconst three = own + two;\n"
        "\nreturn { three };\n})();"
    )


def test_modules_may_lie_in_folders(tmp_path):
    (tmp_path / "maths").mkdir()
    (tmp_path / "hands").mkdir()
    modules(tmp_path, a='import { three } from "./hands/b.mjs";\nexport const four = three + 1;\n')
    modules(tmp_path / "hands", b='import { two } from "../maths/b.mjs";\nexport const three = two + 1;\n')
    modules(tmp_path / "maths", b="export const two = 2;\n")
    assert link_modules(tmp_path, "a.mjs") == (
        "const module_maths_b = (() => {\nconst two = 2;\n\nreturn { two };\n})();\n"
        "const module_hands_b = (() => {\nconst { two } = module_maths_b;\nconst three = two + 1;\n"
        "\nreturn { three };\n})();\n"
        "const module_a = (() => {\nconst { three } = module_hands_b;\nconst four = three + 1;\n"
        "\nreturn { four };\n})();"
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('import { none } from "./b.mjs";', "imports none from b.mjs, which does not export it"),
        ('import { two as deux } from "./b.mjs";', "as they are"),
        ('import * as b from "./b.mjs";', "cannot hold"),
        ('import "./b.mjs";', "cannot hold"),
        ('import { two } from "https://host/b.mjs";', "cannot hold"),
        ("export default function () {}", "cannot hold"),
        ("export let counter = 0;", "cannot hold"),
        ("export { two };", "cannot hold"),
        ('const b = await import("./b.mjs");', "cannot hold"),
        ("const here = import.meta.url;", "cannot hold"),
        ('const end = "</SCRIPT>";', "HTML page"),
        ('import { x } from "./a.mjs";', "circle: a.mjs -> a.mjs"),
        ('import { x } from "./gone.mjs";', "gone.mjs cannot be read"),
    ],
)
def test_the_linker_refuses_what_it_does_not_know(tmp_path, text, complaint):
    modules(tmp_path, a=f"{text}\n", b="export const two = 2;\n")
    with pytest.raises(InputError, match=re.escape(complaint)):
        link_modules(tmp_path, "a.mjs")


def test_a_missing_viewer_is_named(tmp_path):
    with pytest.raises(InputError, match="standalone.mjs cannot be read .*web/viewer"):
        write_viewer_page(picture(), tmp_path / "p.html", tmp_path / "nowhere")
    assert not (tmp_path / "p.html").exists()


@pytest.mark.parametrize("bad", [b"", b"GIF89a....", b"<svg/>"])
def test_other_files_are_not_pictures(tmp_path, bad):
    with pytest.raises(InputError, match="not a PNG, JPEG or WebP"):
        write_viewer_page(bad, tmp_path / "p.html", VIEWER)


def test_a_missing_picture_and_an_unwritable_place_are_named(tmp_path):
    with pytest.raises(InputError, match="gone.png cannot be read"):
        write_viewer_page(tmp_path / "gone.png", tmp_path / "p.html", VIEWER)
    with pytest.raises(InputError, match="does not exist"):
        write_viewer_page(picture(), tmp_path / "no" / "p.html", VIEWER)


def test_a_failure_leaves_the_page_of_before(tmp_path, monkeypatch):
    target = tmp_path / "p.html"
    target.write_text("the good one", encoding="utf-8")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(InputError, match="p.html"):
        write_viewer_page(picture(), target, VIEWER)
    assert target.read_text(encoding="utf-8") == "the good one"
    assert [path.name for path in tmp_path.iterdir()] == ["p.html"]
