"""Node tests run inside this process, against ComfyUI's own modules."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def panorama() -> torch.Tensor:
    """IMAGE [1,32,64,3]: a smooth function of the direction, so that it has no seam and no pinch."""
    from panodiff_core.geometry import equirect_directions

    x, y, z = equirect_directions(32, 64, dtype=torch.float32, device="cpu").unbind(-1)
    return torch.stack([0.5 + 0.4 * x, 0.5 + 0.4 * y, 0.5 + 0.3 * z + 0.1 * x * y], dim=-1)[None]


@pytest.fixture(scope="session")
def tiny_choice(comfyui) -> str:
    """A tiny random model among ComfyUI's models, by the name that the load node lists."""
    from tests.tiny_model import build_tiny_model

    build_tiny_model(comfyui / "models" / "diffusers" / "tiny")
    return "tiny"
