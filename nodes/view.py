"""View Panorama."""

from __future__ import annotations

from comfy import model_management
from comfy_api.v0_0_2 import io

from ..panodiff_core.geometry import mask_from_strokes, parse_strokes
from ..panodiff_core.runtime.errors import InputError
from .camera import CameraView
from .measures import measure_pictures
from .pictures import map_pictures, require_panorama, to_shown
from .schema import ADVANCED, Camera, node_schema
from .shown import store_pictures


class ViewPanorama(io.ComfyNode):
    """Shows panoramas in the viewer on the node. Pictures go through ComfyUI's temp folder, never through the message.

    What the viewer hands back, a captured view and a painted mask, stands in widgets, so that a workflow keeps it and a
    run needs no browser.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_ViewPanorama",
            display_name="View Panorama",
            category="PanoDiff/View",
            description="Lets you look around in a panorama, capture what you see as a picture, and paint a mask on the sphere.",
            search_aliases=("preview", "viewer", "look around", "capture", "mask", "paint"),
            is_output_node=True,
            inputs=[
                io.Image.Input("panorama", tooltip="Equirectangular picture. Other proportions than 2:1 are shown "
                               "letterboxed, with a warning, and give no outputs."),
                *_captured_view(),
                io.String.Input("mask_strokes", default="", optional=True, dynamic_prompts=False,
                                extra_dict={**ADVANCED, "hidden": True},
                                tooltip="What was painted in the viewer, as JSON. Empty: an empty mask."),
                io.Image.Input("compare_with", optional=True,
                               tooltip="A second panorama, of any size, that the viewer compares with the first: "
                               "wipe, blink and difference."),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The captured view, at full resolution."),
                Camera.Output("camera", display_name="camera",
                              tooltip="How the view was captured, for Perspective to Panorama."),
                io.Mask.Output("mask", display_name="mask",
                               tooltip="What was painted on the sphere, as large as the panorama: 1 where painted."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        panorama,
        yaw_deg=0.0,
        pitch_deg=0.0,
        roll_deg=0.0,
        fov_deg=90.0,
        width=768,
        height=512,
        mask_strokes="",
        compare_with=None,
    ) -> io.NodeOutput:
        strokes = parse_strokes(mask_strokes)
        ui = {"panodiff_panorama": store_pictures(to_shown(panorama), measure_pictures(panorama))}
        if compare_with is not None:
            ui["panodiff_compare"] = store_pictures(to_shown(compare_with))
        try:
            require_panorama(panorama)
        except InputError as error:
            # It can be looked at; only nodes behind this one have to know.
            return io.NodeOutput(None, None, None, ui=ui, block_execution=str(error))
        # Also when nothing is connected: results are kept by inputs, and a wire may come before the next run.
        camera = CameraView(yaw_deg, pitch_deg, roll_deg, fov_deg, width, height)
        image = map_pictures(panorama.split(1), camera.take)
        mask = mask_from_strokes(strokes, panorama.shape[1])[:, 0]
        return io.NodeOutput(image, camera, mask.to(model_management.intermediate_device()), ui=ui)


def _captured_view() -> list[io.Input]:
    """The inputs that the viewer's camera button fills in."""
    common = {"optional": True, "extra_dict": ADVANCED}
    return [
        io.Float.Input("yaw_deg", default=0.0, min=-360.0, max=360.0, step=0.1, **common,
                       tooltip="Captured view: degrees to the right of the centre."),
        io.Float.Input("pitch_deg", default=0.0, min=-90.0, max=90.0, step=0.1, **common,
                       tooltip="Captured view: degrees above the horizon."),
        io.Float.Input("roll_deg", default=0.0, min=-360.0, max=360.0, step=0.1, **common,
                       tooltip="Captured view: turn of the camera about its axis, clockwise."),
        io.Float.Input("fov_deg", default=90.0, min=1.0, max=170.0, step=0.1, **common,
                       tooltip="Captured view: horizontal field of view."),
        io.Int.Input("width", default=768, min=8, max=8192, step=8, **common,
                     tooltip="Captured view: width of the picture in pixels."),
        io.Int.Input("height", default=512, min=8, max=8192, step=8, **common,
                     tooltip="Captured view: height of the picture in pixels."),
    ]  # fmt: skip
