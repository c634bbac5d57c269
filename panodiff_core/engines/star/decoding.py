"""From latents to pictures: which latents are taken, decoding part by part, and faces or flat views."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...geometry.cubemap import FACES
from ...pictures import Camera, CubeFaces, Views
from ...runtime.errors import InputError, NumericalError
from ...runtime.progress import OnTile, Tile
from .vqvae import VQVAE


def check_latents(latents: Tensor, channels: int, side: int, faces: bool) -> None:
    """Raises InputError unless latents are floats [B, channels, side, side], of whole cubes where `faces`."""
    wanted = f"latents must be [B, {channels}, {side}, {side}]"
    if not isinstance(latents, Tensor) or not latents.is_floating_point():
        kind = latents.dtype if isinstance(latents, Tensor) else type(latents).__name__
        raise InputError(f"{wanted} of floats, as sample gives them, got {kind}")
    if latents.ndim != 4 or latents.shape[1:] != (channels, side, side) or not len(latents):
        raise InputError(f"{wanted}, got {list(latents.shape)}")
    if faces and len(latents) % len(FACES):
        raise InputError(
            f"{len(latents)} latents are no whole number of cubes, which have six faces each: give all faces, or "
            "faces=False for single pictures"
        )


def decode_in_parts(
    vqvae: VQVAE, latents: Tensor, together: int, device: torch.device, on_tile: OnTile | None
) -> Tensor:
    """Latents [B, C, P, P] → pixels [B, 3, S, S] in 0..1 on the CPU, `together` in one call on `device`.

    `on_tile(Tile)` is called after each call and may raise `Cancelled`. Raises NumericalError for NaN.
    """
    pixels = torch.empty(len(latents), 3, vqvae.pixel_side, vqvae.pixel_side)
    parts = latents.split(together)
    for index, (part, place) in enumerate(zip(parts, pixels.split(together), strict=True), start=1):
        place.copy_(vqvae.decode(part.to(device)))
        if on_tile is not None:
            on_tile(Tile(index, len(parts)))
    if not pixels.isfinite().all():
        raise NumericalError("NaN or infinity in the decoded pictures, stage vae")
    return pixels


def without_rim(latents: Tensor) -> Tensor:
    """For a preview: latents [B, C, P, P] with their neighbours inside in place of the outermost ones.

    Those stand for the encoder's padding, too, which a linear map shows as a coloured frame around every face; decoding
    undoes it. A grid of less than 3 has no inside and stays as it is.
    """
    if latents.shape[-1] < 3:
        return latents
    return F.pad(latents[..., 1:-1, 1:-1], (1, 1, 1, 1), mode="replicate")


def as_pictures(pixels: Tensor, faces: bool) -> CubeFaces | Views:
    """Pixels [B, 3, S, S] as cubes of six, or as flat views of the field of view of a cube's face."""
    if faces:
        return CubeFaces(pixels.unflatten(0, (-1, len(FACES))))
    return Views(pixels.unsqueeze(1), (Camera(),))
