"""How STAR draws: filters, seeds, the masked sampler and its steps, progress and cancel, and the text tower."""

from __future__ import annotations

import math
import shutil
from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

import panodiff_core as pano
from panodiff_core.engines.star.blocks import Block
from panodiff_core.engines.star.config import STARConfig
from panodiff_core.engines.star.draws import SeededDraws
from panodiff_core.engines.star.filters import candidates, sample_codes, smooth_temperature, soft_one_hot
from panodiff_core.engines.star.inference import Watch, generate
from panodiff_core.engines.star.masked_sampler import (
    MaskedSampler,
    draw_keep,
    hidden_loss,
    keep_probability,
    official_loss,
)
from panodiff_core.engines.star.masked_steps import draw_in_steps, reveal_counts, step_count
from panodiff_core.engines.star.options import GenerationOptions
from panodiff_core.engines.star.scales import Scales
from panodiff_core.engines.star.text import TextFeatures, load_text_tower
from panodiff_core.engines.star.verification import sampling as golden
from panodiff_core.engines.star.vqvae.quantizer import Quantizer
from panodiff_core.verification import measure
from tests.core.star_vectors import Folder
from tests.core.test_star_generator import CONFIG, GREEDY, SIDES, VQVAEConfig, build, lively, some_text


@pytest.fixture(scope="module")
def generator():
    return build()


@pytest.fixture(scope="module")
def sampler() -> MaskedSampler:
    return lively(MaskedSampler(CONFIG), 3)


@pytest.fixture(scope="module")
def quantizer() -> Quantizer:
    return lively(Quantizer(VQVAEConfig(latent_channels=8, vocab=48), Scales(SIDES)), 5)


@pytest.fixture(scope="module")
def vectors():
    return [row for _, outcome in measure(golden.GROUPS, Folder()) for row in outcome]


def test_every_golden_number_is_met(vectors):
    assert [row for row in vectors if not row.met] == []


def test_every_golden_tensor_is_compared(vectors):
    prefixes = ("filter.", "gumbel.", "schedule.", "sampler.", "wmask.")
    inputs = {"filter.logits", "gumbel.exponential", "sampler.embed_Cvae", "sampler.keep_mask"}
    inputs |= {"schedule.arccos_keep_prob.r"}
    keys = {key for key in Folder().tensors("star") if key.startswith(prefixes) and ".uniform." not in key}
    assert keys - inputs == {row.what for row in vectors} and len(keys - inputs) > 50


@pytest.mark.parametrize(
    "key",
    ["filter.k20_p0.8.kept", "schedule.steps15.pn64", "sampler.row0.loss_official", "wmask.new.step_idx.6"],
)
def test_one_wrong_number_is_noticed(key):
    changed = Folder().tensors("star")[key].clone()
    last = changed.view(-1)[-1]
    changed.view(-1)[-1] = ~last if changed.dtype == torch.bool else last + 1
    rows = [row for _, outcome in measure(golden.GROUPS, Folder({key: changed})) for row in outcome]
    assert {row.what for row in rows if not row.met} == {key}


def test_the_published_sampler_has_its_keys():
    with torch.device("meta"):
        state = MaskedSampler(STARConfig(sampler_blocks=3)).state_dict()
    assert len(state) == 43
    assert sum(t.numel() for name, t in state.items() if "zero_k_bias" not in name) == 150_052_186


# filters


