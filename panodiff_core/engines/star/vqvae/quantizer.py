"""Multi-scale residual quantization: latents as codes of scale after scale, each coding what the coarser ones left.

Every step of it is used twice, by the autoencoder and by the generator, which adds one scale at a time to the same
accumulated latents. Those are float32 whatever the weights are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....runtime.errors import InputError
from ..config import VQVAEConfig
from ..scales import Scales

SEARCH_BYTES = 2**26
"""What the distances of one part of the nearest-code search may take: four pictures' last scale at 512 pixels."""


@dataclass(frozen=True)
class Quantized:
    """What training needs: `latents` [B, C, P, P] with the gradient passed straight through, the `loss`, and
    `indices` [B, N] of each scale.
    """

    latents: Tensor
    loss: Tensor
    indices: tuple[Tensor, ...]


class SharedConvolutions(nn.Module):
    """A few convolutions shared by all scales: φ(h) = (1−r)·h + r·conv(h)."""

    def __init__(self, config: VQVAEConfig, scales: Scales, operations: Any = nn) -> None:
        super().__init__()
        channels = config.latent_channels
        self.ratio = config.phi_ratio
        self.chosen = scales.phi(config.phi_convs)
        self.qresi_ls = nn.ModuleList(
            operations.Conv2d(channels, channels, 3, padding=1) for _ in range(config.phi_convs)
        )

    def forward(self, h: Tensor, scale: int) -> Tensor:
        """h [B, C, P, P] of one scale → the same shape."""
        return torch.lerp(h, self.qresi_ls[self.chosen[scale]](h), self.ratio)


