"""A self-contained page to look around in a panorama: one HTML file, offline, no server.

Browsers refuse to load modules from `file://`, so the viewer's modules are joined into one inline script. The
linker below understands exactly the module syntax that the viewer uses and refuses everything else: a module
that it would have to guess at raises an error here instead of a blank page later.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import posixpath
import re
from functools import partial
from pathlib import Path

from ..runtime.errors import InputError
from .atomic import check_writable, write_text

ENTRY_MODULE = "standalone.mjs"
STYLE_SHEET = "viewer.css"

_IMPORT = r'^import \{([^{}]*)\} from "(\.{1,2}/[a-z_./]+\.mjs)";$'
_EXPORT = r"^export ((?:async )?function|class|const) (\w+)"
_UNSUPPORTED = r"^(?:import|export)\b.*|.*\bimport(?:\.meta|\s*\().*"

_PAGE_STYLE = """
html, body { margin: 0; height: 100%; background: #0e1014; color: #e9edf3;
  font: 15px/1.4 Inter, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
#viewer { position: fixed; inset: 0; border-radius: 0; }
.no-script #viewer, html:not(.no-script) #picture, #problem:empty { display: none; }
#picture { position: fixed; inset: 0; width: 100%; height: 100%; object-fit: contain; }
#viewer .pd360-foot { top: 74px; }
#viewer .pd360-readout { top: 74px; left: 16px; }
#viewer .pd360-notices { top: 118px; left: 16px; }
header { position: fixed; z-index: 1; inset: 0 0 auto; display: flex; align-items: flex-start; gap: 24px;
  justify-content: space-between; padding: 16px 16px 36px; pointer-events: none;
  background: linear-gradient(rgb(8 10 14 / 62%), transparent); }
h1 { margin: 5px 0 0; max-width: 72ch; overflow: hidden; display: -webkit-box; -webkit-box-orient: vertical;
  -webkit-line-clamp: 2; font-size: 15px; font-weight: 500; text-shadow: 0 1px 3px rgb(0 0 0 / 60%); }
#download { flex: none; padding: 6px 14px; border: 1px solid rgb(255 255 255 / 14%); border-radius: 9px;
  background: rgb(17 20 26 / 68%); color: inherit; font-size: 13px; text-decoration: none;
  pointer-events: auto; }
