"""Perspective to Panorama."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from comfy_api.v0_0_2 import io

from ..panodiff_core.geometry import paste_perspective
from ..panodiff_core.runtime.errors import InputError
from .pictures import on_device, require_panorama, to_comfy, to_core
from .schema import Camera, node_schema


class PastePerspective(io.ComfyNode):
    """The way back of Panorama to Perspective: what was edited goes into the panorama, and nothing else changes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="PanoDiff_PastePerspective",
            display_name="Perspective to Panorama",
            category="PanoDiff/Geometry",
            description="Puts an edited picture from Panorama to Perspective back into the panorama, with a soft border.",
            search_aliases=("paste", "stitch", "put back", "inpaint", "uncrop", "composite"),
            inputs=[
                io.Image.Input("panorama", tooltip="The panorama that the picture was taken out of, as it was then."),
                io.Image.Input("image", tooltip="The edited picture: its size as taken, or larger in the same proportions. "
                               "What was not changed is left out; of an enlarged picture, what a plain bicubic enlargement gives."),
                Camera.Input("camera", tooltip="From Panorama to Perspective: how the picture was taken."),
                io.Float.Input("feather_deg", default=3.0, min=0.0, max=85.0, step=0.5,
                               tooltip="Degrees over which the edit fades out before the picture's border; at most half "
                               "its smaller field of view. 0: a hard edge."),
                io.Mask.Input("mask", optional=True,
                              tooltip="Where the edit counts, as large as the picture: white is put back, black stays."),
            ],
            outputs=[
                io.Image.Output("panorama", display_name="panorama",
                                tooltip="The panorama with the edit; everywhere else its pixels are exactly as before."),
                io.Mask.Output("mask", display_name="mask",
                               tooltip="How far each pixel of the panorama was replaced: 0 not at all, 1 completely."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, panorama, image, camera, feather_deg, mask=None) -> io.NodeOutput:
        require_panorama(panorama)
        camera.require_shape(image)
        if mask is not None:
            mask = mask.reshape(-1, 1, *mask.shape[-2:])
        _require_fit(panorama, image, mask)
        count = _batch(panorama=panorama, image=image, mask=mask)
        pictures, masks = [], []
        for index, picture in enumerate(on_device(_repeat(panorama, count))):
            shape = None if mask is None else mask[index % len(mask)][None].to(picture)
            # As Panorama to Perspective handed it out: cut to 0..1 and, in half precision, rounded.
            original = to_core(to_comfy(camera.take(picture))).to(picture)
            if original.shape[-2:] != image.shape[1:3]:  # what a plain enlargement adds is no edit
                original = F.interpolate(original, size=image.shape[1:3], mode="bicubic").clamp(0.0, 1.0)
            edited = to_core(image[index % len(image)][None]).to(picture)
            result, replaced = paste_perspective(
                picture, edited, *camera.pose, feather_deg=feather_deg, mask=shape, original=original
            )
            pictures.append(result.movedim(1, -1).to(panorama))
            masks.append(replaced[:, 0].to(panorama.device, torch.float32))
        return io.NodeOutput(torch.cat(pictures), torch.cat(masks))


def _require_fit(panorama: torch.Tensor, image: torch.Tensor, mask: torch.Tensor | None) -> None:
    if image.shape[-1] != panorama.shape[-1]:
        raise InputError(
            f"image has {image.shape[-1]} channels and panorama {panorama.shape[-1]}: give both the same, 3 or 4 with alpha."
        )
    if mask is not None and mask.shape[-2:] != image.shape[1:3]:
        raise InputError(
            f"mask is {mask.shape[-1]} x {mask.shape[-2]} and image {image.shape[2]} x {image.shape[1]}: resize the mask to "
            "that, or leave it out."
        )


def _batch(**given) -> int:
    """How many panoramas to make: inputs of one picture serve all."""
    sizes = {name: len(pixels) for name, pixels in given.items() if pixels is not None}
    counts = set(sizes.values()) - {1}
    if len(counts) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise InputError(
            f"the batches do not match ({listed}): give each the same number of pictures, or one."
        )
    return max(counts, default=1)


def _repeat(pictures: torch.Tensor, count: int):
    return (pictures[index % len(pictures)][None] for index in range(count))
