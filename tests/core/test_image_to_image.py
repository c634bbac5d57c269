"""Starting from a picture: image to image by strength, inpainting on the ring, and encoding the picture."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import panodiff_core as pano
from panodiff_core.autoencoders.latents import scale
from panodiff_core.conditioning.text import TextCondition
from panodiff_core.engines.dit360.verification import image_to_image as verification
from panodiff_core.layers.ring import pack
from tests.core.dit360_vectors import engine, largest, tensors
from tests.core.vector_folder import Folder, results, unmet

NAME = verification.NAME
TRAJECTORY, WRONG = 2e-4, 0.05


@pytest.fixture(scope="module")
def condition(tiny_engine):
    return tiny_engine.encode("a calm sea at sunset", negative="snow")


@pytest.fixture(scope="module")
def picture():
    return torch.randn(1, 16, 8, 16, generator=torch.Generator().manual_seed(11))


@pytest.fixture(scope="module")
def mask():
    """Regenerates a block across the seam, with a soft edge."""
    mask = torch.zeros(1, 1, 8, 16)
    mask[..., 2:6, -3:], mask[..., 2:6, :4], mask[..., 2:6, 4] = 1.0, 1.0, 0.4
    return mask


def test_vectors():
    rows = list(verification.check(Folder()))
    assert not unmet(rows)
    assert {row.what for row in rows} == results(NAME) and len(rows) == len(results(NAME))
    finals = [row for row in rows if row.what.endswith("final_packed")]
    assert len(finals) == 4 and {row.bound for row in finals} == {TRAJECTORY}


def sample(**options) -> torch.Tensor:
    """Final tokens through the engine's own `sample`, with the vectors' inputs."""
    t, about = tensors(NAME), Folder().metadata(NAME)
    settings = {"steps": int(about["steps"]), "guidance": float(about["guidance"])}
    bound = TextCondition(t["in.prompt_embeds"], t["in.pooled"])
    options = {"latents": t["in.noise"], "image_latents": t["in.z0"], **settings, **options}
    return pack(engine().sample(bound, **options))


@pytest.mark.parametrize("strength", ["0.3", "0.6", "1.0"])
@pytest.mark.parametrize("options", [{}, {"roll": (0,) * 8}])
def test_engine_by_strength(strength, options):
    expected = tensors(NAME)[f"derived.img2img.strength{strength}.final_packed"]
    assert largest(sample(strength=float(strength), **options), expected) <= TRAJECTORY


@pytest.mark.parametrize("options", [{}, {"roll": (0,) * 8}])
def test_engine_inpaints(options):
    t = tensors(NAME)
    expected = t["derived.inpaint.final_packed"]
    assert largest(sample(mask=t["in.inpaint_mask"], **options), expected) <= TRAJECTORY
    assert largest(sample(mask=1.0 - t["in.inpaint_mask"], **options), expected) > WRONG
    assert largest(sample(mask=t["in.inpaint_mask"].roll(1, -1), **options), expected) > WRONG
    assert largest(sample(**options), expected) > WRONG


@pytest.mark.parametrize("options", [{}, {"cfg": 2.0}, {"roll": "alternate"}, {"solver": "heun"}])
def test_what_the_mask_keeps_is_the_picture(tiny_engine, condition, picture, mask, options):
    for strength in (1.0, 0.7):
        result = tiny_engine.sample(
            condition, image_latents=picture, mask=mask, strength=strength, steps=4, seed=3, **options
        )
        kept = (mask == 0).expand_as(picture)
        assert torch.equal(result[kept], picture[kept])
        assert (result - picture)[(mask == 1).expand_as(picture)].abs().mean() > WRONG


def test_the_mask_is_a_ring(tiny_engine, condition, picture, mask):
    """Rolling noise, picture and mask together rolls the result when the network's ring is turned along."""
    noise = torch.randn(1, 16, 8, 16, generator=torch.Generator().manual_seed(5))
    inside = tiny_engine.sample(condition, latents=noise, image_latents=picture, mask=mask, roll=(3, 3, 3))
    moved = [x.roll(6, -1) for x in (noise, picture, mask)]
    outside = tiny_engine.sample(condition, latents=moved[0], image_latents=moved[1], mask=moved[2])
    assert torch.allclose(inside, outside.roll(-6, -1), atol=2e-5)


