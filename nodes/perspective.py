"""Panorama to Perspective."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..panodiff_core.geometry import equirect_to_perspective
from .pictures import map_pictures, require_panorama
from .rotate import INTERPOLATIONS
from .schema import node_schema


class ExtractPerspective(io.ComfyNode):
    """What a camera at the centre of the panorama sees."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_ExtractPerspective",
            display_name="Panorama to Perspective",
            category="PanoDiff/Geometry",
            description="Takes an ordinary camera picture out of a panorama.",
            search_aliases=("crop", "camera", "view", "rectilinear"),
            inputs=[
                io.Image.Input("panorama", tooltip="Equirectangular picture, width = 2 × height."),
                io.Float.Input("yaw_deg", default=0.0, min=-360.0, max=360.0, step=1.0,
                               tooltip="Where the camera looks: degrees to the right of the centre."),
                io.Float.Input("pitch_deg", default=0.0, min=-90.0, max=90.0, step=1.0,
                               tooltip="Where the camera looks: degrees above the horizon."),
                io.Float.Input("roll_deg", default=0.0, min=-360.0, max=360.0, step=1.0,
                               tooltip="Turn of the camera about its axis, clockwise."),
                io.Float.Input("fov_deg", default=90.0, min=1.0, max=170.0, step=1.0,
                               tooltip="Horizontal field of view. 90 is a wide lens, 40 a normal one."),
                io.Int.Input("width", default=768, min=8, max=8192, step=8, tooltip="Width of the picture in pixels."),
                io.Int.Input("height", default=512, min=8, max=8192, step=8, tooltip="Height of the picture in pixels."),
                io.Combo.Input("interpolation", options=list(INTERPOLATIONS), default="bicubic", optional=True,
                               tooltip="How colours between pixels are found. nearest keeps labels and masks exact."),
            ],
            outputs=[io.Image.Output("image", display_name="image", tooltip="The camera's picture.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, panorama, yaw_deg, pitch_deg, roll_deg, fov_deg, width, height, interpolation="bicubic"
    ) -> io.NodeOutput:
        require_panorama(panorama)

        def look(picture):
            return equirect_to_perspective(
                picture, height, width, fov_deg, yaw_deg, pitch_deg, roll_deg, mode=interpolation
            )

        return io.NodeOutput(map_pictures(panorama.split(1), look))
