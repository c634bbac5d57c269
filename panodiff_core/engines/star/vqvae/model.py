"""The multi-scale autoencoder of STAR: pictures ↔ code indices of every scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ....runtime.errors import InputError
from ..config import VQVAEConfig
from ..scales import Scales
from .network import PIXEL_CHANNELS, Decoder, Encoder
from .quantizer import Quantized, Quantizer


class VQVAE(nn.Module):
    """Encoder, quantizer and decoder, with the weight names of VAR's `vae_ch160v4096z32`.

    `scales` is the generator's scale list: one file of weights serves all of them. Pixels are in 0..1 at the door
    (`encode`, `decode`) and in −1..1 inside. `operations` gives the layers (torch.nn, or ComfyUI's).
    """

    def __init__(self, config: VQVAEConfig, scales: Scales, operations: Any = nn) -> None:
        super().__init__()
        self.config, self.scales = config, scales
        channels = config.latent_channels
        self.encoder, self.decoder = Encoder(config, operations), Decoder(config, operations)
        self.quantize = Quantizer(config, scales, operations)
        self.quant_conv = operations.Conv2d(channels, channels, 3, padding=1)
        self.post_quant_conv = operations.Conv2d(channels, channels, 3, padding=1)

    @property
    def pixel_side(self) -> int:
        """Height and width of the pictures."""
        return self.scales.last_side * self.config.downsampling

    def latents(self, signed: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in −1..1 → latents [B, C, P, P] before quantization."""
        return self.quant_conv(self.encoder(signed.to(self.quant_conv.weight.dtype)))

    def pixels(self, latents: Tensor) -> Tensor:
        """Accumulated latents [B, C, P, P] → pixels [B, 3, H, W] around −1..1, not clamped."""
        return self.decoder(self.post_quant_conv(latents.to(self.post_quant_conv.weight.dtype)))

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> list[Tensor]:
        """Pixels [B, 3, H, W] in 0..1 → code indices [B, N] of each scale, coarse to fine.

        Raises InputError for another size than `pixel_side`.
        """
        return self.quantize.encode(self.latents(self._signed(pixels)))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Accumulated latents [B, C, P, P] → pixels [B, 3, H, W] in 0..1, float32."""
        return self.pixels(latents).float().clamp(-1.0, 1.0).add(1.0).mul(0.5)

    @torch.no_grad()
    def decode_indices(self, indices: Sequence[Tensor]) -> Tensor:
        """Code indices [B, N] of the first scales or of all → pixels [B, 3, H, W] in 0..1."""
        return self.decode(self.quantize.accumulate(indices)[-1])

    def forward(self, pixels: Tensor) -> tuple[Tensor, Quantized]:
        """For training: pixels [B, 3, H, W] in 0..1 → their reconstruction, around 0..1 and not clamped, and what
        the quantizer did.
        """
        quantized = self.quantize(self.latents(self._signed(pixels)))
        return self.pixels(quantized.latents).add(1.0).mul(0.5), quantized

    def _signed(self, pixels: Tensor) -> Tensor:
        side = self.pixel_side
        if pixels.ndim != 4 or pixels.shape[1:] != (PIXEL_CHANNELS, side, side):
            raise InputError(
                f"this autoencoder takes pictures [B, {PIXEL_CHANNELS}, {side}, {side}], got {list(pixels.shape)}"
            )
        return pixels * 2.0 - 1.0
