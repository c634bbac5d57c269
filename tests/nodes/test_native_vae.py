"""Patch VAE for 360 on ComfyUI's own VAE, against the golden vectors."""

from __future__ import annotations

import copy

import pytest
import torch

from panodiff_core.autoencoders.margins import crop_fading
from panodiff_core.layers.ring import pad_ring
from tests.core.dit360_vectors import largest, tensors
from tests.nodes import native_flux

pytestmark = pytest.mark.comfyui

EQUIVARIANCE, CODING = 1e-5, 1e-4
TILES = {"tile_x": 8, "tile_y": 8, "overlap": 2}
PIXEL_TILES = {"tile_x": 64, "tile_y": 64, "overlap": 16}


@pytest.fixture
def vae(extension, monkeypatch):
    with torch.inference_mode():  # in which ComfyUI runs every node
        yield native_flux.vae(monkeypatch)


@pytest.fixture
def ring(node_classes, vae):
    return node_classes["PanoDiff_PatchVAE"].execute(vae=vae).result[0]


@pytest.fixture
def latents() -> torch.Tensor:
    return tensors("vae")["in.vae_input"]


@pytest.fixture
def pixels() -> torch.Tensor:
    """A panorama IMAGE [1, 64, 256, 3] of two periods of smooth stripes and some noise; a true ring."""
    g = torch.Generator().manual_seed(1)
    wave = torch.sin(torch.arange(256) / 256 * 4 * torch.pi)[None, None, :, None] * 0.3 + 0.5
    return (wave + 0.1 * torch.randn(1, 64, 256, 3, generator=g)).clamp(0, 1)


def picture(decoded: torch.Tensor) -> torch.Tensor:
    """Decoder output [B, 3, H, W] as the IMAGE that ComfyUI makes of it."""
    return (decoded / 2 + 0.5).clamp(0, 1).movedim(1, -1)


def no_hooks(vae) -> bool:
    return not any(m._forward_hooks for m in vae.patcher.model.modules())


def test_decode_is_the_vectors(vae, ring, latents) -> None:
    t = tensors("vae")
    assert largest(ring.decode(latents), picture(t["derived.decode_circular_conv"])) <= CODING
    assert largest(vae.decode(latents), picture(t["decode"])) <= CODING
    raw = ring.first_stage_model.decode(
        latents
    )  # the decoder's own numbers, which the picture cuts off at 0 and 1
    assert largest(raw, t["derived.decode_circular_conv"]) <= CODING
    assert largest(t["derived.decode_circular_conv"], t["decode"]) > 1, "negative control"


@pytest.mark.parametrize("columns", [1, 5, 8])
def test_decode_turns_with_the_latents(vae, ring, latents, columns) -> None:
    turned = torch.roll(latents, columns, dims=-1)
    assert largest(ring.decode(turned), torch.roll(ring.decode(latents), 8 * columns, dims=2)) <= EQUIVARIANCE
    assert largest(vae.decode(turned), torch.roll(vae.decode(latents), 8 * columns, dims=2)) > 0.1


@pytest.mark.parametrize("columns", [1, 7])
def test_encode_turns_with_the_picture(vae, ring, pixels, columns) -> None:
    turned = torch.roll(pixels, 8 * columns, dims=2)
    scale = ring.encode(pixels).abs().max()
    difference = largest(ring.encode(turned), torch.roll(ring.encode(pixels), columns, dims=-1))
    assert difference <= EQUIVARIANCE * scale
    plain = largest(vae.encode(turned), torch.roll(vae.encode(pixels), columns, dims=-1))
    assert plain > 0.05


def test_batch(ring, latents) -> None:
    batch = torch.cat([latents, torch.roll(latents, 3, dims=-1)])
    assert largest(ring.decode(batch)[1:], ring.decode(batch[1:])) <= EQUIVARIANCE


def wide(seed: int = 2, columns: int = 64) -> torch.Tensor:
    return torch.randn(1, 16, 16, columns, generator=torch.Generator().manual_seed(seed))