class Quantizer(nn.Module):
    """Latents [B, C, P, P] ↔ indices [B, N] per scale. Raises InputError for latents or codes of another size."""

    def __init__(self, config: VQVAEConfig, scales: Scales, operations: Any = nn) -> None:
        super().__init__()
        self.config, self.scales = config, scales
        self.embedding = operations.Embedding(config.vocab, config.latent_channels)
        self.quant_resi = SharedConvolutions(config, scales, operations)
        # Statistics of the reference's training; nothing reads them, but official files hold them.
        self.register_buffer("ema_vocab_hit_SV", torch.zeros(len(scales), config.vocab))

    def codes(self, indices: Tensor) -> Tensor:
        """Indices [B, N] → their codes [B, N, C]."""
        return self.embedding(indices)

    def codebook(self) -> Tensor:
        """All codes [V, C], by way of the layer, so that ComfyUI's casting applies."""
        return self.embedding(torch.arange(self.config.vocab, device=self.embedding.weight.device))

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """Latents [B, C, n, n] → indices [B, n²] of the nearest codes, row by row; of equally near ones the first.

        ‖z − e‖² without ‖z‖², which is the same for all codes.
        """
        with torch.autocast(z.device.type, enabled=False):
            codes = self.codebook().to(z.device, torch.float32)
            norms, matrix = codes.square().sum(dim=1), codes.t()
            rows = z.float().flatten(2).mT.reshape(-1, codes.shape[1])
            part = max(1, SEARCH_BYTES // (4 * len(codes)))
            found = [torch.addmm(norms, each, matrix, alpha=-2).argmin(dim=1) for each in rows.split(part)]
        return torch.cat(found).view(len(z), -1)

    def start(self, batch: int) -> Tensor:
        """Accumulated latents before the first scale: zeros [B, C, P, P], float32, where the codebook is."""
        side, weight = self.scales.last_side, self.embedding.weight
        shape = (batch, self.config.latent_channels, side, side)
        return torch.zeros(shape, dtype=torch.float32, device=weight.device)

    def smooth(self, codes: Tensor, scale: int) -> Tensor:
        """Codes [B, N, C] of one scale as float32 latents [B, C, P, P]: upsampled, then smoothed by the scale's φ."""
        side, last = self.scales.sides[scale], self.scales.last_side
        if codes.shape[1:] != (side * side, self.config.latent_channels):
            raise InputError(
                f"scale {scale} takes {side * side} codes of {self.config.latent_channels} numbers, got {list(codes.shape[1:])}"
            )
        with torch.autocast(codes.device.type, enabled=False):
            h = codes.to(self.embedding.weight.dtype).mT.reshape(len(codes), -1, side, side)
            if side != last:
                h = F.interpolate(h, size=(last, last), mode="bicubic")
            return self.quant_resi(h, scale).float()

    def add_scale(self, latents: Tensor, codes: Tensor, scale: int) -> Tensor:
        """Accumulated latents [B, C, P, P] with one more scale, whose codes [B, N, C] may be mixtures."""
        return latents + self.smooth(codes, scale)

    def next_input(self, latents: Tensor, scale: int) -> Tensor:
        """What the generator sees of the accumulated latents when it predicts `scale`: area means [B, N, C]."""
        return area_means(latents, self.scales.sides[scale]).flatten(2).mT

    @torch.no_grad()
    def encode(self, latents: Tensor) -> list[Tensor]:
        """Latents [B, C, P, P] → indices [B, N] of each scale, coarse to fine."""
        rest, indices = self._checked(latents), []
        for scale in range(len(self.scales)):
            indices.append(self.search(rest, scale))
            rest = rest - self.smooth(self.codes(indices[-1]), scale)
        return indices

    def accumulate(self, indices: Sequence[Tensor]) -> list[Tensor]:
        """Indices [B, N] of the first scales or of all → the accumulated latents [B, C, P, P] after each of them.

        Raises InputError for none, or more than there are scales.
        """
        if not 0 < len(indices) <= len(self.scales):
            raise InputError(f"there are {len(self.scales)} scales, got indices of {len(indices)}")
        latents, after = self.start(len(indices[0])), []
        for scale, each in enumerate(indices):
            latents = self.add_scale(latents, self.codes(each), scale)
            after.append(latents)
        return after

    @torch.no_grad()
    def teacher_input(self, indices: Sequence[Tensor]) -> Tensor:
        """Indices of all scales → what the generator sees before each scale but the first: [B, L−1, C].

        Indices of the last scale, which nothing follows, may be left out. Raises InputError for a model of one scale.
        """
        if len(self.scales) < 2:
            raise InputError("a model of one scale has no input to teach with")
        after = self.accumulate(indices[: len(self.scales) - 1])
        return torch.cat([self.next_input(each, scale) for scale, each in enumerate(after, start=1)], dim=1)

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize for training. The loss sums over scales (1 + β)·mse(accumulated, latents): the first part moves
        the codes, the one with β the encoder.
        """
        with torch.autocast(latents.device.type, enabled=False):
            latents = self._checked(latents)
            target = latents.detach()
            total, loss, indices = torch.zeros_like(target), target.new_zeros(()), []
            for scale in range(len(self.scales)):
                indices.append(self.search(target - total.detach(), scale))
                total = self.add_scale(total, self.codes(indices[-1]), scale)
                commitment = F.mse_loss(latents, total.detach())
                loss = loss + F.mse_loss(total, target) + self.config.beta * commitment
            straight = latents + (total.detach() - target)
        return Quantized(straight, loss, tuple(indices))

    def search(self, rest: Tensor, scale: int) -> Tensor:
        """Indices [B, N] of a scale for what is left [B, C, P, P]; adaptive pooling averages overlapping windows, and the last scale is not pooled."""
        last = scale == len(self.scales) - 1
        return self.nearest(rest if last else area_means(rest, self.scales.sides[scale]))

    def _checked(self, latents: Tensor) -> Tensor:
        side, channels = self.scales.last_side, self.config.latent_channels
        if latents.ndim != 4 or latents.shape[1:] != (channels, side, side):
            raise InputError(
                f"latents must be [B, {channels}, {side}, {side}] for this scale list, got {list(latents.shape)}"
            )
        return latents.float()


def area_means(latents: Tensor, side: int) -> Tensor:
    """Latents [B, C, P, P] → [B, C, side, side], the means of windows that overlap where `side` does not divide P."""
    if latents.device.type == "mps" and latents.shape[-1] % side:
        return F.adaptive_avg_pool2d(latents.cpu(), side).to(latents.device)  # Metal refuses such windows
    return F.adaptive_avg_pool2d(latents, side)