def kept(logits: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    values, indices = candidates(logits, top_k, top_p)
    if indices is not None:
        values = torch.full_like(logits, -torch.inf).scatter(-1, indices, values)
    return values.isfinite()


def test_equals_of_the_smallest_survive():
    logits = torch.tensor([[[3.0, 1.0, 2.0, 1.0, 1.0, 0.0]]])
    assert kept(logits, 3, 0.0).tolist() == [[[True, True, True, True, True, False]]]
    assert kept(logits, 2, 0.0).sum() == 2
    two_rows = torch.cat([logits, torch.tensor([[[6.0, 5, 4, 3, 2, 1]]])])
    assert kept(two_rows, 3, 0.0).sum(-1).flatten().tolist() == [5, 3]


def test_top_p_keeps_what_reaches_it_and_always_the_largest():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().view(1, 1, 4)
    for top_p, count in (
        (0.0, 4),
        (0.01, 1),
        (0.45, 1),
        (0.55, 2),
        (0.79, 2),
        (0.81, 3),
        (0.96, 4),
        (1.0, 4),
    ):
        assert kept(logits, 0, top_p).sum() == count, top_p
    assert kept(logits, 2, 0.6).sum() == 1  # after top-k the largest holds 0.625
    assert kept(logits, 2, 0.63).sum() == 2


def test_uniform_numbers_fall_into_their_shares():
    logits = torch.randn(1, 1, 12, generator=torch.Generator().manual_seed(0))
    count = 20000
    grid = ((torch.arange(count) + 0.5) / count).unsqueeze(0)
    for top_k, top_p in ((0, 0.0), (5, 0.0), (0, 0.7), (6, 0.8)):
        indices, shares = sample_codes(logits.expand(1, count, 12), grid, top_k, top_p)
        found = torch.bincount(indices[0], minlength=12) / count
        expected = torch.where(kept(logits, top_k, top_p), logits, -torch.inf).softmax(-1).flatten()
        assert torch.allclose(found, expected, atol=2e-4)
        assert torch.allclose(shares[0], expected[indices[0]], atol=1e-6)


def test_no_dropped_code_at_the_edges():
    logits = torch.full((1, 2, 4096), -torch.inf)
    logits[..., 7] = 0.1
    logits[..., 9] = 0.2
    edges = torch.tensor([[0.0, 1 - 2**-24]])
    assert sample_codes(logits, edges, 0, 0.0)[0].tolist() == [[7, 9]]
    assert sample_codes(logits, edges, 600, 0.9)[0].tolist() == [[9, 7]]
    many = torch.randn(1, 4096, 300)
    last, shares = sample_codes(many, torch.full((1, 4096), 1 - 2**-24), 20, 0.5)
    assert kept(many, 20, 0.5).gather(-1, last.unsqueeze(-1)).all() and (shares > 0).all()


def test_greedy_needs_no_number_and_tells_the_whole_probability():
    logits = torch.randn(2, 3, 9)
    indices, probability = sample_codes(logits, None, 1, 0.0)
    assert torch.equal(indices, logits.argmax(-1))
    assert torch.allclose(probability, logits.softmax(-1).amax(-1))


def test_soft_mixtures():
    logits = torch.tensor([[[2.0, 0.0]]])
    assert torch.allclose(soft_one_hot(logits, torch.ones(1, 1, 2), 1.0), logits.softmax(-1))
    assert soft_one_hot(logits, torch.tensor([[[1e9, 1.0]]]), 0.01)[0, 0, 1] > 0.999
    assert [smooth_temperature(x) for x in (0.0, 0.5, 1.0)] == pytest.approx([0.27, 0.14175, 0.0135])


# seeds


def test_a_unit_of_a_batch_has_a_seed_of_its_own(generator, quantizer):
    text, empty = some_text(3), some_text(1)
    options = GenerationOptions(cfg=1.0, top_k=0, top_p=0.0)
    batch = generate(generator, quantizer, text, empty, options, seed=7, group=2)
    assert torch.equal(batch, generate(generator, quantizer, text, empty, options, seed=7, group=2))
    alone = generate(generator, quantizer, text[1:2], empty, options, seed=8, group=2)
    assert torch.allclose(batch[2:4], alone, atol=1e-5)
    assert (batch[2] - batch[3]).abs().max() > 0.1
    other = generate(generator, quantizer, text[1:2], empty, options, seed=9, group=2)
    assert (alone - other).abs().max() > 0.1
    torch.manual_seed(5)  # the global stream plays no part
    assert torch.equal(batch, generate(generator, quantizer, text, empty, options, seed=7, group=2))


def test_draws():
    draws = SeededDraws(2**64 - 1, 2, 3)
    tokens = draws.tokens(5)
    assert tokens.shape == (6, 5) and tokens.min() >= 0 and tokens.max() < 1
    assert torch.equal(SeededDraws(0, 1, 3).tokens(5), tokens[3:])
    noise = draws.mixtures(50, 40)
    assert noise.shape == (6, 50, 40) and noise.mean().item() == pytest.approx(1.0, abs=0.05)


def test_soft_generation(generator, quantizer):
    options = GenerationOptions(cfg=1.0, more_smooth=True)
    soft = generate(generator, quantizer, some_text(2), some_text(1), options, seed=1)
    assert torch.equal(soft, generate(generator, quantizer, some_text(2), some_text(1), options, seed=1))
    assert soft.isfinite().all()
    codebook, weights = quantizer.codebook(), []
    add = quantizer.add_scale
    quantizer.add_scale = lambda latents, codes, scale: weights.append(codes) or add(latents, codes, scale)
    try:
        generate(generator, quantizer, some_text(1), some_text(1), options, seed=1)
    finally:
        del quantizer.add_scale
    assert torch.cdist(weights[0], codebook).amin() > 1e-3  # the first scale is warm: a mixture, not a code


def test_one_top_k_per_scale(generator, quantizer):
    drawn = []
    watch = Watch(drawn=lambda scale, indices: drawn.append(indices))
    text, empty = some_text(1), some_text(1)
    options = GenerationOptions(cfg=0.0, top_k=(1, 1, 0, 0), top_p=0.0)
    generate(generator, quantizer, text, empty, options, seed=0, watch=watch)
    generate(generator, quantizer, text, empty, options, seed=1, watch=watch)
    same = [torch.equal(a, b) for a, b in zip(drawn[:4], drawn[4:], strict=True)]
    assert same == [True, True, False, False]


# masked sampler


@pytest.mark.parametrize("steps", [8, 15])
def test_every_step_commits_something(steps):
    for side in range(1, 65):
        counts = reveal_counts(side * side, steps)
        assert sum(counts) == side * side and len(counts) == min(steps, side * side)
        assert min(counts[:-1], default=1) >= 1 and counts[-1] >= (1 if side > 4 else 0)
    assert reveal_counts(1024, 8) == (1, 72, 103, 128, 150, 171, 190, 209)


def test_step_counts_of_the_versions():
    assert [step_count(s, "1024") for s in (9, 12, 13)] == [8, 8, 15]
    assert [step_count(s, "new") for s in (9, 13)] == [8, 8]


@pytest.mark.parametrize("published", [False, True])
def test_committed_codes_stay(published):
    counts, tokens = reveal_counts(64, 8), 64
    stream = torch.Generator().manual_seed(0)
    asked, steps = [], []

    def predict(known):
        asked.append(known.clone())
        return torch.randn(2, tokens, 30, generator=stream)

    result = draw_in_steps(
        counts,
        torch.randn(2, tokens, 30, generator=stream) if published else None,
        predict,
        lambda logits: sample_codes(logits, None, 1),
        lambda: torch.rand(2, tokens, generator=stream),
        lambda indices: (indices + 1.0).unsqueeze(-1).expand(-1, -1, 3),
        torch.zeros(2, tokens, 3),
        steps.append,
    )
    assert len(asked) == (3 if published else 8) and len(steps) == 8
    for before, after in pairwise(steps):
        assert (after.seen >= before.seen).all()
        assert torch.equal(before.codes[before.seen], result[before.seen])
    if not published:
        assert [int(step.seen[0].sum()) for step in steps] == torch.tensor(counts).cumsum(0).tolist()
    for known, step in zip(
        asked[1:] if not published else asked, steps[:-1] if not published else steps[4:-1], strict=True
    ):
        assert torch.equal(known != 0, step.seen.unsqueeze(-1).expand(-1, -1, 3))
    assert steps[-1].seen.all() and torch.equal(steps[-1].codes, result) and (result > 0).all()


def test_the_likeliest_are_committed_after_the_random_steps():
    logits = torch.arange(40.0).view(1, 40, 1) * torch.tensor([0.0, 0.1])
    steps = []
    draw_in_steps(
        (1, 1, 1, 1, 1, 20, 15),
        None,
        lambda known: logits,
        lambda x: sample_codes(x, None, 1),
        lambda: torch.arange(40.0, 0.0, -1.0).unsqueeze(0) / 41,
        lambda indices: indices.unsqueeze(-1) + 1.0,
        torch.zeros(1, 40, 1),
        steps.append,
    )
    assert steps[4].seen[0].nonzero().flatten().tolist() == [0, 1, 2, 3, 4]
    assert steps[5].seen[0].nonzero().flatten().tolist() == [0, 1, 2, 3, 4, *range(20, 40)]


@pytest.mark.parametrize("version", ["new", "1024"])
def test_generation_with_the_sampler(version, generator, sampler, quantizer):
    text, empty, steps = some_text(2), some_text(1), []

    def made(part_tokens: int, on_step=None):
        options = GenerationOptions(top_k=9, top_p=0.9, sampler=version, part_tokens=part_tokens)
        return generate(
            generator, quantizer, text, empty, options, seed=2, group=3, sampler=sampler, on_step=on_step
        )

    whole = made(10**9, steps.append)
    assert torch.allclose(whole, made(1), atol=1e-5)
    assert [step.index for step in steps] == list(range(1, 12)) and {step.total for step in steps} == {11}
    assert torch.equal(steps[-1].denoised, whole) and steps[-1].sigma == 0.0
    assert all(step.latents.shape == (6, 8, 5, 5) for step in steps)
    assert (steps[3].latents - steps[2].latents).abs().max() > 0.01  # the preview shows the unfinished scale
    options = GenerationOptions(top_k=9, top_p=0.9)
    assert (whole - generate(generator, quantizer, text, empty, options, seed=2, group=3)).abs().max() > 0.1


def test_the_sampler_serves_every_scale_from_its_first(generator, quantizer):
    config = CONFIG.changed(from_idx=2)
    early, spans = lively(MaskedSampler(config), 3), []

    def branches(block, span):
        if span.leading:
            spans.append(span.scales)

    options = GenerationOptions(top_k=1, sampler="new")
    steps = []
    generate(
        generator,
        quantizer,
        some_text(1),
        some_text(1),
        options,
        group=2,
        sampler=early,
        branches=branches,
        on_step=steps.append,
    )
    assert spans == [(2, 2)] * 8 * 2 + [(3, 3)] * 8 * 2
    assert len(steps) == 2 + 8 + 8


def test_the_network_is_the_masked_one():
    """Two scales in one sequence against a dense mask; guidance's text token is one of its own row."""
    sampler = lively(MaskedSampler(CONFIG.changed(from_idx=1)), 3)
    grid = torch.tensor([0] + [1] * 4 + [2] * 9 + [3] * 25)
    seen = (grid[:, None] == grid) | (grid[:, None] == 0) | (grid == 0)
    codes, features = torch.randn(2, 38, 8), torch.randn(2, 38, 32)
    text = some_text(2)
    got = sampler(codes, features, text.pooled)
    plain = Block.forward

    def dense(self, x, table, attend, attention, *more):
        masked = partial(F.scaled_dot_product_attention, attn_mask=seen)
        return plain(self, x, table, masked, attention, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Block, "forward", dense)
        assert torch.allclose(sampler(codes, features, text.pooled), got, atol=2e-5)
    last = sampler(codes[:, 13:], features[:, 13:], text.pooled, (3,))
    assert last.shape == (2, 25, 48) and (last - got[:, 13:]).abs().max() > 1e-3  # the text token saw more


def test_shares_of_visible_tokens():
    assert keep_probability(torch.tensor([0.0, 0.5, 1.0])).tolist() == pytest.approx([1.0, 2 / 3, 0.0])
    keep = draw_keep(4000, 40, torch.Generator().manual_seed(0))
    assert keep.dtype == torch.bool and keep.float().mean().item() == pytest.approx(2 / math.pi, abs=0.01)
    assert keep.float().mean(dim=1).std() > 0.15  # one share per row, not one for all
    assert torch.equal(keep, draw_keep(4000, 40, torch.Generator().manual_seed(0)))


def test_losses():
    logits = torch.randn(2, 6, 5, requires_grad=True)
    targets, keep = torch.randint(5, (2, 6)), torch.tensor([[1, 0, 1, 0, 0, 1], [0, 0, 1, 1, 1, 1]])
    expected = F.cross_entropy(logits[keep == 0], targets[keep == 0])
    assert hidden_loss(logits, targets, keep).item() == pytest.approx(expected.item(), abs=1e-6)
    visible = torch.tensor([0.0] * 5 + [10.0])
    wide = torch.where(keep.bool().unsqueeze(-1), visible, F.pad(logits, (0, 1)))
    labels = torch.where(keep.bool(), 5, targets)
    losses = F.cross_entropy(wide.transpose(1, 2), labels, reduction="none")
    loss = official_loss(logits, targets, keep, 20)
    assert loss.item() == pytest.approx((losses.sum(1) / 20).mean().item(), abs=1e-6)
    loss.backward()
    assert not logits.grad[keep == 1].any() and logits.grad[keep == 0].any(dim=1).all()
    assert hidden_loss(logits, targets, torch.ones(2, 6)).item() == 0.0


def test_wrong_inputs_of_the_sampler(sampler):
    text = some_text(2)
    with pytest.raises(
        pano.InputError, match=r"codes of the masked sampler must be \[2, 25, 8\], got \[2, 24, 8\]"
    ):
        sampler(torch.zeros(2, 24, 8), torch.zeros(2, 25, 32), text.pooled)
    with pytest.raises(pano.InputError, match=r"features of the masked sampler must be \[2, 25, 32\]"):
        sampler(torch.zeros(2, 25, 8), torch.zeros(1, 25, 32), text.pooled)
    with pytest.raises(pano.InputError, match=r"pooled text of the masked sampler must be \[2, 20\]"):
        sampler(torch.zeros(2, 25, 8), torch.zeros(2, 25, 32), text.pooled[:1])
    for blocks in (0, 4):
        with pytest.raises(pano.InputError, match=f"sampler_blocks is {blocks}: a masked sampler has from 1"):
            MaskedSampler(CONFIG.changed(sampler_blocks=blocks))


# the loop


@pytest.mark.parametrize("at", [1, 3, 6])
def test_cancel(at, generator, sampler, quantizer):
    text, empty = some_text(1), some_text(1)
    options = GenerationOptions(top_k=1, sampler="new")
    before = generate(generator, quantizer, text, empty, options, sampler=sampler)
    seen = []

    def stop(step):
        seen.append(step.index)
        if step.index == at:
            raise pano.Cancelled("enough")

    with pytest.raises(pano.Cancelled, match="enough"):
        generate(generator, quantizer, text, empty, options, sampler=sampler, on_step=stop)
    assert seen == list(range(1, at + 1))
    assert torch.equal(before, generate(generator, quantizer, text, empty, options, sampler=sampler))


def test_previews_grow_into_the_picture(generator, quantizer):
    steps, drawn = [], []
    watch = Watch(drawn=lambda scale, indices: drawn.append(indices))
    latents = generate(
        generator, quantizer, some_text(2), some_text(1), GREEDY, on_step=steps.append, watch=watch
    )
    after = quantizer.accumulate(drawn)
    assert [(step.index, step.total, step.sigma) for step in steps] == [
        (1, 4, 0.75),
        (2, 4, 0.5),
        (3, 4, 0.25),
        (4, 4, 0.0),
    ]
    for step, expected in zip(steps, after, strict=True):
        assert torch.allclose(step.denoised, expected, atol=1e-5)
    assert torch.equal(steps[-1].latents, latents)


def test_numbers_that_are_not_finite_are_named(quantizer):
    broken = build()
    broken.lvl_embed.weight[2] = torch.nan
    with pytest.raises(pano.NumericalError, match="the logits of scale 3 of 4 have NaN or infinite values"):
        generate(broken, quantizer, some_text(1), some_text(1), GREEDY)


BAD_OPTIONS = [
    ({"cfg": -1.0}, "cfg must be a number from 0 to 100, got -1.0"),
    ({"cfg": math.nan}, "cfg must be a number from 0 to 100, got nan"),
    ({"cfg": True}, "cfg must be a number"),
    ({"top_k": -1}, "top_k must be a whole number of at least 0"),
    ({"top_k": (1, 2.5)}, "top_k must be a whole number of at least 0 .*got 2.5"),
    ({"top_p": 1.5}, "top_p must be a number from 0 to 1"),
    ({"sampler": "old"}, "sampler must be one of off, 1024, new, got 'old'"),
    ({"cross_attention": "mine"}, "cross_attention must be one of cond_shared, per_row, row0, got 'mine'"),
    ({"part_tokens": 0}, "part_tokens must be a whole number of at least 1, got 0"),
]


@pytest.mark.parametrize("options, message", BAD_OPTIONS)
def test_wrong_options(options, message):
    with pytest.raises(pano.InputError, match=message):
        GenerationOptions(**options)


def test_what_does_not_fit_is_said_before_any_work(generator, quantizer):
    text, ran = some_text(2), []
    hook = generator.encoder_proj.register_forward_hook(lambda *args: ran.append(args))

    def refused(
        message: str, *, of=generator, unconditional=None, group=1, codes=quantizer, **options
    ) -> None:
        with pytest.raises(pano.InputError, match=message):
            generate(of, codes, text, unconditional, GenerationOptions(**options), group=group)

    refused('guidance needs the encoded empty prompt "" as unconditional text; or set cfg to 0')
    refused("3 texts for 2 prompts", unconditional=some_text(3))
    refused("group must be a whole number of at least 1, got 0", group=0, cfg=0.0)
    refused("sampler 'new' needs a model with a masked sampler", sampler="new", cfg=0.0)
    refused("top_k has 2 numbers for 4 scales", top_k=(1, 1), cfg=0.0)
    others = Quantizer(VQVAEConfig(latent_channels=8, vocab=48), Scales((1, 2, 5)))
    refused(r"the autoencoder has Scales\(\(1, 2, 5\)\) and the generator", codes=others, cfg=0.0)
    refused("the model is in training mode", of=build().train(), cfg=0.0)
    wide = TextFeatures(torch.zeros(1, 2, 24), torch.zeros(1, 24), torch.ones(1, 2, dtype=torch.bool))
    refused("the text is 24 wide and the model was trained with 20", unconditional=wide)
    hook.remove()
    assert ran == []


# text


@pytest.fixture(scope="module")
def tower(tiny_folder):
    return load_text_tower(tiny_folder, 24)


def test_the_tower_is_the_librarys(tower):
    prompts = ["a red house", "a calm stormy sea at night with the moon", ""]
    text = tower.encode(prompts)
    assert text.hidden.shape == (3, 11, 24) and tower.width == 24
    assert text.mask.sum(dim=1).tolist() == [5, 11, 2]
    full = tower.tokenizer(prompts, padding="max_length", return_tensors="pt")
    golden = tower.model(input_ids=full["input_ids"], attention_mask=full["attention_mask"])
    assert torch.allclose(text.pooled, golden.pooler_output, atol=1e-5)
    longest = golden.last_hidden_state[:, :11]
    assert torch.allclose(text.hidden[text.mask], longest[text.mask], atol=1e-5)


def test_a_prompt_does_not_depend_on_its_neighbours(tower):
    both = tower.encode(["a red house", "a calm stormy sea at night with the moon"])
    alone = tower.encode(["a red house"])
    assert torch.allclose(both.hidden[0, :5], alone.hidden[0], atol=1e-6)
    assert torch.allclose(both.pooled[:1], alone.pooled, atol=1e-6)


def test_long_and_unknown_words(tower):
    reading = tower.read(["a zeppelin", " ".join(["sea"] * 40)])
    assert reading.unknown_words == ("zeppelin",)
    assert len(reading.truncated) == 1 and reading.truncated[0].startswith("CLIP reads 22 tokens and stops")
    assert tower.encode([" ".join(["sea"] * 40)]).hidden.shape == (1, 24, 24)


@pytest.mark.parametrize("prompts", [[], "a sea", [3]])
def test_wrong_prompts(tower, prompts):
    with pytest.raises(pano.InputError, match="prompts must be a list of texts"):
        tower.encode(prompts)


def test_wrong_towers(tiny_folder, tmp_path):
    with pytest.raises(
        pano.CheckpointError, match="is 24 wide and the generator expects 1024: take text_encoder/"
    ):
        load_text_tower(tiny_folder, 1024)
    with pytest.raises(
        pano.CheckpointError, match="has no text_encoder/: take text_encoder/ and tokenizer/ from"
    ):
        load_text_tower(tmp_path)
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(tiny_folder / part, tmp_path / part)
    weights = tmp_path / "text_encoder" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(pano.CheckpointError, match="cannot be read as a text encoder"):
        load_text_tower(tmp_path)
    from safetensors.torch import load, save_file

    tensors = load(whole)
    name = next(key for key in tensors if key.endswith("final_layer_norm.weight"))
    save_file({key: t for key, t in tensors.items() if key != name}, weights, metadata={"format": "pt"})
    with pytest.raises(pano.CheckpointError, match="lacks 1 tensors, first .*final_layer_norm.weight"):
        load_text_tower(tmp_path)


def test_texts_in_turn():
    first, second = some_text(2, 6), some_text(2, 3, 4)
    both = first.interleave(second)
    assert both.hidden.shape == (4, 6, 20) and len(both) == 4
    assert torch.equal(both.hidden[2], first.hidden[1]) and torch.equal(both.hidden[3, :3], second.hidden[1])
    assert torch.equal(both.mask[1], torch.tensor([True] * 3 + [False] * 3))
    assert torch.equal(both.pooled, torch.stack([first.pooled, second.pooled], 1).flatten(0, 1))
