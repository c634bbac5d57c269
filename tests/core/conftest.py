"""A tiny DiT360 model for the core's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model folder with random weights; copy it before changing it."""
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from tests.tiny_model import build_tiny_model

    return build_tiny_model(tmp_path_factory.mktemp("dit360") / "tiny")


@pytest.fixture(scope="session")
def tiny_engine(tiny_folder: Path):
    """That model loaded on the CPU."""
    import panodiff_core

    return panodiff_core.load("dit360", tiny_folder, device="cpu")
