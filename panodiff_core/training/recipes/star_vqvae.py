"""Recipe `star-vqvae`: the small multi-scale autoencoder of STAR, trained on cube faces of rendered worlds."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...data.cubemap_scenes import CubemapScenes
from ...data.cubemap_worlds import WorldFaces
from ...data.face_batches import PanoramaFaces, SceneFaces
from ...data.panoramas import PanoramaCache
from ...engines.star.config import VQVAEConfig
from ...engines.star.scales import Scales
from ...engines.star.training.codebook import CodebookKeeper, RestartPlan, new_vqvae
from ...engines.star.vqvae import VQVAE
from ...runtime.errors import InputError
from ..card import RunFacts
from ..discriminator import PatchDiscriminator
from ..losses import adversarial_losses, colour_loss, energy_loss, pyramid_loss
from ..optimizers import matrices_and_rest
from ..pictures import picture_grid
from ..star_folder import read_vqvae, write_vqvae
from .star_options import whole_numbers

NAME = "star-vqvae"
HELP = "small multi-scale autoencoder of STAR on cube faces of rendered worlds"
DEFAULTS = {"learning_rate": 1e-3, "steps": 8000, "picture_every": 500, "ema_decay": 0.998}

SMALL_SCALES = (1, 2, 3, 4, 6, 8, 11, 16)
"""Scales of our small model: faces of 128 pixels, 507 tokens."""
SMALL_VQVAE = VQVAEConfig(
    channels=32,
    multipliers=(1, 1, 2, 4),
    blocks=1,
    latent_channels=16,
    vocab=2048,
    norm_groups=8,
)


@dataclass(frozen=True)
class VQVAETraining:
    """Loss weights: they multiply means over pixels in −1..1; `codebook_weight` the quantizer's own loss. Codes learn
    `codebook_rate` times as fast as the rest, the discriminator `discriminator_rate` times.

    From progress `adversarial_from` (1 = never) a patch discriminator and feature matching join in.
    """

    pixel_weight: float = 1.0
    band_weight: float = 1.0
    texture_weight: float = 0.5
    energy_weight: float = 0.0
    colour_weight: float = 2.0
    codebook_weight: float = 0.25
    codebook_rate: float = 10.0
    adversarial_from: float = 1.0
    adversarial_weight: float = 0.02
    matching_weight: float = 0.2
    discriminator_rate: float = 1.0
    restart: RestartPlan = field(default_factory=RestartPlan)


class VQVAEModule(nn.Module):
    """Autoencoder, the keeper of its codebook, optional discriminator and their losses in one forward.

    Of a trained `refine`, the decoder alone learns: what makes codes stays exactly as it is, so that codes on disk and
    whatever was trained on them remain valid.
    """

    def __init__(
        self, config: VQVAEConfig, scales: Scales, plan: VQVAETraining, refine: VQVAE | None = None
    ) -> None:
        super().__init__()
        self.plan, self.refining = plan, refine is not None
        self.vqvae = new_vqvae(config, scales) if refine is None else refine
        if self.refining:
            self.vqvae.requires_grad_(False)
            self.vqvae.post_quant_conv.requires_grad_(True)
            self.vqvae.decoder.requires_grad_(True)
        self.keeper = CodebookKeeper(plan.restart)
        self.discriminator = PatchDiscriminator() if plan.adversarial_from < 1.0 else None

    def forward(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        plan, pixels, vqvae = self.plan, batch["pixels"] * 2.0 - 1.0, self.vqvae
        if self.refining:
            latents = vqvae.quantize.accumulate(vqvae.encode(batch["pixels"]))[-1]
            coding, usage = {"codebook": pixels.new_zeros(())}, {}
        else:
            latents, coding, usage = self._coded(pixels, progress)
        output = vqvae.pixels(latents).float()
        band, texture = pyramid_loss(output, pixels, over_edges=True)
        parts = {
            "pixel": (output - pixels).abs().mean(),
            "band": band,
            "texture": texture,
            "energy": energy_loss(output, pixels),
            "colour": colour_loss(output, pixels),
            **coding,
        }
        loss = (
            plan.pixel_weight * parts["pixel"]
            + plan.band_weight * band
            + plan.texture_weight * texture
            + plan.energy_weight * parts["energy"]
            + plan.colour_weight * parts["colour"]
            + plan.codebook_weight * parts["codebook"]
        )
        if self.discriminator is not None and progress >= plan.adversarial_from:
            more, adversarial = adversarial_losses(
                self.discriminator, output, pixels, plan.adversarial_weight, plan.matching_weight
            )
            loss, parts = loss + more, {**parts, **adversarial}
        return {"loss": loss, **parts, **usage}

    def _coded(self, pixels: Tensor, progress: float) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Quantized latents of pixels in −1..1, the codebook's loss, and what became of its codes."""
        quantizer = self.vqvae.quantize
        latents = self.vqvae.latents(pixels)
        restarted = self.keeper.restart(quantizer, latents.detach(), progress)
        quantized = quantizer(latents)
        usage = self.keeper.count(quantizer, quantized.indices)
        return quantized.latents, {"codebook": quantized.loss}, {**usage, "restarted": restarted}


