"""The second pass: tiles that wrap, their plan, what one tile is to the network, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import panodiff_core as pano
from panodiff_core import __main__ as cli
from panodiff_core.engines.dit360.upscale import second_pass as module
from panodiff_core.engines.dit360.upscale.enlarged import EnlargedImage, large_shapes
from panodiff_core.engines.dit360.upscale.tiled_velocity import TiledVelocity
from panodiff_core.engines.dit360.upscale.tiles import plan_upscale, tile_shifts
from panodiff_core.geometry.resize import resize_sphere
from panodiff_core.geometry.sphere import equirect_directions
from panodiff_core.io.images import load_image, read_text
from panodiff_core.layers.ring import image_ids, pack, unpack
from panodiff_core.schedulers.flow_matching import FlowMatchScheduler

SHAPE = (1, 16, 16, 32)
CPU = torch.device("cpu")
WRONG = 1e-2


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def condition(tiny_engine):
    return tiny_engine.encode("a calm sea at sunset", negative="snow")


@pytest.fixture(scope="module")
def source():
    return randn(1, 16, 8, 16, seed=11)


@pytest.fixture(scope="module")
def noise():
    return randn(*SHAPE, seed=5)


@pytest.mark.parametrize(
    "options",
    [{}, {"padding": 0}, {"padding": 2, "cfg": 2.0}, {"roll": "alternate"}, {"solver": "heun"}, {"mu": 0.7}],
)
def test_one_tile_is_image_to_image(tiny_engine, condition, source, noise, options):
    settings = {"strength": 0.7, "steps": 4, "padding": 1, "roll": "off", **options}
    free = {"noise": noise, "keep_layout": False, **settings}
    large = resize_sphere(tiny_engine.decode(source).pixels, 2).clamp(0.0, 1.0)
    expected = tiny_engine.sample(
        condition, latents=noise, image_latents=tiny_engine.encode_image(large), **settings
    )
    whole = tiny_engine.upscale(source, condition, tile=(16, 32), **free)
    assert (whole - expected).abs().max() <= 1e-5
    tiled = tiny_engine.upscale(source, condition, **free)
    assert tiled.shape == SHAPE and (tiled - expected).abs().max() > WRONG


@pytest.mark.parametrize("options", [{}, {"cfg": 2.0}, {"tile": (16, 16)}])
def test_turning_by_the_stride_turns_the_result(tiny_engine, condition, source, noise, options):
    stride = plan_upscale(16, 32, (8, 16), (2, 4)).columns.stride
    assert stride == 8

    def turned(columns: int) -> torch.Tensor:
        rolled = source.roll(columns // 2, -1), noise.roll(columns, -1)
        result = tiny_engine.upscale(
            rolled[0], condition, noise=rolled[1], strength=0.8, steps=5, **{"tile": (8, 16), **options}
        )
        return result.roll(-columns, -1)

    still = turned(0)
    assert (turned(stride) - still).abs().max() <= 1e-4
    assert (turned(2 * stride) - still).abs().max() <= 1e-4
    assert (turned(stride // 2) - still).abs().max() > WRONG


PLANS = [
    plan_upscale(16, 32, (8, 16), (2, 4)),
    plan_upscale(26, 24, (12, 16), (2, 2)),  # the last row of tiles is cut short
    plan_upscale(16, 32, (8, 32), (2, 4)),
    plan_upscale(16, 32, (16, 8), (0, 0)),
    plan_upscale(16, 32, (16, 32), (0, 0)),
]


@pytest.mark.parametrize("plan", PLANS)
def test_tiles_add_up(plan):
    """What is the same for every tile, a function of the single token, comes out as it is without tiles."""
    height, width = plan.rows.length, plan.columns.length
    tokens, offset = pack(randn(2, 3, height, width, seed=1)), 1 if plan.columns.whole else 0
    called = []
    velocity = TiledVelocity(
        plan, offset, 3, lambda ids: lambda x, sigma: x.sin() + sigma, CPU, lambda: called.append(1)
    )
    assert (velocity(tokens, 0.5) - (tokens.sin() + 0.5)).abs().max() <= 1e-6
    assert len(called) == len(velocity.tiles) == plan.tiles


def test_neighbours_fade_into_each_other():
    """Tiles that answer 0, 1, 2, 3 in turn: constant where one is alone, straight ramps by latents in between, the last
    one into the first across the seam."""
    plan = plan_upscale(4, 32, (4, 12), (0, 4))
    assert (plan.columns.stride, plan.tiles) == (8, 4)
    turn = iter(range(4))
    velocity = TiledVelocity(
        plan, 0, 1, lambda ids: lambda x, sigma: torch.full_like(x, float(next(turn))), CPU, lambda: None
    )
    from panodiff_core.layers.ring import unpack

    line = unpack(velocity(torch.zeros(1, 32, 4), 1.0), 4, 32)[0, 0]
    assert torch.equal(line, line[:1].expand(4, -1))
    ramp = torch.tensor([1, 3, 5, 7]) / 8
    expected = torch.cat(
        [3 - 3 * ramp, torch.zeros(4), *[p for k in (0, 1, 2) for p in (k + ramp, torch.full((4,), k + 1.0))]]
    )
    assert torch.allclose(line[0], expected, atol=1e-6)


def test_a_tile_is_a_picture_of_its_own():
    def ids_of(plan, padding):
        seen = []
        TiledVelocity(plan, padding, 3, lambda ids: seen.append(ids), CPU, lambda: None)
        return seen

    assert all(torch.equal(ids, image_ids(4, 8)) for ids in ids_of(PLANS[0], 0))
    assert torch.equal(ids_of(PLANS[2], 1)[0], image_ids(4, 16, 1))  # as wide as the ring: closed by padding
    cut = ids_of(PLANS[1], 0)
    assert [len(ids) for ids in cut] == [6 * 8, 6 * 8, 5 * 8]
    tiles = TiledVelocity(PLANS[0], 0, 3, lambda ids: None, CPU, lambda: None).tiles
    assert tiles[3].places[:8].tolist() == [12, 13, 14, 15, 0, 1, 2, 3]  # around the seam
    assert tiles[4].places[0].item() == 2 * 16  # the second row of tiles begins 4 latents further down


@pytest.mark.parametrize(
    "size, tile, spans, tiles",
    [
        ((256, 512), (128, 256), ((128, 64), (256, 128)), 12),  # FLUX, 1024×2048 pixels twice as large
        ((512, 1024), (128, 256), ((128, 96), (256, 128)), 40),  # and four times
        ((64, 128), (32, 64), ((32, 16), (64, 32)), 12),
        ((40, 80), (32, 64), ((28, 14), (64, 40)), 4),
        ((32, 64), (32, 64), ((32, 32), (64, 64)), 1),
        ((268, 536), (128, 256), ((128, 70), (256, 134)), 12),
    ],
)
def test_plans(size, tile, spans, tiles):
    plan = plan_upscale(*size, tile, tuple(n // 8 * 2 for n in tile))
    assert ((plan.rows.tile, plan.rows.stride), (plan.columns.tile, plan.columns.stride)) == spans
    assert plan.tiles == tiles and plan.rows.spans()[-1][1] == size[0]


def test_every_plan_is_legal():
    for height in range(8, 120, 2):
        for tile in range(4, height, 2):
            for overlap in {0, 2, tile // 8 * 2, tile // 4 * 2}:
                if 2 * overlap > tile:
                    continue
                rows = plan_upscale(height, 8, (tile, 8), (overlap, 0)).rows
                spans = rows.spans()
                assert rows.tile <= tile and (rows.overlap >= overlap or 2 * rows.overlap == rows.tile)
                assert spans[-1][1] == height and all(a % 2 == 0 and b % 2 == 0 for a, b in spans)
                assert all(b - a > rows.overlap for a, b in spans)


def test_borders_move_with_every_step():
    columns = plan_upscale(256, 512, (128, 256), (32, 64)).columns
    shifts = tile_shifts(columns, 28)
    assert len(set(shifts)) == 28 and min(shifts) == 0 and max(shifts) < columns.stride // 2
    gaps = sorted(shifts)
    assert max(b - a for a, b in zip(gaps, [*gaps[1:], columns.stride // 2], strict=True)) <= 4


def test_noise_levels_follow_the_tile(tiny_engine, condition, source):
    seen = []
    tiny_engine.upscale(source, condition, strength=0.5, steps=8, on_step=seen.append)
    scheduler = FlowMatchScheduler(tiny_engine.scheduler_config)
    scheduler.set_timesteps(8, scheduler.mu(4 * 8))
    assert [step.sigma for step in seen] == [scheduler.sigma(k) for k in range(5, 9)]
    assert [(step.index, step.total) for step in seen] == [(k, 4) for k in range(1, 5)]
    assert all(step.latents.shape == step.denoised.shape == SHAPE for step in seen)


@pytest.mark.parametrize(("factor", "sigma"), [(2, 0.0), (4, 0.6)])
def test_large_shapes_are_put_back_and_small_ones_stay(factor, sigma):
    clean, noise = randn(1, 16, 16, 32, seed=5), randn(1, 16, 16, 32, seed=6)
    keep = EnlargedImage(clean, 0.5, factor=factor).keeper(noise, pack)
    target = (1.0 - sigma) * clean + sigma * noise
    small = torch.ones(16, 32)
    small[::2, 1::2] = small[1::2, ::2] = -1.0  # sums to 0 over every block
    assert (keep(pack(target + 0.7), sigma) - pack(target)).abs().max() <= 1e-6
    assert (keep(pack(target + small), sigma) - pack(target + small)).abs().max() <= 1e-6
    wave = torch.sin(torch.arange(32) * (2.0 * torch.pi / 32)).expand(1, 16, 16, 32)
    left = unpack(keep(pack(target + wave), sigma), 16, 32) - target
    # Not at the poles: there the wave jumps, since a row goes on half a turn away.
    assert left[:, :, 8].abs().max() < 0.01 * factor, (
        "a wave around the ring is a large shape, across the seam too"
    )


def test_the_layout_stays_at_any_strength(tiny_engine, condition, source, noise):
    start = module.enlarge(tiny_engine, source, 2)
    options = {"noise": noise, "strength": 1.0, "steps": 4}
    away = [
        large_shapes(tiny_engine.upscale(source, condition, keep_layout=keep, **options) - start, 2)
        for keep in (True, False)
    ]
    assert away[0].square().mean() < 0.05 * away[1].square().mean()


def test_strength_keeps_the_picture(tiny_engine, condition, source):
    start = module.enlarge(tiny_engine, source, 2)
    away = [
        (tiny_engine.upscale(source, condition, strength=s, steps=10) - start).square().mean()
        for s in (0.1, 0.4, 1.0)
    ]
    assert away[0] < 0.7 * away[1] < 0.7 * away[2]


def test_batches_and_both_kinds_of_source(tiny_engine, source):
    prompts = ["a red house", "a blue sea"]
    both = tiny_engine.encode(prompts, negative="snow")
    noise, sources = randn(2, *SHAPE[1:], seed=8), torch.cat([source, -source])
    options = {"cfg": 2.0, "strength": 0.6, "steps": 4}
    together = tiny_engine.upscale(sources, both, noise=noise, **options)
    for i, prompt in enumerate(prompts):
        one = tiny_engine.encode(prompt, negative="snow")
        alone = tiny_engine.upscale(sources[i : i + 1], one, noise=noise[i : i + 1], **options)
        assert torch.allclose(together[i : i + 1], alone, atol=2e-5)
    apart = tiny_engine.upscale(sources, both, noise=noise, true_cfg_batched=False, **options)
    assert torch.allclose(together, apart, atol=2e-5)
    picture = tiny_engine.decode(sources)
    assert torch.equal(tiny_engine.upscale(picture, both, noise=noise, **options), together)
    assert not torch.allclose(
        tiny_engine.upscale(sources, both, noise=noise, **{**options, "cfg": 1.0}), together
    )


def test_seed_draws_the_noise(tiny_engine, condition, source):
    drawn = tiny_engine.upscale(source, condition, seed=3)
    given = tiny_engine.upscale(source, condition, noise=randn(*SHAPE, seed=3))
    assert torch.equal(drawn, given) and not torch.equal(
        drawn, tiny_engine.upscale(source, condition, seed=4)
    )


def test_four_times(tiny_engine, condition, source):
    result = tiny_engine.upscale(source, condition, factor=4, strength=0.4)
    assert result.shape == (1, 16, 32, 64) and torch.isfinite(result).all()


@pytest.mark.parametrize("solver, calls", [("euler", 2), ("heun", 3)])
def test_every_tile_is_told_and_can_cancel(tiny_engine, condition, source, solver, calls):
    seen = []
    options = {"strength": 0.5, "steps": 4, "solver": solver, "noise": randn(*SHAPE, seed=2)}
    result = tiny_engine.upscale(source, condition, on_tile=seen.append, **options)
    count = 12 * calls
    assert [(t.index, t.total) for t in seen] == [(1, 1)] * 2 + [(k, count) for k in range(1, count + 1)]

    def stop(tile):
        if tile.index == 5:
            raise pano.Cancelled("stop")

    with pytest.raises(pano.Cancelled):
        tiny_engine.upscale(source, condition, on_tile=stop, **options)
    assert torch.equal(tiny_engine.upscale(source, condition, **options), result)


def test_memory_limits_the_coding(tiny_engine, condition, source):
    with pytest.raises(pano.InputError, match="memory_gb allows 1e-06"):
        tiny_engine.upscale(source, condition, memory_gb=1e-6)


def test_nan_names_the_step(tiny_engine, condition, source):
    handle = tiny_engine.transformer.register_forward_hook(lambda m, a, output: (output[0] * torch.nan,))
    try:
        with pytest.raises(pano.NumericalError, match="stage transformer, step 1 of 2"):
            tiny_engine.upscale(source, condition, strength=0.5, steps=4)
    finally:
        handle.remove()


def test_resizing_knows_the_sphere():
    """Against a smooth function of the direction; at the seam and at the poles no worse than elsewhere."""

    def picture(height: int) -> torch.Tensor:
        x, y, z = equirect_directions(height, 2 * height).unbind(-1)
        return torch.stack([x * y + 0.3 * z, torch.sin(2 * x - y), torch.cos(2 * z + x)])[None]

    for factor in (2, 4):
        error = (resize_sphere(picture(32), factor) - picture(32 * factor)).abs()[0].amax(0)
        inside = error[4 * factor : -4 * factor, 4 * factor : -4 * factor].max()
        assert inside <= 5e-4 and error.max() <= 1.2 * inside
    image = torch.rand(1, 3, 16, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(
        resize_sphere(image.roll(5, -1), 2), resize_sphere(image, 2).roll(10, -1), atol=1e-6
    )
    ramp = torch.arange(16.0)[:, None].expand(1, 3, -1, 32)
    assert torch.allclose(resize_sphere(ramp, 2)[0, 0, 8:24, 3], torch.arange(8, 24) / 2 - 0.25, atol=1e-5)


Z = torch.zeros(1, 16, 8, 16)


@pytest.mark.parametrize(
    "source, options, text",
    [
        (Z, {"factor": 3}, "factor must be one of 2, 4, got 3"),
        (Z, {"factor": True}, "factor must be one of 2, 4"),
        (Z, {"strength": 0.0}, "strength must be above 0 and at most 1"),
        (Z, {"strength": 1e-20}, "strength 1e-20 leaves none of 3 steps"),
        (Z, {"height": 64}, "height cannot be chosen: the size is that of the source times factor"),
        (Z, {"step_cache": 0.1}, "step_cache cannot be used in tiles"),
        (Z, {"stpes": 3}, "unknown option 'stpes'"),
        (Z, {"seed": -1}, "seed must be a whole number"),
        (Z, {"noise": Z}, r"noise must be of the result's shape \[1, 16, 16, 32\], got \[1, 16, 8, 16\]"),
        (Z, {"noise": torch.zeros(SHAPE) / 0}, "NaN or infinite"),
        (Z, {"tile": (7, 16)}, "tile must be two even numbers"),
        (Z, {"tile": 16}, "tile must be two even numbers"),
        (Z, {"tile": (2, 16)}, "tiles of height 2 cannot overlap by 0"),
        (Z, {"overlap": (2, 3)}, "overlap must be two even numbers"),
        (Z, {"overlap": 6}, "tiles of height 8 cannot overlap by 6"),
        (Z, {"tile": (8, 30), "overlap": (2, 2)}, None),
        (
            torch.zeros(1, 16, 8, 26),
            {"tile": (8, 24), "overlap": (2, 4)},
            "no even stride from 6 to 20 divides the width of 52",
        ),
        (Z, {"padding": 40, "tile": (8, 32)}, "circular padding must be 0 … 16"),
        (Z, {"cfg": 2.0, "negative": False}, "cfg 2 needs a negative prompt"),
        (Z[:, :4], {}, r"source must be \[B, 16, h, w\]"),
        (Z / 0, {}, "source has NaN or infinite"),
        (Z.expand(3, -1, -1, -1), {"prompts": 2}, "2 prompts for 3 pictures: give one prompt, or one per"),
        (pano.Panorama(torch.zeros(1, 3, 60, 120)), {}, "multiples of 16"),
        ("picture.png", {}, "source must be a Panorama or latents .*, got str"),
    ],
)
def test_refused(tiny_engine, source, options, text):
    """Before anything is computed."""
    options = dict(options)
    prompts = ["a red house"] * options.pop("prompts", 1)
    condition = tiny_engine.encode(prompts, None if options.pop("negative", True) is False else "snow")
    if text is None:  # the border of what is refused
        assert tiny_engine.upscale(source, condition, **options).shape == SHAPE
        return
    nets = (tiny_engine.transformer, tiny_engine.vae.decoder, tiny_engine.vae.encoder)
    handles = [n.register_forward_pre_hook(lambda *a: pytest.fail("called a network")) for n in nets]
    try:
        with pytest.raises(pano.InputError, match=text):
            tiny_engine.upscale(source, condition, **options)
    finally:
        for handle in handles:
            handle.remove()


def test_command_line(tiny_folder, tiny_engine, tmp_path, capsys):
    out = tmp_path / "large.png"
    argv = [
        "generate",
        "a calm sea",
        "--model",
        str(tiny_folder),
        "--seed",
        "2",
        "--out",
        str(out),
        "--no-page",
    ]
    assert cli.main([*argv, "--upscale", "2", "--upscale-strength", "0.7", "--height", "64"]) == 0
    assert "second pass, step 3/3" in capsys.readouterr().err
    condition = tiny_engine.encode("a calm sea")
    latents = tiny_engine.upscale(tiny_engine.sample(condition, seed=2), condition, strength=0.7, seed=2)
    expected = tiny_engine.decode(latents).pixels
    assert (load_image(out) - expected).abs().max() <= 0.5 / 255 + 1e-6
    text = read_text(out)["panodiff"]
    assert (
        '"upscale": 2' in text
        and '"upscale_strength": 0.7' in text
        and math.prod(expected.shape) == 3 * 128 * 256
    )


@pytest.mark.parametrize(
    "argv, text",
    [
        (["--upscale-strength", "0.3"], "--upscale-strength without --upscale has no effect"),
        (["--upscale", "2", "--upscale-strength", "0"], "--upscale-strength must be above 0 and at most 1"),
        (["--upscale", "4", "--height", "2048", "--out", "x.webp"], "WEBP holds at most 16383"),
        (["--memory-gb", "0"], "--memory-gb must be a number above 0"),
    ],
)
def test_command_line_refuses(tmp_path, monkeypatch, capsys, argv, text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("panodiff_core.engines.load", lambda *a, **o: pytest.fail("loaded a model"))
    assert cli.main(["generate", "a sea", *argv]) == 1
    assert text in capsys.readouterr().err and list(tmp_path.iterdir()) == []
