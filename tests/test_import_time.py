"""The extension costs ComfyUI's start next to nothing: no heavy library is imported by loading it.

Modules are counted, not seconds: a count is the same on every machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import COMFYUI_PATH

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "tokenizers",
    "scipy",
    "torchvision",
    "matplotlib",
    "pandas",
)

LOAD_CORE = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
import torch
before = set(sys.modules)
import panodiff_core
import panodiff_core.geometry
print(json.dumps(sorted(set(sys.modules) - before)))
"""

LOAD_EXTENSION = f"""
import asyncio, importlib.util, json, sys
sys.path.insert(0, {COMFYUI_PATH!r})
from comfy.cli_args import args
args.cpu = True
import comfy.model_management, comfy.model_patcher, comfy.utils, folder_paths
from comfy_api.v0_0_2 import io, ui
before = set(sys.modules)
spec = importlib.util.spec_from_file_location(
    "pack", {str(ROOT / "__init__.py")!r}, submodule_search_locations=[{str(ROOT)!r}])
module = importlib.util.module_from_spec(spec)
sys.modules["pack"] = module
spec.loader.exec_module(module)
async def collect():
    return await (await module.comfy_entrypoint()).get_node_list()
for node in asyncio.run(collect()):
    node.GET_SCHEMA()
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def new_modules(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check_light(modules: list[str], limit: int) -> None:
    heavy = sorted({name.split(".")[0] for name in modules} & set(HEAVY))
    assert not heavy, f"imported at start: {heavy}"
    assert len(modules) <= limit, f"{len(modules)} new modules: {modules}"


def test_core_is_light() -> None:
    check_light(new_modules(LOAD_CORE), limit=120)


@pytest.mark.comfyui
def test_extension_is_light() -> None:
    check_light(new_modules(LOAD_EXTENSION), limit=180)