class VQVAERecipe:
    """See `training.loop.Recipe`. `batches`: {"pixels": [B, 3, size, size] in 0..1}, the size that the scales make."""

    name = NAME

    def __init__(
        self,
        config: VQVAEConfig,
        scales: Scales,
        plan: VQVAETraining,
        batches: Dataset,
        seed: int,
        optimizer: str = "muon",
        refine: VQVAE | None = None,
    ) -> None:
        self.config, self.scales, self.plan = config, scales, plan
        self.data, self.seed, self.optimizer = batches, seed, optimizer
        self.refine = refine

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        return VQVAEModule(self.config, self.scales, self.plan, self.refine)

    def batches(self) -> Dataset:
        return self.data

    def optimizers(self, module: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
        vqvae, plan, betas = module.vqvae, self.plan, (0.9, 0.98)
        codes = vqvae.quantize.embedding.weight.requires_grad_(False)
        learning = matrices_and_rest(
            vqvae, learning_rate, self.optimizer, hidden=_is_hidden_matrix, weight_decay=1e-3, betas=betas
        )
        if self.refine is None:
            codes.requires_grad_(True)
            # Latents move faster than single weights do: at the others' rate the codes are left behind and fall out of use.
            rate = plan.codebook_rate * learning_rate
            learning.append(torch.optim.AdamW([codes], lr=rate, betas=betas, weight_decay=0.0))
        if module.discriminator is not None:
            rate, weights = plan.discriminator_rate * learning_rate, module.discriminator.parameters()
            learning.append(torch.optim.AdamW(weights, lr=rate, betas=betas, weight_decay=1e-3))
        return learning

    def pictures(self, module: VQVAEModule) -> Tensor:
        """Twelve faces: original on the left, round trip on the right, three pairs in a row."""
        device = next(module.parameters()).device
        pixels = torch.cat([self.data[2**40 + i]["pixels"][:4] for i in range(6)])[:12].to(device)
        decoded = module.vqvae.decode_indices(module.vqvae.encode(pixels))
        return picture_grid(torch.stack([pixels, decoded], dim=1).flatten(0, 1), columns=6)

    def export(self, module: VQVAEModule, folder: Path, run: RunFacts) -> None:
        """Save vqvae.json and vqvae.safetensors in half precision."""
        write_vqvae(folder, module.vqvae)


def _is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and name.startswith(("encoder.", "decoder."))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    small, plan = SMALL_VQVAE, VQVAETraining()
    parser.add_argument(
        "--refine",
        type=Path,
        metavar="MODEL",
        help="exported autoencoder or model folder: train only its decoder; its sizes are kept",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--scenes", type=Path, help="folder from `train cubemap-scenes`, of the face size")
    source.add_argument(
        "--cache",
        type=Path,
        help="cut the faces out of panoramas from `train worlds-cache`; without either, worlds are rendered on the way",
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out scenes that cannot be read")
    parser.add_argument("--batch-size", type=int, default=8, help="faces per step (default 8)")
    parser.add_argument("--patch-nums", type=whole_numbers, default=SMALL_SCALES, help="sides of the scales")
    parser.add_argument("--channels", type=int, default=small.channels)
    parser.add_argument(
        "--multipliers", type=whole_numbers, default=small.multipliers, help="width of each level by channels"
    )
    parser.add_argument("--blocks", type=int, default=small.blocks, help="per level of the encoder")
    parser.add_argument("--latent-channels", type=int, default=small.latent_channels)
    parser.add_argument("--vocab", type=int, default=small.vocab, help="codes in the codebook")
    parser.add_argument("--norm-groups", type=int, default=small.norm_groups)
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--pixel-weight", type=float, default=plan.pixel_weight)
    parser.add_argument("--band-weight", type=float, default=plan.band_weight)
    parser.add_argument("--texture-weight", type=float, default=plan.texture_weight)
    parser.add_argument("--energy-weight", type=float, default=plan.energy_weight)
    parser.add_argument("--colour-weight", type=float, default=plan.colour_weight)
    parser.add_argument("--codebook-weight", type=float, default=plan.codebook_weight)
    parser.add_argument(
        "--adversarial-from", type=float, default=1.0, help="progress 0..1 at which it starts; 1 never"
    )
    parser.add_argument("--adversarial-weight", type=float, default=plan.adversarial_weight)
    parser.add_argument("--matching-weight", type=float, default=plan.matching_weight)
    parser.add_argument("--discriminator-rate", type=float, default=plan.discriminator_rate)


def build(args: argparse.Namespace) -> VQVAERecipe:
    """The recipe that the command line describes."""
    plan = VQVAETraining(
        pixel_weight=args.pixel_weight,
        band_weight=args.band_weight,
        texture_weight=args.texture_weight,
        energy_weight=args.energy_weight,
        colour_weight=args.colour_weight,
        codebook_weight=args.codebook_weight,
        adversarial_from=args.adversarial_from,
        adversarial_weight=args.adversarial_weight,
        matching_weight=args.matching_weight,
        discriminator_rate=args.discriminator_rate,
    )
    refine = None if args.refine is None else read_vqvae(args.refine)
    if refine is None:
        names = ("channels", "multipliers", "blocks", "latent_channels", "vocab", "norm_groups")
        config = SMALL_VQVAE.changed(**{name: getattr(args, name) for name in names})
        scales = Scales(args.patch_nums)
    else:
        config, scales = refine.config, refine.scales
    size = scales.last_side * config.downsampling
    return VQVAERecipe(config, scales, plan, _faces(args, size), args.seed, args.optimizer, refine)


def _faces(args: argparse.Namespace, size: int) -> Dataset:
    if args.batch_size < 1:
        raise InputError(f"--batch-size must be at least 1, got {args.batch_size}")
    if args.scenes is not None:
        scenes = CubemapScenes(args.scenes, size, skip_bad=args.skip_bad)
        return SceneFaces(scenes, args.batch_size, args.seed)
    if args.cache is not None:
        return PanoramaFaces(PanoramaCache(args.cache), size, args.batch_size, args.seed)
    return WorldFaces(size, args.batch_size, args.seed)
