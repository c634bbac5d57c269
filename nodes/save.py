"""Save Panorama."""

from __future__ import annotations

import json
from pathlib import Path

import folder_paths
from comfy.cli_args import args
from comfy_api.v0_0_2 import io, ui

from ..panodiff_core.io.images import check_output, save_panorama
from .pictures import require_panorama, to_rgb
from .schema import ADVANCED, node_schema

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


class SavePanorama(io.ComfyNode):
    """Writes panoramas that photo viewers recognise as such, with the workflow inside unless the server forbids it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_SavePanorama",
            display_name="Save Panorama",
            category="PanoDiff/View",
            description="Saves panoramas with GPano metadata, so that other programs open them as 360° pictures, and "
            "with the workflow, so that dropping the file into ComfyUI brings it back.",
            search_aliases=("export", "GPano", "photo sphere"),
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                io.Image.Input("panorama", tooltip="Equirectangular picture, width = 2 × height."),
                io.String.Input("filename_prefix", default="panodiff/panorama",
                                tooltip="Start of the file name, below ComfyUI's output folder. Subfolders and "
                                "placeholders such as %year% work as in Save Image."),
                io.Combo.Input("format", options=list(SUFFIXES), default="png",
                               tooltip="png keeps every bit; jpeg and webp are smaller. JPEG holds at most 64 kB of "
                               "workflow, WebP at most 16383 pixels of width."),
                io.Int.Input("quality", default=95, min=1, max=100, optional=True, extra_dict=ADVANCED,
                             tooltip="For jpeg and webp: 100 is best and largest."),
                io.Float.Input("heading_deg", default=0.0, min=0.0, max=359.99, step=1.0, optional=True,
                               extra_dict=ADVANCED,
                               tooltip="Compass heading of the panorama's centre, written as metadata."),
            ],
            outputs=[],
        )  # fmt: skip

    @classmethod
    def execute(cls, panorama, filename_prefix, format, quality=95, heading_deg=0.0) -> io.NodeOutput:
        require_panorama(panorama)
        height, width = panorama.shape[1:3]
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), width, height
        )
        text = workflow_texts(cls.hidden)
        saved = []
        for index, pixels in enumerate(to_rgb(panorama)):
            file = f"{name}_{counter + index:05}_{SUFFIXES[format]}"
            target = check_output(Path(folder) / file, height, width)
            save_panorama(pixels, target, text, quality=quality, heading_deg=heading_deg)
            saved.append(ui.SavedResult(file, subfolder, io.FolderType.output))
        return io.NodeOutput(ui=ui.SavedImages(saved))


def workflow_texts(hidden) -> dict[str, str]:
    """ComfyUI's "prompt" and "workflow" as JSON texts; nothing when the server runs with --disable-metadata.

    `hidden` is the node's hidden inputs, None outside of ComfyUI's executor.
    """
    if args.disable_metadata or hidden is None:
        return {}
    texts = {} if hidden.prompt is None else {"prompt": json.dumps(hidden.prompt)}
    for key, value in (hidden.extra_pnginfo or {}).items():
        texts[key] = json.dumps(value)
    return texts
