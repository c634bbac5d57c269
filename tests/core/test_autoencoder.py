"""Ring-aware coding: exact on the ring, gone afterwards, cheap by construction."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from panodiff_core.autoencoders import ring as ring_vae
from panodiff_core.autoencoders.latents import scale, unscale
from panodiff_core.autoencoders.preview import fit_preview
from panodiff_core.runtime.errors import InputError


def hooks(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) for m in module.modules())


def circular(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """The definition: wrap the width, zero-pad the height."""
    if conv.stride[0] == 1:
        x = torch.cat([x[..., -1:], x, x[..., :1]], -1)
        return F.conv2d(F.pad(x, (0, 0, 1, 1)), conv.weight, conv.bias)
    x = torch.cat([x, x[..., :1]], -1)
    return F.conv2d(F.pad(x, (0, 0, 0, 1)), conv.weight, conv.bias, stride=2)


@pytest.mark.parametrize("width", [2, 3, 4, 10])
def test_stride_one_by_definition(width):
    conv = nn.Conv2d(3, 5, 3, padding=1).double()
    x = torch.randn(2, 3, 6, width, dtype=torch.float64)
    with torch.no_grad(), ring_vae.ring_aware(conv):
        assert torch.allclose(conv(x), circular(conv, x), atol=1e-14)


def test_stride_two_by_definition():
    conv = nn.Conv2d(3, 5, 3, stride=2, padding=0).double()
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    with torch.no_grad(), ring_vae.ring_aware(conv):
        assert torch.allclose(conv(F.pad(x, (0, 1, 0, 1))), circular(conv, x), atol=1e-14)


def test_gradients_flow_around_the_ring():
    conv = nn.Conv2d(2, 2, 3, padding=1).double()
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    with ring_vae.ring_aware(conv):
        conv(x).square().sum().backward()
    mine, weight = x.grad.clone(), conv.weight.grad.clone()
    x.grad = conv.weight.grad = None
    circular(conv, x).square().sum().backward()
    assert torch.allclose(mine, x.grad, atol=1e-12) and torch.allclose(weight, conv.weight.grad, atol=1e-12)


def test_roll_equivariance_of_the_tiny_vae(tiny_engine):
    z = torch.randn(2, 16, 8, 16, generator=torch.Generator().manual_seed(0))
    whole = tiny_engine.decode(z).pixels
    for shift in (1, 7):
        assert (tiny_engine.decode(z.roll(shift, -1)).pixels - whole.roll(8 * shift, -1)).abs().max() <= 1e-5
        coded = tiny_engine.encode_image(whole.roll(8 * shift, -1))
        assert (coded - tiny_engine.encode_image(whole).roll(shift, -1)).abs().max() <= 1e-5
    plain = tiny_engine.decode(z, ring=False).pixels
    assert (tiny_engine.decode(z.roll(7, -1), ring=False).pixels - plain.roll(56, -1)).abs().max() > 0.05


def test_modules_are_restored(tiny_engine):
    vae = tiny_engine.vae
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    with pytest.raises(RuntimeError), ring_vae.ring_aware(vae.decoder):
        assert hooks(vae) > 0
        raise RuntimeError("in the middle")
    assert hooks(vae) == 0
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())


def test_nested_and_concurrent_use(tiny_engine):
    z = torch.randn(1, 16, 4, 8, generator=torch.Generator().manual_seed(0))
    once = tiny_engine.decode(z).pixels
    with ring_vae.ring_aware(tiny_engine.vae.decoder):
        assert torch.equal(tiny_engine.decode(z).pixels, once)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(tiny_engine.decode(z).pixels)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3 and all(torch.allclose(r, once, atol=1e-6) for r in results)
    assert hooks(tiny_engine.vae) == 0


def test_only_known_convolutions_wrap():
    with (
        pytest.raises(InputError, match="'0'.*cannot be made to wrap"),
        ring_vae.ring_aware(nn.Sequential(nn.Conv2d(1, 1, 5, padding=2))),
    ):
        pass
    with ring_vae.ring_aware(nn.Conv2d(1, 1, 1)) as conv:
        assert hooks(conv) == 0


def test_no_second_pass_over_the_picture(tiny_engine):
    """The ring costs narrow windows, never another full-width convolution."""
    widths = []
    original = nn.Conv2d._conv_forward

    def recording(self, x, weight, bias):
        if self.kernel_size == (3, 3):
            widths.append(x.shape[-1])
        return original(self, x, weight, bias)

    z = torch.randn(1, 16, 8, 16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Conv2d, "_conv_forward", recording)
        tiny_engine.decode(z, ring=False)
        plain = list(widths)
        widths.clear()
        tiny_engine.decode(z)
    assert sorted(w for w in widths if w > 4) == sorted(plain)
    assert [w for w in widths if w <= 4] == [4] * len(plain)


def test_scaling_is_undone(tiny_engine):
    z = torch.randn(1, 16, 4, 8)
    assert torch.allclose(unscale(scale(z, tiny_engine.vae), tiny_engine.vae), z, atol=1e-6)
    assert torch.allclose(scale(z, tiny_engine.vae), (z - 0.1159) * 0.3611, atol=1e-6)


class LinearVae(nn.Module):
    """Encodes a colour as fixed linear latents: the preview must find the way back."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(16, 3, generator=generator))
        self.config = type("Config", (), {"scaling_factor": 0.5, "shift_factor": 0.25})()

    def encode(self, pixels):
        latents = torch.einsum("oc,bchw->bohw", self.weight, F.avg_pool2d(pixels, 8))
        mode = type("Posterior", (), {"mode": lambda self: latents})()
        return type("Output", (), {"latent_dist": mode})()


def test_preview_finds_the_colours():
    vae = LinearVae()
    preview = fit_preview(vae)
    colours = torch.rand(1, 3, 4, 8, generator=torch.Generator().manual_seed(2))
    latents = torch.einsum("oc,bchw->bohw", vae.weight.data, colours * 2 - 1)
    assert (preview((latents - 0.25) * 0.5) - colours).abs().max() < 0.01


def test_preview_of_the_shipped_model_looks_like_the_picture():
    from panodiff_core.autoencoders.ring import encode
    from panodiff_core.data.worlds import render_equirect, sample_scene
    from panodiff_core.engines import ENGINES
    from panodiff_core.engines.dit360.checkpoint import load_part

    vae = load_part(ENGINES["dit360"].small_model, "vae", torch.float32)
    worlds = torch.stack([render_equirect(sample_scene(seed, "held_out"), 128, 256) for seed in range(6)])
    with torch.no_grad():
        shown = fit_preview(vae)(encode(vae, worlds.clamp(0, 1)))
    assert (shown - F.avg_pool2d(worlds.clamp(0, 1), 8)).abs().mean() < 0.06
