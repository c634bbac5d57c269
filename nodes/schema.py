"""Sockets and schema building shared by all nodes, on every ComfyUI from 0.8 on."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.v0_0_2 import io

Engine = io.Custom("PANODIFF_ENGINE")
"""A loaded engine of `panodiff_core.engines`: encode, sample, decode; placed through ComfyUI's model management."""

Condition = io.Custom("PANODIFF_CONDITION")
"""What an engine's `encode` returned, for example a `TextCondition`."""

Latents = io.Custom("PANODIFF_LATENTS")
"""Scaled model latents [B, C, h, w] of one engine, on ComfyUI's intermediate device."""

Camera = io.Custom("PANODIFF_CAMERA")
"""A `nodes.camera.CameraView`: how Panorama to Perspective took a picture, and so where it belongs."""

SEARCH_ALIASES = ("360", "equirectangular", "panorama", "HDRI", "skybox", "VR", "spherical")

ADVANCED = {"advanced": True}
"""As `extra_dict` of a rarely used input: newer front ends fold it away, older ones ignore it."""

MODEL_DEFAULT = "model default"
"""The choice of a Combo that leaves a setting to the model."""

SWITCH = {MODEL_DEFAULT: None, "on": True, "off": False}
"""The choices of a Combo that switches something, as engines take them."""


def memory_input() -> io.Float.Input:
    """The limit of memory for an autoencoder, by the name under which engines take it; 0 stands for None."""
    return io.Float.Input(
        "memory_gb",
        default=0.0,
        min=0.0,
        max=1024.0,
        step=0.5,
        optional=True,
        extra_dict=ADVANCED,
        tooltip="How many GB (2³⁰ bytes) the autoencoder may take for one picture beside its weights. What needs more "
        "goes in parts, with the same result but slower. 0: what is free.",
    )


def node_schema(*, search_aliases: tuple[str, ...] = (), **fields: Any) -> io.Schema:
    """An `io.Schema` with only the fields that the running ComfyUI knows (0.8 has no search aliases, for one)."""
    fields["search_aliases"] = [*SEARCH_ALIASES, *search_aliases]
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return io.Schema(**{name: value for name, value in fields.items() if name in known})
