"""View Panorama Video."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .schema import node_schema
from .shown import temp_files


class ViewVideo(io.ComfyNode):
    """Shows a video in the viewer on the node. It travels as a file, as ComfyUI's video type writes it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_ViewVideo",
            display_name="View Panorama Video",
            category="PanoDiff/View",
            description="Plays a panorama video in which you can look around.",
            search_aliases=("preview", "viewer", "look around", "video"),
            is_output_node=True,
            inputs=[
                io.Video.Input("video", tooltip="Equirectangular video. Browsers play H.264, VP8, VP9 and AV1."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, video) -> io.NodeOutput:
        width, height = video.get_dimensions()
        ((path, entry),) = temp_files(width, height, 1, "mp4")
        video.save_to(str(path))
        return io.NodeOutput(ui={"panodiff_panorama": [{**entry, "kind": "video"}]})
