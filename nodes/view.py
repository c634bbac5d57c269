"""View Panorama."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.v0_0_2 import io

from ..panodiff_core.io.atomic import atomic_file
from ..panodiff_core.io.images import to_bytes_image
from .pictures import to_rgb
from .schema import node_schema

PREFIX = "panodiff_view"


class ViewPanorama(io.ComfyNode):
    """Shows panoramas in the viewer on the node. Pictures go through ComfyUI's temp folder, never through the message."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_ViewPanorama",
            display_name="View Panorama",
            category="PanoDiff/View",
            description="Lets you look around in a panorama: drag, wheel, arrow keys, touch, full screen.",
            search_aliases=("preview", "viewer", "look around"),
            is_output_node=True,
            inputs=[
                io.Image.Input("panorama", tooltip="Equirectangular picture. Other proportions than 2:1 are shown "
                               "letterboxed, with a warning.")
            ],
            outputs=[],
        )  # fmt: skip

    @classmethod
    def execute(cls, panorama) -> io.NodeOutput:
        height, width = panorama.shape[1:3]
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            PREFIX, folder_paths.get_temp_directory(), width, height
        )
        shown = []
        for index, pixels in enumerate(to_rgb(panorama)):
            file = f"{name}_{counter + index:05}_.png"
            with atomic_file(Path(folder) / file) as stream:
                # Least compression: the file is looked at once, and writing it is what the user waits for.
                to_bytes_image(pixels).save(stream, "PNG", compress_level=1)
            shown.append(
                {"filename": file, "subfolder": subfolder, "type": "temp", "width": width, "height": height}
            )
        return io.NodeOutput(ui={"panodiff_panorama": shown})
