"""The ring around a VAE that ComfyUI loaded: a copy of its outer object, with the same weights and patcher."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor, nn

from ..panodiff_core.autoencoders.margins import crop_fading
from ..panodiff_core.autoencoders.ring import ring_aware
from ..panodiff_core.layers.ring import pad_ring
from ..panodiff_core.runtime.errors import InputError

MARGIN = 16
"""Latent columns by which tiles see past either end. A convolution of FLUX's decoder reaches 17, its last ones
hardly."""


class RingModel:
    """Stands where a VAE object keeps its network: the same network, whose convolutions wrap during a call."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def __getattr__(self, name: str):
        # Names of Python itself are not passed on, or copying this object would copy the network.
        if name.startswith("__") or name == "_model":
            raise AttributeError(name)
        return getattr(self._model, name)

    def encode(self, *args, **more):
        with ring_aware(self._model.encoder):
            return self._model.encode(*args, **more)

    def decode(self, *args, **more):
        with ring_aware(self._model.decoder):
            return self._model.decode(*args, **more)


def ring_vae(vae):
    """A VAE like `vae` that encodes and decodes panoramas. Raises `InputError` for a VAE that cannot wrap."""
    model = vae.first_stage_model
    if isinstance(model, RingModel):
        raise InputError("this VAE went through Patch VAE for 360 before: remove one of the two nodes")
    _require_flat(vae, model)
    patched = copy.copy(vae)
    patched.first_stage_model = RingModel(model)
    # ComfyUI comes here for the tiled nodes and when memory runs out. A tile is no ring, so it gets the plain network.
    patched.decode_tiled_ = _tiled_decode(vae)
    patched.encode_tiled_ = _tiled_encode(vae)
    patched.vae_encode_crop_pixels = _checked_crop(vae)
    return patched


def _require_flat(vae, model: nn.Module) -> None:
    parts = [getattr(model, name, None) for name in ("encoder", "decoder")]
    flat = all(isinstance(p, nn.Module) and any(isinstance(m, nn.Conv2d) for m in p.modules()) for p in parts)
    if not flat or vae.latent_dim != 2 or any(isinstance(m, nn.Conv3d) for m in model.modules()):
        raise InputError(
            f"Patch VAE for 360 needs a VAE for pictures, such as FLUX's ae.safetensors, and got {type(model).__name__}"
        )
    for part in parts:
        with ring_aware(part):  # names a convolution that cannot wrap
            pass


def _tiled_decode(vae) -> Callable[..., Tensor]:
    def decode_tiled_(samples: Tensor, *args, **more) -> Tensor:
        margin = min(MARGIN, samples.shape[-1] // 2)
        pixels = vae.decode_tiled_(pad_ring(samples, margin), *args, **more)
        return crop_fading(pixels, margin * vae.spacial_compression_decode())

    return decode_tiled_


def _tiled_encode(vae) -> Callable[..., Tensor]:
    def encode_tiled_(pixels: Tensor, *args, **more) -> Tensor:
        factor = vae.spacial_compression_encode()
        margin = min(MARGIN, pixels.shape[-1] // factor // 2)
        return crop_fading(vae.encode_tiled_(pad_ring(pixels, margin * factor), *args, **more), margin)

    return encode_tiled_


def _checked_crop(vae) -> Callable[[Tensor], Tensor]:
    def vae_encode_crop_pixels(pixels: Tensor) -> Tensor:
        factor, width = vae.spacial_compression_encode(), pixels.shape[2]
        if width % factor:
            raise InputError(
                f"a panorama {width} pixels wide cannot be encoded without cutting its ends off: resize it to a multiple "
                f"of {factor} pixels, for example {width // factor * factor}"
            )
        return vae.vae_encode_crop_pixels(pixels)

    return vae_encode_crop_pixels
