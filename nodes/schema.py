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

SEARCH_ALIASES = ("360", "equirectangular", "panorama", "HDRI", "skybox", "VR", "spherical")

ADVANCED = {"advanced": True}
"""As `extra_dict` of a rarely used input: newer front ends fold it away, older ones ignore it."""

MODEL_DEFAULT = "model default"
"""The choice of a Combo that leaves a setting to the model."""


def node_schema(*, search_aliases: tuple[str, ...] = (), **fields: Any) -> io.Schema:
    """An `io.Schema` with only the fields that the running ComfyUI knows (0.8 has no search aliases, for one)."""
    fields["search_aliases"] = [*SEARCH_ALIASES, *search_aliases]
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return io.Schema(**{name: value for name, value in fields.items() if name in known})
