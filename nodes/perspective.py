"""Panorama to Perspective."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.v0_0_2 import io

from .camera import CameraView
from .pictures import map_pictures, require_panorama
from .rotate import INTERPOLATIONS
from .schema import Camera, node_schema


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
                Camera.Input("camera", optional=True,
                             tooltip="A camera to take the same view with. Connected, it replaces angles, field of view, "
                             "width and height."),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The camera's picture."),
                Camera.Output("camera", display_name="camera",
                              tooltip="How the picture was taken, for Perspective to Panorama."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        panorama,
        yaw_deg,
        pitch_deg,
        roll_deg,
        fov_deg,
        width,
        height,
        interpolation="bicubic",
        camera=None,
    ) -> io.NodeOutput:
        require_panorama(panorama)
        if camera is None:
            camera = CameraView(yaw_deg, pitch_deg, roll_deg, fov_deg, width, height)
        camera = replace(camera, interpolation=interpolation)
        return io.NodeOutput(map_pictures(panorama.split(1), camera.take), camera)
