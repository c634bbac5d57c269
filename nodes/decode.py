"""Decode Panorama."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..panodiff_core.runtime.errors import InputError
from .engines import takes, title_of
from .pictures import to_comfy
from .progress import stop_if_cancelled
from .schema import ADVANCED, MODEL_DEFAULT, SWITCH, Engine, Latents, memory_input, node_schema


class DecodePanorama(io.ComfyNode):
    """Latents -> panorama, for every engine: rings by a decoder that wraps around, cubes stitched from their faces."""

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
                io.Combo.Input(
                    "polar_filter",
                    options=list(SWITCH),
                    default=MODEL_DEFAULT,
                    optional=True,
                    extra_dict=ADVANCED,
                    tooltip="Smooths the rows near zenith and nadir along the ring, so that nothing pinches when you "
                    "look straight up or down. Rows nearer to the horizon stay as they are.",
                ),
                memory_input(),
            ],
            outputs=[
                io.Image.Output(
                    "panorama", display_name="panorama", tooltip="Equirectangular, width = 2 × height."
                )
            ],
        )

    @classmethod
    def execute(cls, engine, latents, polar_filter=MODEL_DEFAULT, memory_gb=0.0) -> io.NodeOutput:
        options = {}
        if takes(engine.decode, "polar_filter"):
            options["polar_filter"] = SWITCH[polar_filter]
        elif polar_filter == "on":
            raise InputError(
                f"polar_filter is on, and {title_of(engine)} has none, since nothing pinches at the poles of a cube: "
                f"set it to {MODEL_DEFAULT}"
            )
        picture = engine.decode(latents, memory_gb=memory_gb or None, on_tile=stop_if_cancelled, **options)
        return io.NodeOutput(to_comfy(picture.to_equirect().pixels))
