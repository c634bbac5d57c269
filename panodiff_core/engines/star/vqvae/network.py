"""Encoder and decoder of the multi-scale autoencoder: residual convolutions, with attention on the deepest level.

The topology, and the names of the weights, are those of VAR's VQVAE (latent diffusion's before it): lists are indexed
by level, so `decoder.up.0` is at full resolution and runs last.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..config import VQVAEConfig

PIXEL_CHANNELS = 3


class Parts:
    """Builds the layers of one configuration out of an operations namespace (torch.nn, or ComfyUI's)."""

    def __init__(self, config: VQVAEConfig, operations: Any = nn) -> None:
        self.config, self.operations = config, operations

    def conv(
        self, inner: int, outer: int, kernel: int = 3, stride: int = 1, padding: int | None = None
    ) -> Any:
        """A convolution; the padding keeps the size unless it is given."""
        padding = kernel // 2 if padding is None else padding
        return self.operations.Conv2d(inner, outer, kernel, stride=stride, padding=padding)

    def norm(self, channels: int) -> Any:
        """A group norm with affine parameters."""
        return self.operations.GroupNorm(self.config.norm_groups, channels, eps=self.config.norm_eps)


class ResidualBlock(nn.Module):
    """[B, inner, H, W] → [B, outer, H, W]: twice norm, SiLU, 3×3 convolution, beside a shortcut."""

    def __init__(self, parts: Parts, inner: int, outer: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = parts.norm(inner), parts.conv(inner, outer)
        self.norm2, self.conv2 = parts.norm(outer), parts.conv(outer, outer)
        self.nin_shortcut = parts.conv(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.nin_shortcut(x) + h


class AttentionBlock(nn.Module):
    """[B, C, H, W] → the same: every place sees every other, in one head over all channels."""

    def __init__(self, parts: Parts, channels: int) -> None:
        super().__init__()
        self.norm, self.qkv = parts.norm(channels), parts.conv(channels, 3 * channels, 1)
        self.proj_out = parts.conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.qkv(self.norm(x)).flatten(2).mT.unsqueeze(1)  # [B, 1, H·W, 3C]
        h = F.scaled_dot_product_attention(*tokens.chunk(3, dim=-1))
        return x + self.proj_out(h.squeeze(1).mT.reshape(x.shape))


class Downsample(nn.Module):
    """Half the size, by a strided convolution over a picture padded at its right and bottom."""

    def __init__(self, parts: Parts, channels: int) -> None:
        super().__init__()
        self.conv = parts.conv(channels, channels, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the size, each pixel repeated, then a convolution."""

    def __init__(self, parts: Parts, channels: int) -> None:
        super().__init__()
        self.conv = parts.conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The blocks of one size, each followed by attention on the deepest level."""

    def __init__(self, parts: Parts, inner: int, outer: int, blocks: int, deepest: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResidualBlock(parts, outer if index else inner, outer) for index in range(blocks)
        )
        self.attn = nn.ModuleList(AttentionBlock(parts, outer) for _ in range(blocks if deepest else 0))

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[index](x)
        return x


class DownLevel(Level):
    """A level of the encoder, which hands on half its size unless it is the deepest."""

    def __init__(self, parts: Parts, inner: int, outer: int, deepest: bool) -> None:
        super().__init__(parts, inner, outer, parts.config.blocks, deepest)
        self.downsample = nn.Identity() if deepest else Downsample(parts, outer)

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(super().forward(x))


class UpLevel(Level):
    """A level of the decoder, which hands on twice its size unless it is at full resolution."""

    def __init__(self, parts: Parts, inner: int, outer: int, deepest: bool, full: bool) -> None:
        super().__init__(parts, inner, outer, parts.config.blocks + 1, deepest)
        self.upsample = nn.Identity() if full else Upsample(parts, outer)

    def forward(self, x: Tensor) -> Tensor:
        return self.upsample(super().forward(x))


class Middle(nn.Module):
    """Two residual blocks with attention between them."""

    def __init__(self, parts: Parts, channels: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(parts, channels, channels)
        self.attn_1 = AttentionBlock(parts, channels)
        self.block_2 = ResidualBlock(parts, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """Pixels [B, 3, d·P, d·P] in −1..1 → [B, latent channels, P, P]; d is `config.downsampling`."""

    def __init__(self, config: VQVAEConfig, operations: Any = nn) -> None:
        super().__init__()
        parts, widths = Parts(config, operations), config.widths
        last = len(widths) - 1
        self.conv_in = parts.conv(PIXEL_CHANNELS, config.channels)
        inner = (config.channels, *widths[:-1])
        self.down = nn.ModuleList(
            DownLevel(parts, inner[n], widths[n], deepest=n == last) for n in range(len(widths))
        )
        self.mid = Middle(parts, widths[-1])
        self.norm_out = parts.norm(widths[-1])
        self.conv_out = parts.conv(widths[-1], config.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """[B, latent channels, P, P] → pixels [B, 3, d·P, d·P], around −1..1 and not clamped."""

    def __init__(self, config: VQVAEConfig, operations: Any = nn) -> None:
        super().__init__()
        parts, widths = Parts(config, operations), config.widths
        last = len(widths) - 1
        self.conv_in = parts.conv(config.latent_channels, widths[-1])
        self.mid = Middle(parts, widths[-1])
        inner = (*widths[1:], widths[-1])
        self.up = nn.ModuleList(
            UpLevel(parts, inner[n], widths[n], deepest=n == last, full=n == 0) for n in range(len(widths))
        )
        self.norm_out = parts.norm(widths[0])
        self.conv_out = parts.conv(widths[0], PIXEL_CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(self.conv_in(x))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))
