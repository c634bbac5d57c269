"""Editing panoramas: RF inversion, the controlled reverse, shared tokens and masks (dit360 spec, section 7)."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("diffusers")

import panodiff_core as pano
from panodiff_core.engines.dit360.editing import (
    EditOptions,
    edit,
    grid_mask,
    inversion_residual,
    invert,
    invert_closed_form,
    pad_mask,
    replace_tokens,
    shared_tokens,
)
from panodiff_core.engines.dit360.model import CallableAttention, FluxNetwork, RingGrid, use_attention
from panodiff_core.engines.dit360.verification import editing as verification
from panodiff_core.schedulers.flow_matching import FlowMatchScheduler
from tests.core.dit360_vectors import largest, tensors
from tests.core.vector_folder import Folder, results, unmet

TRAJECTORY, WRONG = 2e-4, 0.05
GRID = RingGrid(8, 16, 1)


@pytest.fixture
def net():
    return Folder().transformer()


def schedule(steps: int = 4, tokens: int = GRID.rows * GRID.columns) -> FlowMatchScheduler:
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(steps, scheduler.mu(tokens))
    return scheduler


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def condition(batch: int, length: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    return draw(batch, length, 32, seed=seed), draw(batch, 24, seed=seed + 1), torch.full((batch,), 2.8)


def bind(net: torch.nn.Module, bound: tuple[torch.Tensor, ...]):
    network = FluxNetwork(net, GRID.ids, bound[0].shape[1])
    return lambda tokens, sigma: network(tokens, sigma, bound)


def no_network(tokens, sigma):
    pytest.fail("called the network")


def seam_mask() -> torch.Tensor:
    """Keeps the right edge of the picture and not the left."""
    mask = torch.zeros(4, 8)
    mask[1:3, 5:] = 1.0
    return mask


def test_vectors():
    rows = list(verification.check(Folder()))
    assert not unmet(rows)
    names = [row.what for row in rows]
    assert len(names) == len(set(names)) and set(names) - results("edit") == {
        "invert.gamma1.0.inverted, closed form"
    }
    assert results("edit") <= set(names)
    loops = ("velocity", "latents_padded", ".x.", "final_packed", "inverted")
    assert {row.bound for row in rows if any(part in row.what for part in loops)} == {TRAJECTORY}
    assert {row.bound for row in rows if "mask_padded" in row.what} == {0.0}


def test_wrong_editing_is_far_outside():
    """Negative controls: the wrong mask rule, no replacement, and the other schedule."""
    t = tensors("edit")
    rule = largest(t["edit.default.final_packed"], t["derived_mask.edit.default.final_packed"])
    assert rule > WRONG
    swapped = Folder({"mask_padded_official": t["derived.mask_padded_wrapped"]})
    assert [row.what for row in unmet(verification.check(swapped))] == ["mask_padded_official"]
    about = json.loads(Folder().metadata("edit")["edit_default"])
    net = Folder().transformer()
    bound = (t["in.edit_prompt_embeds"], t["in.edit_pooled"], torch.full((2,), 2.8))
    tokens = torch.cat([t["invert.gamma1.0.inverted"], GRID.enter(t["in.edit_noise_spatial"])])
    with torch.no_grad():
        plain = bind(net, bound)
        shared = replace_tokens(plain, net, t["mask_padded_official"], about["tau"])
        assert largest(shared(tokens, 1.0), t["edit.default.velocity.0"]) <= 5e-5
        alone = plain(tokens, 1.0)
    assert largest(alone[:1], t["edit.default.velocity.0"][:1]) <= 5e-5  # the source is never touched
    assert largest(alone[1:], t["edit.default.velocity.0"][1:]) > WRONG
    padded = schedule(int(Folder().metadata("edit")["edit_steps"]), GRID.tokens)
    assert largest(padded.sigmas, t["edit.default.sigmas"]) > 1e-4


@pytest.mark.parametrize("steps, residual", [(20, 0.0226), (28, 0.0163), (50, -0.00012), (100, -0.00009)])
def test_residual_of_the_trained_size(steps, residual):
    """1024×2048 pixels are 8192 tokens without padding; the figures are the specification's."""
    assert inversion_residual(schedule(steps, 8192)) == pytest.approx(
        residual, abs=6e-5 if steps < 50 else 6e-6
    )


def test_full_gamma_is_the_closed_form():
    image, noise = draw(2, GRID.tokens, 64), draw(2, GRID.tokens, 64, seed=1)
    for steps in (1, 4, 9):
        loop = invert(schedule(steps), no_network, image, noise, gamma=1.0)
        assert largest(loop, invert_closed_form(schedule(steps), image, noise)) <= 2e-6
    assert torch.equal(invert_closed_form(schedule(1), image, noise), noise)


