"""STAR's autoencoder: codes and latents of the reference, the scale list, and what training needs of the quantizer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import panodiff_core as pano
from panodiff_core.engines.star.config import FaceRayConfig, STARConfig, VQVAEConfig
from panodiff_core.engines.star.presets import PRESETS
from panodiff_core.engines.star.scales import Scales
from panodiff_core.engines.star.vqvae import VQVAE, quantizer
from tests.core.star_vectors import Folder

# Decided by rounding in float64 where a scale lies in the middle between two convolutions.
PHI = {
    3: (0, 2, 3),
    5: (0, 1, 2, 2, 3),
    6: (0, 0, 1, 2, 3, 3),
    7: (0, 0, 1, 2, 2, 3, 3),
    10: (0, 0, 1, 1, 1, 2, 2, 3, 3, 3),
    14: (0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3),
}


@pytest.fixture(scope="module")
def vectors() -> Folder:
    return Folder()


@pytest.fixture(scope="module")
def golden(vectors) -> dict[str, torch.Tensor]:
    return vectors.tensors("star")


@pytest.fixture(scope="module")
def vae(vectors) -> VQVAE:
    return vectors.vqvae()


@pytest.fixture
def fresh(vectors) -> VQVAE:
    """A copy that may be changed and trained."""
    return vectors.vqvae().requires_grad_(True)


def codes_of(golden) -> list[torch.Tensor]:
    return [golden[f"vae.idx.{scale}"] for scale in range(6)]


def test_scale_list_of_512():
    scales = Scales(PRESETS["d30-512"].patch_nums)
    assert scales.offsets == (0, 1, 5, 14, 30, 66, 147, 316, 640, 1216)
    assert scales.lengths == (1, 4, 9, 16, 36, 81, 169, 324, 576, 1024)
    assert (scales.total, len(scales), scales.last_side) == (2240, 10, 32)
    assert scales.slice(5) == slice(66, 147)
    assert Scales(PRESETS["d30-256"].patch_nums).total == 680
    assert Scales(PRESETS["d30-1024"].patch_nums).total == 9451


@pytest.mark.parametrize("count", PHI)
def test_shared_convolution_of_each_scale(count):
    assert Scales(range(1, count + 1)).phi() == PHI[count]


@pytest.mark.parametrize("sides", [(), (2, 3), (1, 3, 3), (1, 2.5), "123", (1, True)])
def test_bad_scale_lists(sides):
    with pytest.raises(pano.InputError, match="patch_nums"):
        Scales(sides)


def test_published_autoencoder_has_its_size():
    with torch.device("meta"):
        vae = VQVAE(VQVAEConfig(), Scales(PRESETS["d30-512"].patch_nums))
    state = vae.state_dict()
    assert sum(p.numel() for p in vae.parameters()) == 108_948_355
    assert len(state) == 324
    assert vae.pixel_side == 512
    assert state["encoder.down.4.attn.1.qkv.weight"].shape == (1920, 640, 1, 1)
    assert state["decoder.up.1.block.0.nin_shortcut.weight"].shape == (160, 320, 1, 1)
    assert state["quantize.quant_resi.qresi_ls.3.weight"].shape == (32, 32, 3, 3)
    assert state["quantize.ema_vocab_hit_SV"].shape == (10, 4096)


def test_picture_to_codes_and_back(vae, golden):
    """At the door pixels are 0..1, where the vectors have −1..1."""
    picture = golden["vae.img"] * 0.5 + 0.5
    codes = vae.encode(picture)
    assert all(torch.equal(got, expected) for got, expected in zip(codes, codes_of(golden), strict=True))
    decoded = vae.decode_indices(codes)
    torch.testing.assert_close(decoded, golden["vae.recon_last"] * 0.5 + 0.5, rtol=0, atol=1e-5)
    assert decoded.min() >= 0.0 and decoded.max() <= 1.0


def test_search_in_parts_finds_the_same_codes(vae, golden, monkeypatch):
    whole = vae.quantize.encode(golden["vae.f"])
    monkeypatch.setattr(quantizer, "SEARCH_BYTES", 3 * 4 * vae.config.vocab)  # three places at a time
    parts = []
    split = torch.Tensor.split
    monkeypatch.setattr(torch.Tensor, "split", lambda self, n, *a: parts.append(n) or split(self, n, *a))
    assert all(torch.equal(a, b) for a, b in zip(vae.quantize.encode(golden["vae.f"]), whole, strict=True))
    assert set(parts) == {3}


def test_of_equal_codes_the_first(fresh):
    with torch.no_grad():
        fresh.quantize.embedding.weight[40] = fresh.quantize.embedding.weight[7]
    place = fresh.quantize.embedding.weight[7].detach().view(1, -1, 1, 1)
    assert fresh.quantize.nearest(place).tolist() == [[7]]


def test_nearest_is_euclidean_and_not_the_largest_product(fresh):
    """The norm of a code counts once and the product twice."""
    with torch.no_grad():
        fresh.quantize.embedding.weight.fill_(100.0)
        fresh.quantize.embedding.weight[3] = 1.0
        fresh.quantize.embedding.weight[5] = 3.0
    for value, code in ((1.9, 3), (2.1, 5)):
        assert fresh.quantize.nearest(torch.full((1, 8, 1, 1), value)).item() == code


def test_generator_step_by_step(vae, golden):
    """What inference does: one scale after the other, from zeros; mixtures of codes are added as mixtures."""
    quantize, latents = vae.quantize, vae.quantize.start(2)
    inputs = []
    for scale, indices in enumerate(codes_of(golden)):
        if scale:
            inputs.append(quantize.next_input(latents, scale))
        mixture = nn.functional.one_hot(indices, vae.config.vocab).float() @ quantize.codebook()
        latents = quantize.add_scale(latents, mixture, scale)
        torch.testing.assert_close(latents, golden[f"vae.f_hat.{scale}"], rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cat(inputs, 1), golden["vae.x_BLCv_wo_first_l"], rtol=0, atol=1e-5)


def test_teacher_input_needs_no_last_scale(vae, golden):
    codes = codes_of(golden)
    assert torch.equal(vae.quantize.teacher_input(codes[:-1]), vae.quantize.teacher_input(codes))


def test_latents_stay_float32(vectors, golden):
    """Under autocast nothing changes; with bfloat16 weights only the smoothed codes are rounded."""
    vae = vectors.vqvae()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = vae.quantize.accumulate(codes_of(golden))[-1]
        assert torch.equal(vae.quantize.encode(golden["vae.f"])[-1], golden["vae.idx.5"])
    assert under.dtype == torch.float32
    torch.testing.assert_close(under, golden["vae.f_hat.5"], rtol=0, atol=1e-5)
    half = vae.to(torch.bfloat16)
    latents = half.quantize.accumulate(codes_of(golden))[-1]
    assert latents.dtype == torch.float32
    assert 1e-3 < (latents - golden["vae.f_hat.5"]).abs().max() < 0.1
    assert half.decode(latents).dtype == torch.float32


def test_training_passes_gradients_straight_through(fresh, golden):
    latents = golden["vae.f"].clone().requires_grad_(True)
    done = fresh.quantize(latents)
    ours = done.loss.detach()
    expected = sum(1.25 * (golden[f"vae.f_hat.{s}"] - latents.detach()).square().mean() for s in range(6))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=0)
    assert [i.tolist() for i in done.indices] == [i.tolist() for i in codes_of(golden)]
    weight = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    (straight,) = torch.autograd.grad((done.latents * weight).sum(), latents, retain_graph=True)
    assert torch.equal(straight, weight)
    done.loss.backward()
    commitment = sum(
        0.25 * 2 / latents.numel() * (latents.detach() - golden[f"vae.f_hat.{s}"]) for s in range(6)
    )
    torch.testing.assert_close(latents.grad, commitment, rtol=1e-3, atol=1e-7)
    used = {i for each in done.indices for i in each.flatten().tolist()}
    moved = set(fresh.quantize.embedding.weight.grad.abs().sum(1).nonzero().flatten().tolist())
    assert moved == used
    assert all(p.grad.abs().sum() > 0 for p in fresh.quantize.quant_resi.parameters())


def test_training_forward_reaches_every_weight(fresh, golden):
    picture = golden["vae.img"] * 0.5 + 0.5
    made, quantized = fresh(picture)
    torch.testing.assert_close(made * 2 - 1, golden["vae.decoder_unclamped"], rtol=0, atol=1e-4)
    ((made - picture).square().mean() + quantized.loss).backward()
    idle = [name for name, p in fresh.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle


def test_layers_come_from_the_given_operations(vae):
    made = []

    class Operations:
        class Conv2d(nn.Conv2d):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                made.append(self)

        class GroupNorm(nn.GroupNorm):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                made.append(self)

        class Embedding(nn.Embedding):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                made.append(self)

    with torch.device("meta"):
        other = VQVAE(vae.config, vae.scales, Operations)
    assert {id(m) for m in other.modules() if list(m.parameters(recurse=False))} == {id(m) for m in made}
    assert other.state_dict().keys() == vae.state_dict().keys()


def test_wrong_sizes_are_refused(vae, golden):
    with pytest.raises(pano.InputError, match=r"pictures \[B, 3, 16, 16\], got \[1, 3, 32, 32\]"):
        vae.encode(torch.zeros(1, 3, 32, 32))
    with pytest.raises(pano.InputError, match=r"\[B, 8, 8, 8\]"):
        vae.quantize.encode(torch.zeros(1, 8, 4, 4))
    with pytest.raises(pano.InputError, match="scale 2 takes 9 codes of 8"):
        vae.quantize.add_scale(vae.quantize.start(1), torch.zeros(1, 16, 8), 2)
    with pytest.raises(pano.InputError, match="6 scales, got indices of 7"):
        vae.quantize.accumulate([*codes_of(golden), golden["vae.idx.5"]])
    with pytest.raises(pano.InputError, match="6 scales, got indices of 0"):
        vae.decode_indices([])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VQVAEConfig(channels=48), "48 channels is not divisible into 32"),
        (lambda: VQVAEConfig(vocab=0), "vocab must be a whole number"),
        (lambda: VQVAEConfig(phi_ratio=float("nan")), "phi_ratio must be a number"),
        (lambda: STARConfig(width=1920, heads=32 * 4), "multiple of 4"),
        (lambda: STARConfig(cross_attention="first"), "cross_attention must be one of"),
        (lambda: STARConfig(patch_nums=(1, 2), from_idx=9), "from_idx 9 is no scale"),
        (lambda: STARConfig(logit_norm=1), "logit_norm must be true or false"),
        (lambda: STARConfig().changed(layers=3), "unknown setting 'layers'"),
        (lambda: FaceRayConfig(heads=7), "must be heads times head_dim"),
        (lambda: FaceRayConfig(ray_subdim=25), "ray_subdim 25 must be a multiple of 3"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(pano.InputError, match=message):
        make()


def test_settings_of_the_published_models():
    small = STARConfig()
    assert (small.head_dim, small.hidden, small.sampler_from) == (64, 7680, 9)
    assert PRESETS["d30-1024-sampler"].sampler_from == 9 and len(PRESETS["d30-1024-sampler"].patch_nums) == 14
    assert STARConfig(patch_nums=(1, 2, 4)).sampler_from == 2
    assert (VQVAEConfig().downsampling, VQVAEConfig().widths) == (16, (160, 160, 320, 320, 640))
