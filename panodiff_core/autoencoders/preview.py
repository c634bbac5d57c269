"""Quick previews: a linear map from latents to colours, fitted to the VAE at hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .latents import scale

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
PATCH_PIXELS = 32
RIDGE = 1e-3
"""Relative weight of the penalty: directions of latent space that no flat colour reaches get no colour."""


@dataclass(frozen=True)
class PreviewMap:
    """RGB = matrix · latent + bias, per latent pixel; `matrix` [3, C], `bias` [3]."""

    matrix: Tensor
    bias: Tensor

    def __call__(self, latents: Tensor) -> Tensor:
        """Scaled model latents [B, C, h, w] → RGB [B, 3, h, w] float32 in 0..1, on the latents' device.

        NaN and infinity show as black or white: the sampler reports them, with the step.
        """
        matrix, bias = self.matrix.to(latents.device), self.bias.to(latents.device)
        rgb = torch.einsum("oc,bchw->bohw", matrix, latents.float()) + bias[:, None, None]
        return rgb.nan_to_num().clamp(0.0, 1.0)


def fit_preview(vae: nn.Module) -> PreviewMap:
    """Encode a chart of flat colours and fit the map by least squares; `vae` stays where it is.

    The chart is small (a 3×3×3 colour cube and a grey scale at 32×32 pixels each), so that this
    costs a fraction of one picture's encoding.
    """
    weight = next(vae.parameters())
    colours = _chart()
    flat = (colours * 2.0 - 1.0)[:, :, None, None].expand(-1, -1, PATCH_PIXELS, PATCH_PIXELS)
    with torch.no_grad():
        latents = torch.cat([vae.encode(part.to(weight)).latent_dist.mode() for part in flat.split(16)])
    middle = scale(latents, vae)[..., 1:-1, 1:-1].mean(dim=(-2, -1)).cpu().double()
    centre, target = middle.mean(0), colours.double().mean(0)
    x, y = middle - centre, colours.double() - target
    gram = x.T @ x
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    matrix = torch.linalg.solve(gram + ridge, x.T @ y).T
    return PreviewMap(matrix.float(), (target - matrix @ centre).float())


def _chart() -> Tensor:
    """Colours [N, 3] in 0..1: a 3×3×3 cube and the greys between."""
    cube = torch.cartesian_prod(*[torch.tensor([0.0, 0.5, 1.0])] * 3)
    greys = torch.tensor(LEVELS)[:, None].expand(-1, 3)
    return torch.cat([cube, greys])