def test_no_gamma_follows_the_network_alone():
    image, noise = draw(1, GRID.tokens, 64), draw(1, GRID.tokens, 64, seed=1)
    times = []

    def constant(tokens, time):
        times.append(time)
        return torch.full_like(tokens, 0.5)

    result = invert(schedule(4), constant, image, noise, gamma=0.0)
    assert largest(result, image + 0.5) <= 1e-6  # the steps add up to 1
    assert times == [0.0, 0.2, 0.4, 0.6]


def test_the_source_branch_is_a_line():
    """At eta 1 its states lie between the picture and where it began, whatever the network says."""
    image, inverted = draw(1, GRID.tokens, 64), draw(1, GRID.tokens, 64, seed=1)
    states = []

    def network(tokens, sigma):
        states.append((sigma, tokens[:1]))
        return draw(2, GRID.tokens, 64, seed=len(states))

    noise = draw(1, GRID.tokens, 64, seed=2)
    result = edit(schedule(8), network, GRID, image, inverted, noise, options=EditOptions(stop=1.0))
    for sigma, state in states:
        assert largest(state, image + sigma * (inverted - image)) <= 2e-6
    assert largest(result[:1], image) <= 2e-6
    free = edit(schedule(8), network, GRID, image, inverted, noise)
    assert largest(free[:1], image) > WRONG  # the published stop leaves the last step to the network


def test_pull():
    """Shares per step of 10: from int(start·n) up to int(stop·n), fading with the decay."""
    assert [EditOptions().pull(i, 10) for i in range(10)] == [1.0] * 9 + [0.0]
    late = EditOptions(eta=0.6, start=0.25, stop=0.5)
    assert [late.pull(i, 10) for i in range(10)] == [0.0] * 2 + [0.6] * 3 + [0.0] * 5
    fading = EditOptions(eta=0.8, stop=1.0, decay=2.0)
    assert [fading.pull(i, 4) for i in range(4)] == pytest.approx([0.8, 0.45, 0.2, 0.05])


def test_blending_takes_places_from_the_source():
    """Only after steps that began at or above `blend_from`, and by the mask's weight."""
    image, inverted, noise = (draw(1, GRID.tokens, 64, seed=s) for s in range(3))
    keep = pad_mask(seam_mask() * 0.75)
    still = lambda tokens, sigma: torch.zeros_like(tokens)
    scheduler = schedule(6)
    for threshold, blends in ((1.0, 1), (0.5, sum(scheduler.sigma(i) >= 0.5 for i in range(6)))):
        options = EditOptions(eta=0.0, blend_from=threshold)
        result = edit(scheduler, still, GRID, image, inverted, noise, keep, options)
        remains = (1.0 - keep) ** blends
        assert largest(result[:1], inverted) == 0.0
        assert largest(result[1:], remains * noise + (1.0 - remains) * inverted) <= 1e-6
    assert torch.equal(
        edit(scheduler, still, GRID, image, inverted, noise, None, EditOptions(eta=0.0))[1:], noise
    )


@pytest.mark.parametrize("length", [1, 20, 77])
@pytest.mark.parametrize("batch", [2, 4])
def test_shared_tokens_equal_replaced_hidden_states(net, length, batch):
    """The published form as an oracle: normed, modulated image tokens are exchanged before the projections."""
    keep = pad_mask(seam_mask())
    chosen, half = keep.flatten() > 0.5, batch // 2
    tokens, bound = draw(batch, GRID.tokens, 64), condition(batch, length)

    def exchange(module, args, kwargs):
        name = "hidden_states"
        hidden = kwargs[name].clone()
        image = hidden[:, -GRID.tokens :]
        image[half:, chosen] = image[:half, chosen]
        return args, {**kwargs, name: hidden}

    blocks = [*net.transformer_blocks, *net.single_transformer_blocks]
    with torch.no_grad():
        with shared_tokens(net, keep):
            shared = bind(net, bound)(tokens, 0.8)
        plain = bind(net, bound)(tokens, 0.8)
        handles = [block.attn.register_forward_pre_hook(exchange, with_kwargs=True) for block in blocks]
        oracle = bind(net, bound)(tokens, 0.8)
        for handle in handles:
            handle.remove()
    assert largest(shared, oracle) <= 2e-5
    assert largest(shared[:half], plain[:half]) <= 2e-5
    assert largest(shared[half:], plain[half:]) > WRONG


