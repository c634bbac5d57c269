"""View Cubemap."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from .pictures import require_cubemap, to_shown
from .schema import node_schema
from .shown import store_pictures


class ViewCubemap(io.ComfyNode):
    """Shows cubemaps in the viewer on the node, from their faces as they are."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_ViewCubemap",
            display_name="View Cubemap",
            category="PanoDiff/View",
            description="Lets you look around in six cube faces as they are, without making a panorama of them first.",
            search_aliases=("preview", "viewer", "look around", "cubemap", "cube faces"),
            is_output_node=True,
            inputs=[
                io.Image.Input("faces", tooltip="Six square pictures per cubemap: front, right, back, left, up, down."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, faces) -> io.NodeOutput:
        require_cubemap(faces)
        cubes = to_shown(faces).unflatten(0, (-1, 2, 3))
        # One file per cubemap: front, right, back above left, up, down.
        laid = cubes.permute(0, 3, 1, 4, 2, 5).flatten(2, 3).flatten(3, 4)
        return io.NodeOutput(ui={"panodiff_panorama": store_pictures(laid, kind="cubemap")})
