"""FaceRay: which tokens see which across the cube's edges, the adapter that carries it, and the seam loss."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from panodiff_core.engines.star.checkpoint import FACERAY, SAMPLER, SAMPLER_FACERAY, fill_generator
from panodiff_core.engines.star.config import FaceRayConfig, STARConfig, VQVAEConfig
from panodiff_core.engines.star.faceray import (
    FaceRayBranches,
    FaceRayGenerator,
    FaceRaySampler,
    freeze_backbone,
)
from panodiff_core.engines.star.faceray.adapter import FaceRayAdapter, sparse_attention, turn
from panodiff_core.engines.star.faceray.geometry import SeamRule, boundary_tokens, ray_frames, seam_tables
from panodiff_core.engines.star.faceray.layout import face_layout, sampler_layout
from panodiff_core.engines.star.faceray.losses import face_loss, seam_loss, seam_weight
from panodiff_core.engines.star.generator import STARGenerator
from panodiff_core.engines.star.inference import Watch, generate
from panodiff_core.engines.star.masked_sampler import MaskedSampler, hidden_loss
from panodiff_core.engines.star.masked_steps import reveal_counts
from panodiff_core.engines.star.options import GenerationOptions
from panodiff_core.engines.star.scales import Scales
from panodiff_core.engines.star.span import Span
from panodiff_core.engines.star.text import TextFeatures
from panodiff_core.engines.star.verification import faceray as faceray_rows
from panodiff_core.engines.star.verification import faceray_geometry as geometry_rows
from panodiff_core.engines.star.verification.folder import StarVectors
from panodiff_core.engines.star.vqvae import Quantizer
from panodiff_core.geometry import ADJACENCY, directions_to_faces, face_frames
from panodiff_core.io.checkpoints.torch_files import tensor_entry
from panodiff_core.runtime.errors import CheckpointError, InputError
from panodiff_core.verification import measure

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "star"
SIDES = (1, 2, 3, 4, 6, 8)
SIDES_512 = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)
CONFIG = FaceRayConfig(adapter_dim=60, heads=2)


@functools.cache
def vectors(name: str = "faceray") -> dict[str, torch.Tensor]:
    return load_file(FOLDER / f"{name}.safetensors")


def adapter(width=48, config=CONFIG, seed=0):
    """An adapter whose every weight is random."""
    module = FaceRayAdapter(width, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(std=0.2, generator=generator)
    return module


def largest(a, b):
    """Largest absolute difference."""
    return float((a - b).detach().abs().max())


def numbers(face, local, side):
    return torch.where(face < 0, -1, face.long() * side**2 + local.long())


# -- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", range(len(SIDES)))
def test_tables_are_those_of_the_vectors(scale):
    v, side = vectors(), SIDES[scale]
    rows = v["geom.derived.stage"] == scale
    of = {
        key[len("geom.derived.") :]: t[rows]
        for key, t in v.items()
        if key.startswith("geom.derived.") and len(t) == len(rows)
    }
    table = seam_tables(side)
    assert torch.equal(table.queries, numbers(of["face"], of["local"], side))
    offset = sum(n * n for n in SIDES[:scale])
    assert torch.equal(table.queries % side**2 + offset, of["token"].long())
    width = table.neighbours.shape[1]
    expected = numbers(of["nb_face"], of["nb_local"], side)
    assert torch.equal(table.neighbours, expected[:, :width]) and bool((expected[:, width:] < 0).all())
    assert torch.equal(table.counts, of["nb_count"].long())
    assert torch.equal(table.opposite, numbers(of["pi_face"], of["pi_local"], side))


def test_counts_of_the_512_model():
    v = vectors()
    for side, expected in zip(SIDES_512, v["geom.derived.d30_512_counts"].tolist(), strict=True):
        table = seam_tables(side)
        counts = table.counts
        assert [len(table.queries), int(counts.min()), int(counts.max()), int(counts.sum())] == expected
        assert len(boundary_tokens(side)) == 6 * (side**2 - max(side - 4, 0) ** 2)
    rows = table.queries // 32**2 == 4
    local, face = (v[f"geom.derived.d30_512_last_U.nb_{kind}"] for kind in ("local", "face"))
    assert torch.equal(table.queries[rows] % 32**2, v["geom.derived.d30_512_last_U.local"].long())
    assert torch.equal(table.neighbours[rows], numbers(face, local, 32)[:, :8])


def test_neighbours_are_where_a_ray_over_the_edge_lands():
    """Our integer tables against the definition: cast the ray with coordinate 1 + 1e-4 and see what it hits."""
    side, table = 9, seam_tables(9, SeamRule(window=0))
    frames = face_frames(torch.float64)
    for token, opposite in zip(table.queries.tolist(), table.opposite.tolist(), strict=True):
        face, row, column = token // 81, token % 81 // 9, token % 9
        u, v = 2 * (column + 0.5) / side - 1, 1 - 2 * (row + 0.5) / side
        over = 1 + 1e-4
        rays = [(-over, v)] * (column < 2) + [(over, v)] * (column >= 7)
        rays += [(u, over)] * (row < 2) + [(u, -over)] * (row >= 7)
        n, a, b = frames[face]
        hit = []
        for x, y in rays:
            g, p, q = directions_to_faces(n + x * a + y * b)
            hit.append(int(g) * 81 + int((1 - q) * side / 2) * side + int((p + 1) * side / 2))
        assert hit == [x for x in opposite if x >= 0]


@pytest.mark.parametrize("depth_matched", [False, True])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 8])
def test_neighbours_lie_on_adjacent_faces_in_the_strip(side, depth_matched):
    rule = SeamRule(depth_matched=depth_matched)
    table = seam_tables(side, rule)
    seen = table.neighbours >= 0
    own = (table.queries // side**2)[:, None].expand_as(seen)[seen].tolist()
    other = (table.neighbours // side**2)[seen].tolist()
    beside = {(f, edge.face) for f in range(6) for edge in ADJACENCY[f]}
    assert set(zip(own, other, strict=True)) == beside
    assert set(table.neighbours[seen].tolist()) <= set(table.queries.tolist())
    assert int(table.counts.min()) >= 4
    pairs = {
        (q, n)
        for q, row in zip(table.queries.tolist(), table.neighbours.tolist(), strict=True)
        for n in row
        if n >= 0
    }
    both_ways = all((b, a) in pairs for a, b in pairs)
    assert both_ways == (depth_matched or side == 1)


def test_frames_are_those_of_the_vectors_and_orthonormal():
    for scale, side in enumerate(SIDES):
        d = ray_frames(side)
        assert largest(d, vectors()[f"geom.d_ray.{scale}"]) < 2e-7
        assert largest(d @ d.mT, torch.eye(3)) < 5e-7
        assert largest(torch.linalg.det(d), 1) < 1e-6
    assert torch.equal(face_frames(), vectors()["geom.frames_nab"])


def test_bad_rules_are_refused():
    with pytest.raises(InputError, match="strip_width"):
        SeamRule(strip_width=0)
    with pytest.raises(InputError, match="window"):
        SeamRule(window=-1)
    with pytest.raises(InputError, match="at least one scale"):
        face_layout(())
    with pytest.raises(InputError, match="side is 0"):
        sampler_layout(0)


# -- adapter ----------------------------------------------------------------------------------------------------------


def test_turning_vectors_is_that_of_the_vectors_and_comes_back():
    v = vectors()
    assert torch.equal(turn(v["dray_apply.q"], v["dray_apply.D"], 24), v["dray_apply.out"])
    assert torch.equal(turn(v["dray_apply.q"], v["dray_apply.D"].mT, 24), v["dray_apply.out_inverse"])
    back = turn(v["dray_apply.out"], v["dray_apply.D"].mT, 24)
    assert largest(back, v["dray_apply.q"]) < 1e-6
    assert turn(v["dray_apply.q"], v["dray_apply.D"], 0) is v["dray_apply.q"]


@pytest.mark.parametrize(("part", "kind"), [("blocks", ""), ("feat_extract_blocks", "sampler_")])
def test_adapter_is_that_of_the_vectors(part, kind):
    prefix = f"var_wo_ddp.{part}.0.faceray_adapter."
    module = FaceRayAdapter(48, CONFIG)
    weights = vectors("faceray_weights")
    module.load_state_dict({k[len(prefix) :]: w for k, w in weights.items() if k.startswith(prefix)})
    layout = sampler_layout(SIDES[-1]) if kind else face_layout(SIDES)
    with torch.no_grad():
        delta = module(vectors()[f"adapter.{kind}x"], layout)
    expected = vectors()[f"adapter.{kind}delta"]
    assert largest(delta, expected) < 1e-5
    assert torch.equal(delta == 0, expected == 0)


def test_adapter_equals_a_dense_masked_attention():
    """The whole adapter again by dense matrices, on another configuration, with two cubes at once."""
    config = FaceRayConfig(adapter_dim=44, heads=4, head_dim=11, ray_subdim=6, strip_w=1, k=1)
    rule, side = SeamRule(1, 1), 5
    module = adapter(width=16, config=config)
    x = torch.randn(12, side**2, 16, generator=torch.Generator().manual_seed(1))
    got = module(x, face_layout((side,), rule)).view(2, 6 * side**2, 16)
    table = seam_tables(side, rule)
    mask = torch.full((6 * side**2, 6 * side**2), -torch.inf)
    for query, row in zip(table.queries.tolist(), table.neighbours.tolist(), strict=True):
        mask[query, [n for n in row if n >= 0]] = 0.0
    frames = ray_frames(side).flatten(0, 1)
    q, k, v = module.qkv(x.view(2, -1, 16)).unflatten(2, (3, 4, 11)).unbind(2)

    def turned(t, d):
        ray = torch.einsum("tij,bthjm->bthim", d, t[..., :6].unflatten(-1, (3, 2))).flatten(-2)
        return torch.cat([ray, t[..., 6:]], dim=-1)

    q, k, v = (turned(t, frames) for t in (q, k, v))
    rows = table.queries
    weights = (torch.einsum("bqhd,bkhd->bhqk", q[:, rows], k) / 11**0.5 + mask[rows]).softmax(-1)
    out = turned(torch.einsum("bhqk,bkhd->bqhd", weights, v), frames[rows].mT)
    expected = torch.zeros_like(got).index_copy(1, rows, module.out_proj(out.flatten(2)))
    assert largest(got, expected) < 1e-5


def test_teacher_forcing_equals_scale_after_scale():
    module, width = adapter(), 48
    x = torch.randn(12, sum(n * n for n in SIDES), width, generator=torch.Generator().manual_seed(2))
    together = module(x, face_layout(SIDES))
    parts = x.split([n * n for n in SIDES], dim=1)
    apart = torch.cat([module(p, face_layout((n,))) for p, n in zip(parts, SIDES, strict=True)], dim=1)
    assert largest(together, apart) < 1e-5


def test_sampler_layout_equals_the_faces_after_a_text_token():
    module = adapter()
    faces = torch.randn(12, 64, 48, generator=torch.Generator().manual_seed(3))
    text = torch.randn(2, 1, 48)
    got = module(torch.cat([text, faces.view(2, 384, 48)], dim=1), sampler_layout(8))
    assert torch.equal(got[:, 0], torch.zeros(2, 48))
    assert largest(got[:, 1:].reshape(12, 64, 48), module(faces, face_layout((8,)))) < 1e-5


def test_cubes_do_not_see_one_another_and_inner_tokens_get_nothing():
    module, layout = adapter(), face_layout((6,))
    x = torch.randn(12, 36, 48, generator=torch.Generator().manual_seed(4))
    delta = module(x, layout)
    changed = x.clone()
    changed[6:] += 1.0
    assert torch.equal(module(changed, layout)[:6], delta[:6])
    inside = torch.zeros(6, 6, dtype=torch.bool)
    inside[2:4, 2:4] = True
    assert bool((delta[:, inside.flatten()] == 0).all())
    assert bool((delta[:, ~inside.flatten()] != 0).any(dim=-1).all())


def test_every_boundary_token_is_projected_once():
    module, layout = adapter(), face_layout(SIDES)
    seen = []
    module.qkv.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].shape))
    module(torch.randn(6, 130, 48), layout)
    assert seen == [(1, 660, 48)]


def test_chunks_of_queries_change_nothing(monkeypatch):
    from panodiff_core.engines.star.faceray import adapter as module

    layout = face_layout((8,))
    q, k = (torch.randn(1, n, 2, 30) for n in (len(layout.queries), len(layout.keys)))
    whole = sparse_attention(q, k, k, layout)
    monkeypatch.setattr(module, "CPU_QUERIES", 7)
    assert largest(sparse_attention(q, k, k, layout), whole) < 1e-6


def test_fresh_adapter_adds_nothing_and_learns_from_its_output():
    module = FaceRayAdapter(48, CONFIG)
    module.reset_parameters()
    x = torch.randn(6, 64, 48)
    delta = module(x, face_layout((8,)))
    assert torch.equal(delta, torch.zeros_like(delta))
    (delta - 1.0).square().mean().backward()
    assert (
        float(module.out_proj.weight.grad.abs().max()) > 0
        and float(module.out_proj.bias.grad.abs().max()) > 0
    )
    assert float(module.qkv.weight.grad.abs().max()) == 0.0


def test_gradients_of_the_adapter():
    config = FaceRayConfig(adapter_dim=14, heads=2, head_dim=7, ray_subdim=3, strip_w=1, k=1)
    module, layout = adapter(4, config).double(), face_layout((3,), SeamRule(1, 1))

    def run(x, *weights):
        return torch.func.functional_call(module, dict(zip(names, weights, strict=True)), (x, layout))

    names, weights = zip(*module.named_parameters(), strict=True)
    # Attention is computed in float32 on purpose, hence the wide step.
    x = torch.randn(6, 9, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        run, (x, *weights), eps=1e-2, atol=2e-3, rtol=1e-2, nondet_tol=1e-6, fast_mode=True
    )


def test_strength_scales_the_residual():
    module, x, layout = adapter(), torch.randn(6, 64, 48), face_layout((8,))
    assert torch.allclose(module(x, layout, 0.5), 0.5 * module(x, layout), atol=1e-7)


def test_half_precision_attends_in_float32():
    module, x, layout = adapter(), torch.randn(6, 64, 48), face_layout((8,))
    exact = module(x, layout)
    with torch.autocast("cpu", torch.bfloat16):
        low = module(x, layout)
    assert low.dtype == torch.bfloat16
    error = largest(low.float(), exact) / largest(exact, 0.0)
    assert 0 < error < 0.02


def test_other_arrangements_are_refused():
    module = adapter()
    for shape in ((6, 65, 48), (5, 64, 48), (1, 385, 48)):
        with pytest.raises(InputError, match="do not fit their layout"):
            module(torch.zeros(shape), face_layout((8,)))


# -- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "pairing"),
    [("pi_mean", "opposite"), ("window_mean", "window"), ("softmin_tau0.2", "soft_min")],
)
def test_seam_losses_are_those_of_the_vectors(key, pairing):
    features = vectors()["stack.normed.feat_last"]
    expected = float(vectors()[f"seam.{key}"])
    for shape in (features, features.view(1, 6, 8, 8, 48)):
        assert abs(float(seam_loss(shape, pairing=pairing)) - expected) < 1e-5
    twice = torch.cat([features, features])
    assert abs(float(seam_loss(twice, pairing=pairing)) - expected) < 1e-5


@pytest.mark.parametrize("pairing", ["opposite", "window", "soft_min"])
def test_seam_loss_pulls_both_sides_and_is_zero_where_faces_agree(pairing):
    features = torch.randn(6, 64, 8, requires_grad=True)
    seam_loss(features, pairing=pairing).backward()
    touched = features.grad.abs().sum(-1) > 0
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:6, 2:6] = True
    assert torch.equal(touched, ~inside.flatten().expand(6, 64))
    assert float(seam_loss(torch.ones(6, 64, 8), pairing=pairing)) == 0.0


def test_seam_weight_rises_and_stays():
    v = vectors()
    got = [seam_weight(int(step), 1000) for step in v["seam.warmup.step"]]
    assert torch.allclose(torch.tensor(got), v["seam.warmup.lambda_eff"], atol=1e-8)
    assert seam_weight(0, 1000, warmup_ratio=0.0) == 0.1


def test_seam_loss_refuses_other_shapes_and_pairings():
    with pytest.raises(InputError, match="pairing is 'nearest'"):
        seam_loss(torch.zeros(6, 64, 8), pairing="nearest")
    for shape in ((6, 63, 8), (5, 64, 8), (1, 6, 8, 7, 3)):
        with pytest.raises(InputError, match="features have shape"):
            seam_loss(torch.zeros(shape))


def test_face_loss_is_the_mean_over_all_tokens():
    logits, codes = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    picked = -logits.log_softmax(-1).gather(2, codes[..., None])[..., 0]
    assert abs(float(face_loss(logits, codes)) - float(picked.mean())) < 1e-6


# -- six faces --------------------------------------------------------------------------------------------------------

SMALL = STARConfig(
    depth=3,
    width=32,
    heads=4,
    patch_nums=(1, 2, 3, 5),
    text_width=12,
    text_tokens=5,
    vocab=16,
    latent_channels=4,
    class_rows=0,
    sampler_blocks=3,
    cross_attention="per_row",
)
SMALL_FACERAY = FaceRayConfig(adapter_dim=16, heads=2, head_dim=8, ray_subdim=6)
TOKENS = 39


def seeded(module, seed=0):
    """Fresh weights, and a head that says something."""
    generator = torch.Generator().manual_seed(seed)
    module.reset_parameters(generator)
    head = module.head_logits2 if isinstance(module, MaskedSampler) else module.head_logits
    with torch.no_grad():
        head.weight.normal_(generator=generator)
    return module.eval()


def trained(module, seed=1):
    """Adapters with weights everywhere, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if "faceray_adapter" in name:
                weight.normal_(std=0.3, generator=generator)
    return module


