"""The published archive holds nothing that the registry's scanner reports.

The scanner is lexical, and one finding of any severity keeps a version from users. Its rules are not documented;
these are the triggers that publishers have reported. Where a rule could be read in two ways, the stricter one is tested.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tokenize
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
BINARY = {".png", ".jpg", ".webp", ".safetensors"}
PYTHON = {".py"}
SCRIPT = {".js", ".mjs", ".css"}
PROSE = {".md", ".json", ".txt", ".toml", ".html"}
NAMES = {"LICENSE", ".comfyignore"}
MAX_FILE_BYTES = 26 * 2**20

# Looked for in code without its comments and strings, and in prose as it is.
CODE_RULES = {
    "network operations": r"\.\s*(connect|bind|send|sendall|recv)\s*\(|aiohttp\s*\.\s*ClientSession|"
    r"\brequests\s*\.\s*(get|post|put|delete|head|patch)\s*\(|urlopen\s*\(|socket\s*\.\s*socket\s*\(|gettempdir\s*\(",
    "environment": r"\bos\s*\.\s*environ|\bgetenv\s*\(|\bputenv\s*\(",
    "processes": r"\bsubprocess\b|\bos\s*\.\s*(system|popen|exec\w*|spawn\w*)\s*\(|\bctypes\b",
    "dynamic execution": r"\b(eval|exec|compile)\s*\(|\bimport_module\s*\(|__import__|\bsys\s*\.\s*modules\b|"
    r"\bFunction\s*\(",
    "databases": r"\bsqlite3\b",
    "pickles": r"\bpickle\b|weights_only\s*=\s*False",
    "path edits": r"\bsys\s*\.\s*path\b",
    "markup from data": r"\binnerHTML\b|\bouterHTML\b|insertAdjacentHTML|document\s*\.\s*write",
}
# Looked for everywhere, strings and comments included.
TEXT_RULES = {
    "blacklisted address": r"raw\.githubusercontent\.com",
    "command line tools": r"\b(ffmpeg|curl|wget|git)\s+-{1,2}\w",
    "privileges": r"\bsudo\b|kernel32",
    "removal": r"\brm\s+-rf\b",
    "svg with handlers": r"(?is)svg.*(onload|onerror)|(onload|onerror).*svg",
}


def ignored(path: PurePosixPath, patterns: list[str]) -> bool:
    """Whether .comfyignore leaves a file out. Only the two plain forms of its syntax are used: `folder/` and `name`."""
    parts = path.parts
    return any(p.rstrip("/") in parts[:-1] if p.endswith("/") else p == path.name for p in patterns)


def checkout_files() -> list[PurePosixPath]:
    """Files that git has or would add; without git, all files outside of hidden and cache folders."""
    if shutil.which("git") and (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
        names = sorted(set(filter(None, listed.split("\0"))))
        return [PurePosixPath(name) for name in names if (ROOT / name).is_file()]
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return sorted(
        PurePosixPath(p)
        for p in found
        if not re.search(r"(^|/)(\.git|\.venv|__pycache__|\.\w+_cache)/", str(p))
    )


def archive_files() -> list[PurePosixPath]:
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    assert not any(set("*?[!") & set(p) or "/" in p[:-1] for p in patterns), (
        "ignored() reads plain forms only"
    )
    return [path for path in checkout_files() if not ignored(path, patterns)]


def python_code(text: str) -> str:
    """Python source without comments and strings, one line per line."""
    lines: dict[int, list[str]] = {}
    skipped = {tokenize.COMMENT, tokenize.STRING} | {
        getattr(tokenize, name)
        for name in ("FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END")
        if hasattr(tokenize, name)
    }
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            lines.setdefault(token.start[0], []).append(token.string)
    return "\n".join(" ".join(words) for _, words in sorted(lines.items()))


def script_code(text: str) -> str:
    """JavaScript or CSS without comments and plain strings. Template strings stay: they may hold code."""
    pattern = r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    return re.sub(pattern, " ", text, flags=re.DOTALL)


def findings(path: PurePosixPath) -> list[str]:
    raw = (ROOT / path).read_text(encoding="utf-8")
    code = raw
    if path.suffix in PYTHON:
        code = python_code(raw)
    elif path.suffix in SCRIPT:
        code = script_code(raw)
    hits = [(rule, match) for rule, p in CODE_RULES.items() for match in re.finditer(p, code)]
    hits += [(rule, match) for rule, p in TEXT_RULES.items() for match in re.finditer(p, raw)]
    return [f"{path}: {rule}: {match.group(0)[:60]!r}" for rule, match in hits]


ARCHIVE = archive_files()
READABLE = [path for path in ARCHIVE if path.suffix not in BINARY]


@pytest.mark.parametrize("path", READABLE, ids=str)
def test_nothing_for_the_scanner(path: PurePosixPath) -> None:
    assert not findings(path)


def test_every_file_is_of_a_known_kind() -> None:
    known = BINARY | PYTHON | SCRIPT | PROSE
    assert not [str(p) for p in ARCHIVE if p.suffix not in known and p.name not in NAMES]


def test_archive_has_the_extension_and_nothing_of_the_workshop() -> None:
    names = {str(path) for path in ARCHIVE}
    assert {"__init__.py", "pyproject.toml", "requirements.txt", "LICENSE"} <= names
    for part in ("nodes", "panodiff_core", "locales", "workflows", "web/docs", "web/viewer"):
        assert any(name.startswith(f"{part}/") for name in names), part
    assert not [
        name
        for name in names
        if name.startswith(("tests/", "benchmarks/", ".ci/", ".github/", "dist/", "vendor/"))
    ]
    assert not [name for name in names if ".min." in name or name.endswith(".map")]


def test_no_file_is_huge() -> None:
    assert not [str(p) for p in ARCHIVE if (ROOT / p).stat().st_size > MAX_FILE_BYTES]


@pytest.mark.slow
def test_wheel_holds_the_core_alone(tmp_path: Path) -> None:
    """A wheel built from a copy of the checkout: the core with its data, and no top-level `nodes` or `web`."""
    source = tmp_path / "source"
    for path in checkout_files():
        if path.parts[0] != "tests":
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, source / path)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        ".",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=source, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("panodiff-*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    core = {str(p) for p in checkout_files() if p.parts[0] == "panodiff_core"}
    assert names == core


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("import os\nx = os.environ['A']", "environment"),
        ("model.eval()", "dynamic execution"),
        ("pattern = re.compile('a')", "dynamic execution"),
        ("s . connect (('a', 1))", "network operations"),
        ("d = tempfile.gettempdir()", "network operations"),
    ],
)
def test_the_rules_catch(source: str, rule: str) -> None:
    assert re.search(CODE_RULES[rule], python_code(source))


def test_comments_and_strings_are_not_code() -> None:
    assert python_code("x = 'a.connect(' # b.send(\n").split() == ["x", "="]
    assert "bind" not in script_code("const a = 'x.bind('; // y.bind(\n/* z.bind( */")
    assert "bind" in script_code("f.bind(this)")