def test_at_full_strength_without_a_mask_only_the_size_is_the_pictures(tiny_engine, condition, picture):
    wide = torch.cat([picture, picture], dim=-1)
    assert torch.equal(
        tiny_engine.sample(condition, image_latents=wide, seed=3),
        tiny_engine.sample(condition, height=64, width=256, seed=3),
    )


def test_strength_keeps_the_picture(tiny_engine, condition, picture):
    """The less noise, the nearer to the picture."""
    away = [
        (tiny_engine.sample(condition, image_latents=picture, strength=s, steps=10, seed=3) - picture)
        .square()
        .mean()
        for s in (0.1, 0.5, 1.0)
    ]
    assert away[0] < 0.5 * away[1] < 0.5 * away[2]


@pytest.mark.parametrize(
    "steps, strength, ran", [(10, 0.3, 3), (8, 0.3, 3), (8, 0.01, 1), (5, 1, 5), (3, 0.34, 2)]
)
def test_only_the_last_steps_run(tiny_engine, condition, picture, steps, strength, ran):
    seen, all_steps = [], []
    tiny_engine.sample(condition, steps=steps, on_step=all_steps.append)
    tiny_engine.sample(condition, image_latents=picture, strength=strength, steps=steps, on_step=seen.append)
    assert [(s.index, s.total) for s in seen] == [(i + 1, ran) for i in range(ran)]
    assert [s.sigma for s in seen] == [s.sigma for s in all_steps[-ran:]]


def test_steps_show_the_kept_picture(tiny_engine, condition, picture, mask):
    seen: list[pano.Step] = []
    final = tiny_engine.sample(condition, image_latents=picture, mask=mask, steps=4, on_step=seen.append)
    kept = (mask == 0).expand_as(picture)
    assert all(torch.equal(s.denoised[kept], picture[kept]) for s in seen)
    assert torch.equal(seen[-1].latents, final) and largest(seen[-1].denoised, final) <= 1e-6
    assert not torch.equal(seen[0].latents[kept], picture[kept])  # still with its noise


def test_batches(tiny_engine, picture, mask):
    """One picture and one mask serve all; one each gives what each would give alone."""
    both = tiny_engine.encode(["a red house", "a blue sea"], negative="snow")
    noise = torch.randn(2, 16, 8, 16, generator=torch.Generator().manual_seed(5))
    pictures, masks = torch.cat([picture, -picture]), torch.cat([mask, mask.roll(5, -1)])
    options = {"strength": 0.7, "cfg": 2.0}
    shared = tiny_engine.sample(both, latents=noise, image_latents=picture, mask=mask, **options)
    own = tiny_engine.sample(both, latents=noise, image_latents=pictures, mask=masks, **options)
    for i, prompt in enumerate(["a red house", "a blue sea"]):
        one = tiny_engine.encode(prompt, negative="snow")
        for together, z0, m in ((shared, picture, mask), (own, pictures[i : i + 1], masks[i : i + 1])):
            alone = tiny_engine.sample(one, latents=noise[i : i + 1], image_latents=z0, mask=m, **options)
            assert torch.allclose(together[i : i + 1], alone, atol=2e-5)
    sequential = tiny_engine.sample(
        both, latents=noise, image_latents=pictures, mask=masks, true_cfg_batched=False, **options
    )
    assert torch.allclose(own, sequential, atol=2e-5)


def test_nan_counts_the_steps_that_run(tiny_engine, condition, picture, mask):
    handle = tiny_engine.transformer.register_forward_hook(lambda m, a, output: (output[0] * torch.nan,))
    try:
        with pytest.raises(pano.NumericalError, match="stage transformer, step 1 of 2"):
            tiny_engine.sample(condition, image_latents=picture, mask=mask, strength=0.5, steps=4)
    finally:
        handle.remove()


