"""Encode Panorama."""

from __future__ import annotations

from comfy import model_management
from comfy_api.v0_0_2 import io

from .engines import require_engine
from .pictures import require_panorama, to_rgb
from .progress import stop_if_cancelled
from .schema import Engine, Latents, memory_input, node_schema


class EncodePanorama(io.ComfyNode):
    """Panorama -> latents to start from, with the wrap handled by the core's ring-aware encoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_EncodePanorama",
            display_name="Encode Panorama",
            category="PanoDiff/Generate",
            description="Encodes a panorama into latents, to change it with Sample DiT360 or to enlarge it with Upscale "
            "Panorama.",
            search_aliases=("VAE encode", "img2img", "image to image", "inpaint"),
            inputs=[
                Engine.Input("engine", tooltip="The engine that is to go on from here; its autoencoder encodes."),
                io.Image.Input("panorama", tooltip="Equirectangular picture, width = 2 × height, the width a multiple of 32."),
                memory_input(),
            ],
            outputs=[
                Latents.Output("latents", display_name="latents", tooltip="For Sample DiT360 or Upscale Panorama.")
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, engine, panorama, memory_gb=0.0) -> io.NodeOutput:
        require_engine(engine, "dit360", "Encode Panorama")
        require_panorama(panorama)
        latents = engine.encode_image(
            to_rgb(panorama).cpu().contiguous(), memory_gb=memory_gb or None, on_tile=stop_if_cancelled
        )
        return io.NodeOutput(latents.to(model_management.intermediate_device()))