def test_tiles_wrap_around_the_seam(vae, ring) -> None:
    """Near the seam a tiled ring decode must resemble what plain tiles make of the same latents turned by half."""
    z = wide()
    turned = torch.roll(vae.decode_tiled(torch.roll(z, 32, dims=-1), **TILES), -256, dims=2)
    near = [*range(8), *range(-8, 0)]
    ours, plain = (v.decode_tiled(z, **TILES) for v in (ring, vae))
    error, seam = ((p - turned)[:, :, near].abs().mean().item() for p in (ours, plain))
    assert error < 0.25 * seam, (error, seam)
    assert ours.shape == plain.shape == (1, 128, 512, 3)
    by_hand = vae.decode_tiled(pad_ring(z, 16), **TILES).movedim(-1, 1)
    assert torch.equal(ours, crop_fading(by_hand, 128).movedim(1, -1))
    # Far from the seam all three differ only by where tiles begin.
    far = slice(8 * 18, 8 * 30)
    error, usual = ((p - turned)[:, :, far].abs().mean().item() for p in (ours, plain))
    assert max(error, usual) < 0.4 * seam, (error, usual, seam)


def test_tiled_encode_wraps_around_the_seam(vae, ring, pixels) -> None:
    picture = torch.cat([pixels, pixels], dim=2)
    turned = torch.roll(vae.encode_tiled(torch.roll(picture, 256, dims=2), **PIXEL_TILES), -32, dims=-1)
    ours, plain = (v.encode_tiled(picture, **PIXEL_TILES) for v in (ring, vae))
    error, seam = ((z - turned)[..., [0, -1]].abs().mean().item() for z in (ours, plain))
    assert error < 0.25 * seam, (error, seam)
    assert ours.shape == plain.shape == (1, 16, 8, 64)


def test_without_memory_the_ring_goes_on_in_tiles(ring, monkeypatch) -> None:
    """When memory runs out, ComfyUI decodes in tiles by itself; those wrap, too."""
    from comfy import model_management

    expected = ring.decode_tiled(wide())
    model, tries = ring.first_stage_model, []
    decode = type(model).decode

    def short(self, *args, **more):
        tries.append(1)
        raise model_management.OOM_EXCEPTION("no memory")

    monkeypatch.setattr(type(model), "decode", short)
    assert torch.equal(ring.decode(wide()), expected)
    monkeypatch.setattr(type(model), "decode", decode)
    assert len(tries) == 1


def test_the_given_vae_is_untouched(vae, node_classes, latents, pixels) -> None:
    weights = {name: value.clone() for name, value in vae.get_sd().items()}
    names = set(vars(vae))
    before = vae.decode(latents), vae.encode(pixels), vae.decode_tiled(latents, **TILES)
    patched = node_classes["PanoDiff_PatchVAE"].execute(vae=vae).result[0]
    patched.decode(latents), patched.encode(pixels), patched.decode_tiled(latents, **TILES)
    after = vae.decode(latents), vae.encode(pixels), vae.decode_tiled(latents, **TILES)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert set(vars(vae)) == names and no_hooks(vae)
    now = vae.get_sd()
    assert weights.keys() == now.keys() and all(torch.equal(weights[n], now[n]) for n in now)
    kept = patched.get_sd()
    assert all(kept[name].data_ptr() == value.data_ptr() for name, value in now.items()), (
        "no weight is copied"
    )


def test_an_error_leaves_no_hook(vae, ring, latents) -> None:
    expected = ring.decode(latents)
    with pytest.raises(RuntimeError):
        ring.decode(latents[:, :5])
    assert no_hooks(vae)
    assert torch.equal(ring.decode(latents), expected)


def test_copies_of_the_patched_vae_work(ring, latents) -> None:
    assert torch.equal(copy.copy(ring).decode(latents), ring.decode(latents))
    assert ring.first_stage_model.decoder is ring.patcher.model.decoder


def test_refusals(ring, node_classes, vae, pixels) -> None:
    node = node_classes["PanoDiff_PatchVAE"]
    with pytest.raises(ValueError, match="went through Patch VAE for 360 before"):
        node.execute(vae=ring)
    with pytest.raises(ValueError, match=r"252 pixels wide.*multiple of 8 pixels, for example 248"):
        ring.encode(pixels[:, :, :252])
    with pytest.raises(ValueError, match="252 pixels wide"):
        ring.encode_tiled(pixels[:, :, :252], **PIXEL_TILES)
    video = copy.copy(vae)
    video.latent_dim = 3
    with pytest.raises(ValueError, match="needs a VAE for pictures"):
        node.execute(vae=video)
    tiny = copy.copy(vae)
    tiny.first_stage_model = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3))
    with pytest.raises(ValueError, match="needs a VAE for pictures.*got Sequential"):
        node.execute(vae=tiny)
