"""Rotate Panorama."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..panodiff_core.geometry import rotate_equirect
from .pictures import map_pictures, require_panorama
from .schema import node_schema

INTERPOLATIONS = ("bilinear", "bicubic", "nearest")


class RotatePanorama(io.ComfyNode):
    """Turns the sphere under the picture: yaw to the right, pitch up, roll clockwise."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_RotatePanorama",
            display_name="Rotate Panorama",
            category="PanoDiff/Geometry",
            description="Rotates a panorama on the sphere, so that another direction comes to its centre.",
            search_aliases=("roll", "level horizon", "yaw"),
            inputs=[
                io.Image.Input("panorama", tooltip="Equirectangular picture, width = 2 × height."),
                io.Float.Input("yaw_deg", default=0.0, min=-360.0, max=360.0, step=1.0,
                               tooltip="Look this many degrees to the right: what is there comes to the centre."),
                io.Float.Input("pitch_deg", default=0.0, min=-180.0, max=180.0, step=1.0,
                               tooltip="Look this many degrees up."),
                io.Float.Input("roll_deg", default=0.0, min=-360.0, max=360.0, step=1.0,
                               tooltip="Tilt the head this many degrees clockwise."),
                io.Combo.Input("interpolation", options=list(INTERPOLATIONS), default="bicubic", optional=True,
                               tooltip="How colours between pixels are found. nearest keeps labels and masks exact."),
            ],
            outputs=[io.Image.Output("panorama", display_name="panorama", tooltip="The rotated panorama.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, panorama, yaw_deg, pitch_deg, roll_deg, interpolation="bicubic") -> io.NodeOutput:
        require_panorama(panorama)
        return io.NodeOutput(
            map_pictures(
                panorama.split(1),
                lambda picture: rotate_equirect(picture, yaw_deg, pitch_deg, roll_deg, mode=interpolation),
            )
        )
