"""star.safetensors, the autoencoder's part: encoder, quantizer scale by scale, decoder, and the primitives below them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ....verification import Group, Row, compare, compare_scaled
from ..scales import Scales, ticks
from ..vqvae import VQVAE
from .folder import RESULTS, StarVectors

NAME = "vqvae"
_AREA, _BICUBIC = r"interp\.area_(\d+)_to_(\d+)", r"interp\.bicubic_(\d+)_to_(\d+)"


@torch.no_grad()
def check(vectors: StarVectors) -> Iterator[Row]:
    """A picture through the whole autoencoder, forth and back."""
    t, vae = vectors.tensors(RESULTS), vectors.vqvae()
    quantize = vae.quantize
    yield compare_scaled(NAME, "vae.enc_out", vae.encoder(t["vae.img"]), t["vae.enc_out"])
    latents = vae.latents(t["vae.img"])
    yield compare_scaled(NAME, "vae.f", latents, t["vae.f"])
    indices = vae.encode(t["vae.img"] * 0.5 + 0.5)
    golden = [t[f"vae.idx.{scale}"] for scale in range(len(vae.scales))]
    for scale, (got, expected) in enumerate(zip(indices, golden, strict=True)):
        yield compare(NAME, f"vae.idx.{scale}", got, expected, 0.0)
    after = quantize.accumulate(golden)
    for scale, got in enumerate(after):
        yield compare_scaled(NAME, f"vae.f_hat.{scale}", got, t[f"vae.f_hat.{scale}"])
    key = "vae.x_BLCv_wo_first_l"
    yield compare_scaled(NAME, key, quantize.teacher_input(golden), t[key])
    yield compare_scaled(NAME, "vae.decoder_unclamped", vae.pixels(after[-1]), t["vae.decoder_unclamped"])
    yield compare_scaled(NAME, "vae.recon_last", vae.decode(after[-1]) * 2.0 - 1.0, t["vae.recon_last"])
    yield compare_scaled(
        NAME, "vae.recon_from_idx", vae.decode_indices(golden) * 2.0 - 1.0, t["vae.recon_from_idx"]
    )
    trained = quantize(t["vae.f"])
    yield compare_scaled(NAME, "vae.quant_forward_f_hat", trained.latents, t["vae.quant_forward_f_hat"])
    yield compare_scaled(NAME, "vae.quant_forward_loss", trained.loss.view(1), t["vae.quant_forward_loss"])
    if len(quantize.quant_resi.qresi_ls) > 1:
        yield _shifted_phi(vae, golden, t)


def _shifted_phi(vae: VQVAE, golden: list[Tensor], t: dict[str, Tensor]) -> Row:
    """Negative control: every scale smoothed by the convolution after its own must miss the golden latents."""
    shared = vae.quantize.quant_resi
    right, count = shared.chosen, len(shared.qresi_ls)
    shared.chosen = tuple((k + 1) % count for k in right)
    wrong = vae.quantize.accumulate(golden)[-1]
    shared.chosen = right
    expected = t[f"vae.f_hat.{len(golden) - 1}"]
    row = compare_scaled(NAME, "another φ", wrong, expected)
    return Row(NAME, row.what, row.error, row.bound, above=True)


@torch.no_grad()
def check_primitives(vectors: StarVectors) -> Iterator[Row]:
    """Interpolation, group norm on tiny inputs, and which convolution each scale takes."""
    t = vectors.tensors(RESULTS)
    for key in sorted(t):
        if match := re.fullmatch(_AREA, key):
            got = F.adaptive_avg_pool2d(_input(t, int(match[1])), int(match[2]))
            yield compare_scaled("interp", key, got, t[key])
        if match := re.fullmatch(_BICUBIC, key):
            size = (int(match[2]), int(match[2]))
            got = F.interpolate(_input(t, int(match[1])), size=size, mode="bicubic")
            yield compare_scaled("interp", key, got, t[key])
    vae = vectors.vqvae()
    yield compare_scaled("norm", "norm.gn_out", vae.encoder.norm_out(t["norm.gn_in"]), t["norm.gn_out"])
    convolutions = vectors.vqvae_config().phi_convs
    golden = t["phi.ticks"]
    yield compare("phi", "phi.ticks", torch.tensor(ticks(len(golden)), dtype=torch.float64), golden, 0.0)
    for key in sorted(t):
        if match := re.fullmatch(r"phi\.index\.SN(\d+)", key):
            got = torch.tensor(Scales(range(1, int(match[1]) + 1)).phi(convolutions))
            yield compare("phi", key, got, t[key], 0.0)


def _input(t: dict[str, Tensor], side: int) -> Tensor:
    """The picture of that side, which the vectors may hold only as the corner of the next larger one."""
    sides = sorted(int(match[1]) for match in (re.fullmatch(r"interp\.in(\d+)", key) for key in t) if match)
    larger = next((each for each in sides if each >= side), side)
    return t[f"interp.in{larger}"][..., :side, :side]


GROUPS = (
    Group("autoencoder: encode, quantize, decode", check),
    Group("interpolation, group norm, shared convolutions", check_primitives),
)
