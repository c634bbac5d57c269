"""True guidance: one call for both prompts or two, decided by tokens and memory; the same picture either way."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from panodiff_core.engines.dit360.sampling import job as job_module
from panodiff_core.runtime.placement import Resident
from panodiff_core.schedulers import true_cfg
from panodiff_core.schedulers.true_cfg import FEW_TOKENS, choose_batched


@pytest.mark.parametrize(
    "tokens, need, free, batched",
    [
        (FEW_TOKENS, 10, 0, True),
        (FEW_TOKENS, 10, None, True),
        (FEW_TOKENS + 1, 10, 10, True),
        (FEW_TOKENS + 1, 11, 10, False),
        (FEW_TOKENS + 1, 0, None, False),
    ],
)
def test_the_rule(tokens, need, free, batched):
    assert choose_batched(tokens, need, free) is batched


class Asked(Resident):
    """Keeps what each stage was asked for."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.memory: dict[str, int] = {}

    @contextmanager
    def use(self, stage, module, memory_bytes=0):
        self.memory[stage] = memory_bytes
        with super().use(stage, module, memory_bytes) as device:
            yield device


@pytest.fixture
def run(tiny_engine, monkeypatch):
    """(free bytes, options) → (latents, rows of every network call, bytes asked for)."""
    condition = tiny_engine.encode("a calm sea", negative="snow")
    placement = Asked()
    monkeypatch.setattr(tiny_engine, "placement", placement)

    def run(free: int | None, **options):
        rows = []
        monkeypatch.setattr(job_module, "free_bytes", lambda device: free)
        handle = tiny_engine.transformer.register_forward_pre_hook(
            lambda module, args, kwargs: rows.append(len(kwargs["hidden_states"])), with_kwargs=True
        )
        try:
            latents = tiny_engine.sample(condition, seed=2, **options)
        finally:
            handle.remove()
        return latents, rows, placement.memory["transformer"]

    return run


def test_memory_decides_where_tokens_are_many(run, monkeypatch):
    monkeypatch.setattr(true_cfg, "FEW_TOKENS", 0)
    whole, rows, both = run(None, cfg=3.0, true_cfg_batched=True)
    assert rows == [2, 2, 2]
    pictures = {True: whole}
    for free, batched in ((both, True), (both - 1, False), (None, False)):
        latents, rows, asked = run(free, cfg=3.0)
        assert rows == ([2] * 3 if batched else [1] * 6) and asked == both // 2
        pictures[batched] = latents
    assert float((pictures[True] - pictures[False]).abs().max()) < 2e-5
    alone, rows, asked = run(None, cfg=1.0)
    assert rows == [1, 1, 1] and asked == both // 2
    assert float((alone - whole).abs().max()) > 0.01


def test_few_tokens_share_a_call_whatever_is_free(run):
    assert run(0, cfg=3.0)[1] == [2, 2, 2]
    assert run(2**40, cfg=3.0, true_cfg_batched=False)[1] == [1] * 6