Z = torch.zeros(1, 16, 8, 16)
M = torch.zeros(1, 1, 8, 16)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"mask": M}, "a mask was given without image_latents"),
        ({"strength": 0.5}, "strength 0.5 was given without image_latents"),
        ({"image_latents": Z, "strength": 0.0}, "strength must be above 0 and at most 1, got 0.0"),
        ({"image_latents": Z, "strength": 1.5}, "strength must be above 0 and at most 1, got 1.5"),
        ({"image_latents": Z, "strength": float("nan")}, "strength must be above 0"),
        ({"image_latents": Z, "strength": True}, "strength must be above 0"),
        ({"image_latents": Z, "strength": 1e-20}, "strength 1e-20 leaves none of 3 steps"),
        ({"image_latents": Z[0]}, r"image_latents must be \[B, 16, h, w\]"),
        ({"image_latents": Z[:, :4]}, r"image_latents must be \[B, 16, h, w\]"),
        ({"image_latents": Z[..., :7]}, "image_latents must have an even height and width"),
        ({"image_latents": Z.expand(3, -1, -1, -1)}, r"image_latents must be \[1, 16, 8, 16\], got \[3, 16"),
        ({"image_latents": Z.expand(3, -1, -1, -1), "batch_size": 2}, r"image_latents must be \[2 or 1, 16"),
        ({"image_latents": Z, "height": 32}, r"image_latents must be \[1, 16, 4, 8\], got \[1, 16, 8, 16\]"),
        ({"image_latents": Z, "latents": Z[..., :8]}, r"image_latents must be \[1, 16, 8, 8\]"),
        ({"image_latents": Z / 0}, "image_latents has NaN or infinite"),
        ({"image_latents": Z, "mask": M[0]}, r"mask must be \[1, 1, 8, 16\], got \[1, 8, 16\]"),
        ({"image_latents": Z, "mask": Z}, r"mask must be \[1, 1, 8, 16\], got \[1, 16, 8, 16\]"),
        ({"image_latents": Z, "mask": torch.zeros(1, 1, 64, 128)}, r"mask must be \[1, 1, 8, 16\]"),
        ({"image_latents": Z, "mask": M + 2}, "mask must lie in 0..1"),
        ({"image_latents": Z, "mask": M - 0.1}, "mask must lie in 0..1"),
        ({"image_latents": Z, "mask": M / 0}, "mask has NaN or infinite"),
    ],
)
def test_refused(tiny_engine, condition, options, text):
    """Before the network is called even once."""
    handle = tiny_engine.transformer.register_forward_pre_hook(lambda *a: pytest.fail("called the network"))
    try:
        with pytest.raises(pano.InputError, match=text):
            tiny_engine.sample(condition, **options)
    finally:
        handle.remove()


def test_encoding_a_sample(tiny_engine):
    """Mode by default; a seeded sample is mean + deviation · noise of that seed."""
    pixels = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(6))
    vae = tiny_engine.vae
    mode = tiny_engine.encode_image(pixels, ring=False)
    drawn = tiny_engine.encode_image(pixels, ring=False, sample_seed=7)
    with torch.no_grad():
        posterior = vae.encode(pixels * 2 - 1).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(7))
    assert largest(mode, scale(posterior.mean, vae)) <= 1e-5
    assert largest(drawn, scale(posterior.mean + posterior.std * noise, vae)) <= 1e-5
    assert torch.equal(drawn, tiny_engine.encode_image(pixels, ring=False, sample_seed=7))
    assert not torch.equal(drawn, tiny_engine.encode_image(pixels, ring=False, sample_seed=8))
    assert largest(drawn, mode) > 1e-3
    ring = tiny_engine.encode_image(pixels, sample_seed=7)
    assert not torch.equal(ring, drawn) and not torch.equal(ring, tiny_engine.encode_image(pixels))
    with pytest.raises(pano.InputError, match="sample_seed must be a whole number from 0"):
        tiny_engine.encode_image(pixels, sample_seed=-1)
