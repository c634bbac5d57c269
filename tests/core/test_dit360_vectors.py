"""Number by number against the reference implementation (dit360 spec, section 11)."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from panodiff_core.autoencoders import ring as ring_vae
from panodiff_core.autoencoders.latents import scale, unscale
from panodiff_core.conditioning.text import TextCondition, encode_clip, encode_t5
from panodiff_core.engines.dit360.model import (
    CallableAttention,
    FluxNetwork,
    RingGrid,
    use_attention,
    velocity,
)
from panodiff_core.engines.dit360.sampling import sample_ring
from panodiff_core.layers.ring import image_ids, pack, pad_ring, unpack
from panodiff_core.runtime.progress import Step
from panodiff_core.schedulers.flow_matching import GRIDS, FlowMatchScheduler
from tests.core.dit360_vectors import engine, fill, largest, read, tensors, transformer, vae

TRAJECTORY, CALL, CODING, TEXT, SCHEDULE, EQUAL, WRONG = 2e-4, 5e-5, 1e-4, 1e-5, 2e-7, 1e-5, 0.05

MU = FlowMatchScheduler().mu(RingGrid(8, 16, 1).tokens)
"""The padding variants of the vectors all use the shift of one padding column, to change one thing at a time.
"""


def condition(negative: bool = False) -> TextCondition:
    t = tensors("t2i")
    names = ("in.negative_prompt_embeds", "in.negative_pooled_prompt_embeds")
    return TextCondition(
        t["in.prompt_embeds"],
        t["in.pooled_prompt_embeds"],
        *(t[name] if negative else None for name in names),
    )


def trajectory(**options) -> torch.Tensor:
    """Final tokens from the vectors' noise, through the engine's own `sample`."""
    bound = condition("cfg" in options)
    return pack(engine().sample(bound, latents=tensors("t2i")["in.latents_spatial"], **options))


def test_forward():
    """One annotated call: rotary tables, every block, the conditioning vector and the velocity."""
    f = tensors("forward")
    net = transformer()
    seen: dict[str, torch.Tensor] = {}
    handles = [net.time_text_embed.register_forward_hook(lambda m, i, o: seen.update(vec=o))]
    handles.append(net.x_embedder.register_forward_hook(lambda m, i, o: seen.update(img_in=o)))
    handles.append(net.norm_out.register_forward_hook(lambda m, i, o: seen.update(final_norm=o)))
    for kind, blocks in (("double", net.transformer_blocks), ("single", net.single_transformer_blocks)):
        for i, block in enumerate(blocks):
            name = f"{kind}.{i}"
            handles.append(
                block.register_forward_hook(
                    lambda m, _, out, name=name: seen.update({f"{name}.txt": out[0], f"{name}.img": out[1]})
                )
            )
    grid = RingGrid(8, 16, 1)
    assert torch.equal(grid.ids, f["in.img_ids"])
    cos, sin = net.pos_embed(torch.cat([f["in.txt_ids"], grid.ids]))
    assert max(largest(cos, f["rope.cos"]), largest(sin, f["rope.sin"])) <= 1e-6
    network = FluxNetwork(net, grid.ids, f["in.prompt_embeds"].shape[1])
    inputs = (f["in.prompt_embeds"], f["in.pooled_prompt_embeds"], f["in.guidance"])
    with torch.no_grad():
        out = network(f["in.hidden_states"], f["in.timestep"], inputs)
    for handle in handles:
        handle.remove()
    assert len(seen) == 3 + 2 * 4
    errors = {name: largest(value, f[name]) for name, value in seen.items()}
    errors["velocity"] = largest(out, f["out.velocity"])
    assert max(errors.values()) <= CALL, errors


SCHEDULES = read("schedules.json")


@pytest.mark.parametrize("row", SCHEDULES["official"], ids=lambda r: f"{r['image_tokens']}x{r['steps']}")
def test_schedules(row):
    scheduler = FlowMatchScheduler()
    rows, columns = row["height"] // 16, row["width"] // 16
    assert RingGrid(2 * rows, 2 * columns, row["pad_columns"]).tokens == row["image_tokens"]
    mu = scheduler.mu(row["image_tokens"])
    assert abs(mu - row["mu"]) <= SCHEDULE
    scheduler.set_timesteps(row["steps"], mu)
    assert largest(scheduler.sigmas, torch.tensor(row["sigmas"], dtype=torch.float64)) <= SCHEDULE


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("row", SCHEDULES["derived_document_schedules"], ids=lambda r: str(r["steps"]))
def test_document_schedules(row, grid):
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(row["steps"], method=grid)
    expected = torch.tensor(row[grid], dtype=torch.float64)
    assert largest(scheduler.sigmas[: len(expected)], expected) <= SCHEDULE


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("name, options", [("cfg_off", {}), ("cfg_on", {"cfg": 2.5})])
def test_trajectory(name, options, batched):
    t = tensors("t2i")
    steps: list[Step] = []
    final = trajectory(**options, true_cfg_batched=batched, on_step=steps.append)
    assert largest(final, t[f"{name}.final_packed"]) <= TRAJECTORY
    assert largest(unpack(final, 8, 16), t[f"{name}.final_latent"]) <= TRAJECTORY
    for i, step in enumerate(steps):
        padded = RingGrid(8, 16, 1).enter(step.latents)
        assert largest(padded, t[f"{name}.latents_padded.{i}"]) <= TRAJECTORY
        assert abs(step.sigma - t[f"{name}.sigmas"][i + 1].item()) <= SCHEDULE
    # The last step ends at σ = 0, where the estimate and the latents are one.
    assert largest(steps[-1].denoised, steps[-1].latents) <= 1e-6


def test_velocities_and_denoised():
    t, steps = tensors("t2i"), []
    trajectory(on_step=steps.append)
    sigmas = t["cfg_off.sigmas"]
    before = t["in.latents_spatial"]
    for i, step in enumerate(steps):
        v = unpack(RingGrid(8, 16, 1).crop(t[f"cfg_off.velocity.{i}"]), 8, 16)
        assert largest(step.denoised, before - sigmas[i] * v) <= TRAJECTORY
        before = step.latents
        mine = velocity(
            transformer(),
            t["in.latents_spatial"],
            sigmas[:1],
            t["in.prompt_embeds"],
            t["in.pooled_prompt_embeds"],
            2.8,
        )
    assert largest(RingGrid(8, 16, 1).enter(mine), t["cfg_off.velocity.0"]) <= CALL


@pytest.mark.parametrize(
    "name, options",
    [
        ("own_loop_p1_wrapped", {}),
        ("p0_no_padding", {"padding": 0, "mu": MU}),
        ("p2_wrapped", {"padding": 2, "mu": MU}),
        ("p1_wrapped_mu_unpadded", {"mu": "unpadded"}),
        ("p1_wrapped_mu_static_1.15", {"mu": 1.15}),
        ("p1_repad_each_step", {"roll": (0, 0, 0, 0)}),
        ("roll_each_step", {"roll": "alternate"}),
    ],
)
def test_padding_variants(name, options):
    d = tensors("derived_padding")
    expected = d[f"derived.{name}.final_packed"]
    assert largest(trajectory(**options), expected) <= TRAJECTORY
    if name == "roll_each_step":
        assert d["derived.roll_each_step.offsets"].tolist() == [0, 4, 0, 4]


def test_wrong_variants_are_far_outside():
    """Negative controls: if these passed, the bounds above would mean nothing."""
    right = tensors("t2i")["cfg_off.final_packed"]
    for options in ({"padding": 0}, {"padding": 2}, {"mu": "unpadded"}, {"mu": 1.15}, {"roll": "alternate"}):
        assert largest(trajectory(**options), right) > WRONG, options
    for name in ("p1_extended_ids", "p2_extended_ids"):
        expected = tensors("derived_padding")[f"derived.{name}.final_packed"]
        assert largest(run_with_ids(name), expected) <= TRAJECTORY
        assert largest(run_with_ids(name), right) > WRONG
    assert largest(run_with_ids("shifted"), right) > WRONG


def run_with_ids(name: str) -> torch.Tensor:
    """The loop with ids that are not wrapped: an oracle for the tests, not an option of the engine."""
    padding = 2 if "p2" in name else 1
    grid = RingGrid(8, 16, padding)
    ids = grid.ids.view(4, 8 + 2 * padding, 3).clone()
    if name == "shifted":
        ids[..., 2] += 1
    else:
        ids[..., 2] = torch.arange(-padding, 8 + padding)
    c = condition()
    network = FluxNetwork(transformer(), ids.view(-1, 3), c.text.shape[1])
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(4, MU)
    bound = (c.text, c.pooled, torch.tensor([2.8]))
    with torch.no_grad():
        noise = tensors("t2i")["in.latents_spatial"]
        return pack(sample_ring(scheduler, lambda x, s: network(x, s, bound), grid, noise))


@pytest.mark.parametrize("padding", [1, 2])
def test_padding_is_a_key_bias(padding):
    """No extra tokens, but ln 2 on the keys of the edge columns: the same function (spec, section 4.3)."""
    expected = tensors("derived_padding")[f"derived.p{padding}_log2_key_bias.final_packed"]
    bias = tensors("derived_padding")[f"derived.p{padding}_log2_key_bias.bias"]

    def biased(q, k, v):
        mask = bias.expand(q.shape[-2], -1)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    net = fill(type(transformer()).from_config(transformer().config), "transformer_diffusers")
    use_attention(net, biased)
    c, grid = condition(), RingGrid(8, 16, 0)
    network = FluxNetwork(net, grid.ids, c.text.shape[1])
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(4, MU)
    bound = (c.text, c.pooled, torch.tensor([2.8]))
    with torch.no_grad():
        latents = sample_ring(
            scheduler, lambda x, s: network(x, s, bound), grid, tensors("t2i")["in.latents_spatial"]
        )
    assert largest(pack(latents), expected) <= EQUAL
    assert largest(pack(latents), trajectory(padding=padding, mu=MU)) <= EQUAL


def test_copies_stay_copies():
    """Padding columns leave the network exactly as the columns they copy."""
    t = tensors("t2i")
    grid = RingGrid(8, 16, 2)
    network = FluxNetwork(transformer(), grid.ids, t["in.prompt_embeds"].shape[1])
    inputs = (t["in.prompt_embeds"], t["in.pooled_prompt_embeds"], torch.tensor([2.8]))
    with torch.no_grad():
        out = network(grid.enter(t["in.latents_spatial"]), 0.7, inputs).view(4, 12, 64)
    assert torch.equal(out[:, :2], out[:, 8:10]) and torch.equal(out[:, 10:], out[:, 2:4])


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


def test_vae():
    t, v = tensors("t2i"), tensors("vae")
    latents = scale(v["in.vae_input"], vae())
    assert largest(unscale(latents, vae()), v["in.vae_input"]) <= 1e-6
    assert largest(unscale(t["cfg_off.final_latent"], vae()), t["cfg_off.vae_input"]) <= 1e-6
    with torch.no_grad():
        assert largest(ring_vae.decode(vae(), latents, ring=False), v["decode"]) <= CODING
        assert largest(ring_vae.decode(vae(), latents), v["derived.decode_circular_conv"]) <= CODING
        assert largest(ring_vae.decode(vae(), latents, ring=False), v["decode"]) <= CODING  # hooks are gone
        pixels = t["cfg_off.image_u8"].permute(0, 3, 1, 2) / 255.0
        assert largest(ring_vae.encode(vae(), pixels, ring=False), v["encode.mode_scaled"]) <= CODING
        posterior = vae().encode(pixels * 2 - 1).latent_dist
        assert largest(posterior.mean, v["encode.mean"]) <= CODING
        assert largest(posterior.logvar, v["encode.logvar"]) <= CODING
    assert largest(v["decode"], v["derived.decode_circular_conv"]) > WRONG


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


def test_decoded_picture():
    t = tensors("t2i")
    latents = t["cfg_off.final_latent"]
    with torch.no_grad():
        assert largest(ring_vae.decode(vae(), latents, ring=False), t["cfg_off.image_raw"]) <= CODING
    picture = engine().decode(latents, ring=False).pixels
    expected = t["cfg_off.image_u8"].permute(0, 3, 1, 2)
    assert ((picture * 255).round() - expected).abs().max() <= 1


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


def test_text_encoders():
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    t = tensors("text")
    t5 = T5EncoderModel(T5Config.from_dict(read("t5_config.json")))
    t5 = fill(t5, "t5xxl_fp16", ties={"encoder.embed_tokens.weight": "shared.weight"})
    clip = CLIPTextModel(CLIPTextConfig.from_dict(read("clip_config.json")))
    prefix = "text_model." if any(n.startswith("text_model.") for n in clip.state_dict()) else ""
    clip = fill(clip, "clip_l", rename=lambda name: prefix + name.removeprefix("text_model."))
    with torch.no_grad():
        text = encode_t5(t5, t["in.t5_ids"])
        pooled = encode_clip(clip, t["in.clip_ids"], 63)
        shorter = encode_t5(t5, t["in.t5_ids"][:, :256])
    assert largest(text[:, :96], t["t5.embeds_first96"]) <= TEXT
    assert (text.double().sum((1, 2)) - t["t5.embeds_sum"]).abs().max() <= 1e-2
    assert largest(pooled, t["clip.pooled"]) <= TEXT
    assert largest(shorter[:, :96], t["t5.embeds_first96"]) > WRONG  # the padding length is part of the input


def test_ids():
    t = tensors("t2i")
    assert torch.equal(image_ids(4, 8, 1), t["img_ids_padded"])
    assert torch.equal(pack(t["in.latents_spatial"]), t["in.latents"])
