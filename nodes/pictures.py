"""ComfyUI's IMAGE (B×H×W×C, float16 or float32) to the core's pictures (B×C×H×W, float32) and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from comfy import model_management
from torch import Tensor

from ..panodiff_core.runtime.errors import InputError

WORKING_COPIES = 12
"""Memory that a reprojection is given room for, in float32 copies of the picture: grids, borders and the result."""


def to_core(image: Tensor) -> Tensor:
    """[B,H,W,C] of any float type -> [B,C,H,W] float32 on the same device."""
    return image.movedim(-1, 1).to(torch.float32)


def to_rgb(image: Tensor) -> Tensor:
    """[B,H,W,1, 3 or 4] -> [B,3,H,W] float32: grey becomes three equal channels, alpha is left out."""
    pixels = to_core(image)
    return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels[:, :3]


def to_shown(image: Tensor) -> Tensor:
    """As `to_rgb`, for viewers: alpha stays, [B,3 or 4,H,W], since they show what is transparent."""
    return to_core(image) if image.shape[-1] == 4 else to_rgb(image)


def to_comfy(pixels: Tensor) -> Tensor:
    """[B,C,H,W] -> [B,H,W,C] in 0..1 on the device and in the type in which this ComfyUI passes pictures."""
    dtype = getattr(model_management, "intermediate_dtype", lambda: torch.float32)()
    device = model_management.intermediate_device()
    return pixels.clamp(0.0, 1.0).movedim(1, -1).to(device=device, dtype=dtype).contiguous()


def require_panorama(image: Tensor) -> None:
    """Raises `InputError` unless `image` [B,H,W,C] is twice as wide as high."""
    height, width = image.shape[1], image.shape[2]
    if width != 2 * height:
        raise InputError(
            f"an equirectangular panorama is twice as wide as high; this picture is {width} x {height}. "
            f"Crop or resize it to {2 * height} x {height} or to {width} x {width // 2}."
        )


def require_cubemap(image: Tensor) -> None:
    """Raises `InputError` unless `image` [6B,S,S,C] holds six square faces for each cube."""
    count, height, width = image.shape[:3]
    if count % 6 or not count:
        raise InputError(
            f"a cubemap has 6 faces (front, right, back, left, up, down); this batch has {count}."
        )
    if height != width:
        raise InputError(f"cube faces are square; these are {width} x {height}.")


def on_device(pictures: Iterable[Tensor]) -> Iterator[Tensor]:
    """One float32 picture [1,C,H,W] after the other on ComfyUI's compute device.

    One at a time, so that a batch of large panoramas needs the memory of one, and Cancel acts between two.
    """
    device = model_management.get_torch_device()
    for picture in pictures:
        model_management.throw_exception_if_processing_interrupted()
        if device.type != "cpu":
            model_management.free_memory(WORKING_COPIES * 4 * picture.numel(), device)
        yield to_core(picture).to(device)


def map_pictures(pictures: Iterable[Tensor], work: Callable[[Tensor], Tensor]) -> Tensor:
    """`work` on one picture at a time (see `on_device`); the results [B,...] as ComfyUI passes pictures."""
    return torch.cat([to_comfy(work(picture)) for picture in on_device(pictures)])
