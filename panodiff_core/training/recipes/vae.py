"""Recipe `dit360-vae`: the small FLUX-layout autoencoder, trained on rendered panoramas."""

from __future__ import annotations

import argparse
import logging
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...autoencoders.ring import ring_aware
from ...data.crops import CropBatches, CropPlan
from ...data.panoramas import PanoramaCache
from ..card import RunFacts
from ..discriminator import PatchDiscriminator
from ..losses import (
    adversarial_losses,
    colour_loss,
    kl_to_unit_normal,
    pyramid_loss,
)
from ..model_folder import load_vae, save_half
from ..optimizers import matrices_and_rest
from ..pictures import picture_grid

log = logging.getLogger(__name__)

NAME = "dit360-vae"
HELP = "small FLUX-layout autoencoder on rendered panoramas"
DEFAULTS = {"learning_rate": 8e-4, "steps": 8000, "picture_every": 500, "ema_decay": 0.998}


@dataclass(frozen=True)
class VaeConfig:
    """Sizes and loss weights. Weights multiply means over pixels (or latent elements), pixels in −1..1.

    `shrink` is the share of steps that decode a latent shrunk to half its size and compare it with the shrunken
    picture: latents then stay smooth pictures themselves, which makes them easier to generate. From progress
    `adversarial_from` (1 = never) a patch discriminator and feature matching join in. When only the decoder is
    refined, its latents carry noise of up to `latent_noise` standard deviations, so that it forgives what a generator
    gets slightly wrong.
    """

    widths: tuple[int, ...] = (32, 48, 80, 96)
    groups: int = 4
    latent_channels: int = 16
    band_weight: float = 1.0
    texture_weight: float = 0.5
    colour_weight: float = 2.0
    kl_weight: float = 3e-5
    shrink: float = 0.2
    adversarial_from: float = 1.0
    adversarial_weight: float = 0.02
    matching_weight: float = 0.2
    latent_noise: float = 0.1


class VaeModule(nn.Module):
    """Autoencoder, optional discriminator and their losses in one forward.

    With a trained and frozen `refine` given, its encoder and latent scale stay exactly as they are; its decoder alone learns:
    latents on disk and whatever was trained on them remain valid.
    """

    def __init__(self, config: VaeConfig, refine: nn.Module | None = None) -> None:
        super().__init__()
        self.config, self.refining = config, refine is not None
        self.vae = new_vae(config) if refine is None else refine
        if self.refining:
            self.vae.decoder.requires_grad_(True)
        self.discriminator = PatchDiscriminator() if config.adversarial_from < 1.0 else None

    def forward(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        config, pixels = self.config, batch["pixels"]
        with ring_aware(self.vae) if bool(batch["ring"]) else nullcontext():
            latents, kl = self._latents(pixels)
            if not self.refining and float(torch.rand(())) < config.shrink:
                latents, pixels = F.avg_pool2d(latents, 2), F.avg_pool2d(pixels, 2)
            output = self.vae.decode(latents).sample.float()
        pixel = (output - pixels).abs().mean()
        band, texture = pyramid_loss(output, pixels)
        colour = colour_loss(output, pixels)
        loss = (
            pixel
            + config.band_weight * band
            + config.texture_weight * texture
            + config.colour_weight * colour
            + config.kl_weight * kl
        )
        parts = {"pixel": pixel, "band": band, "texture": texture, "colour": colour, "kl": kl}
        if self.discriminator is not None and progress >= config.adversarial_from:
            more, adversarial = adversarial_losses(
                self.discriminator, output, pixels, config.adversarial_weight, config.matching_weight
            )
            loss, parts = loss + more, {**parts, **adversarial}
        return {"loss": loss, **parts}

    def _latents(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy raw latents, and their KL divergence (0 while refining)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.refining):
            posterior = self.vae.encode(pixels).latent_dist
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
        if not self.refining:
            return mean + torch.exp(0.5 * logvar) * torch.randn_like(mean), kl_to_unit_normal(mean, logvar)
        strength = self.config.latent_noise / self.vae.config.scaling_factor
        level = strength * torch.rand(len(mean), 1, 1, 1, device=mean.device)
        return mean + level * torch.randn_like(mean), mean.new_zeros(())


def new_vae(config: VaeConfig) -> nn.Module:
    """A fresh AutoencoderKL in FLUX's layout (no quant convolutions, attention in the middle)."""
    from diffusers import AutoencoderKL

    levels = len(config.widths)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.widths,
        layers_per_block=1,
        latent_channels=config.latent_channels,
        norm_num_groups=config.groups,
        sample_size=256,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=True,
        scaling_factor=1.0,
        shift_factor=0.0,
    )
    # Start almost noiseless: at unit variance the decoder first learns to ignore its input.
    with torch.no_grad():
        vae.encoder.conv_out.weight[config.latent_channels :] = 0.0
        vae.encoder.conv_out.bias[config.latent_channels :] = -5.0
    _start_linear(vae)
    return vae


