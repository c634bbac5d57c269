"""Number by number against the reference implementation (dit360 spec, section 11), and what the numbers rest on."""

from __future__ import annotations

import functools

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from panodiff_core.autoencoders import ring as ring_vae
from panodiff_core.engines.dit360 import verification
from panodiff_core.engines.dit360.model import (
    CallableAttention,
    FluxNetwork,
    RingGrid,
    use_attention,
    velocity,
)
from panodiff_core.layers.ring import image_ids, pack, pad_ring
from panodiff_core.verification import Row
from tests.core.dit360_vectors import FOLDER, fill, largest, tensors, transformer, vae

CALL, CODING, WRONG = 5e-5, 1e-4, 0.05
COMPARED = (14, 17, 192, 64, 20, 12, 24, 58, 8, 8, 9)
"""How many comparisons each group makes on our vectors: a group that silently compares less is a defect."""


@functools.cache
def results() -> dict[str, list[Row]]:
    return dict(verification.verify(FOLDER))


@pytest.mark.parametrize(
    "group, compared",
    list(zip(verification.GROUPS, COMPARED, strict=True)),
    ids=lambda value: getattr(value, "title", None),
)
def test_group(group, compared):
    rows = results()[group.title]
    assert not [f"{row.what}: {row.error:.2e}, bound {row.bound:g}" for row in rows if not row.met]
    assert len(rows) == compared


def test_the_velocity_function_of_training():
    t = tensors("t2i")
    with torch.no_grad():
        mine = velocity(
            transformer(),
            t["in.latents_spatial"],
            t["cfg_off.sigmas"][:1],
            t["in.prompt_embeds"],
            t["in.pooled_prompt_embeds"],
            2.8,
        )
    assert largest(RingGrid(8, 16, 1).enter(mine), t["cfg_off.velocity.0"]) <= CALL


def test_permuted_tokens():
    """Padded tokens and their ids permuted together leave every token's output unchanged."""
    t = tensors("t2i")
    grid = RingGrid(8, 16, 1)
    order = torch.randperm(grid.tokens, generator=torch.Generator().manual_seed(3))
    inputs = (t["in.prompt_embeds"], t["in.pooled_prompt_embeds"], torch.tensor([2.8]))
    length = t["in.prompt_embeds"].shape[1]
    tokens = grid.enter(t["in.latents_spatial"])
    with torch.no_grad():
        plain = FluxNetwork(transformer(), grid.ids, length)(tokens, 0.7, inputs)
        moved = FluxNetwork(transformer(), grid.ids[order], length)(tokens[:, order], 0.7, inputs)
        wrong = FluxNetwork(transformer(), grid.ids, length)(tokens[:, order], 0.7, inputs)
    assert largest(moved, plain[:, order]) <= 1e-5
    assert largest(wrong, plain[:, order]) > WRONG


def test_attention_callable():
    """A back end gets q, k, v as [B, heads, tokens, head width], text first, and gives the same numbers."""
    shapes = []

    def recording(q, k, v):
        shapes.append((tuple(q.shape), tuple(k.shape), tuple(v.shape)))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    f = tensors("forward")
    net = fill(type(transformer()).from_config(transformer().config), "transformer_diffusers")
    use_attention(net, recording)
    assert all(isinstance(p, CallableAttention) for p in net.attn_processors.values())
    inputs = (f["in.prompt_embeds"], f["in.pooled_prompt_embeds"], f["in.guidance"])
    with torch.no_grad():
        out = FluxNetwork(net, f["in.img_ids"], 20)(f["in.hidden_states"], f["in.timestep"], inputs)
    assert largest(out, f["out.velocity"]) <= CALL
    assert shapes == [((1, 2, 60, 16),) * 3] * 4


def test_padding_latents_before_decoding_comes_close():
    """Pad-and-crop (spec, section 5.1 a) is an oracle for the ring: more columns come nearer to it at the
    seam.
    """
    v = tensors("vae")
    with torch.no_grad():
        cropped = vae().decode(pad_ring(v["in.vae_input"], 2)).sample[..., 16:-16]
    assert largest(cropped, v["derived.decode_pad2_crop"]) <= CODING
    seam = [
        (picture - v["derived.decode_circular_conv"])[..., 0].abs().mean().item()
        for picture in (v["decode"], v["derived.decode_pad1_crop"], cropped)
    ]
    assert seam[0] > seam[1] > seam[2]


def test_roll_equivariance():
    """decode(roll(z)) = roll(decode(z)) and encode likewise; the plain decoder is far off."""
    latents = tensors("t2i")["cfg_off.final_latent"]
    with torch.no_grad():
        picture = ring_vae.decode(vae(), latents)
        coded = ring_vae.encode(vae(), ring_vae.to_pixels(picture))
        for shift in (1, 5, 8):
            rolled = ring_vae.decode(vae(), latents.roll(shift, -1))
            # The random decoder's output spans tens of units; in picture units the bound is 1e-5.
            moved = ring_vae.to_pixels(rolled)
            assert largest(moved, ring_vae.to_pixels(picture).roll(8 * shift, -1)) <= 1e-5
            assert largest(ring_vae.encode(vae(), moved), coded.roll(shift, -1)) <= 1e-5
        plain = ring_vae.decode(vae(), latents, ring=False)
        moved = ring_vae.decode(vae(), latents.roll(5, -1), ring=False)
        assert largest(moved, plain.roll(40, -1)) > 1.0


def test_ids():
    t = tensors("t2i")
    assert torch.equal(image_ids(4, 8, 1), t["img_ids_padded"])
    assert torch.equal(pack(t["in.latents_spatial"]), t["in.latents"])