#download:hover { background: rgb(50 56 66 / 80%); }
#download:focus-visible { outline: 2px solid #8ec9ff; }
.no-script #download[href="#"] { display: none; }
#problem { position: fixed; inset: auto 16px 16px; margin: 0; color: #ffc66b; }
"""


def write_viewer_page(
    picture: bytes | str | os.PathLike[str],
    out_path: str | os.PathLike[str],
    viewer_dir: str | os.PathLike[str],
    title: str = "Panorama",
) -> Path:
    """Write an HTML file that opens in any browser, offline, and lets one look around in `picture`.

    Args:
        picture: a PNG, JPEG or WebP file, as its bytes or its path. Embedded byte for byte, so the page's
            download link gives back the same file with its metadata.
        out_path: where the page goes; written atomically.
        viewer_dir: the folder with the viewer's modules and style sheet (`web/viewer` of this repository).
        title: shown as text, never as markup; usually the prompt.

    Returns the path of the page. Raises `InputError` where the picture or a viewer file cannot be read, a
    viewer module uses syntax that the page cannot hold, or the page cannot be written.
    """
    check_writable(out_path)
    data = _picture_bytes(picture)
    kind = _picture_kind(data, picture)
    folder = Path(viewer_dir)
    script = link_modules(folder, ENTRY_MODULE)
    style = _PAGE_STYLE + _read_text(folder / STYLE_SHEET)
    name = f"{Path(out_path).stem}.{kind}" if isinstance(picture, bytes) else Path(picture).name
    return write_text(out_path, _page(title, name, kind, data, script, style))


def link_modules(folder: Path, entry: str) -> str:
    """The module `entry` and all that it imports, as the text of one script.

    Each module becomes a function that returns what it exports, in the order of their needs, so names stay
    private to their module. Known are `import { a, b } from "../folder/file.mjs";` and `export` before a function,
    class or const. Raises `InputError` for a missing file, a circle of imports, an import of something not
    exported, other syntax.
    """
    exports: dict[str, list[str]] = {}
    parts: list[str] = []
    _link(folder, entry, (), exports, parts)
    return "\n".join(parts)


def _link(
    folder: Path, name: str, waiting: tuple[str, ...], exports: dict[str, list[str]], parts: list[str]
) -> None:
    if name in exports:
        return
    if name in waiting:
        raise InputError(
            f"the viewer's modules import each other in a circle: {' -> '.join((*waiting, name))}"
        )
    path = folder / name
    text = _read_text(path)
    if "</script" in text.lower() or "<!--" in text:
        raise InputError(
            f"{path} contains '</script' or '<!--', which cannot stand in an HTML page; reword it."
        )

    for match in re.finditer(_IMPORT, text, re.MULTILINE):
        wanted, other = _names(match[1]), _beside(name, match[2])
        _link(folder, other, (*waiting, name), exports, parts)
        missing = [item for item in wanted if item not in exports[other]]
        if missing:
            raise InputError(f"{path} imports {', '.join(missing)} from {other}, which does not export it.")

    exports[name] = [match[2] for match in re.finditer(_EXPORT, text, re.MULTILINE)]
    body = re.sub(_IMPORT, partial(_import_line, name), text, flags=re.MULTILINE)
    body = re.sub(_EXPORT, r"\1 \2", body, flags=re.MULTILINE)
    unsupported = re.search(_UNSUPPORTED, body, re.MULTILINE)
    if unsupported:
        raise InputError(
            f"{path} uses module syntax that the offline page cannot hold: {unsupported[0].strip()!r}"
        )
    parts.append(
        f"const {_variable(name)} = (() => {{\n{body}\nreturn {{ {', '.join(exports[name])} }};\n}})();"
    )


def _beside(module: str, specifier: str) -> str:
    """The path below the viewer's folder that `module` means by `specifier`."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(module), specifier))


def _import_line(module: str, match: re.Match[str]) -> str:
    return f"const {{ {', '.join(_names(match[1]))} }} = {_variable(_beside(module, match[2]))};"


def _names(listed: str) -> list[str]:
    names = [item.strip() for item in listed.split(",") if item.strip()]
    renamed = [item for item in names if not re.fullmatch(r"\w+", item)]
    if renamed:
        raise InputError(f"the viewer's modules must import names as they are, not {renamed[0]!r}")
    return names


def _variable(module: str) -> str:
    return f"module_{module.removesuffix('.mjs').replace('/', '_')}"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as problem:
        raise InputError(
            f"the viewer file {path} cannot be read ({problem.strerror}); "
            "viewer_dir must be the folder web/viewer of this repository."
        ) from problem


def _picture_bytes(picture: bytes | str | os.PathLike[str]) -> bytes:
    if isinstance(picture, bytes):
        return picture
    try:
        return Path(picture).read_bytes()
    except OSError as problem:
        raise InputError(f"the picture {Path(picture)} cannot be read: {problem.strerror}") from problem


def _picture_kind(data: bytes, picture: object) -> str:
    """png, jpeg or webp by the file's first bytes; its name may say anything."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    what = "the picture" if isinstance(picture, bytes) else str(picture)
    raise InputError(f"{what} is not a PNG, JPEG or WebP file, which is what browsers show.")


def _page(title: str, name: str, kind: str, data: bytes, script: str, style: str) -> str:
    safe_title, safe_name = html.escape(title), html.escape(name)
    # Only this script and this style may run, and nothing may be fetched: the page is offline by rule.
    policy = (
        f"default-src 'none'; img-src data: blob:; script-src {_hash(script)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en" class="no-script">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="PanoDiff">
<title>{safe_title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1 title="{safe_title}">{safe_title}</h1>
<a id="download" download="{safe_name}" href="#">Save picture</a>
</header>
<main id="viewer"></main>
<p id="problem" role="alert"></p>
<img id="picture" alt="{safe_title}" src="data:image/{kind};base64,{base64.b64encode(data).decode("ascii")}">
<script type="module">{script}</script>
</body>
</html>
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
