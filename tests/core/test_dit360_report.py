"""The nine tests of the requirement report by their names, on golden vectors and exact numbers; and its table of names.

The vectors come from the official pipeline and the libraries that it calls (`engines/dit360/verification`).
"""

from __future__ import annotations

import importlib
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import panodiff_core as pano
from panodiff_core.autoencoders import ring as ring_vae
from panodiff_core.conditioning.cleanup import clean_text
from panodiff_core.conditioning.text import TextCondition, encode_clip, encode_t5
from panodiff_core.engines.dit360.checkpoint.formats import CLIP, T5
from panodiff_core.engines.dit360.model import CallableAttention, FluxNetwork, RingGrid, build_transformer
from panodiff_core.engines.dit360.verification import DiT360Vectors
from panodiff_core.layers.attention import fused_attention
from panodiff_core.layers.ring import image_ids, pad_index
from panodiff_core.schedulers.flow_matching import FlowMatchScheduler
from panodiff_core.schedulers.true_cfg import CFGFlowMatchScheduler
from tests.core.dit360_vectors import FOLDER, engine, largest, read, tensors, transformer, vae

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dit360.md"
NAMES = """
FlowMatchScheduler CFGFlowMatchScheduler RoPEEmbedding apply_rotary_emb AdaptiveLayerNorm MultiHeadAttention MLP
TransformerBlock DiT360Model apply_circular_padding_to_tokens remove_circular_padding_from_tokens AutoencoderKL
T5EncoderModel T5Tokenizer DiT360Sampler DiT360Decode set_timesteps step add_noise get_velocity compute_snr
circular_padding_width load_to_device offload
"""


def condition(negative: bool = False) -> TextCondition:
    t = tensors("t2i")
    names = ["prompt_embeds", "pooled_prompt_embeds"]
    names += ["negative_prompt_embeds", "negative_pooled_prompt_embeds"] if negative else []
    return TextCondition(*(t[f"in.{name}"] for name in names))


def test_dit360_model_architecture():
    """FLUX.1-dev's counts (dit360 spec, section 2.1), and the numbers after every block of a small one."""
    with torch.device("meta"):
        flux = build_transformer({"guidance_embeds": True})
    double, single = flux.transformer_blocks, flux.single_transformer_blocks
    assert (len(double), len(single), flux.inner_dim) == (19, 38, 3072)
    assert (double[0].attn.heads, double[0].attn.head_dim) == (24, 128)
    assert (flux.x_embedder.in_features, flux.context_embedder.in_features) == (64, 4096)
    count = sum(p.numel() for p in flux.parameters())
    blocks = sum(p.numel() for group in (double, single) for p in group.parameters())
    modulation = sum(
        p.numel()
        for n, p in flux.named_parameters()
        if re.fullmatch(r".*\.(norm1|norm1_context|norm)\.linear\..*", n)
    )
    assert (count, blocks, modulation) == (11_901_408_320, 11_837_283_328, 3_228_567_552)
    f, seen = tensors("forward"), {}
    net = transformer()
    kinds = [("double", net.transformer_blocks), ("single", net.single_transformer_blocks)]
    hooks = [
        block.register_forward_hook(lambda _, __, out, key=f"{kind}.{i}": seen.__setitem__(key, out))
        for kind, group in kinds
        for i, block in enumerate(group)
    ]
    try:
        forward(net)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(seen) == 4
    for key, (text, image) in seen.items():
        assert largest(text, f[f"{key}.txt"]) <= 5e-5 and largest(image, f[f"{key}.img"]) <= 5e-5


@torch.no_grad()
def forward(net) -> torch.Tensor:
    f = tensors("forward")
    inputs = (f["in.prompt_embeds"], f["in.pooled_prompt_embeds"], f["in.guidance"])
    return FluxNetwork(net, f["in.img_ids"], 20)(f["in.hidden_states"], f["in.timestep"], inputs)


def test_flow_matching_scheduler():
    rows = read("schedules.json")
    scheduler = FlowMatchScheduler()
    for row in rows["official"]:
        mu = scheduler.mu(row["image_tokens"])
        assert mu == pytest.approx(row["mu"], abs=1e-12)
        scheduler.set_timesteps(row["steps"], mu)
        assert largest(scheduler.sigmas, torch.tensor(row["sigmas"])) <= 2e-7
    for row in rows["derived_document_schedules"]:
        for grid in ("linear", "quadratic", "cosine"):
            scheduler.set_timesteps(row["steps"], method=grid)
            assert largest(scheduler.sigmas[:-1], torch.tensor(row[grid])) <= 2e-7
    t = tensors("t2i")
    guided = CFGFlowMatchScheduler(cfg=2.5)
    guided.set_timesteps(4, t["mu_padded"].item())
    for name in ("cfg_off", "cfg_on"):
        state = RingGrid(8, 16, 1).enter(t["in.latents_spatial"])
        for i in range(4):
            velocity = t[f"{name}.velocity.{i}"]
            if name == "cfg_on":
                velocity = guided.combine(velocity, t[f"cfg_on.velocity_negative.{i}"])
            state = guided.step(velocity, i, state)
            assert largest(state, t[f"{name}.latents_padded.{i}"]) <= 5e-6
    clean, noise = torch.tensor([2.0, -1.0]), torch.tensor([-2.0, 3.0])
    assert guided.add_noise(clean, noise, 0.25).tolist() == [1.0, 0.0]
    assert guided.get_velocity(clean, noise).tolist() == [-4.0, 4.0]
    assert guided.compute_snr(0.25).item() == 9.0