def test_sources_and_edits_of_a_batch_do_not_mix(net):
    """Two edits at once are the two edits one by one."""
    keep = pad_mask(seam_mask())
    image, inverted, noise = (draw(2, GRID.tokens, 64, seed=s) for s in range(3))
    text, pooled, guidance = condition(4, 9)
    with torch.no_grad():
        predict = replace_tokens(bind(net, (text, pooled, guidance)), net, keep)
        both = edit(schedule(3), predict, GRID, image, inverted, noise, keep)
        for i in range(2):
            rows = [i, i + 2]
            predict = replace_tokens(bind(net, (text[rows], pooled[rows], guidance[rows])), net, keep)
            one = slice(i, i + 1)
            alone = edit(schedule(3), predict, GRID, image[one], inverted[one], noise[one], keep)
            assert largest(alone, both[rows]) <= 2e-5


def test_replacement_stops_at_tau_and_leaves_no_trace(net):
    keep, bound = pad_mask(seam_mask()), condition(2, 9)
    tokens = draw(2, GRID.tokens, 64)
    before = net.attn_processors
    plain = bind(net, bound)
    with torch.no_grad():
        for sigma, same in ((0.7, False), (0.6, True), (0.2, True)):
            shared = replace_tokens(plain, net, keep, tau=0.6)(tokens, sigma)
            assert torch.equal(shared, plain(tokens, sigma)) is same
    assert net.attn_processors.keys() == before.keys()
    assert all(net.attn_processors[name] is before[name] for name in before)


def test_the_users_attention_is_used_and_restored(net):
    calls = []

    def recording(q, k, v):
        calls.append(tuple(q.shape))
        return F.scaled_dot_product_attention(q, k, v)

    use_attention(net, recording)
    tokens, bound = draw(2, GRID.tokens, 64), condition(2, 9)
    with torch.no_grad():
        replace_tokens(bind(net, bound), net, pad_mask(seam_mask()))(tokens, 1.0)
    assert calls == [(2, 2, 9 + GRID.tokens, 16)] * 4
    processors = net.attn_processors.values()
    assert all(isinstance(p, CallableAttention) and p.attention is recording for p in processors)


@pytest.mark.parametrize("error", [pano.Cancelled, KeyboardInterrupt])
def test_attention_is_restored_after_errors(net, error):
    before = net.attn_processors
    keep = pad_mask(seam_mask())

    def cancel(*reported):
        raise error("enough")

    tokens = [draw(1, GRID.tokens, 64, seed=s) for s in range(3)]
    with torch.no_grad():
        predict = replace_tokens(bind(net, condition(2, 9)), net, keep)
        with pytest.raises(error, match="enough"):
            edit(schedule(), predict, GRID, *tokens, keep, on_step=cancel)
        with pytest.raises(error, match="enough"):
            replace_tokens(cancel, net, keep)(draw(2, GRID.tokens, 64), 1.0)
        with pytest.raises(error, match="enough"):
            invert(schedule(), bind(net, condition(1, 9)), *tokens[:2], on_step=cancel)
        with pytest.raises(pano.InputError, match="a batch of 3 has no halves"), shared_tokens(net, keep):
            bind(net, condition(3, 9))(draw(3, GRID.tokens, 64), 1.0)
    assert all(net.attn_processors[name] is before[name] for name in before)


def test_steps_are_reported():
    image, inverted, noise = (draw(1, GRID.tokens, 64, seed=s) for s in range(3))
    noise = GRID.enter(GRID.leave(noise))
    steps, inversion = [], []
    half = lambda tokens, sigma: tokens / 2
    result = edit(schedule(5), half, GRID, image, inverted, noise, on_step=steps.append)
    assert [(s.index, s.total) for s in steps] == [(i, 5) for i in range(1, 6)]
    assert [s.sigma for s in steps] == [schedule(5).sigma(i) for i in range(1, 6)]
    assert torch.equal(steps[-1].latents, GRID.leave(result[1:]))
    assert torch.allclose(steps[0].denoised, GRID.leave(noise) / 2) and steps[0].denoised.shape == (
        1,
        16,
        8,
        16,
    )
    report = lambda index, total, state: inversion.append((index, total, state))
    final = invert(schedule(5), half, image, noise, on_step=report)
    assert [(index, total) for index, total, _ in inversion] == [(i, 5) for i in range(1, 6)]
    assert torch.equal(inversion[-1][2], final)


def test_nan_names_the_step():
    image, inverted, noise = (draw(1, GRID.tokens, 64, seed=s) for s in range(3))
    for poisoned in (1, 3):
        calls = []

        def network(tokens, sigma, poisoned=poisoned, calls=calls):
            calls.append(sigma)
            return tokens * (torch.nan if len(calls) == poisoned else 1.0)

        with pytest.raises(pano.NumericalError, match=f"stage transformer, step {poisoned} of 3"):
            edit(schedule(3), network, GRID, image, inverted, noise)
        calls.clear()
        with pytest.raises(pano.NumericalError, match=f"step {poisoned} of 3"):
            invert(schedule(3), network, image, noise)


