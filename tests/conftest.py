"""What the tests share: the checkout, a ComfyUI beside it, and the extension as ComfyUI would load it.

`COMFYUI_PATH` names a ComfyUI checkout whose requirements are installed in the Python that runs pytest. Without it the
tests marked `comfyui` skip and say so. `CHROMIUM_PATH` names a Chromium; the usual places are looked at, too.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

import tests  # noqa: F401  ComfyUI has a package of this name; ours must be bound first

ROOT = Path(__file__).resolve().parent.parent
COMFYUI_PATH = os.environ.get("COMFYUI_PATH", "")
NO_COMFYUI = "no ComfyUI: set COMFYUI_PATH to a checkout whose requirements this Python has"
NO_CHROMIUM = "no Chromium: install one, or set CHROMIUM_PATH to it"


def chromium_path() -> str | None:
    """A Chromium or Chrome on this machine, None where there is none."""
    names = (os.environ.get("CHROMIUM_PATH", ""), "chromium", "chromium-browser", "google-chrome", "chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("browser") and not chromium_path():
            item.add_marker(pytest.mark.skip(reason=NO_CHROMIUM))
        needs_comfyui = item.get_closest_marker("comfyui")
        if needs_comfyui and not (Path(COMFYUI_PATH) / "main.py").is_file():
            item.add_marker(pytest.mark.skip(reason=NO_COMFYUI))


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ComfyUI importable in this process, on the CPU, with its own empty base directory (which is returned)."""
    if not COMFYUI_PATH:
        pytest.skip(NO_COMFYUI)
    # First on the path: the checkout's package `nodes` would hide ComfyUI's module of that name.
    sys.path.insert(0, COMFYUI_PATH)
    base = tmp_path_factory.mktemp("comfyui")
    from comfy.cli_args import args

    args.cpu = True
    args.base_directory = str(base)
    import folder_paths

    for folder in ("output", "temp", "input", "models/diffusers", "models/loras"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    folder_paths.set_output_directory(str(base / "output"))
    folder_paths.set_temp_directory(str(base / "temp"))
    return base


@pytest.fixture(scope="session")
def extension(comfyui: Path):
    """The checkout loaded under another name, as ComfyUI loads it: a package outside of `sys.path`."""
    name = "custom_nodes_PanoDiff_x_1"
    spec = importlib.util.spec_from_file_location(
        name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def node_classes(extension) -> dict[str, type]:
    """Node id -> node class, from the entry point that ComfyUI calls."""

    async def collect():
        return await (await extension.comfy_entrypoint()).get_node_list()

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(collect())}
