"""How much code the viewer is: what a browser fetches for it, and how long its modules are."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

VIEWER = Path(__file__).resolve().parents[2] / "web" / "viewer"
MODULES = sorted(VIEWER.rglob("*.mjs"))
CODE = [path for path in MODULES if path.parent.name != "texts" or path.stem == "text"]
"""Tables of what the viewer says, one per language, are no code."""
MOST_BYTES, MOST_LINES = 40 * 1024, 300
COMMENTS = (r"^\s*(?:/\*\*?(?:.|\n)*?\*/|//.*)\n", r"\s+//[^\n\"'`]*$", r"^\s+")
"""Comments, and the room before lines: what says why, and how it is laid out, is nothing to save at."""


def test_code_is_small():
    code = "".join(path.read_text(encoding="utf-8") for path in CODE)
    for pattern in COMMENTS:
        code = re.sub(pattern, "", code, flags=re.MULTILINE)
    size = len(gzip.compress(code.encode(), compresslevel=9, mtime=0))
    assert len(CODE) > 20 and size <= MOST_BYTES


def test_modules_are_short():
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
