"""Decode Cubemap."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..panodiff_core.runtime.errors import InputError
from .engines import takes, title_of
from .pictures import to_comfy
from .progress import stop_if_cancelled
from .schema import Engine, Latents, memory_input, node_schema


class DecodeCubemap(io.ComfyNode):
    """Latents -> the six faces of each cube [6B,S,S,3], in the order F, R, B, L, U, D."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_DecodeCubemap",
            display_name="Decode Cubemap",
            category="PanoDiff/Generate",
            description="Decodes latents into the six faces of a cube: front, right, back, left, up, down.",
            search_aliases=("VAE decode", "cube faces"),
            inputs=[
                Engine.Input(
                    "engine", tooltip="The engine that made the latents; its autoencoder decodes them."
                ),
                Latents.Input("latents", tooltip="From Sample Cubemap."),
                memory_input(),
            ],
            outputs=[
                io.Image.Output(
                    "faces",
                    display_name="faces",
                    tooltip="Six pictures per cube: front, right, back, left, up, down.",
                )
            ],
        )

    @classmethod
    def execute(cls, engine, latents, memory_gb=0.0) -> io.NodeOutput:
        if not takes(engine.decode, "faces"):
            raise InputError(
                f"{title_of(engine)} makes panoramas, not cube faces: use Decode Panorama, and Panorama to Cubemap for faces"
            )
        cubes = engine.decode(latents, memory_gb=memory_gb or None, on_tile=stop_if_cancelled)
        return io.NodeOutput(to_comfy(cubes.pixels.flatten(0, 1)))