def texts(rows, seed=2):
    generator = torch.Generator().manual_seed(seed)
    hidden, pooled = torch.randn(rows, 5, 12, generator=generator), torch.randn(rows, 12, generator=generator)
    return TextFeatures(hidden, pooled, torch.ones(rows, 5, dtype=torch.bool))


def quantizer():
    config = VQVAEConfig(channels=32, multipliers=(1,), blocks=1, latent_channels=4, vocab=16)
    torch.manual_seed(3)
    return Quantizer(config, Scales(SMALL.patch_nums)).eval()


def teacher(cubes, seed=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6 * cubes, TOKENS - 1, 4, generator=generator)


def plain_and_extended(kind, **faceray):
    """STAR and its extension with the same weights, and fresh adapters."""
    base, extended = {
        "generator": (STARGenerator, FaceRayGenerator),
        "sampler": (MaskedSampler, FaceRaySampler),
    }[kind]
    plain = seeded(base(SMALL))
    more = extended(SMALL, SMALL_FACERAY.changed(**faceray)).eval()
    missing, unexpected = more.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all(".faceray_adapter." in name for name in missing)
    return plain, more


@pytest.mark.parametrize("adapter_input", ["normed", "raw"])
def test_fresh_adapters_leave_the_generator_as_it_is_bit_for_bit(adapter_input):
    plain, extended = plain_and_extended("generator", adapter_input=adapter_input)
    with torch.no_grad():
        for a, b in zip(plain(teacher(2), texts(2)), extended(teacher(2), texts(2)), strict=True):
            assert torch.equal(a, b)
    latents = [generate(g, quantizer(), texts(1), texts(1, 9), seed=5, group=6) for g in (plain, extended)]
    assert torch.equal(*latents)


