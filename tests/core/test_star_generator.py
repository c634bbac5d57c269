"""STAR's generator: golden vectors, and that every way to compute the same thing gives the same numbers."""

from __future__ import annotations

import math
from itertools import repeat

import pytest
import torch
import torch.nn.functional as F

import panodiff_core as pano
from panodiff_core.engines.star.attention import BlockCausal, CrossAttention, SeparateGrids, TextKeys
from panodiff_core.engines.star.blocks import FeedForward, norm
from panodiff_core.engines.star.cache import KVCache, cache_bytes
from panodiff_core.engines.star.config import STARConfig, VQVAEConfig
from panodiff_core.engines.star.generator import STARGenerator
from panodiff_core.engines.star.inference import Watch, generate
from panodiff_core.engines.star.options import GenerationOptions
from panodiff_core.engines.star.rope import AxialRope, rotate
from panodiff_core.engines.star.scales import Scales
from panodiff_core.engines.star.span import Span
from panodiff_core.engines.star.text import TextFeatures
from panodiff_core.engines.star.verification import generator as golden
from panodiff_core.engines.star.vqvae.quantizer import Quantizer
from panodiff_core.layers.attention import fused_attention, plain_attention, sliced_attention
from panodiff_core.runtime.errors import InputError
from panodiff_core.verification import measure
from tests.core.star_vectors import Folder

SIDES = (1, 2, 3, 5)
CONFIG = STARConfig(
    depth=3,
    width=32,
    heads=4,
    patch_nums=SIDES,
    text_width=20,
    vocab=48,
    latent_channels=8,
    class_rows=0,
    sampler_blocks=2,
)
GREEDY = GenerationOptions(cfg=2.0, top_k=1)


