"""Empty Panorama Latent."""

from __future__ import annotations

import torch
from comfy import model_management
from comfy_api.v0_0_2 import io

from .flux_shift import (
    LATENT_CHANNELS,
    LATENT_PIXELS,
    MAX_WIDTH,
    WIDTH,
    WIDTH_STEP,
    require_size,
    size_problem,
)
from .schema import node_schema


class EmptyPanoramaLatent(io.ComfyNode):
    """Size -> an empty LATENT of FLUX's shape, exactly twice as wide as high."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_EmptyPanoramaLatent",
            display_name="Empty Panorama Latent",
            category="PanoDiff/Native",
            description="An empty latent for a FLUX panorama, and its size for the other nodes.",
            search_aliases=("empty latent image", "2:1", "resolution"),
            inputs=[
                io.Int.Input("width", default=WIDTH, min=WIDTH_STEP, max=MAX_WIDTH, step=WIDTH_STEP,
                             tooltip="Width of the panorama in pixels, a multiple of 32; the height is half of it. DiT360 was "
                             "trained at 2048."),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="How many panoramas to make at once."),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="latent", tooltip="For a sampler."),
                io.Int.Output("width", display_name="width",
                              tooltip="Width in pixels, for Patch Model for 360 and Panorama Sigmas."),
                io.Int.Output("height", display_name="height", tooltip="Height in pixels, for the same."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, width: int | None = None) -> bool | str:
        return size_problem(width, None if width is None else width // 2)

    @classmethod
    def execute(cls, width, batch_size) -> io.NodeOutput:
        height = width // 2
        require_size(width, height)
        dtype = getattr(model_management, "intermediate_dtype", lambda: torch.float32)()
        samples = torch.zeros(
            (batch_size, LATENT_CHANNELS, height // LATENT_PIXELS, width // LATENT_PIXELS),
            device=model_management.intermediate_device(),
            dtype=dtype,
        )
        # ComfyUI reads the second entry when a latent has to be fitted to another model's.
        latent = {"samples": samples, "downscale_ratio_spacial": LATENT_PIXELS}
        return io.NodeOutput(latent, width, height)
