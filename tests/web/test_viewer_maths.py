"""The viewer's geometry and camera in Node, against numbers of the Python core."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.web.make_vectors import PATH, vectors

HERE = Path(__file__).parent


def flat(value) -> list:
    if isinstance(value, dict):
        return [item for key in value for item in (key, *flat(value[key]))]
    if isinstance(value, list):
        return [item for part in value for item in flat(part)]
    return [value]


def test_the_vectors_are_what_the_core_computes_today():
    stored, fresh = flat(json.loads(PATH.read_text(encoding="utf-8"))), flat(vectors())
    assert len(stored) == len(fresh) > 500
    for old, new in zip(stored, fresh, strict=True):
        assert old == new if isinstance(new, str) else old == pytest.approx(new, abs=1e-11)


@pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("*.test.mjs")))
def test_in_node(name: str):
    node = shutil.which("node")
    if not node:
        pytest.skip("no Node.js: install node 20 or newer to test the viewer's mathematics")
    command = [node, "--test", str(HERE / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 0" not in done.stdout
