"""The list of nodes that ComfyUI asks for at start."""

from __future__ import annotations

from comfy_api.v0_0_2 import ComfyExtension, io

from .cubemap import ConvertCubemapToPanorama, ConvertPanoramaToCubemap
from .decode import DecodePanorama
from .decode_cubemap import DecodeCubemap
from .empty_latent import EmptyPanoramaLatent
from .encode import EncodePrompt
from .encode_faces import EncodeFacePrompts
from .encode_image import EncodePanorama
from .load import LoadDiT360
from .load_files import LoadDiT360Files
from .load_star import LoadSTAR
from .paste_perspective import PastePerspective
from .patch_model import PatchModel
from .patch_vae import PatchVAE
from .perspective import ExtractPerspective
from .replacements import register_replacements
from .rotate import RotatePanorama
from .sample import SampleDiT360
from .sample_cubemap import SampleCubemap
from .save import SavePanorama
from .seam import ReportCubeSeams, ReportSeam
from .sigmas import PanoramaSigmas
from .upscale import UpscalePanorama
from .view import ViewPanorama
from .view_cubemap import ViewCubemap
from .view_video import ViewVideo

NODES: tuple[type[io.ComfyNode], ...] = (
    LoadDiT360,
    LoadDiT360Files,
    LoadSTAR,
    EncodePrompt,
    EncodeFacePrompts,
    EncodePanorama,
    SampleDiT360,
    SampleCubemap,
    UpscalePanorama,
    DecodePanorama,
    DecodeCubemap,
    PatchModel,
    PatchVAE,
    EmptyPanoramaLatent,
    PanoramaSigmas,
    ReportSeam,
    ReportCubeSeams,
    RotatePanorama,
    ConvertPanoramaToCubemap,
    ConvertCubemapToPanorama,
    ExtractPerspective,
    PastePerspective,
    SavePanorama,
    ViewPanorama,
    ViewCubemap,
    ViewVideo,
)


class PanoDiffExtension(ComfyExtension):
    """Registers every node of the pack, and what they can stand in for."""

    async def on_load(self) -> None:
        await register_replacements()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