def test_rope_embeddings():
    """Tables for ids (0, row, column) over 4 + 6 + 6 axes, and rotation of adjacent pairs."""
    f, net = tensors("forward"), transformer()
    ids = torch.cat([torch.zeros(20, 3), image_ids(4, 8, 1)])
    cos, sin = net.pos_embed(ids)
    assert largest(cos, f["rope.cos"]) <= 1e-6 and largest(sin, f["rope.sin"]) <= 1e-6
    rows, columns = image_ids(4, 8, 1)[:, 1:].T.tolist()
    by_hand = [math.cos(r * 1e4 ** (-j / 3)) for r in rows for j in range(3)]
    assert largest(cos[20:, 4:10:2].flatten(), torch.tensor(by_hand)) <= 1e-6
    assert columns[:10] == [7, 0, 1, 2, 3, 4, 5, 6, 7, 0]
    assert torch.equal(cos[:20], torch.ones(20, 16)) and torch.equal(sin[:20], torch.zeros(20, 16))
    turned = rotated(net.transformer_blocks[0].attn, cos, sin)
    plain = rotated(net.transformer_blocks[0].attn, torch.ones(60, 16), torch.zeros(60, 16))
    pairs = torch.view_as_complex(plain.unflatten(-1, (-1, 2)).contiguous())
    expected = torch.view_as_real(pairs * torch.complex(cos, sin)[:, ::2]).flatten(-2)
    assert largest(turned, expected) <= 1e-6


@torch.no_grad()
def rotated(attn, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """The queries that a back end gets."""
    f, seen = tensors("forward"), []
    back_end = CallableAttention(lambda q, k, v: seen.append(q) or v)
    back_end(attn, f["img_in"], f["txt_in"], image_rotary_emb=(cos, sin))
    return seen[0]


@torch.no_grad()
def test_adaptive_layer_norm():
    """LayerNorm(x)·(1 + scale) + shift with a gate beside it: by hand from the weights, and the last one's golden result."""
    f, net = tensors("forward"), transformer()
    norm = net.transformer_blocks[0].norm1
    parts = F.linear(F.silu(f["vec"]), norm.linear.weight, norm.linear.bias).chunk(6, dim=1)
    shift, scale, gate = (part[:, None] for part in parts[:3])
    expected = F.layer_norm(f["img_in"], (32,), eps=1e-6) * (1 + scale) + shift
    out, out_gate, *rest = norm(f["img_in"], emb=f["vec"])
    assert largest(out, expected) <= 1e-6 and torch.equal(out_gate, gate[:, 0])
    assert [largest(a, b) for a, b in zip(rest, parts[3:], strict=True)] == [0.0, 0.0, 0.0]
    last = net.norm_out
    scale, shift = F.linear(F.silu(f["vec"]), last.linear.weight, last.linear.bias).chunk(2, dim=1)
    by_hand = F.layer_norm(f["single.1.img"], (32,), eps=1e-6) * (1 + scale) + shift
    assert largest(by_hand, f["final_norm"]) <= 5e-5
    assert largest(last(f["single.1.img"], f["vec"]), f["final_norm"]) <= 5e-5


def test_circular_padding_attention():
    """Padding and cropping exactly; keys repeated in a layer are ln 2 on their scores; whole runs at widths 0, 1 and 2."""
    t, p = tensors("t2i"), tensors("derived_padding")
    grid = RingGrid(8, 16, 1)
    padded = grid.enter(t["in.latents_spatial"])
    by_row = t["in.latents"].unflatten(1, (4, 8))
    assert torch.equal(
        padded.unflatten(1, (4, 10)), torch.cat([by_row[:, :, -1:], by_row, by_row[:, :, :1]], 2)
    )
    assert torch.equal(grid.crop(padded), t["in.latents"]) and torch.equal(grid.ids, t["img_ids_padded"])
    q, k, v = torch.randn(3, 1, 2, 52, 16, generator=torch.Generator().manual_seed(0))
    index = torch.cat([torch.arange(20), 20 + pad_index(4, 8, 1)])
    repeated = fused_attention(q, k[:, :, index], v[:, :, index])
    bias = torch.zeros(52)
    bias[20:].view(4, 8)[:, [0, -1]] = math.log(2.0)
    assert torch.equal(bias, p["derived.p1_log2_key_bias.bias"])
    assert largest(repeated, F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(52, -1))) <= 1e-6
    for padding, name in ((0, "p0_no_padding"), (1, "own_loop_p1_wrapped"), (2, "p2_wrapped")):
        noise, mu = t["in.latents_spatial"], t["mu_padded"].item()
        final = engine().sample(condition(), latents=noise, padding=padding, mu=mu)
        assert largest(RingGrid(8, 16, 0).enter(final), p[f"derived.{name}.final_packed"]) <= 1e-5