def test_grid_mask():
    """The pixel nearest to a token's centre decides, and only pure white counts."""
    picture = torch.zeros(64, 128, dtype=torch.uint8)
    picture[8, 24] = 255  # the centre of token (0, 1): pixel 8 of 0…15
    picture[8, 40] = 254
    picture[7, 56] = 255
    expected = torch.zeros(4, 8)
    expected[0, 1] = 1.0
    assert torch.equal(grid_mask(picture, 4, 8), expected)
    assert torch.equal(grid_mask(picture / 255.0, 4, 8), expected)
    assert torch.equal(grid_mask(picture == 255, 4, 8), expected)
    assert torch.equal(grid_mask(seam_mask(), 4, 8), seam_mask())
    assert torch.equal(
        grid_mask(seam_mask().repeat_interleave(5, 0).repeat_interleave(3, 1), 4, 8), seam_mask()
    )


def test_pad_mask():
    mask = torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.0, 1.0]])
    wrapped = [[0.5, 1.0, 0.0, 0.5, 1.0], [1.0, 0.0, 0.0, 1.0, 0.0]]
    own = [[1.0, 1.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.0, 1.0, 1.0]]
    assert pad_mask(mask).view(2, 5).tolist() == wrapped
    assert pad_mask(mask, rule="own_edge").view(2, 5).tolist() == own
    assert pad_mask(mask, 2, "own_edge").view(2, 7)[0].tolist() == [1.0, 1.0, 1.0, 0.0, 0.5, 0.5, 0.5]
    assert pad_mask(mask, 2).view(2, 7)[0].tolist() == [0.0, 0.5, 1.0, 0.0, 0.5, 1.0, 0.0]
    for rule in ("wrapped", "own_edge"):
        assert torch.equal(pad_mask(mask, 0, rule), mask.view(-1, 1))
    # The wrapped rule is what the ring does to any picture.
    tokens = GRID.pad(seam_mask().reshape(1, -1, 1))
    assert torch.equal(pad_mask(seam_mask()), tokens[0])


T = torch.zeros(1, GRID.tokens, 64)
K = torch.zeros(GRID.tokens, 1)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: EditOptions(eta=1.5), "eta must be a number from 0 to 1, got 1.5"),
        (lambda: EditOptions(stop=float("nan")), "stop must be a number from 0 to 1"),
        (lambda: EditOptions(start=0.6, stop=0.5), "start 0.6 must not lie after stop 0.5"),
        (lambda: EditOptions(decay=-1.0), "decay must be an exponent of at least 0"),
        (lambda: EditOptions(blend_from="always"), "blend_from must be a number from 0 to 1"),
        (lambda: invert(schedule(), no_network, T, T, gamma=2), "gamma must be a number from 0 to 1, got 2"),
        (lambda: invert(schedule(), no_network, T, T[:, 1:]), r"noise must be padded tokens \[1, 40, 64\]"),
        (lambda: invert(FlowMatchScheduler(), no_network, T, T), "call set_timesteps first"),
        (lambda: inversion_residual(FlowMatchScheduler()), "call set_timesteps first"),
        (lambda: invert_closed_form(schedule(), T, T[0]), r"noise must be padded tokens \[1, 40, 64\]"),
        (
            lambda: edit(schedule(), no_network, GRID, T[:, 8:], T, T),
            r"image must be padded tokens \[1, 40, 64\]",
        ),
        (lambda: edit(schedule(), no_network, GRID, T, T[..., :4], T), "inverted must be padded tokens"),
        (
            lambda: edit(schedule(), no_network, GRID, T, T, T.expand(2, -1, -1)),
            "noise must be padded tokens",
        ),
        (lambda: edit(schedule(), no_network, GRID, T, T, T, K[1:]), r"keep must be \[40, 1\]"),
        (lambda: edit(schedule(), no_network, GRID, T, T, T, K + 2), "keep must lie in 0..1"),
        (lambda: replace_tokens(no_network, None, K.flatten()), r"keep must be \[40, 1\]"),
        (
            lambda: replace_tokens(no_network, None, K, tau=50),
            "tau must be a number from 0 to 1, got 50",
        ),
        (lambda: replace_tokens(no_network, None, K[1:])(T, 1.0), "keep has 39 tokens, the network gets 40"),
        (lambda: grid_mask(torch.zeros(1, 8, 16), 4, 8), r"a mask picture must be \[H, W\]"),
        (lambda: pad_mask(K, 1, "mirror"), "unknown rule 'mirror': choose one of wrapped, own_edge"),
        (lambda: pad_mask(seam_mask(), 9), "circular padding must be 0 … 8 token columns"),
        (lambda: pad_mask(seam_mask()[None]), r"mask must be \[rows, columns\]"),
    ],
)
def test_refused(call, text):
    with pytest.raises(pano.InputError, match=text):
        call()
