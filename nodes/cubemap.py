"""Panorama to Cubemap and back. Six faces travel as six pictures of one IMAGE batch, in the order F, R, B, L, U, D."""

from __future__ import annotations

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..panodiff_core.geometry import crossfade_cube, cubemap_to_equirect, equirect_to_cubemap
from ..panodiff_core.geometry.checks import check_fade
from .pictures import map_pictures, require_cubemap, require_panorama
from .rotate import INTERPOLATIONS
from .schema import node_schema


class ConvertPanoramaToCubemap(io.ComfyNode):
    """[B,H,W,C] -> [6B,S,S,C], panorama by panorama."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_ConvertPanoramaToCubemap",
            display_name="Panorama to Cubemap",
            category="PanoDiff/Geometry",
            description="Cuts a panorama into six cube faces: front, right, back, left, up, down.",
            search_aliases=("cubemap", "cube faces", "skybox"),
            inputs=[
                io.Image.Input("panorama", tooltip="Equirectangular picture, width = 2 × height."),
                io.Int.Input("face_size", default=0, min=0, max=8192, step=8,
                             tooltip="Width and height of a face in pixels. 0: a quarter of the panorama's width."),
                io.Combo.Input("interpolation", options=list(INTERPOLATIONS), default="bicubic", optional=True,
                               tooltip="How colours between pixels are found. nearest keeps labels and masks exact."),
            ],
            outputs=[
                io.Image.Output("faces", display_name="faces",
                                tooltip="Six pictures per panorama: front, right, back, left, up, down.")
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, panorama, face_size, interpolation="bicubic") -> io.NodeOutput:
        require_panorama(panorama)
        return io.NodeOutput(
            map_pictures(
                panorama.split(1),
                lambda picture: equirect_to_cubemap(picture, face_size or None, mode=interpolation)[0],
            )
        )


class ConvertCubemapToPanorama(io.ComfyNode):
    """[6B,S,S,C] -> [B,H,2H,C]."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_ConvertCubemapToPanorama",
            display_name="Cubemap to Panorama",
            category="PanoDiff/Geometry",
            description="Joins six cube faces into a panorama, reading across the edges of the faces.",
            search_aliases=("cubemap", "cube faces", "skybox"),
            inputs=[
                io.Image.Input("faces", tooltip="Six square pictures per panorama: front, right, back, left, up, down."),
                io.Int.Input("height", default=0, min=0, max=16384, step=8,
                             tooltip="Height of the panorama in pixels; its width is twice that. "
                             "0: twice the size of a face."),
                io.Combo.Input("interpolation", options=list(INTERPOLATIONS), default="bicubic", optional=True,
                               tooltip="How colours between pixels are found. nearest keeps labels and masks exact."),
                io.Int.Input("crossfade", default=0, min=0, max=4096, optional=True,
                             tooltip="Spreads what jumps at the 12 edges over so many pixels of each face, at most half a "
                             "face. Faces that agree stay as they are. 0: off."),
            ],
            outputs=[io.Image.Output("panorama", display_name="panorama", tooltip="Equirectangular, width = 2 × height.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, faces, height, interpolation="bicubic", crossfade=0) -> io.NodeOutput:
        require_cubemap(faces)
        check_fade("crossfade", crossfade, faces.shape[1])

        def stitch(cube: Tensor) -> Tensor:
            joined = crossfade_cube(cube[None], crossfade) if crossfade else cube[None]
            return cubemap_to_equirect(joined, height or None, mode=interpolation)

        return io.NodeOutput(map_pictures(faces.split(6), stitch))