def test_vae_wrapper(tiny_folder, tmp_path):
    """Both ways, plain and on the ring; a missing VAE is an error and nothing stands in for it."""
    t, v = tensors("t2i"), tensors("vae")
    latents = (v["in.vae_input"] - 0.1159) * 0.3611
    with torch.no_grad():
        assert largest(ring_vae.decode(vae(), latents, ring=False), v["decode"]) <= 1e-4
        assert largest(ring_vae.decode(vae(), latents), v["derived.decode_circular_conv"]) <= 1e-4
        pixels = t["cfg_off.image_u8"].permute(0, 3, 1, 2) / 255.0
        assert largest(ring_vae.encode(vae(), pixels, ring=False), v["encode.mode_scaled"]) <= 1e-4
    assert largest((v["encode.mean"] - 0.1159) * 0.3611, v["encode.mode_scaled"]) <= 1e-6
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    shutil.rmtree(folder / "vae")
    with pytest.raises(pano.CheckpointError, match="vae"):
        pano.load("dit360", folder, device="cpu")


@torch.no_grad()
def test_t5_text_encoder_wrapper():
    """All 512 positions without a mask, and CLIP's pooled vector; another length changes the real tokens."""
    t, folder = tensors("text"), DiT360Vectors(FOLDER)
    t5, clip = folder.part("t5xxl_fp16.safetensors", T5), folder.part("clip_l.safetensors", CLIP)
    text = encode_t5(t5, t["in.t5_ids"])
    assert text.shape == (2, 512, 32) and largest(text[:, :96], t["t5.embeds_first96"]) <= 1e-5
    assert largest(text.double().sum(dim=(1, 2)), t["t5.embeds_sum"]) <= 1e-3
    pooled = encode_clip(clip, t["in.clip_ids"], read("clip_config.json")["eos_token_id"])
    assert largest(pooled, t["clip.pooled"]) <= 1e-5
    assert largest(text[:, :96], t["derived.t5_masked_first96"]) > 0.05
    assert largest(text[:, :96], t["derived.t5_256_first96"]) > 0.05


def test_text_preprocessing(tiny_engine):
    """The cleanup exists and is off: prompts reach the tokenizer as they were written."""
    written = "  A “Calm”  SEA… at SUNSET !!"
    assert clean_text(written) == "a calm sea. at sunset!"
    as_is, cleaned = tiny_engine.encode(written), tiny_engine.encode(written, clean_prompt=True)
    assert as_is.prompts == (written,) and cleaned.prompts == ("a calm sea. at sunset!",)
    direct = tiny_engine.encode("a calm sea. at sunset!")
    assert torch.equal(cleaned.text, direct.text) and torch.equal(cleaned.pooled, direct.pooled)
    assert float((as_is.text - cleaned.text).abs().max()) > 0.05


def test_integration_complete_forward_pass():
    """One call, and noise to picture with true guidance off and on, in one call and in two."""
    f, t = tensors("forward"), tensors("t2i")
    assert largest(forward(transformer()), f["out.velocity"]) <= 5e-5
    runs = [("cfg_off", {}), ("cfg_on", {"cfg": 2.5, "true_cfg_batched": True})]
    runs += [("cfg_on", {"cfg": 2.5, "true_cfg_batched": False})]
    for name, options in runs:
        final = engine().sample(condition("cfg" in options), latents=t["in.latents_spatial"], **options)
        assert largest(final, t[f"{name}.final_latent"]) <= 2e-4
        picture = engine().decode(final, ring=False).pixels
        expected = ring_vae.to_pixels(t[f"{name}.image_raw"])
        assert largest(picture, expected) <= 2e-4


def table() -> dict[str, list[str]]:
    """Names of the report and the places that docs/dit360.md gives for them."""
    text = PAGE.read_text(encoding="utf-8")
    rows = text.split("## Names of the requirement report")[1].split("\n## ")[0]
    cells = [re.findall(r"`([^`]+)`", row) for row in re.findall(r"^\| `.*$", rows, re.MULTILINE)]
    return {name: [place for place in places if place.split(".")[0] in ROOTS] for name, *places in cells}


ROOTS = ("panodiff_core", "diffusers", "transformers")


def find(place: str) -> object:
    """What stands at a dotted place: a module, or something in one."""
    parts = place.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(place)


def test_every_place_in_the_table_exists():
    rows = table()
    assert set(NAMES.split()) <= rows.keys() and all(rows.values())
    for places in rows.values():
        for place in places:
            assert find(place) is not None


def test_every_other_place_on_the_page_exists():
    text = PAGE.read_text(encoding="utf-8")
    places = set(re.findall(r"`(panodiff_core(?:\.\w+)+)`", text))
    assert len(places) > 20
    for place in places:
        find(place)
    files = set(re.findall(r"\]\(([^)#:]+)\)", text))
    assert files and all((PAGE.parent / file).exists() for file in files)