def _start_linear(vae: nn.Module) -> None:
    """Silence every residual branch, so that training starts from a plain chain of convolutions.

    Colour then reaches the latents through the skip path from the first step on; with random branches the group norms
    wash it out, and the first hundreds of steps only win it back.
    """
    for name, module in vae.named_modules():
        if name.endswith(("conv2", "to_out.0")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


class VaeRecipe:
    """See `training.loop.Recipe`."""

    name = NAME

    def __init__(
        self,
        config: VaeConfig,
        cache: PanoramaCache,
        batch_size: int,
        crop: tuple[int, int],
        seed: int,
        optimizer: str = "muon",
        refine: nn.Module | None = None,
    ) -> None:
        self.config, self.cache, self.seed, self.optimizer = config, cache, seed, optimizer
        self.refine = refine
        height, width = crop
        full = cache.height
        plans = [CropPlan(height, width, batch_size, 0.75)]
        if 2 * height <= full:
            plans.append(CropPlan(2 * height, 2 * width, max(1, batch_size // 4), 0.15))
        plans.append(CropPlan(full, 2 * full, max(1, batch_size * height * width // (2 * full * full)), 0.10))
        self.plans = tuple(plans)

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        return VaeModule(self.config, self.refine)

    def batches(self) -> Dataset:
        return CropBatches(self.cache, self.plans, self.seed)

    def optimizers(self, module: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
        # Measured on crops: Muon reaches in half the steps what AdamW does.
        return matrices_and_rest(
            module,
            learning_rate,
            self.optimizer,
            hidden=lambda name, p: p.ndim >= 2 and name.startswith("vae."),
            weight_decay=1e-3,
        )

    def pictures(self, module: nn.Module) -> Tensor:
        """Two panoramas and three details: original on the left, round trip on the right."""
        device = next(module.parameters()).device
        picked = [self.cache[(i * len(self.cache)) // 5] for i in range(5)]
        pixels = torch.stack(picked).to(device).float() / 127.5 - 1.0
        with ring_aware(module.vae):
            decoded = torch.cat(
                [module.vae.decode(module.vae.encode(p[None]).latent_dist.mean).sample for p in pixels]
            )
        pairs = torch.stack([pixels, decoded.float()], dim=1)
        full = picture_grid(pairs[:2].flatten(0, 1) * 0.5 + 0.5, columns=2)
        height = pixels.shape[-2]
        top, size = height // 2 - height // 5, height // 3
        details = pairs[2:, :, :, top : top + size, : 2 * size].flatten(0, 1) * 0.5 + 0.5
        details = F.interpolate(details, scale_factor=2.0, mode="nearest")
        sheet = picture_grid(details, columns=2)
        return _stack(full, sheet)

    def export(self, module: nn.Module, folder: Path, run: RunFacts) -> None:
        """Save `folder/vae` in bf16, with the latents' measured mean and spread in its config unless refined."""
        if self.refine is not None:
            save_half(module.vae, folder / "vae")
            return
        mean, std = latent_statistics(module.vae, self.cache, count=min(200, len(self.cache)))
        module.vae.register_to_config(shift_factor=mean, scaling_factor=1.0 / std)
        log.info("latents: mean %.4f, standard deviation %.4f", mean, std)
        save_half(module.vae, folder / "vae")


@torch.no_grad()
def latent_statistics(vae: nn.Module, cache: PanoramaCache, count: int) -> tuple[float, float]:
    """Mean and standard deviation of all raw latent elements over `count` panoramas spread over the cache."""
    device = next(vae.parameters()).device
    total = squares = elements = 0.0
    with ring_aware(vae.encoder), torch.autocast(device.type, torch.bfloat16):
        for i in range(count):
            pixels = cache[(i * len(cache)) // count][None].to(device).float() / 127.5 - 1.0
            latents = vae.encode(pixels).latent_dist.mean.double()
            total += float(latents.sum())
            squares += float(latents.square().sum())
            elements += latents.numel()
    mean = total / elements
    return mean, (squares / elements - mean * mean) ** 0.5


def _stack(above: Tensor, below: Tensor) -> Tensor:
    width = max(above.shape[-1], below.shape[-1])
    return torch.cat([F.pad(p, (0, width - p.shape[-1]), value=1.0) for p in (above, below)], dim=-2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    default = VaeConfig()
    parser.add_argument(
        "--cache", type=Path, required=True, help="folder of panoramas from `train worlds-cache`"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="crops per step (default 8)")
    parser.add_argument("--crop", type=_size, default=(64, 128), help="crop as HEIGHTxWIDTH (default 64x128)")
    parser.add_argument(
        "--widths", type=_widths, default=default.widths, help="channels per level, e.g. 32,48,80,96"
    )
    parser.add_argument("--groups", type=int, default=default.groups, help="groups of the group norms")
    parser.add_argument("--refine", type=Path, help="model folder: train only the decoder of its vae/")
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--kl-weight", type=float, default=default.kl_weight)
    parser.add_argument("--texture-weight", type=float, default=default.texture_weight)
    parser.add_argument("--colour-weight", type=float, default=default.colour_weight)
    parser.add_argument(
        "--shrink", type=float, default=default.shrink, help="share of steps on half-size latents"
    )
    parser.add_argument(
        "--adversarial-from", type=float, default=1.0, help="progress 0..1 at which it starts; 1 never"
    )


def build(args: argparse.Namespace) -> VaeRecipe:
    """The recipe that the command line describes."""
    refine = None if args.refine is None else load_vae(args.refine)
    config = VaeConfig(
        widths=args.widths,
        groups=args.groups,
        kl_weight=args.kl_weight,
        texture_weight=args.texture_weight,
        colour_weight=args.colour_weight,
        shrink=args.shrink,
        adversarial_from=args.adversarial_from,
    )
    cache = PanoramaCache(args.cache)
    return VaeRecipe(config, cache, args.batch_size, args.crop, args.seed, args.optimizer, refine)


def _size(text: str) -> tuple[int, int]:
    height, width = (int(part) for part in text.lower().split("x"))
    return height, width


def _widths(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))
