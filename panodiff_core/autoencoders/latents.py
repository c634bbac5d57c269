"""From the VAE's own numbers to those the network works in, and back."""

from __future__ import annotations

from torch import Tensor, nn


def scale(latents: Tensor, vae: nn.Module) -> Tensor:
    """Raw VAE latents → model latents: (z − shift_factor) · scaling_factor, both from `vae.config`."""
    factor, shift = _factors(vae)
    return (latents - shift) * factor


def unscale(latents: Tensor, vae: nn.Module) -> Tensor:
    """Model latents → raw VAE latents: z / scaling_factor + shift_factor. Inverse of `scale`."""
    factor, shift = _factors(vae)
    return latents / factor + shift


def _factors(vae: nn.Module) -> tuple[float, float]:
    config = vae.config
    shift = getattr(config, "shift_factor", None)
    return float(config.scaling_factor), 0.0 if shift is None else float(shift)
