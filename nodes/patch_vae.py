"""Patch VAE for 360."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .schema import node_schema
from .vae_ring import ring_vae


class PatchVAE(io.ComfyNode):
    """VAE -> VAE that decodes and encodes panoramas without a seam. The VAE that comes in stays as it is."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_PatchVAE",
            display_name="Patch VAE for 360",
            category="PanoDiff/Native",
            description="Lets a VAE that ComfyUI loaded see the panorama as a ring, in VAE Decode, VAE Encode and their tiled "
            "forms.",
            search_aliases=("circular VAE", "seamless", "VAE decode", "tiling"),
            inputs=[
                io.Vae.Input("vae", tooltip="A VAE for pictures from any loader, such as FLUX's ae.safetensors.")
            ],
            outputs=[
                io.Vae.Output("vae", display_name="vae", tooltip="For VAE Decode, VAE Encode and their tiled forms.")
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, vae) -> io.NodeOutput:
        return io.NodeOutput(ring_vae(vae))
