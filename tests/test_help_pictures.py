"""Pictures in help pages: there, small, and addressed as ComfyUI's frontend resolves them."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parents[1] / "web" / "docs"
LIMIT_BYTES = 60_000


def test_every_picture_is_there_named_and_small():
    """The frontend puts the address of web/docs before relative ones, for every page."""
    named = {
        match[2]: match[1]
        for page in DOCS.rglob("*.md")
        for match in re.finditer(r"!\[([^]]*)\]\(([^)]*)\)", page.read_text(encoding="utf-8"))
    }
    files = {str(path.relative_to(DOCS)) for path in (DOCS / "images").iterdir()}
    assert set(named) == files and len(files) >= 4
    for name, description in named.items():
        assert len(description.split()) >= 4, name  # for those who cannot see it
        assert (DOCS / name).stat().st_size <= LIMIT_BYTES, name
        with Image.open(DOCS / name) as picture:
            assert picture.width >= 500
