"""Nodes of packs that are no longer developed, and which of ours does what they did.

ComfyUI from 0.14 on offers the replacement when a workflow has such a node and its pack is not installed. Listed are
only nodes of which every input that matters has a counterpart.
"""

from __future__ import annotations

from comfy_api.v0_0_2 import ComfyAPI, io

REPLACEMENTS = (
    # ComfyUI-DiT360 and ComfyUI-DiT360Plus have nodes of the same names and inputs.
    {
        "new_node_id": "PanoDiff_EmptyPanoramaLatent",
        "old_node_id": "Equirect360EmptyLatent",
        "old_widget_ids": ["width", "batch_size"],
        "input_mapping": [
            {"new_id": "width", "old_id": "width"},
            {"new_id": "batch_size", "old_id": "batch_size"},
        ],
        "output_mapping": [{"new_idx": 0, "old_idx": 0}],
    },
    {
        "new_node_id": "PanoDiff_ViewPanorama",
        "old_node_id": "Equirect360Viewer",
        "old_widget_ids": ["max_resolution"],
        "input_mapping": [{"new_id": "panorama", "old_id": "images"}],
        "output_mapping": [],
    },
)
"""Arguments of `io.NodeReplace`."""


async def register_replacements(api: ComfyAPI | None = None) -> int:
    """Tell ComfyUI about `REPLACEMENTS`; returns how many, 0 on a ComfyUI without the API."""
    registry = getattr(api or ComfyAPI(), "node_replacement", None)
    if registry is None or not hasattr(io, "NodeReplace"):
        return 0
    for entry in REPLACEMENTS:
        await registry.register(io.NodeReplace(**entry))
    return len(REPLACEMENTS)
