"""Reconstruction losses that care for texture without any pretrained network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .discriminator import PatchDiscriminator


def laplacian_bands(pictures: Tensor, levels: int) -> list[Tensor]:
    """Band-pass pictures of [B, C, H, W] from fine to coarse, each half as large as the one before.

    The low-pass is a 2×2 mean, the way back bilinear. Height and width must be divisible by 2^levels.
    """
    bands = []
    for _ in range(levels):
        low = F.avg_pool2d(pictures, 2)
        bands.append(pictures - F.interpolate(low, scale_factor=2.0, mode="bilinear", align_corners=False))
        pictures = low
    return bands


def pyramid_loss(
    output: Tensor, target: Tensor, levels: int = 3, *, over_edges: bool = False
) -> tuple[Tensor, Tensor]:
    """(band loss, texture loss) of two pictures [B, C, H, W].

    The band loss is the mean absolute difference of the Laplacian bands, summed over levels. The texture loss compares
    the local strength of each band (root mean square over 8×8 windows, 4 apart): it asks for the right amount of fine
    grain even where its exact phase cannot be known, which a pixel loss alone answers with blur. Outer pixels lie in fewer
    windows than inner ones; with `over_edges`, windows reach over the edges into the mirrored picture and the outermost
    hold nothing but the outer 4 pixels.
    """
    band = output.new_zeros(())
    texture = output.new_zeros(())
    for a, b in zip(laplacian_bands(output, levels), laplacian_bands(target, levels), strict=True):
        band = band + (a - b).abs().mean()
        if min(a.shape[-2:]) >= 8:
            texture = texture + (_strength(a, over_edges) - _strength(b, over_edges)).abs().mean()
    return band, texture


def energy_loss(output: Tensor, target: Tensor, levels: int = 3, border: int = 4) -> Tensor:
    """How far apart the energies of the Laplacian bands of two pictures [B, C, H, W] are: mean |ln(energy ratio)| over
    pictures and bands, of the whole picture and of its outer `border` pixels (at the finest band).

    Energy hangs on few strong edges. Where a decoder cannot know their place, every loss that compares place by place, and
    even `pyramid_loss`' strength of windows, is best answered with less of it.
    """
    terms = []
    for level, (a, b) in enumerate(
        zip(laplacian_bands(output, levels), laplacian_bands(target, levels), strict=True)
    ):
        outer = max(1, border >> level)
        for part in (torch.ones_like(a[:1, :1]), _ring(a, outer)):
            one, two = ((band.square() * part).mean(dim=(1, 2, 3)) / part.mean() for band in (a, b))
            terms.append((torch.log(one + 1e-4) - torch.log(two + 1e-4)).abs().mean())
    return torch.stack(terms).mean()


def _ring(band: Tensor, width: int) -> Tensor:
    """[1, 1, H, W]: one in the outer `width` pixels, else zero."""
    ring = torch.ones_like(band[:1, :1])
    ring[..., width:-width, width:-width] = 0.0
    return ring


def colour_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the colour differences red − green and blue − green over 4×4 blocks of [B, 3, H, W].

    A pixel loss gives hue so small a share beside brightness that an autoencoder drops it first: red balloons came
    back green. Over blocks, because that is where the eye sees colour.
    """
    difference = F.avg_pool2d(output - target, 4)
    red, green, blue = difference.unbind(dim=1)
    return 0.5 * ((red - green).abs().mean() + (blue - green).abs().mean())


def _strength(band: Tensor, over_edges: bool) -> Tensor:
    power = band.square().mean(dim=1, keepdim=True)
    if over_edges:
        rows, columns = (_mirrored(size, 4, band.device) for size in power.shape[-2:])
        power = power[..., rows, :][..., columns]
    return (F.avg_pool2d(power, 8, stride=4) + 1e-5).sqrt()


def _mirrored(size: int, margin: int, device: torch.device) -> Tensor:
    """Indices of 0 … size − 1 with `margin` more on both sides, mirrored with the first and last repeated."""
    index = torch.arange(-margin, size + margin, device=device)
    index = torch.where(index < 0, -1 - index, index)
    return torch.where(index >= size, 2 * size - 1 - index, index)


def kl_to_unit_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of N(mean, exp(logvar)) to N(0, 1), averaged over all latent elements."""
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of a discriminator that should say > 1 for real and < −1 for fake patches."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def feature_matching_loss(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Mean absolute difference of a discriminator's inner maps; gradients flow into the fake ones only."""
    pairs = zip(real, fake, strict=True)
    return torch.stack([(f - r.detach()).abs().mean() for r, f in pairs]).mean()


def adversarial_losses(
    discriminator: PatchDiscriminator, output: Tensor, pixels: Tensor, weight: float, matching_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Both sides of adversarial training on pictures [B, 3, H, W] in −1..1: (their weighted sum, its parts by name).

    The discriminator's own loss moves only its own weights, so one backward pass serves both sides.
    """
    score, fake_maps = discriminator.frozen(output)
    with torch.no_grad():
        _, real_maps = discriminator.frozen(pixels)
    real, fake = discriminator(pixels)[0], discriminator(output.detach())[0]
    parts = {
        "generator": -score.float().mean(),
        "matching": feature_matching_loss(real_maps, fake_maps).float(),
        "discriminator": hinge_discriminator_loss(real.float(), fake.float()),
    }
    total = weight * parts["generator"] + matching_weight * parts["matching"] + parts["discriminator"]
    return total, parts