def test_fresh_adapters_leave_the_sampler_as_it_is_bit_for_bit():
    plain, extended = plain_and_extended("sampler")
    codes, features = torch.randn(2, 150, 4), torch.randn(2, 150, 32)
    pooled = torch.randn(2, 12)
    with torch.no_grad():
        assert torch.equal(*(m(codes, features, pooled, (3,) * 6) for m in (plain, extended)))


@pytest.mark.parametrize("adapter_input", ["normed", "raw"])
def test_trained_adapters_matter_and_can_be_switched_off(adapter_input):
    plain, extended = plain_and_extended("generator", adapter_input=adapter_input)
    trained(extended)
    with torch.no_grad():
        expected, _ = plain(teacher(1), texts(1))
        full, half, off = (
            extended(teacher(1), texts(1), branches=extended.branches(strength))[0]
            for strength in (1.0, 0.5, 0.0)
        )
        assert torch.equal(extended(teacher(1), texts(1))[0], full)
    assert torch.equal(off, expected)
    assert largest(full, expected) > 0.1 and largest(half, full) > 0.1
    with pytest.raises(InputError, match="strength is nan"):
        extended.branches(float("nan"))


def test_first_step_reaches_the_output_projections_only():
    _, extended = plain_and_extended("generator")
    learning = freeze_backbone(extended)
    logits, features = extended(teacher(1), texts(1))
    codes = torch.randint(16, (6, TOKENS))
    (face_loss(logits, codes) + 0.1 * seam_loss(features[:, -25:])).backward()
    assert len(learning) == 3 * 3 and all(".faceray_adapter." in name for name in learning)
    for name, weight in extended.named_parameters():
        if name not in learning:
            assert weight.grad is None and not weight.requires_grad
        elif "out_proj" in name:
            assert torch.isfinite(weight.grad).all() and float(weight.grad.abs().max()) > 0
        else:
            assert float(weight.grad.abs().max()) == 0.0
    with torch.no_grad():
        for name in learning:
            extended.get_parameter(name).sub_(extended.get_parameter(name).grad)
    extended.zero_grad()
    face_loss(extended(teacher(1), texts(1))[0], codes).backward()
    assert all(float(extended.get_parameter(name).grad.abs().max()) > 0 for name in learning)