def lively(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random weights everywhere, biases and scales included: fresh ones would hide mistakes."""
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.endswith("scale_mul_1H11"):
                weight.normal_(1.2, 0.3, generator=numbers)
            else:
                weight.normal_(0.0, 0.3 if weight.ndim == 1 else weight[0].numel() ** -0.5, generator=numbers)
    return module.eval().requires_grad_(False)


def build(**changed) -> STARGenerator:
    return lively(STARGenerator(CONFIG.changed(**changed)))


def some_text(prompts: int, tokens: int = 6, seed: int = 1) -> TextFeatures:
    numbers = torch.Generator().manual_seed(seed)
    hidden = torch.randn(prompts, tokens, CONFIG.text_width, generator=numbers)
    pooled = torch.randn(prompts, CONFIG.text_width, generator=numbers)
    mask = torch.arange(tokens) < torch.tensor([tokens - each % 3 for each in range(prompts)])[:, None]
    return TextFeatures(hidden, pooled, mask)


@pytest.fixture(scope="module")
def generator() -> STARGenerator:
    return build()


@pytest.fixture(scope="module")
def quantizer() -> Quantizer:
    return lively(Quantizer(VQVAEConfig(latent_channels=8, vocab=48), Scales(SIDES)), 5)


@pytest.fixture
def teacher() -> torch.Tensor:
    return torch.randn(4, sum(s * s for s in SIDES) - 1, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def vectors():
    return [row for _, outcome in measure(golden.GROUPS, Folder()) for row in outcome]


def test_every_golden_number_is_met(vectors):
    assert [row for row in vectors if not row.met] == []


def test_every_golden_tensor_is_compared(vectors):
    prefixes = ("tf.", "infer.", "rope.", "norm.ln")
    inputs = {"rope.q_in", "rope.d30_512.last_rows", "norm.ln_in"}
    expected = {key for key in Folder().tensors("star") if key.startswith(prefixes)} - inputs
    assert expected == {row.what for row in vectors} & expected and len(expected) > 50


@pytest.mark.parametrize(
    "key", ["tf.per_row.block0.cross_attn_out", "tf.row0.logits", "infer.cond_shared.idx.5"]
)
def test_one_wrong_number_is_noticed(key):
    changed = Folder().tensors("star")[key].clone()
    changed.view(-1)[-1] += 1 if not changed.is_floating_point() else 2e-4 * (1 + changed.abs().max())
    rows = [row for _, outcome in measure(golden.GROUPS[1:], Folder({key: changed})) for row in outcome]
    assert {row.what for row in rows if not row.met} == {key}


def test_official_keys_and_sizes():
    with torch.device("meta"):
        state = STARGenerator(STARConfig()).state_dict()
    assert len(state) == 30 * 19 + 9
    assert sum(t.numel() for name, t in state.items() if "zero_k_bias" not in name) == 1_678_731_016
    assert state["blocks.29.attn.mat_qkv.weight"].shape == (5760, 1920)
    assert state["blocks.0.cross_attn.mat_kv.weight"].shape == (3840, 1024)
    assert state["class_emb.weight"].shape == (1001, 1920)


def test_first_weights():
    config = CONFIG.changed(width=128, depth=4)
    module = STARGenerator(config)
    module.reset_parameters(torch.Generator().manual_seed(0))
    std = (3 * 128) ** -0.5
    stds = {
        "word_embed.weight": std,
        "head_logits.weight": 0.02 * std,
        "blocks.1.attn.proj.weight": std / 8**0.5,
        "blocks.1.ffn.fc2.weight": std / 8**0.5,
        "blocks.1.cross_attn.proj.weight": std,
        "blocks.3.attn.mat_qkv.weight": std,
    }
    for name, expected in stds.items():
        assert module.get_parameter(name).std().item() == pytest.approx(expected, rel=0.05), name
    assert module.blocks[0].attn.scale_mul_1H11.unique().item() == pytest.approx(math.log(4.0))
    assert not module.blocks[2].ffn.fc1.bias.any() and module.pos_start.std() > 0.04
    assert [block.drop_path for block in module.blocks] == pytest.approx([0, 1 / 180, 2 / 180, 1 / 60])


def test_rotation_is_relative_and_spans_the_same_positions_at_every_scale():
    rope = AxialRope(Scales((1, 2, 9)), 8, 64.0, 10000.0)
    table = rope.table(Span((0, 1, 2), leading=1))
    assert table.shape == (1 + 1 + 4 + 81, 1, 4)
    assert torch.equal(torch.view_as_real(table[:2]), torch.view_as_real(torch.ones_like(table[:2])))
    assert torch.equal(table[2:6], table[6:][[0, 8, 72, 80]])  # corners of 2×2 and of 9×9
    x = torch.randn(81, 8)
    turned = rotate(x, table[6:, 0])
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    same = rotate(torch.ones(81, 8), table[6:, 0]).view(9, 9, 8)
    products = (same[:, 1:] * same[:, :-1]).sum(-1)
    assert torch.allclose(products, products[:1, :1].expand_as(products), atol=1e-4)
    assert rope.table(Span((1,))) is rope.table(Span((1,)))


def dense(q, k, v, seen):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)


def test_attention_by_scales_is_the_masked_one():
    lengths = (1, 4, 9)
    q, k, v = (torch.randn(2, 3, 14, 8) for _ in range(3))
    scale = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    got = BlockCausal(lengths, fused_attention)(q, k, v)
    assert torch.allclose(got, dense(q, k, v, scale[:, None] >= scale), atol=1e-6)


def test_separate_grids_are_the_masked_ones():
    lengths = (4, 9)
    q, k, v = (torch.randn(2, 3, 14, 8) for _ in range(3))
    grid = torch.tensor([0] + [1] * 4 + [2] * 9)
    seen = (grid[:, None] == grid) | (grid[:, None] == 0) | (grid == 0)
    got = SeparateGrids(lengths, fused_attention)(q, k, v)
    assert torch.allclose(got, dense(q, k, v, seen), atol=1e-6)


def test_the_sharpness_of_a_head_ends_at_100():
    block = build().blocks[0]
    table = torch.ones(5, 1, 4, dtype=torch.complex64)
    x, asked = torch.randn(1, 5, 32), []

    def attend(q, k, v):
        asked.append((q, k))
        return v

    for logarithm, scale in ((0.0, 1.0), (3.0, torch.tensor(3.0).exp().item()), (9.0, 100.0)):
        block.attn.scale_mul_1H11.fill_(logarithm)
        block.attn(x, table, attend)
        q, k = asked.pop()
        assert torch.allclose(q.norm(dim=-1), torch.full((1, 4, 5), scale * 8**0.5), rtol=1e-5)
        assert torch.allclose(k.norm(dim=-1), torch.ones(1, 4, 5), rtol=1e-5)


@pytest.mark.parametrize("attention", [plain_attention, sliced_attention])
def test_any_attention_gives_the_same(attention, generator, teacher, quantizer):
    other = STARGenerator(CONFIG, attention=attention).eval()
    other.load_state_dict(generator.state_dict())
    text = some_text(4)
    assert torch.allclose(other(teacher, text)[0], generator(teacher, text)[0], atol=2e-5)
    got = generate(other, quantizer, text[:2], some_text(1), GREEDY)
    assert torch.allclose(got, generate(generator, quantizer, text[:2], some_text(1), GREEDY), atol=1e-4)


def test_what_a_back_end_gets(quantizer):
    """Whole heads, no mask, keys of exactly the scales so far, the last channel contiguous."""
    asked = []

    def attention(q, k, v):
        asked.append((q.shape, k.shape))
        assert k.shape == v.shape and all(x.stride(-1) == 1 for x in (q, k, v))
        return fused_attention(q, k, v)

    module = STARGenerator(CONFIG, attention=attention).eval()
    module.load_state_dict(build().state_dict())
    full = some_text(1)
    generate(module, quantizer, full, TextFeatures(full.hidden, full.pooled, full.mask), GREEDY)
    lengths, so_far = (1, 4, 9, 25), (1, 5, 14, 39)
    expected = []
    for length, end in zip(lengths, so_far, strict=True):
        own, cross = ((2, 4, length, 8), (2, 4, end, 8)), ((1, 4, length, 8), (1, 4, 6, 8))
        expected += [own, cross] * 3
    assert asked == expected


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("mode", ["per_row", "cond_shared"])
def test_cached_inference_is_teacher_forcing(group, mode, quantizer):
    module = build(cross_attention=mode)
    text, empty = some_text(2), some_text(1, 2, 7)
    features, indices = [], []
    watch = Watch(
        logits=lambda network, scale, x, guided: features.append(x), drawn=lambda scale, x: indices.append(x)
    )
    latents = generate(module, quantizer, text, empty, GREEDY, group=group, watch=watch)
    assert torch.allclose(latents, quantizer.accumulate(indices)[-1], atol=1e-5)
    taught = module.features(quantizer.teacher_input(indices), text)
    cached = torch.cat(features, dim=1).unflatten(0, (2, 2, group))
    assert torch.allclose(cached[:, 0].flatten(0, 1), taught, atol=2e-5)
    if mode == "per_row":
        other = module.features(quantizer.teacher_input(indices), empty.repeat(2))
        assert torch.allclose(cached[:, 1].flatten(0, 1), other, atol=2e-5)


@pytest.mark.parametrize("count", [2, 3])
def test_the_coarse_scales_alone_are_what_they_are_among_all(quantizer, count):
    module, text = build(), some_text(2)
    lengths = module.scales.lengths
    codes = [torch.randint(len(quantizer.embedding.weight), (2, n)) for n in lengths]
    whole, end = module(quantizer.teacher_input(codes), text)[0], sum(lengths[:count])
    part, _ = module(quantizer.teacher_input(codes[: count - 1]), text, scales=count)
    assert part.shape[1] == end and torch.allclose(part, whole[:, :end], atol=1e-5)
    with pytest.raises(InputError, match="1 to 4 scales"):
        module(quantizer.teacher_input(codes), text, scales=5)


def test_guidance_grows_from_nothing_to_cfg(quantizer, generator):
    seen = []
    watch = Watch(logits=lambda network, scale, x, guided: seen.append((network.head(x), guided)))
    generate(generator, quantizer, some_text(1), some_text(1, seed=3), GREEDY, watch=watch)
    for scale, (raw, guided) in enumerate(seen):
        weight = 2.0 * scale / 3
        assert torch.allclose(guided, (1 + weight) * raw[:1] - weight * raw[1:], atol=2e-5), scale


def test_without_guidance_half_the_rows_do(quantizer, generator):
    rows = []
    watch = Watch(logits=lambda network, scale, x, guided: rows.append(len(x)))
    text = some_text(2)
    alone = generate(generator, quantizer, text, None, GenerationOptions(cfg=0.0, top_k=1), watch=watch)
    assert rows == [2] * 4
    mode = GenerationOptions(cfg=1e-9, top_k=1, cross_attention="per_row")
    assert torch.allclose(alone, generate(generator, quantizer, text, some_text(1), mode), atol=1e-4)


def test_modes_of_cross_attention(quantizer):
    """One picture: the first row is the conditional one. Several: "cond_shared" is each made alone."""
    module, text, empty = build(), some_text(3), some_text(1, seed=9)

    def made(which: TextFeatures, mode: str) -> torch.Tensor:
        options = GenerationOptions(cfg=2.0, top_k=1, cross_attention=mode)
        return generate(module, quantizer, which, empty, options)

    assert torch.allclose(made(text[:1], "row0"), made(text[:1], "cond_shared"), atol=1e-5)
    alone = torch.cat([made(text[i : i + 1], "row0") for i in range(3)])
    assert torch.allclose(made(text, "cond_shared"), alone, atol=1e-5)
    assert (made(text, "row0")[1:] - alone[1:]).abs().max() > 0.1
    assert (made(text, "per_row") - alone).abs().max() > 0.1


@pytest.mark.parametrize("mode", ["per_row", "cond_shared", "row0"])
def test_parts_are_the_whole(mode, quantizer, generator):
    text, empty = some_text(3), some_text(3, 4, 8)

    def made(part_tokens: int) -> tuple[torch.Tensor, int]:
        calls = []
        watch = Watch(logits=lambda network, scale, x, guided: calls.append(scale))
        options = GenerationOptions(top_k=5, top_p=0.9, cross_attention=mode, part_tokens=part_tokens)
        latents = generate(generator, quantizer, text, empty, options, seed=4, group=2, watch=watch)
        return latents, len(calls)

    (whole, calls), (split, more) = made(10**9), made(4 * 9 * 2)
    assert torch.allclose(whole, split, atol=1e-5)
    assert calls == 4 and more == (4 if mode == "row0" else 1 + 1 + 2 + 3)


@pytest.mark.parametrize("options", [GREEDY, GenerationOptions(top_k=5), GenerationOptions(more_smooth=True)])
def test_rows_and_pictures_a_few_at_a_time_are_the_whole(options, quantizer, generator, monkeypatch):
    text, empty = some_text(2), some_text(1, 4, 8)
    rows, pictures = [], []

    def made(tokens: int, logits: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        rows.clear(), pictures.clear()
        monkeypatch.setattr("panodiff_core.engines.star.parts.PASS_TOKENS", tokens)
        monkeypatch.setattr("panodiff_core.engines.star.parts.LOGIT_BYTES", logits)
        seen = []
        watch = Watch(logits=lambda network, scale, x, guided: seen.append(guided))
        return generate(generator, quantizer, text, empty, options, seed=4, group=3, watch=watch), seen

    hooks = [
        module.register_forward_hook(lambda module, inputs, out, calls=calls: calls.append(len(out)))
        for module, calls in ((generator.blocks[0].attn, rows), (generator.head_logits, pictures))
    ]
    try:
        whole, expected = made(10**9, 10**9)
        assert rows == [12] * 4 and pictures == [6] * 4
        some, seen = made(2 * 9, 4 * 9 * 48 * 2)
    finally:
        [hook.remove() for hook in hooks]
    assert rows == [12, 4, 4, 4] + 6 * [2] + 12 * [1]
    assert pictures == [6] + [3, 3] + [2, 1] * 2 + [1] * 6
    for mine, theirs in zip(seen, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-5)
    # Other sums of the same numbers: `more_smooth` divides those differences of the logits by a low temperature.
    torch.testing.assert_close(some, whole, rtol=1e-4, atol=1e-4)


def test_hidden_text_is_not_seen(generator, teacher):
    """Padding of any content, and a batch of texts of other lengths, change nothing."""
    text = some_text(4)
    expected = torch.cat([generator(teacher[i : i + 1], text[i : i + 1])[0] for i in range(4)])
    noise = torch.where(text.mask.unsqueeze(-1), text.hidden, torch.randn(text.hidden.shape) * 100)
    got, _ = generator(teacher, TextFeatures(noise, text.pooled, text.mask))
    assert torch.allclose(got, expected, atol=2e-5)


def test_one_text_for_several_rows(generator, teacher):
    text = some_text(2)
    twice = TextFeatures(*(x.repeat_interleave(2, dim=0) for x in (text.hidden, text.pooled, text.mask)))
    assert torch.allclose(generator(teacher, text)[0], generator(teacher, twice)[0], atol=2e-5)


def test_text_is_projected_once(generator, quantizer):
    calls = []
    hooks = [
        block.cross_attn.mat_kv.register_forward_hook(lambda *args: calls.append(args[1][0].shape[0]))
        for block in generator.blocks
    ]
    generate(generator, quantizer, some_text(2), some_text(1), GREEDY, group=3)
    for hook in hooks:
        hook.remove()
    assert calls == [2] * 3  # one per block: the two prompts, not their six rows nor the four scales


def test_the_cache_is_taken_once_and_filled_in_place():
    scales = Scales((1, 2))
    cache = KVCache(scales, 2, 3, 4, 8)
    assert cache.memory.nbytes == cache_bytes(scales, 2, 3, 32, 4)
    cache.memory.zero_()
    seen = []

    def attention(q, k, v):
        seen.append((k, v))
        return q

    for scale, length in ((0, 1), (1, 4)):
        for layer, attend in enumerate(cache.attends(scale, attention, slice(1, 3))):
            k = torch.full((2, 4, length, 8), 10.0 * layer + scale + 1)
            attend(k, k, -k)
    assert all(k.data_ptr() >= cache.memory.data_ptr() for k, _ in seen)
    assert torch.equal(seen[3][0][0, 0, :, 0], torch.tensor([11.0, 12, 12, 12, 12]))
    assert torch.equal(seen[3][1], -seen[3][0]) and not cache.memory[:, :, 0].any()


def test_a_branch_stands_after_self_attention(generator, teacher):
    text, asked = some_text(4), []
    plain, _ = generator(teacher, text)

    def branches(block, span):
        def branch(normed, raw):
            asked.append((block, span, normed, raw))
            return torch.zeros_like(raw)

        return branch

    assert torch.equal(generator(teacher, text, branches=branches)[0], plain)
    assert [each[0] for each in asked] == list(generator.blocks)
    assert {each[1] for each in asked} == {Span((0, 1, 2, 3))}
    assert all(torch.equal(normed, norm(raw, 1e-6)) for _, _, normed, raw in asked)
    raw = asked[0][3]
    block, keys = generator.blocks[0], next(generator.text_keys(text))
    table = generator.rope.table(Span((0, 1, 2, 3)))
    causal = BlockCausal(Scales(SIDES).lengths, fused_attention)
    residual = torch.randn(raw.shape)
    got = block(raw, table, causal, fused_attention, keys, lambda normed, raw: residual)
    x = raw + block.attn(norm(raw, 1e-6), table, causal) + residual
    x = x + block.cross_attn(norm(x, 1e-6), keys, fused_attention)
    assert torch.allclose(got, x + block.ffn(norm(x, 1e-6)), atol=1e-5)


def test_branches_are_asked_for_every_scale(generator, quantizer):
    spans = []

    def branches(block, span):
        spans.append(span)

    generate(generator, quantizer, some_text(1), some_text(1), GREEDY, branches=branches)
    assert spans == [Span((scale,)) for scale in range(4) for _ in range(3)]


def test_checkpointing_changes_no_gradient(teacher):
    grads = []
    for checkpointing in (False, True):
        module = build().train().requires_grad_(True)
        for block in module.blocks:
            block.drop_path = 0.0
        module.checkpointing = checkpointing
        module(teacher, some_text(2))[0].square().mean().backward()
        grads.append([p.grad for p in module.parameters()])
    for a, b in zip(*grads, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
    assert sum(g is None for g in grads[0]) == 0


def test_stochastic_depth_keeps_the_mean_and_drops_whole_rows():
    block = build().blocks[2]
    block.drop_path = 0.25
    residual = torch.ones(4000, 2, 3)
    assert torch.equal(block._dropped(residual), residual)
    block.train()
    torch.manual_seed(0)
    dropped = block._dropped(residual)
    assert dropped.flatten(1).unique(dim=0).tolist() == [[0.0] * 6, pytest.approx([4 / 3] * 6)]
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)


def test_half_precision_and_autocast_stay_near(generator, quantizer, teacher):
    expected, _ = generator(teacher, some_text(4))
    half = build().to(torch.bfloat16)
    logits, features = half(teacher.bfloat16(), some_text(4))
    assert logits.dtype == torch.float32 and features.dtype == torch.bfloat16
    assert (logits - expected).abs().mean() < 0.03 * expected.abs().mean()
    with torch.autocast("cpu", torch.bfloat16):
        logits, features = generator(teacher, some_text(4))
    assert features.dtype == torch.float32
    assert (logits - expected).abs().mean() < 0.03 * expected.abs().mean()
    latents = generate(half, quantizer, some_text(2), some_text(1), seed=3)
    assert latents.dtype == torch.float32 and latents.isfinite().all()


def test_wrong_inputs(generator, teacher):
    with pytest.raises(
        pano.InputError, match=r"must be \[R, 38, 8\] for scales \[1, 2, 3, 5\], got \[4, 37, 8\]"
    ):
        generator(teacher[:, 1:], some_text(4))
    with pytest.raises(pano.InputError, match="3 texts cannot be shared out evenly to 4 rows"):
        generator(teacher, some_text(3))
    wide = TextFeatures(torch.zeros(1, 2, 24), torch.zeros(1, 24), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(pano.InputError, match="the text is 24 wide and the model was trained with 20"):
        generator(teacher, wide)
    text = some_text(2)
    with pytest.raises(pano.InputError, match="hides every token of a row"):
        TextFeatures(text.hidden, text.pooled, torch.zeros_like(text.mask))
    with pytest.raises(pano.InputError, match=r"pooled \[P, D\] and mask \[P, T\], got"):
        TextFeatures(text.hidden, text.pooled[:1], text.mask)


def test_cross_attention_of_rows_with_one_text_is_one_sequence():
    module = lively(CrossAttention(32, 4, 20))
    keys = module.keys(torch.randn(2, 6, 20))
    x, shapes = torch.randn(6, 5, 32), []

    def attention(q, k, v):
        shapes.append((q.shape, k.shape))
        return fused_attention(q, k, v)

    together = module(x, TextKeys(*keys), attention)
    assert shapes == [((2, 4, 15, 8), (2, 4, 6, 8))]
    each = [
        module(x[i : i + 1], TextKeys(*(k[i // 3 :][:1] for k in keys)), fused_attention) for i in range(6)
    ]
    assert torch.allclose(together, torch.cat(each), atol=1e-6)


def test_the_feed_forward_of_a_few_tokens_at_a_time(monkeypatch):
    layer, x = lively(FeedForward(8, 32)), torch.randn(2, 7, 8)
    whole, calls = layer(x), []
    layer.fc1.register_forward_hook(lambda module, inputs, out: calls.append(len(out)))
    monkeypatch.setattr("panodiff_core.engines.star.blocks.PASS_BYTES", 4 * 32 * 5)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), whole, rtol=1e-6, atol=1e-6)
    assert calls == [5, 5, 4]


def test_run_takes_one_attention_per_block(generator):
    text = some_text(1)
    x = torch.randn(1, 4, 32)
    out = generator.run(x, Span((1,)), repeat(fused_attention), generator.text_keys(text))
    assert out.shape == (1, 4, 32) and out.isfinite().all()
