"""Step caching: which blocks run, what takes their place, and that caches are kept apart and do not survive a run."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

import panodiff_core as pano
from panodiff_core.engines.dit360.sampling import step_cache as module
from panodiff_core.runtime.placement import Streamed

STEPS, BLOCKS = 5, 3
NEAR = {"sigmas": [0.5, 0.49, 0.48, 0.47, 0.46], "mu": 0.0}
ALWAYS = {**NEAR, "step_cache": 1.0}
"""Steps so short that nothing changes by its own size: only the first call of each cache is a full one."""


@pytest.fixture(scope="module")
def condition(tiny_engine):
    return tiny_engine.encode("a calm sea at sunset", negative="golden snow")


@contextmanager
def computed(transformer):
    """Counts the blocks that really compute, by their attention."""
    counts: list[int] = []
    blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    hooks = [block.attn.register_forward_pre_hook(lambda *_: counts.append(1)) for block in blocks]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def run(engine, condition, **options):
    with computed(engine.transformer) as counts:
        latents = engine.sample(condition, seed=4, **options)
    return latents, len(counts)


@contextmanager
def by_hand(transformer):
    """The same by hooks of our own: after the first call, what the blocks behind the first one add stays as it was."""
    first: list = []
    added: list = []

    def after_first(_, __, output):
        first[:] = output

    def after_last(_, __, output):
        if not added:
            added.extend(o - f for o, f in zip(output, first, strict=True))
            return None
        return tuple(a + f for a, f in zip(added, first, strict=True))

    hooks = [
        transformer.transformer_blocks[0].register_forward_hook(after_first),
        transformer.single_transformer_blocks[-1].register_forward_hook(after_last),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def test_skipped_blocks_add_what_they_added_before(tiny_engine, condition):
    cached, count = run(tiny_engine, condition, **ALWAYS)
    assert count == STEPS + BLOCKS - 1
    with by_hand(tiny_engine.transformer):
        expected, _ = run(tiny_engine, condition, **NEAR)
    assert torch.equal(cached, expected)
    plain, count = run(tiny_engine, condition, **NEAR)
    assert count == STEPS * BLOCKS and float((plain - cached).abs().max()) > 1e-3


def test_the_threshold_is_the_relative_change_of_the_first_block(tiny_engine, condition):
    added = []
    block = tiny_engine.transformer.transformer_blocks[0]
    hook = block.register_forward_hook(
        lambda _, args, kwargs, output: added.append(output[1] - kwargs["hidden_states"]), with_kwargs=True
    )
    try:
        tiny_engine.sample(condition, seed=4, steps=2)
    finally:
        hook.remove()
    change = float((added[1] - added[0]).abs().mean() / added[0].abs().mean())
    assert 0.001 < change < 0.999
    for threshold, count in ((change * 1.001, BLOCKS + 1), (change * 0.999, 2 * BLOCKS)):
        assert run(tiny_engine, condition, steps=2, step_cache=threshold)[1] == count


def test_every_prompt_has_its_own_cache(tiny_engine, condition):
    one, count = run(tiny_engine, condition, cfg=3.0, true_cfg_batched=True, **ALWAYS)
    assert count == STEPS + BLOCKS - 1
    two, count = run(tiny_engine, condition, cfg=3.0, true_cfg_batched=False, **ALWAYS)
    assert count == 2 * (STEPS + BLOCKS - 1)
    assert float((one - two).abs().max()) < 5e-5


@pytest.mark.parametrize("roll, caches", [("off", 1), ("alternate", 2), ("late", 2), ((3,) * STEPS, 1)])
def test_every_turn_of_the_ring_has_its_own_cache(tiny_engine, condition, roll, caches):
    _, count = run(tiny_engine, condition, roll=roll, **ALWAYS)
    assert count == STEPS + caches * (BLOCKS - 1)


def test_a_shared_cache_would_compare_a_picture_with_its_turn(tiny_engine, condition, monkeypatch):
    monkeypatch.setattr(module.StepCache, "turn", lambda self, offset: None)
    assert run(tiny_engine, condition, roll="alternate", **ALWAYS)[1] == STEPS * BLOCKS


def test_turning_everything_turns_the_picture(tiny_engine, condition):
    noise = torch.randn(1, 16, 8, 16, generator=torch.Generator().manual_seed(5))
    inside = tiny_engine.sample(condition, latents=noise, roll=(3,) * STEPS, **ALWAYS)
    outside = tiny_engine.sample(condition, latents=noise.roll(6, -1), **ALWAYS).roll(-6, -1)
    assert float((inside - outside).abs().max()) < 2e-5


def test_no_cache_survives_a_run(tiny_engine, condition):
    plain, _ = run(tiny_engine, condition, **NEAR)
    first, _ = run(tiny_engine, condition, **ALWAYS)
    again, _ = run(tiny_engine, condition, **ALWAYS)
    assert torch.equal(first, again)

    def stop(step):
        raise pano.Cancelled("enough")

    with pytest.raises(pano.Cancelled):
        tiny_engine.sample(condition, on_step=stop, **ALWAYS)
    assert not tiny_engine.transformer.is_cache_enabled
    off, count = run(tiny_engine, condition, step_cache=0.0, **NEAR)
    assert count == STEPS * BLOCKS and torch.equal(off, plain)


def test_caching_under_streamed_blocks(tiny_engine, condition, monkeypatch):
    usual, count = run(tiny_engine, condition, **ALWAYS)
    for mode in ("group", "sequential"):
        monkeypatch.setattr(tiny_engine, "placement", Streamed("cpu", mode))
        streamed, same = run(tiny_engine, condition, **ALWAYS)
        assert same == count and torch.equal(streamed, usual)


def test_refusals(tiny_engine, condition):
    with pytest.raises(pano.InputError, match='this roll turns it 3 ways: use roll "off"'):
        tiny_engine.sample(condition, roll=(0, 1, 2, 0, 1), **ALWAYS)
    with pytest.raises(pano.InputError, match="step_cache must be a number from 0 to 1, got 1.5"):
        tiny_engine.sample(condition, step_cache=1.5)
    latents = torch.zeros(1, 16, 8, 16)
    with pytest.raises(pano.InputError, match="step_cache cannot be used in tiles"):
        tiny_engine.upscale(latents, condition, step_cache=0.1)
    from diffusers import FirstBlockCacheConfig

    tiny_engine.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    try:
        with pytest.raises(pano.InputError, match="has a cache already"):
            tiny_engine.sample(condition, **ALWAYS)
    finally:
        tiny_engine.transformer.disable_cache()
