"""One ComfyUI for all server tests, with a tiny random model among its models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import COMFYUI_PATH, NO_COMFYUI, ROOT

TEMPLATES = sorted((ROOT / "workflows").glob("*.json"))
FIRST = ROOT / "workflows" / "text_to_panorama.json"
TINY = "tiny"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    if not (Path(COMFYUI_PATH) / "main.py").is_file():
        pytest.skip(NO_COMFYUI)
    from tests.server import stand_ins
    from tests.server.comfy_server import Server
    from tests.tiny_model import build_tiny_model

    base = tmp_path_factory.mktemp("server")
    build_tiny_model(base / "models" / "diffusers" / TINY)
    stand_ins.write_example_picture(base)
    running = Server(base, others=(stand_ins.install_small_text_encoders(base),))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def definitions(server) -> dict:
    return server.get("/object_info")


@pytest.fixture
def tiny_prompt() -> dict:
    """Prompt to saved, measured and viewed panorama on the tiny model, in API format."""
    return {
        "1": {"class_type": "PanoDiff_LoadDiT360", "inputs": {"model": TINY, "dtype": "auto"}},
        "2": {"class_type": "PanoDiff_EncodePrompt", "inputs": {"engine": ["1", 0], "prompt": "a calm sea"}},
        "3": {
            "class_type": "PanoDiff_SampleDiT360",
            "inputs": {
                "engine": ["1", 0],
                "condition": ["2", 0],
                "seed": 7,
                "width": 128,
                "height": 64,
                "steps": 3,
                "guidance": 0.0,
                "cfg": 0.0,
                "batch_size": 1,
            },
        },
        "4": {"class_type": "PanoDiff_DecodePanorama", "inputs": {"engine": ["1", 0], "latents": ["3", 0]}},
        "5": {"class_type": "PanoDiff_ReportSeam", "inputs": {"panorama": ["4", 0]}},
        "6": {"class_type": "PanoDiff_ViewPanorama", "inputs": {"panorama": ["4", 0]}},
        "7": {
            "class_type": "PanoDiff_SavePanorama",
            "inputs": {"panorama": ["4", 0], "filename_prefix": "test/pano", "format": "png"},
        },
    }
