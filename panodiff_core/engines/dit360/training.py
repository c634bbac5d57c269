"""Training DiT360: rectified flow on rings of latents (dit360 spec, sections 2.1 and 6.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...conditioning.text import encode_clip, encode_t5
from ...layers.attention import plain_attention
from ...schedulers.flow_matching import FlowMatchScheduler
from .model import build_transformer, use_attention, velocity


@dataclass(frozen=True)
class FlowTraining:
    """How noise levels, padding and guidance are drawn while training.

    Noise levels are logistic of a normal (`sigma_mean`, `sigma_std`), which is the sampler's shift by mu =
    `sigma_mean`; a share `uniform_share` is uniform, so that both ends are visited. A share `padded_share` of the
    steps runs with one column of circular padding, the others without. `guidance` is the constant that the distilled
    guidance input is trained with. `id_scale` 2 trains on half-size panoramas at the positions of full-size ones.
    """

    sigma_mean: float = 0.4
    sigma_std: float = 1.1
    uniform_share: float = 0.15
    padded_share: float = 0.5
    guidance: float = 1.0
    id_scale: float = 1.0


def draw_sigmas(count: int, plan: FlowTraining, device: torch.device | None = None) -> Tensor:
    """Noise levels [count] in (0, 1), stratified over the batch: each sample draws from its own slice of the law."""
    place = (torch.randperm(count) + torch.rand(count)) / count
    normal = torch.special.ndtri(place.clamp(1e-6, 1 - 1e-6)) * plan.sigma_std + plan.sigma_mean
    sigmas = torch.where(torch.rand(count) < plan.uniform_share, torch.rand(count), torch.sigmoid(normal))
    return sigmas.clamp(1e-4, 1.0).to(device)


class FlowModule(nn.Module):
    """The transformer to train with its frozen text encoders beside it (they are not part of its state)."""

    def __init__(
        self, transformer: nn.Module, clip: nn.Module, t5: nn.Module, eos: int, plan: FlowTraining
    ) -> None:
        super().__init__()
        self.transformer, self.eos, self.plan = transformer, eos, plan
        for encoder in (clip, t5):
            encoder.requires_grad_(False).train(False)
        use_attention(transformer, plain_attention)
        self._encoders = (clip, t5)  # a tuple hides them from state_dict, the optimizer and the average

    def forward(self, batch: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
        clean, plan = batch["latents"], self.plan
        text, pooled = self.encode(batch["clip"], batch["t5"])
        sigma = draw_sigmas(len(clean), plan, clean.device)
        noise = torch.randn(clean.shape).to(clean.device)
        noisy = FlowMatchScheduler.add_noise(clean, noise, sigma)
        padding = int(float(torch.rand(())) < plan.padded_share)
        predicted = velocity(
            self.transformer,
            noisy,
            sigma,
            text,
            pooled,
            plan.guidance,
            padding=padding,
            id_scale=plan.id_scale,
        )
        error = (predicted - FlowMatchScheduler.get_velocity(clean, noise)).square().flatten(1).mean(dim=1)
        parts = {"loss": error.mean()}
        for name, low, high in (("clean", 0.0, 1 / 3), ("middle", 1 / 3, 2 / 3), ("noisy", 2 / 3, 1.01)):
            inside = (sigma >= low) & (sigma < high)
            if bool(inside.any()):
                parts[name] = error[inside].mean()
        return parts

    @torch.no_grad()
    def encode(self, clip_ids: Tensor, t5_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(text [B, L, D], pooled [B, P]) of token ids, from the frozen encoders."""
        clip, t5 = (encoder.to(clip_ids.device) for encoder in self._encoders)
        return encode_t5(t5, t5_ids).float(), encode_clip(clip, clip_ids, self.eos).float()


def new_transformer(config: Mapping[str, Any]) -> nn.Module:
    """A transformer ready to be trained from scratch.

    Linear maps start Xavier-uniform without bias; all modulations and the output start at zero, so that every block
    begins as the identity (Peebles and Xie, "Scalable diffusion models with transformers", 2023).
    """
    transformer = build_transformer(config)
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if name == "proj_out" or name.endswith(
                ("norm.linear", "norm1.linear", "norm1_context.linear", "norm_out.linear")
            ):
                nn.init.zeros_(module.weight)
    return transformer
