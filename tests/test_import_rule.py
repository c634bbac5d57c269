"""Imports run one way, the core stands alone, and the heavy libraries wait until a model loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "panodiff_core"

# A part may import from itself and from parts on a later line. Parts of one line do not import each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("commands",),
    ("__init__",),
    ("training",),
    ("engines",),
    ("metrics", "data", "verification"),
    ("conditioning", "autoencoders", "schedulers"),
    ("layers",),
    ("pictures",),
    ("io", "geometry"),
    ("runtime",),
)
RANK = {part: rank for rank, line in enumerate(LAYERS) for part in line}
FOREIGN = {
    "comfy",
    "comfy_api",
    "comfy_extras",
    "comfy_execution",
    "nodes",
    "folder_paths",
    "server",
    "execution",
}
HEAVY = {
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "tokenizers",
    "huggingface_hub",
    "webdataset",
    "xformers",
}

CORE_FILES = sorted(CORE.rglob("*.py"))
NODE_FILES = sorted((ROOT / "nodes").rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_parts(path: Path) -> list[str]:
    """The package that relative imports of a file start from, as parts below the checkout."""
    return list(path.relative_to(ROOT).parent.parts)


def imports(path: Path) -> Iterator[tuple[ast.stmt, list[str], bool]]:
    """Every import of a file: its statement, the absolute dotted name as parts, and whether it was relative."""
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                yield statement, alias.name.split("."), False
        elif isinstance(statement, ast.ImportFrom):
            if not statement.level:
                yield statement, statement.module.split("."), False
                continue
            package = module_parts(path)
            base = package[: len(package) - statement.level + 1]
            if statement.module:
                yield statement, [*base, *statement.module.split(".")], True
            else:
                for alias in statement.names:
                    yield statement, [*base, alias.name], True


def core_part(parts: list[str]) -> str:
    """Which line of the house a core module belongs to: its folder, or its own name at the top."""
    return parts[1] if len(parts) > 1 and parts[1] in RANK else "__init__"


def at_import_time(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run when a module is imported: everything outside of function bodies and TYPE_CHECKING."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        waiting.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("path", CORE_FILES, ids=name_of)
def test_core_never_imports_comfyui_or_nodes(path: Path) -> None:
    for statement, parts, relative in imports(path):
        assert relative or parts[0] not in FOREIGN, (
            f"{name_of(path)}:{statement.lineno} imports {'.'.join(parts)}"
        )
        assert relative or parts[0] != "panodiff_core", f"{name_of(path)}:{statement.lineno} is not relative"
        assert not relative or parts[0] == "panodiff_core", (
            f"{name_of(path)}:{statement.lineno} leaves the core"
        )


@pytest.mark.parametrize("path", CORE_FILES, ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    own = core_part([*module_parts(path), path.stem])
    assert own in RANK, f"{name_of(path)} is in no layer; add it to LAYERS"
    for statement, parts, relative in imports(path):
        if not relative:
            continue
        other = core_part(parts)
        allowed = other == own or RANK[other] > RANK[own]
        assert allowed, f"{name_of(path)}:{statement.lineno}: {own} must not import {other}"


def module_name(path: Path) -> str:
    return ".".join([*module_parts(path), *([] if path.stem == "__init__" else [path.stem])])


def needed(path: Path, modules: set[str]) -> set[str]:
    """What a file names at import time, modules or packages, and the packages around that which are not its own."""
    own, found = module_name(path), set()
    for statement in at_import_time(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(statement, ast.ImportFrom) or not statement.level:
            continue
        package = module_parts(path)
        base = [*package[: len(package) - statement.level + 1], *filter(None, [statement.module])]
        for alias in statement.names:
            inside = ".".join([*base, alias.name])
            target = inside if inside in modules else ".".join(base)
            parts = target.split(".")
            packages = {".".join(parts[:depth]) for depth in range(1, len(parts))}
            found |= {target, *(name for name in packages if not f"{own}.".startswith(f"{name}."))}
    return found


def test_no_import_runs_in_a_circle() -> None:
    """At any depth. A package waits for the modules that its `__init__` names, and these for it only if they say so."""
    names = {module_name(path) for path in CORE_FILES}
    waiting = {module_name(path): needed(path, names) for path in CORE_FILES}
    while ready := [name for name, needs in waiting.items() if not needs & waiting.keys()]:
        for name in ready:
            del waiting[name]
    assert not waiting, f"circles in or behind {', '.join(sorted(waiting))}"


@pytest.mark.parametrize("path", [*CORE_FILES, *NODE_FILES, ROOT / "__init__.py"], ids=name_of)
def test_heavy_libraries_only_inside_functions(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for statement in at_import_time(tree):
        names = (
            [alias.name for alias in statement.names]
            if isinstance(statement, ast.Import)
            else [statement.module]
        )
        for name in filter(None, names):
            assert name.split(".")[0] not in HEAVY, (
                f"{name_of(path)}:{statement.lineno} imports {name} too early"
            )


@pytest.mark.parametrize("path", NODE_FILES, ids=name_of)
def test_nodes_reach_the_core_by_relative_imports(path: Path) -> None:
    for statement, parts, relative in imports(path):
        assert relative or parts[0] not in {"panodiff_core", "nodes"}, f"{name_of(path)}:{statement.lineno}"


def test_core_imports_without_diffusers() -> None:
    """`import panodiff_core`, and every light part of it, in an interpreter where the heavy libraries are missing."""
    light = ("geometry", "io", "metrics", "pictures", "runtime", "schedulers", "data.worlds", "layers")
    block = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
for name in {sorted(HEAVY)!r}:
    sys.modules[name] = None  # any import of it now raises ImportError
import panodiff_core as pano
pano.seam_report, pano.Panorama, pano.load
import importlib
for part in {light!r}:
    importlib.import_module("panodiff_core." + part)
"""
    done = subprocess.run([sys.executable, "-c", block], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
