"""Decode Panorama."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .pictures import to_comfy
from .schema import Engine, Latents, node_schema


class DecodePanorama(io.ComfyNode):
    """Latents -> panorama, for every engine, with the wrap handled by the core's ring-aware decoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_DecodePanorama",
            display_name="Decode Panorama",
            category="PanoDiff/Generate",
            description="Decodes latents into an equirectangular panorama without a seam at the back.",
            search_aliases=("VAE decode",),
            inputs=[
                Engine.Input(
                    "engine", tooltip="The engine that made the latents; its autoencoder decodes them."
                ),
                Latents.Input("latents", tooltip="From a Sample node."),
            ],
            outputs=[
                io.Image.Output(
                    "panorama", display_name="panorama", tooltip="Equirectangular, width = 2 × height."
                )
            ],
        )

    @classmethod
    def execute(cls, engine, latents) -> io.NodeOutput:
        return io.NodeOutput(to_comfy(engine.decode(latents).to_equirect().pixels))
