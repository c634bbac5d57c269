"""The flow-matching schedule and its solvers."""

from __future__ import annotations

import math

import pytest
import torch

from panodiff_core.runtime.errors import InputError
from panodiff_core.schedulers.flow_matching import GRIDS, FlowMatchConfig, FlowMatchScheduler
from panodiff_core.schedulers.true_cfg import CFGFlowMatchScheduler


@pytest.mark.parametrize("tokens, mu", [(2048, 0.803333), (8192, 1.843333), (8320, 1.865), (33280, 6.09)])
def test_mu_of_the_published_sizes(tokens, mu):
    assert FlowMatchScheduler().mu(tokens) == pytest.approx(mu, abs=5e-6)


def test_static_shift():
    scheduler = FlowMatchScheduler(FlowMatchConfig(use_dynamic_shifting=False, shift=3.0))
    scheduler.set_timesteps(4, scheduler.mu(123))
    expected = [3 * u / (1 + 2 * u) for u in (1.0, 0.75, 0.5, 0.25)]
    assert torch.allclose(scheduler.sigmas[:-1], torch.tensor(expected), atol=1e-7)


@pytest.mark.parametrize("grid", GRIDS)
def test_grids_fall_from_one_to_zero(grid):
    scheduler = FlowMatchScheduler()
    for mu in (None, 0.0, 1.865, 23.0):
        scheduler.set_timesteps(10, mu, grid)
        assert scheduler.steps == 10 and scheduler.sigmas[0] == 1.0 and scheduler.sigmas[-1] == 0.0
        assert (scheduler.sigmas.diff() <= 0).all()
        assert torch.equal(scheduler.timesteps, scheduler.sigmas[:-1] * 1000)


@pytest.mark.parametrize("grid", GRIDS)
def test_true_differences(grid):
    """A constant velocity is integrated exactly, whatever the grid: the steps add up to one."""
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(7, 1.3, grid)
    x = torch.zeros(3, dtype=torch.float64)
    for i in range(7):
        x = scheduler.step(torch.ones(3, dtype=torch.float64), i, x)
    assert torch.allclose(x, -torch.ones(3, dtype=torch.float64), atol=1e-12)


def test_heun_is_of_second_order():
    """dx/dσ = x, x(1) = 1: halving the step quarters Heun's error and only halves Euler's."""

    def error(steps: int, heun: bool) -> float:
        scheduler = FlowMatchScheduler()
        scheduler.set_timesteps(steps)
        x = torch.ones((), dtype=torch.float64)
        for i in range(steps):
            v = x
            after = scheduler.step(v, i, x)
            x = scheduler.heun_step(v, after, i, x) if heun else after
        return abs(x.item() - math.exp(-1.0))

    assert error(32, True) < error(32, False) / 20
    assert error(16, True) / error(32, True) == pytest.approx(4.0, rel=0.1)
    assert error(16, False) / error(32, False) == pytest.approx(2.0, rel=0.1)


def test_noise_velocity_snr():
    clean, noise = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    sigma = torch.tensor([0.0, 0.25, 1.0])
    noisy = FlowMatchScheduler.add_noise(clean, noise, sigma)
    assert torch.equal(noisy[0], clean[0]) and torch.equal(noisy[2], noise[2])
    assert torch.allclose(noisy[1], 0.75 * clean[1] + 0.25 * noise[1])
    velocity = FlowMatchScheduler.get_velocity(clean, noise)
    assert torch.allclose(FlowMatchScheduler.denoised(noisy, velocity, sigma), clean, atol=1e-6)
    assert torch.allclose(
        FlowMatchScheduler.compute_snr(torch.tensor([0.5, 0.25, 1.0])), torch.tensor([1.0, 9.0, 0.0])
    )
    assert FlowMatchScheduler.compute_snr(0.0).isinf()


def test_given_sigmas():
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(0, sigmas=[0.9, 0.5, 0.0])
    assert scheduler.sigmas.tolist() == pytest.approx([0.9, 0.5, 0.0])
    for bad in ([], [0.5, 0.5], [1.2, 0.5], [0.5, -0.1], [0.0]):
        with pytest.raises(InputError, match="sigmas must fall"):
            scheduler.set_timesteps(2, sigmas=bad)


def test_impossible_configs():
    for bad in (
        {"shift": None},
        {"base_shift": math.nan},
        {"num_train_timesteps": 0},
        {"max_image_seq_len": 256},
    ):
        with pytest.raises(InputError, match=next(iter(bad))):
            FlowMatchConfig(**bad)


def test_refusals():
    scheduler = FlowMatchScheduler()
    with pytest.raises(InputError, match="at least 1, got 0"):
        scheduler.set_timesteps(0)
    with pytest.raises(InputError, match="choose one of linear, quadratic, cosine"):
        scheduler.set_timesteps(4, method="karras")
    with pytest.raises(InputError, match="mu must lie within"):
        scheduler.set_timesteps(4, math.nan)


def test_true_cfg_batched_and_sequential():
    weight = torch.randn(6, 6, dtype=torch.float64)
    sizes = []

    def network(x, sigma, condition):
        sizes.append(len(x))
        return torch.tanh(x @ weight) * sigma + condition[0]

    x = torch.randn(2, 6, dtype=torch.float64)
    above, below = (torch.randn(2, 6, dtype=torch.float64),), (torch.randn(2, 6, dtype=torch.float64),)
    results = [
        CFGFlowMatchScheduler(cfg=2.5, batched=batched).guide(network, above, below)(x, 0.7)
        for batched in (True, False)
    ]
    assert sizes == [4, 2, 2]
    positive, negative = network(x, 0.7, above), network(x, 0.7, below)
    for result in results:
        assert torch.allclose(result, negative + 2.5 * (positive - negative), atol=1e-12)


def test_no_second_forward_without_guidance():
    calls = []
    scheduler = CFGFlowMatchScheduler(cfg=1.0)
    predict = scheduler.guide(lambda x, s, c: calls.append(s) or x, (torch.zeros(1),), (torch.zeros(1),))
    predict(torch.zeros(1), 0.5)
    assert calls == [0.5]