def test_parts_of_the_backbone_can_be_trained_too():
    _, extended = plain_and_extended("generator")
    learning = freeze_backbone(extended, ["encoder_proj", "blocks.2.ffn", "pos_start"])
    assert {"encoder_proj.weight", "encoder_proj.bias", "blocks.2.ffn.fc1.weight", "pos_start"} <= set(
        learning
    )
    assert len(learning) == 9 + 2 + 4 + 1
    assert learning == [name for name, weight in extended.named_parameters() if weight.requires_grad]
    with pytest.raises(InputError, match="nothing called 'blocks.2.fnn'"):
        freeze_backbone(extended, ["blocks.2.fnn"])


def test_checkpointing_changes_no_gradient():
    _, extended = plain_and_extended("generator")
    trained(extended)
    for block in extended.blocks:
        block.drop_path = 0.0
    gradients = []
    for checkpointing in (False, True):
        extended.train()
        extended.checkpointing = checkpointing
        extended.zero_grad()
        extended(teacher(1), texts(1))[0].square().mean().backward()
        gradients.append([weight.grad.clone() for weight in extended.parameters() if weight.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("part_tokens", [1, 4096])
def test_cached_scales_equal_teacher_forcing(part_tokens, monkeypatch):
    """Two cubes, generated scale by scale with guidance, then taught with what was drawn."""
    if part_tokens == 1:  # then rows pass self-attention alone, and the branches together
        monkeypatch.setattr("panodiff_core.engines.star.parts.PASS_TOKENS", 1)
    _, extended = plain_and_extended("generator")
    trained(extended)
    seen: dict[int, list] = {}
    drawn: dict[int, list] = {}
    watch = Watch(
        logits=lambda network, scale, features, guided: seen.setdefault(scale, []).append(guided),
        drawn=lambda scale, indices: drawn.setdefault(scale, []).append(indices),
    )
    codes, text, empty = quantizer(), texts(2), texts(1, 9)
    options = GenerationOptions(cfg=2.0, top_k=0, top_p=0.0, part_tokens=part_tokens)
    generate(extended, codes, text, empty, options, seed=7, group=6, watch=watch)
    indices = [torch.cat(drawn[s]) for s in range(4)]
    assert len(drawn[3]) == (2 if part_tokens == 1 else 1)
    with torch.no_grad():
        cond, uncond = (extended(codes.teacher_input(indices), half)[0] for half in (text, empty.repeat(2)))
    for scale in range(4):
        place, weight = extended.scales.slice(scale), 2.0 * scale / 3
        expected = (1 + weight) * cond[:, place] - weight * uncond[:, place]
        assert largest(torch.cat(seen[scale]), expected) < 1e-4 * (1 + float(expected.abs().max()))


def test_a_cube_is_the_same_alone_and_among_others():
    _, extended = plain_and_extended("generator")
    trained(extended)
    both = generate(extended, quantizer(), texts(2), texts(1, 9), seed=7, group=6)
    second = generate(extended, quantizer(), texts(2)[1:], texts(1, 9), seed=8, group=6)
    assert largest(both[6:], second) < 1e-5


def test_rows_that_are_no_cubes_are_refused():
    _, extended = plain_and_extended("generator")
    with pytest.raises(InputError, match="6 rows per cube"):
        extended(teacher(1)[:4], texts(1))
    with pytest.raises(InputError, match="6 rows per cube"):
        generate(extended, quantizer(), texts(1), texts(1, 9))
    branches = FaceRayBranches(SMALL_FACERAY, Scales(SMALL.patch_nums))
    for span in (Span((3,), 1), Span((2,) * 3 + (3,) * 3, 1), Span((3,) * 6, 2)):
        with pytest.raises(InputError, match="six grids of one scale"):
            branches.layout(span)


def test_adapters_see_what_the_configuration_says():
    seen = []

    def generated(**faceray):
        _, extended = plain_and_extended("generator", **faceray)
        with torch.no_grad():
            seen.append(trained(extended)(teacher(1), texts(1))[0])
        return seen[-1]

    base = generated()
    for change in ({"adapter_input": "raw"}, {"depth_matched": True}, {"k": 1}, {"strip_w": 1}):
        assert largest(generated(**change), base) > 1e-3


# -- masked sampler ---------------------------------------------------------------------------------------------------


def test_sampler_predicts_hidden_tokens_of_whole_cubes():
    sampler = trained(seeded(FaceRaySampler(SMALL, SMALL_FACERAY)))
    codes, features, pooled = torch.randn(12, 25, 4), torch.randn(12, 25, 32), torch.randn(2, 12)
    logits, keep = sampler.predict_hidden(codes, features, pooled, generator=torch.Generator().manual_seed(5))
    assert logits.shape == (2, 150, 16) and logits.dtype == torch.float32
    assert keep.shape == (2, 150) and keep.dtype == torch.bool
    assert 0 < int((~keep).sum()) < keep.numel()
    again, _ = sampler.predict_hidden(codes + 9.0 * ~keep.view(12, 25, 1), features, pooled, keep)
    assert torch.equal(logits, again)
    hidden_loss(logits, torch.randint(16, (2, 150)), keep).backward()
    assert all(
        torch.isfinite(w.grad).all() and float(w.grad.abs().max()) > 0
        for w in sampler.parameters()
        if w.grad is not None
    )
    assert sampler.pos_start_last.grad is not None and sampler.word_embed_head.weight.grad is not None


def test_faces_of_the_sampler_meet_in_the_adapters_alone():
    sampler = trained(seeded(FaceRaySampler(SMALL, SMALL_FACERAY)))
    codes, features, pooled = torch.randn(6, 25, 4), torch.randn(6, 25, 32), torch.randn(1, 12)
    changed = features.clone()
    changed[2] += 1.0  # the face behind; the front does not touch it
    keep = torch.ones(1, 150)

    def difference(branches, face):
        with torch.no_grad():
            a, b = (
                sampler.predict_hidden(codes, x, pooled, keep, branches=branches)[0]
                for x in (features, changed)
            )
        return float((a - b).view(6, 25, 16)[face].abs().max())

    for block in sampler.feat_extract_blocks:  # the text token hears all faces; keep it silent
        torch.nn.init.zeros_(block.attn.mat_qkv.weight)
    assert difference(sampler.branches(0.0), 1) == 0.0
    assert difference(None, 1) > 1e-4
    assert difference(None, 2) > 1e-2


def test_sampler_draws_the_last_scale_face_by_face():
    generator, sampler = (
        trained(seeded(FaceRayGenerator(SMALL, SMALL_FACERAY))),
        trained(seeded(FaceRaySampler(SMALL, SMALL_FACERAY))),
    )
    seen = []
    watch = Watch(masked=lambda scale, step: seen.append((scale, step.seen.sum(dim=1))))
    options = GenerationOptions(sampler="new", cfg=2.0)
    latents = generate(
        generator, quantizer(), texts(2), texts(1, 9), options, group=6, sampler=sampler, watch=watch
    )
    assert latents.shape == (12, 4, 5, 5) and bool(torch.isfinite(latents).all())
    so_far = torch.tensor(reveal_counts(25, 8)).cumsum(0)
    assert [scale for scale, _ in seen] == [3] * 8
    assert torch.equal(torch.stack([counts for _, counts in seen]), so_far[:, None].expand(8, 12))
    other = generate(
        generator, quantizer(), texts(2), texts(1, 9), options, group=6, sampler=sampler,
        branches=generator.branches(0.0),
    )  # fmt: skip
    assert not torch.equal(latents, other)


def test_sampler_of_cubemaps_serves_the_last_scale_alone():
    with pytest.raises(InputError, match="from_idx is 2"):
        FaceRaySampler(SMALL.changed(from_idx=2), SMALL_FACERAY)
    sampler = FaceRaySampler(SMALL, SMALL_FACERAY)
    with pytest.raises(InputError, match="six rows of 25 tokens"):
        sampler.predict_hidden(torch.zeros(6, 24, 4), torch.zeros(6, 24, 32), torch.zeros(1, 12))


# -- weights ----------------------------------------------------------------------------------------------------------


def test_names_and_sizes_of_the_real_model():
    with torch.device("meta"):
        plain = STARGenerator(STARConfig())
        generator = FaceRayGenerator(STARConfig(), FaceRayConfig())
        sampler = FaceRaySampler(STARConfig(sampler_blocks=3), FaceRayConfig())
    added = set(generator.state_dict()) - set(plain.state_dict())
    names = ("qkv.weight", "out_proj.weight", "out_proj.bias")
    assert added == {f"blocks.{i}.faceray_adapter.{name}" for i in range(30) for name in names}
    assert sum(generator.state_dict()[name].numel() for name in added) == 55_353_600
    assert {name for name in sampler.state_dict() if "faceray" in name} == {
        f"feat_extract_blocks.{i}.faceray_adapter.{name}" for i in range(3) for name in names
    }


def test_official_weights_fill_the_extended_model_and_nothing_else_may_lack():
    plain, _ = plain_and_extended("generator")
    entries = {name: tensor_entry(tensor, name) for name, tensor in plain.state_dict().items()}
    fresh = FaceRayGenerator(SMALL, SMALL_FACERAY)
    assert fill_generator(fresh, entries, "file", new=(FACERAY, SAMPLER, SAMPLER_FACERAY)) == (FACERAY,)
    with torch.no_grad():
        assert torch.equal(fresh.eval()(teacher(1), texts(1))[0], plain(teacher(1), texts(1))[0])
    with pytest.raises(CheckpointError, match="faceray_adapter"):
        fill_generator(FaceRayGenerator(SMALL, SMALL_FACERAY), entries, "file")
    del entries["blocks.1.ffn.fc1.bias"]
    with pytest.raises(CheckpointError, match="blocks.1.ffn.fc1.bias"):
        fill_generator(FaceRayGenerator(SMALL, SMALL_FACERAY), entries, "file", new=(FACERAY,))


# -- golden vectors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "group", [*geometry_rows.GROUPS, *faceray_rows.GROUPS], ids=lambda group: group.title
)
def test_golden_vectors(group):
    ((_, rows),) = measure([group], StarVectors(FOLDER))
    assert rows
    assert [row for row in rows if not row.met] == []


def test_every_golden_tensor_is_compared():
    compared = set()
    for _, rows in measure([*geometry_rows.GROUPS, *faceray_rows.GROUPS], StarVectors(FOLDER)):
        compared |= {row.what for row in rows}
    inputs = ("adapter.x", "adapter.sampler_x", "dray_apply.D", "dray_apply.q", "geom.project.dir")
    inputs += ("sampler6.keep_mask", "seam.warmup.step", "stack.idx", "stack.text")
    left = {key for key in vectors() if not key.startswith(inputs)} - compared
    assert left == set()
