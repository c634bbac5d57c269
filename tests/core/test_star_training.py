"""Training STAR: its recipes learn, resume exactly, touch what they should, and hand on what they made."""

from __future__ import annotations

import argparse
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from panodiff_core.__main__ import main
from panodiff_core.data.cube_tokens import (
    CubeTokens,
    encode_cubes,
    quarter_turned,
    scenes_source,
    worlds_source,
)
from panodiff_core.data.cubemap_scenes import CubemapScenes
from panodiff_core.data.cubemap_worlds import FACE_TEXTS, render_faces
from panodiff_core.data.cubemap_writing import write_world_scenes
from panodiff_core.data.face_batches import PanoramaFaces, SceneFaces
from panodiff_core.data.panoramas import PanoramaCache, write_cache
from panodiff_core.data.token_batches import TokenCubes, TokenFaces
from panodiff_core.data.worlds import sample_scene
from panodiff_core.engines.star.checkpoint import find_model, load_components, read_config, write_config
from panodiff_core.engines.star.config import FaceRayConfig, STARConfig, VQVAEConfig
from panodiff_core.engines.star.faceray import FaceRaySampler
from panodiff_core.engines.star.options import GenerationOptions
from panodiff_core.engines.star.scales import Scales
from panodiff_core.engines.star.text import load_text_tower
from panodiff_core.engines.star.training.codebook import (
    CodebookKeeper,
    RestartPlan,
    fingerprint,
    new_vqvae,
    searched_vectors,
)
from panodiff_core.engines.star.training.corrections import with_wrong_starts
from panodiff_core.engines.star.training.cubes import FaceRayTraining
from panodiff_core.engines.star.training.single import CoarseFirst, code_losses, teacher_input
from panodiff_core.engines.star.training.text import TowerConfig
from panodiff_core.runtime.errors import CheckpointError, InputError
from panodiff_core.training.arguments import add_loop_arguments
from panodiff_core.training.checkpoint import list_checkpoints, load_checkpoint
from panodiff_core.training.config import LoopConfig
from panodiff_core.training.loop import Trainer
from panodiff_core.training.recipes import (
    star_faceray,
    star_reader,
    star_round_trips,
    star_sampler,
    star_tokens,
    star_vqvae,
)
from panodiff_core.training.recipes.star import STARRecipe, STARTraining
from panodiff_core.training.recipes.star_cubes import draw_cubes
from panodiff_core.training.recipes.star_options import star_optimizers
from panodiff_core.training.recipes.star_vqvae import VQVAERecipe, VQVAETraining
from panodiff_core.training.star_folder import read_vqvae

SCALES = Scales((1, 2, 3, 4))
SIZE = 16
VQ = VQVAEConfig(channels=8, multipliers=(1, 1, 2), blocks=1, latent_channels=4, vocab=24, norm_groups=4)


@pytest.fixture(autouse=True)
def fresh_accelerate():
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("star")


@pytest.fixture(scope="module")
def scenes(folder):
    write_world_scenes(folder / "scenes", 3, SIZE)
    return CubemapScenes(folder / "scenes", SIZE)


def trained(recipe, out, steps=2, **changes):
    """A trainer that ran, and the losses of its steps."""
    options = {"precision": "no", "warmup": 1, "log_every": 1, "picture_every": 0, **changes}
    trainer = Trainer(recipe, LoopConfig(out=out, steps=steps, **options))
    losses = []
    trainer.run(on_step=lambda step, parts: losses.append(parts))
    assert all(math.isfinite(v) for parts in losses for v in parts.values())
    return trainer, losses


class Fixed(torch.utils.data.Dataset):
    """The same batch at every index."""

    def __init__(self, data):
        vars(self).update(vars(data))
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[0]


def vqvae_recipe(scenes, **plan):
    return VQVAERecipe(VQ, SCALES, VQVAETraining(**plan), Fixed(SceneFaces(scenes, 4, 0)), 0)


def assert_same_weights(a, b):
    one, two = a.state_dict(), b.state_dict()
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def assert_resume_is_exact(recipe, out, stop_after, steps):
    """A run that was stopped and one that was not end with the same weights and averages, bit for bit."""
    whole, _ = trained(recipe(), out / "whole", steps=steps)
    first = Trainer(
        recipe(), LoopConfig(out=out / "cut", steps=steps, precision="no", warmup=1, picture_every=0)
    )

    def stop(step, parts):
        if step == stop_after:
            first.stop.reason = "test"

    assert not first.run(on_step=stop)
    again, losses = trained(recipe(), out / "cut", steps=steps)
    assert len(losses) == steps - stop_after
    assert_same_weights(whole.module, again.module)
    for name, average in whole.ema.shadow.items():
        assert torch.equal(average, again.ema.shadow[name]), name


# -- the autoencoder ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vqvae(folder, scenes):
    """The folder of a tiny autoencoder, made by its recipe."""
    trainer, losses = trained(
        vqvae_recipe(scenes, adversarial_from=0.9),
        folder / "vq",
        steps=30,
        learning_rate=5e-3,
        picture_every=30,
    )
    assert np.mean([p["pixel"] for p in losses[-5:]]) < 0.75 * losses[0]["pixel"]
    assert "discriminator" not in losses[0] and losses[-1].keys() >= {
        "discriminator",
        "generator",
        "matching",
    }
    assert losses[0]["restarted"] == VQ.vocab and losses[1]["restarted"] == 0
    assert all(0 < p["codes_used"] <= 1 and 0 < p["perplexity"] <= 1 for p in losses)
    assert (folder / "vq" / "pictures" / "00000030.png").is_file()
    trainer.export(folder / "vqx")
    return folder / "vqx"


def test_exported_autoencoder_is_the_averaged_one(folder, vqvae, scenes):
    from accelerate.state import AcceleratorState

    loaded = read_vqvae(vqvae)
    assert loaded.pixel_side == SIZE and loaded.config == VQ and loaded.scales == SCALES
    AcceleratorState._reset_state(reset_partial_state=True)
    recipe = vqvae_recipe(scenes, adversarial_from=0.9)
    again, _ = trained(recipe, folder / "vq", steps=30, learning_rate=5e-3)
    with again.averaged():
        assert_same_weights(again.module.vqvae.half().float(), loaded)


def test_refining_moves_the_decoder_alone(folder, vqvae, scenes):
    before = read_vqvae(vqvae)
    plan = VQVAETraining(adversarial_from=0.0)
    recipe = VQVAERecipe(
        before.config, before.scales, plan, SceneFaces(scenes, 4, 0), 0, refine=read_vqvae(vqvae)
    )
    trainer, losses = trained(recipe, folder / "refine", steps=3)
    assert all(parts["codebook"] == 0 and "restarted" not in parts for parts in losses)
    trainer.export(folder / "refined")
    after = read_vqvae(folder / "refined")
    assert fingerprint(after) == fingerprint(before)
    moved = {
        name.split(".")[0]
        for name, value in after.state_dict().items()
        if not torch.equal(value, before.state_dict()[name])
    }
    assert moved == {"decoder", "post_quant_conv"}
    faces = scenes[0]["faces"]
    for one, two in zip(before.encode(faces), after.encode(faces), strict=True):
        assert torch.equal(one, two)


def test_autoencoder_resumes_exactly_with_its_codebook_statistics(tmp_path, scenes):
    # Restarts fall on both sides of the stop, and depend on the uses counted before it.
    plan = RestartPlan(every=2, below=0.5, memory=0.5)
    assert_resume_is_exact(lambda: vqvae_recipe(scenes, restart=plan), tmp_path, stop_after=3, steps=6)


def test_dead_codes_begin_anew_where_latents_are_and_used_ones_stay():
    torch.manual_seed(0)
    vqvae = new_vqvae(VQ, SCALES)
    keeper = CodebookKeeper(RestartPlan(every=1, below=0.03, memory=0.5, until=0.7))
    quantizer, latents = vqvae.quantize, torch.randn(2, 4, 4, 4)
    for convolution in quantizer.quant_resi.qresi_ls:
        torch.nn.init.zeros_(convolution.bias)  # codes of zeros then subtract nothing
    assert float(keeper.restart(quantizer, latents, 0.0)) == VQ.vocab
    pooled = searched_vectors_of_zero_codes(latents)
    for code in quantizer.embedding.weight.detach():
        assert float((pooled - code).square().sum(dim=1).min()) < 1e-10
    for _ in range(20):  # only the codes 0 … 11 are ever used
        keeper.count(quantizer, tuple(torch.arange(n).fmod(12)[None] for n in SCALES.lengths))
    before = quantizer.embedding.weight.detach().clone()
    assert float(keeper.restart(quantizer, latents, 0.7)) == 0  # too late
    wanted = searched_vectors(quantizer, latents)
    assert float(keeper.restart(quantizer, latents, 0.69)) == 12
    after = quantizer.embedding.weight
    assert torch.equal(after[:12], before[:12])
    distance = torch.cdist(after[12:].detach(), wanted, compute_mode="donot_use_mm_for_euclid_dist")
    assert float(distance.detach().min(dim=1).values.max()) < 1e-6
    assert float(keeper.restart(quantizer, latents, 0.69)) == 0  # those are given time
    keeper.plan = RestartPlan(every=3)
    assert int(keeper.steps) == 20 and float(keeper.restart(quantizer, latents, 0.0)) == 0


def searched_vectors_of_zero_codes(latents):
    parts = [
        torch.nn.functional.adaptive_avg_pool2d(latents, n).flatten(2).mT.flatten(0, 1) for n in SCALES.sides
    ]
    return torch.cat(parts)


def test_usage_counts_an_even_and_a_collapsed_codebook():
    quantizer = new_vqvae(VQ, SCALES).quantize
    keeper = CodebookKeeper(RestartPlan(memory=0.0))
    quantizer.ema_vocab_hit_SV.zero_()
    even = keeper.count(quantizer, tuple(torch.arange(VQ.vocab)[None] for _ in SCALES.sides))
    assert float(even["perplexity"]) == pytest.approx(1.0, abs=1e-6) and float(even["codes_used"]) == 1.0
    one = keeper.count(quantizer, tuple(torch.zeros(1, n, dtype=torch.long) for n in SCALES.lengths))
    assert float(one["perplexity"]) == pytest.approx(1 / VQ.vocab, abs=1e-6)
    assert float(one["codes_used"]) == pytest.approx(1 / VQ.vocab, abs=1e-6)


def test_faces_cut_from_panoramas_are_those_of_the_scene(tmp_path):
    def gradient(start, stop):
        for _ in range(start, stop):
            rows = torch.arange(32).float()[None, :, None].expand(3, 32, 64)
            yield (rows * 8).byte()

    write_cache(tmp_path, gradient, 1, height=32, split="train", first_seed=0, shard_size=1)
    data = PanoramaFaces(PanoramaCache(tmp_path), SIZE, 32, seed=3)
    pixels = data[0]["pixels"]
    assert pixels.shape == (32, 3, SIZE, SIZE)
    assert torch.equal(pixels, PanoramaFaces(PanoramaCache(tmp_path), SIZE, 32, seed=3)[0]["pixels"])
    means = pixels.mean(dim=(1, 2, 3))
    up, down, sides = means < 0.3, means > 0.7, (means - 0.486).abs() < 0.02  # zenith, nadir, horizon
    assert bool((up | down | sides).all()) and up.any() and down.any() and int(sides.sum()) > 10


# -- codes on disk -----------------------------------------------------------------------------------------------------


def test_quarter_turns_of_faces_are_those_of_the_world():
    scene = sample_scene(5)
    faces = render_faces(scene, 32)
    for turn in range(4):
        rendered = render_faces(scene.rotated(90.0 * turn), 32)
        error = (quarter_turned(faces, turn) - rendered).abs().mean(dim=(1, 2, 3))
        assert float(error.max()) < 2e-3, (turn, error)


@pytest.fixture(scope="module")
def tokens(folder, vqvae, scenes):
    out = folder / "tokens"
    assert (
        main(["train", "star-tokens", "--out", str(out), "--vqvae", str(vqvae), "--scenes", str(scenes.root)])
        == 0
    )
    return CubeTokens(out)


def test_token_cache_holds_the_codes_of_its_scenes(tokens, vqvae, scenes):
    model = read_vqvae(vqvae)
    assert (len(tokens), tokens.turns, tokens.patch_nums, tokens.vocab) == (3, 4, SCALES.sides, VQ.vocab)
    assert tokens.autoencoder == fingerprint(model)
    for index, turn in ((0, 0), (2, 1), (1, 3)):
        faces = quarter_turned(scenes[index]["faces"], turn)
        assert torch.equal(tokens.codes(index, turn), torch.cat(model.encode(faces), dim=1))
        assert tokens.scene_id(index) == scenes.scene_ids[index]
        assert tokens.prompt(index) == scenes[index]["prompt"]
        assert tokens.world(index, turn) == sample_scene(index).rotated(90.0 * turn)


def test_token_cache_continues_and_refuses_another_autoencoder(tmp_path, vqvae):
    model, done = read_vqvae(vqvae), []
    source = worlds_source(SIZE, 3)

    def encode(faces):
        done.append(len(faces))
        if len(done) == 3:
            raise KeyboardInterrupt
        return torch.cat(model.encode(faces), dim=1)

    options = {"patch_nums": SCALES.sides, "vocab": VQ.vocab, "autoencoder": 1.0, "shard_size": 2}
    with pytest.raises(KeyboardInterrupt):
        encode_cubes(tmp_path, source, encode, **options)
    assert len(CubeTokens(tmp_path)) == 2
    reports = []
    encode_cubes(tmp_path, source, encode, **options, on_shard=lambda *counts: reports.append(counts))
    assert reports == [(3, 3)] and done == [12, 12, 12, 12]
    whole = CubeTokens(tmp_path)
    faces = render_faces(sample_scene(2, split="train"), SIZE)
    assert len(whole) == 3 and torch.equal(whole.codes(2), torch.cat(model.encode(faces), dim=1))
    with pytest.raises(InputError, match="autoencoder 1.0 .asked 2.0"):
        encode_cubes(tmp_path, source, encode, **{**options, "autoencoder": 2.0})
    with pytest.raises(InputError, match="16 bits"):
        encode_cubes(tmp_path, source, encode, **{**options, "vocab": 70000})
    with pytest.raises(InputError, match="star-tokens"):
        CubeTokens(tmp_path / "nothing")


def test_scenes_that_are_no_worlds_are_not_turned(tmp_path, scenes):
    import shutil

    shutil.copytree(scenes.root, tmp_path / "mine")
    (tmp_path / "mine" / "scene0001" / "prompts.json").write_text('{"scene": "my own garden"}')
    source = scenes_source(CubemapScenes(tmp_path / "mine", SIZE))
    assert source.turns == 1
    assert source.entries[1] == {"scene_id": "scene0001", "prompt": "my own garden"}


def test_codes_of_other_pictures_or_prompts_are_not_continued(tmp_path, scenes):
    import shutil

    mine = tmp_path / "mine"
    shutil.copytree(scenes.root, mine)
    told = lambda: scenes_source(CubemapScenes(mine, SIZE)).what
    first = told()
    assert told() == first
    (mine / "scene0001" / "prompts.json").write_text('{"scene": "my own garden"}')
    second = told()
    shutil.copy(mine / "scene0001" / "faces" / "F.png", mine / "scene0000" / "faces" / "F.png")
    assert len({first, second, told()}) == 3


def test_what_decays_in_stars_training(star, tokens):
    module = faceray_recipe(star, tokens, "--unfreeze", "lvl_embed", "blocks.0.attn", "pos_start").module()
    (adam,) = star_optimizers(module, 1e-3, "adamw", lambda name, p: False)
    names = {id(p): name for name, p in module.named_parameters()}
    decaying, rest = ({names[id(p)] for p in group["params"]} for group in adam.param_groups)
    assert [group["weight_decay"] for group in adam.param_groups] == [0.05, 0.0]
    assert all(group["betas"] == (0.9, 0.95) for group in adam.param_groups)
    assert "learned.blocks/0/attn/mat_qkv/weight" in decaying
    assert {"learned.pos_start", "learned.lvl_embed/weight", "learned.blocks/0/attn/scale_mul_1H11"} <= rest
    assert "learned.blocks/0/attn/proj/bias" in rest


def test_no_autoencoder_is_told_with_the_way_out(tmp_path):
    with pytest.raises(CheckpointError, match="train star-vqvae"):
        read_vqvae(tmp_path)


# -- the generator on single faces -------------------------------------------------------------------------------------

STAR = STARConfig(
    depth=3, width=24, heads=2, text_width=16, text_tokens=24, class_rows=0, cross_attention="per_row"
)
TOWER = TowerConfig(width=16, layers=1, heads=2, max_length=40)


def star_recipe(tokens, vqvae, batch_size=4, plan=None, optimizer="muon", overfit=False):
    recipe = STARRecipe(
        STAR, TOWER, plan or STARTraining(), tokens, read_vqvae(vqvae), batch_size, 0, optimizer
    )
    if overfit:
        data = Fixed(recipe.batches())
        recipe.batches = lambda: data
    return recipe


@pytest.fixture(scope="module")
def star(folder, tokens, vqvae):
    """A model folder with a plain generator, made by its recipe."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    recipe = star_recipe(tokens, vqvae, overfit=True)
    trainer, losses = trained(recipe, folder / "star", steps=25, learning_rate=1e-2, picture_every=25)
    assert losses[0]["loss"] - 0.1 * losses[0]["reading"] == pytest.approx(math.log(VQ.vocab), abs=0.1)
    assert losses[-1]["loss"] < 0.8 * losses[0]["loss"]
    assert losses[-1]["reading"] < 0.8 * losses[0]["reading"]
    assert (folder / "star" / "pictures" / "00000025.png").is_file()
    trainer.export(folder / "starx")
    return folder / "starx"


def test_star_exports_a_folder_that_loads_with_its_tower(star, vqvae):
    source = find_model(star)
    parts, config = load_components(source), source.config
    assert (config.kind, config.faceray, config.generator.cross_attention) == ("small", None, "per_row")
    assert (config.generator.patch_nums, config.generator.vocab) == (SCALES.sides, VQ.vocab)
    tower = load_text_tower(star, config.generator.text_width)
    words = tower.read(["behind, a calm sea at sunset", "front right left up down", "a submarine"])
    assert words.unknown_words == ("submarine",)
    assert_same_weights(parts.vqvae, read_vqvae(vqvae))
    assert sum(p.numel() * 2 for p in parts.vqvae.parameters()) < (star / "vqvae.safetensors").stat().st_size
    assert (star / "vqvae.safetensors").stat().st_size < sum(p.numel() * 3 for p in parts.vqvae.parameters())


def card_of(folder, model):
    card = (model / "README.md").read_text(encoding="utf-8")
    assert max(map(len, card.splitlines())) <= 120
    assert str(folder) not in card and "None" not in card
    return card


def test_star_says_what_it_is_and_how_it_was_trained(folder, star, tokens):
    card = card_of(folder, star)
    parts = load_components(find_model(star))
    count = sum(p.numel() for p in parts.generator.parameters()) / 1e6
    said = (
        "# star-small",
        f"{parts.vqvae.pixel_side}×{parts.vqvae.pixel_side} pixels",
        "faces do not meet",
        f"- generator: {count:.2f} M parameters",
        f"single faces of {len(tokens)} rendered worlds",
        "25 of 25 steps",
        "random weights",
        "train star ",
        "--tokens TOKENS",
        "--batch-size 4",
        "--learning-rate 0.01",
        "--seed 0",
        " sunset ",
    )
    assert [words for words in said if words not in card] == []
    assert card.count("## Training: ") == 1


def test_star_resumes_exactly(tmp_path, tokens, vqvae):
    assert_resume_is_exact(lambda: star_recipe(tokens, vqvae, batch_size=2), tmp_path, stop_after=2, steps=4)


@torch.no_grad()
def test_star_is_taught_the_coarse_scales_first(tokens, vqvae):
    recipe = star_recipe(
        tokens, vqvae, batch_size=2, plan=STARTraining(coarse=CoarseFirst(0.5, 2), dropout=0.0)
    )
    module, batch = recipe.module().train(False), recipe.batches()[0]
    coarse, whole = module(batch, 0.49), module(batch, 0.5)
    codes = batch["codes"]
    taught = teacher_input(module.quantizer(codes.device), codes)
    logits, _ = module.generator(taught, module.tower.encode(batch["captions"], codes.device))
    each = torch.nn.functional.cross_entropy(logits.mT, codes, reduction="none")
    reading = recipe.plan.reading_weight * whole["reading"]
    assert float(whole["loss"]) == pytest.approx(float(each.mean() + reading), abs=1e-5)
    assert float(coarse["loss"]) == pytest.approx(float(each[:, :5].mean() + reading), abs=1e-5)


def test_losses_are_means_over_all_tokens_of_all_scales():
    logits = torch.randn(2, SCALES.total, 5, generator=torch.Generator().manual_seed(0))
    codes = torch.randint(5, (2, SCALES.total), generator=torch.Generator().manual_seed(1))
    log_p = logits.double().log_softmax(-1)
    each = -log_p.gather(-1, codes[..., None])[..., 0]
    parts = code_losses(logits, codes, SCALES)
    assert float(parts["loss"]) == pytest.approx(float(each.mean()), abs=1e-6)
    assert float(parts["coarse"]) == pytest.approx(float(each[:, :5].mean()), abs=1e-6)
    assert float(parts["fine"]) == pytest.approx(float(each[:, 5:].mean()), abs=1e-6)
    assert float(parts["right"]) == pytest.approx(
        float((logits.argmax(-1) == codes).float().mean()), abs=1e-6
    )


def test_the_teacher_shows_each_scale_what_the_coarser_ones_made(tokens, vqvae):
    quantizer, codes = read_vqvae(vqvae).quantize, tokens.codes(0)
    taught = teacher_input(quantizer, codes)
    after = quantizer.accumulate([codes[:, SCALES.slice(s)] for s in range(3)])
    assert taught.shape == (6, SCALES.total - 1, VQ.latent_channels)
    assert torch.equal(taught[:, 4:13], quantizer.next_input(after[1], 2))


def test_captions_name_the_direction_of_the_face_that_is_shown(tokens):
    data = TokenFaces(tokens, 8, seed=1, dropout=0.2, plain=0.3)
    again = TokenFaces(CubeTokens(tokens.folder), 8, seed=1, dropout=0.2, plain=0.3)
    named = silent = total = 0
    for index in range(30):
        batch = data[index]
        assert (
            torch.equal(batch["codes"], again[index]["codes"])
            and batch["captions"] == again[index]["captions"]
        )
        for codes, text, targets in zip(batch["codes"], batch["captions"], batch["targets"], strict=True):
            face = int(targets[-1]) - 1
            cubes = [tokens.codes(scene, turn) for scene in range(3) for turn in range(4)]
            if text and face >= 0:
                word = ("front", "right", "behind", "left", "up", "down")[face]
                assert text.startswith(f"{word}, ")
                assert any(torch.equal(codes, cube[face]) for cube in cubes)
            assert bool(text) or int(targets.sum()) == 0
            named, silent, total = named + (face >= 0), silent + (not text), total + 1
    assert silent / total == pytest.approx(0.2, abs=0.08)
    assert named / total == pytest.approx(0.8 * 0.7, abs=0.1)


def test_cubes_of_tokens_visit_every_scene_once_per_epoch(tokens):
    data = TokenCubes(tokens, 3, seed=0, dropout=0.0)
    for epoch in range(3):
        batch = data[epoch]
        scenes = set()
        for cube in batch["codes"]:
            scenes |= {s for s in range(3) for t in range(4) if torch.equal(tokens.codes(s, t), cube)}
        assert scenes == {0, 1, 2} and all(batch["captions"])
    with pytest.raises(InputError, match="dropout"):
        TokenCubes(tokens, 1, seed=0, dropout=1.5)


# -- FaceRay and the masked sampler on cubes ---------------------------------------------------------------------------

FACERAY = FaceRayConfig(adapter_dim=12, heads=2, head_dim=6, ray_subdim=6)


def arguments(recipe, *words):
    """Parsed options of a recipe, as the command line gives them."""
    parser = argparse.ArgumentParser()
    recipe.add_arguments(parser)
    add_loop_arguments(parser, recipe.DEFAULTS)
    return parser.parse_args([*map(str, words), "--out", "unused"])


def faceray_recipe(star, tokens, *words):
    words = ("--adapter-dim", 12, "--adapter-heads", 2, "--ray-subdim", 6, *words)
    return star_faceray.build(arguments(star_faceray, "--gen_ckpt", star, "--tokens", tokens.folder, *words))


def fixed(recipe):
    recipe.data = Fixed(recipe.data)
    return recipe


@pytest.fixture(scope="module")
def cubes(folder, star, tokens):
    """A model folder with adapters, made by its recipe; what was frozen is compared with the plain generator."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    recipe = fixed(faceray_recipe(star, tokens, "--seam_warmup_ratio", 0.5, "--lambda_seam", 0.2))
    trainer, losses = trained(recipe, folder / "faceray", steps=12, learning_rate=2e-2, picture_every=12)
    weights = [p["seam_weight"] for p in losses]
    assert weights == pytest.approx([0.2 * min(1.0, step / 6) for step in range(12)], abs=1e-7)
    assert losses[0]["loss"] == losses[0]["face"] and losses[-1]["face"] < losses[0]["face"] - 0.005
    assert losses[7]["loss"] == pytest.approx(losses[7]["face"] + 0.2 * losses[7]["seam"], abs=1e-6)
    assert (folder / "faceray" / "pictures" / "00000012.png").is_file()
    before = load_components(find_model(star)).generator.state_dict()
    after = trainer.module.generator.state_dict()
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    adapters = [name for name in after if name not in before]
    assert len(adapters) == 3 * STAR.depth and all("faceray_adapter" in name for name in adapters)
    assert all(float(after[n].abs().max()) > 0 for n in adapters if n.endswith("out_proj.weight"))
    assert {name.replace("/", ".") for name in trainer.module.state_dict()} == {
        f"learned.{n}" for n in adapters
    }
    trainer.export(folder / "cubes")
    return folder / "cubes"


def test_faceray_exports_the_extended_model(cubes, star, tokens):
    source = find_model(cubes)
    parts = load_components(source)
    assert source.config.faceray == FACERAY and source.config.generator.cross_attention == "per_row"
    assert load_text_tower(cubes, 16).width == 16
    assert source.config.face_texts == FACE_TEXTS  # as the generator's captions were
    assert faceray_recipe(cubes, tokens, "--captions", "scene").model.face_texts == {}
    plain = load_components(find_model(star)).generator.state_dict()
    assert all(torch.equal(value, parts.generator.state_dict()[name]) for name, value in plain.items())
    assert float(parts.generator.blocks[0].faceray_adapter.out_proj.weight.abs().max()) > 1e-4


def test_a_stage_adds_its_training_to_what_was_told_before(folder, cubes, star):
    card, before = card_of(folder, cubes), card_of(folder, star)
    assert before[before.index("## Training: ") :].strip() in card
    assert card.count("## Training: ") == 2 and "FaceRay adapters" in card and "faces do not meet" not in card
    own = " ".join(card[card.rindex("## Training: ") :].split())  # without its line ends
    said = (
        "train star-faceray ",
        "12 of 12 steps",
        "beside the other parts of MODEL",
        "--gen_ckpt MODEL",
        "--lambda_seam 0.2",
        "--wrong_starts 0.0",
        "--coarse-until 0.0",
        "--adapter-dim ",
    )
    assert [words for words in said if words not in own] == []


def test_faceray_resumes_exactly_and_keeps_only_what_learns(tmp_path, star, tokens):
    recipe = lambda: faceray_recipe(star, tokens, "--unfreeze", "encoder_proj", "blocks.1.ffn.fc1.bias")
    assert_resume_is_exact(recipe, tmp_path, stop_after=2, steps=4)
    tensors, _ = load_checkpoint(list_checkpoints(tmp_path / "cut")[-1])
    rest = {name for name in tensors["model"] if "faceray_adapter" not in name}
    assert rest == {
        f"learned.{n}" for n in ("encoder_proj/weight", "encoder_proj/bias", "blocks/1/ffn/fc1/bias")
    }


def test_seam_weight_counts_optimiser_steps_not_micro_steps(tmp_path, star, tokens):
    recipe = faceray_recipe(star, tokens, "--seam_warmup_ratio", 1.0)
    _, losses = trained(recipe, tmp_path, steps=4, grad_accumulation=2)
    assert [p["seam_weight"] for p in losses] == pytest.approx([0.0, 0.025, 0.05, 0.075], abs=1e-7)
    module = recipe.module()
    module.plan = FaceRayTraining(seam_warmup_ratio=0.0, lambda_seam=0.3)
    assert module.seam_weight(0.0) == 0.3
    assert FaceRayTraining() == FaceRayTraining(lambda_seam=0.1, seam_warmup_ratio=0.1)


def test_pictures_of_scenes_and_their_codes_train_alike(star, tokens, scenes):
    """Faces on disk are encoded on the way: the same loss as from codes made beforehand."""
    recipe = faceray_recipe(star, tokens)
    module = recipe.module().train(False)
    prompt = [tokens.prompt(1)]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):  # as it is trained
        codes = {"codes": tokens.codes(1)[None], "captions": prompt}
        faces = {"faces": scenes[1]["faces"][None], "captions": prompt}
        assert torch.equal(module.teacher.codes(faces), module.teacher.codes(codes))
        text = module.teacher.text(prompt, torch.device("cpu"))
        from_codes, from_faces = module(codes, 0.5), module(faces, 0.5)
    assert torch.equal(text.hidden, module.teacher.text(prompt, torch.device("cpu")).hidden)
    assert float(from_codes["loss"]) == pytest.approx(float(from_faces["loss"]), abs=1e-6)


def test_each_face_may_hear_its_own_direction(star, tokens):
    recipe = faceray_recipe(star, tokens)  # as the generator was trained
    module = recipe.module().train(False)
    teacher = module.teacher
    text = teacher.text(["a calm sea", ""], torch.device("cpu"))
    assert len(text) == 12
    words = ("front", "right", "behind", "left", "up", "down")
    expected = teacher.tower.encode([*(f"{w}, a calm sea" for w in words), *[""] * 6])
    assert torch.equal(text.pooled, expected.pooled)
    drawn = draw_cubes(module.generator, teacher, ("a calm sea",))
    teacher.captions = "scene"
    assert drawn.shape == draw_cubes(module.generator, teacher, ("a calm sea",)).shape
    assert not torch.equal(drawn, draw_cubes(module.generator, teacher, ("a calm sea",)))
    assert len(teacher.text(["a calm sea", ""], torch.device("cpu"))) == 2


def test_wrong_starts_are_led_back_to_the_picture(star, tokens):
    quantizer = faceray_recipe(star, tokens).model.teacher.vqvae.quantize
    codes = torch.cat([tokens.codes(0), tokens.codes(1)]).long()
    lengths = quantizer.scales.lengths
    torch.manual_seed(3)
    assert all(torch.equal(each, codes) for each in with_wrong_starts(quantizer, codes, 0.0))
    given, asked = with_wrong_starts(quantizer, codes, 1.0)

    def picture(of):
        total = quantizer.start(len(of))
        for scale, indices in enumerate(of.split(lengths, dim=1)):
            total = quantizer.add_scale(total, quantizer.codes(indices), scale)
        return total

    same = given == codes.roll(6, 0)
    wrong = 0
    while same[:, : sum(lengths[: wrong + 1])].all():
        wrong += 1
    assert 1 <= wrong <= 3
    assert torch.equal(given[:, sum(lengths[:wrong]) :], asked[:, sum(lengths[:wrong]) :])
    true, plain = picture(codes), codes.clone()
    plain[:, : sum(lengths[:wrong])] = codes.roll(6, 0)[:, : sum(lengths[:wrong])]
    left, uncorrected = ((picture(each) - true).square().mean() for each in (given, plain))
    assert float(left) < 0.95 * float(uncorrected)  # how far back depends on the codebook, here a tiny one
    rest = true - quantizer.start(12)
    assert torch.equal(asked[:, :1], quantizer.search(rest, 0))
    partly, _ = with_wrong_starts(quantizer, codes, 0.5)
    kept = (partly == codes).all(dim=1)
    assert 0 < int(kept.sum()) < 12


def test_adapters_learn_from_wrong_starts_and_coarse_scales_first(star, tokens):
    recipe = faceray_recipe(star, tokens, "--wrong_starts", 0.5, "--coarse-until", 0.5, "--coarse-scales", 2)
    module = recipe.module().train(False)
    seen = []
    handle = module.generator.head_logits.register_forward_hook(lambda m, i, out: seen.append(out.shape[1]))
    batch = {"codes": tokens.codes(0)[None], "captions": ["a calm sea"]}
    parts = [module(batch, progress) for progress in (0.4, 0.6)]
    handle.remove()
    lengths = module.generator.scales.lengths
    assert seen == [sum(lengths[:2]), sum(lengths)]
    assert all(torch.isfinite(each["loss"]) and each["seam"] > 0 for each in parts)
    parts[0]["loss"].backward()
    with pytest.raises(InputError, match="wrong_starts must lie in"):
        faceray_recipe(star, tokens, "--wrong_starts", 1.5)


def test_checkpointing_changes_no_gradient(star, tokens):
    grads = []
    for words in ((), ("--checkpointing",)):
        recipe = faceray_recipe(star, tokens, *words)
        module = recipe.module().train(True)
        module({"codes": tokens.codes(0)[None], "captions": ["a calm sea"]}, 1.0)["loss"].backward()
        grads.append({name: p.grad for name, p in module.named_parameters()})
    assert all(torch.allclose(g, grads[1][name], atol=1e-7) for name, g in grads[0].items())
    assert any(float(g.abs().max()) > 0 for g in grads[0].values())


def sampler_recipe(cubes, tokens, *words):
    return star_sampler.build(arguments(star_sampler, "--gen_ckpt", cubes, "--tokens", tokens.folder, *words))


def test_sampler_trains_beside_a_frozen_generator_and_exports(tmp_path, cubes, tokens):
    trainer, losses = trained(
        fixed(sampler_recipe(cubes, tokens)), tmp_path / "run", steps=20, learning_rate=1e-2, picture_every=20
    )
    assert np.mean([p["loss"] for p in losses[-5:]]) < 0.85 * np.mean([p["loss"] for p in losses[:3]])
    assert (tmp_path / "run" / "pictures" / "00000020.png").is_file()
    before = load_components(find_model(cubes)).generator.state_dict()
    after = trainer.module.generator.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(name.startswith("sampler.") for name in trainer.module.state_dict())
    trainer.export(tmp_path / "whole")
    source = find_model(tmp_path / "whole")
    parts = load_components(source)
    assert source.config.face_texts == FACE_TEXTS
    assert isinstance(parts.sampler, FaceRaySampler) and source.config.generator.sampler_blocks == 2
    with trainer.averaged():
        mine = trainer.module.sampler.state_dict()
    for name, value in parts.sampler.state_dict().items():
        assert float((value - mine[name]).abs().max()) <= 1e-3 * (1 + float(mine[name].abs().max())), name


def test_sampler_resumes_exactly(tmp_path, cubes, tokens):
    assert_resume_is_exact(lambda: sampler_recipe(cubes, tokens), tmp_path, stop_after=2, steps=4)


def test_sampler_learns_from_hidden_tokens_alone(cubes, tokens):
    """Gradients of the logits are zero at every visible token, and the loss is the mean over the hidden ones."""
    module = sampler_recipe(cubes, tokens).module().train(False)
    seen = {}

    def remember(codes, features, pooled):
        logits, keep = type(module.sampler).predict_hidden(module.sampler, codes, features, pooled)
        logits.retain_grad()
        seen.update(logits=logits, keep=keep)
        return logits, keep

    module.sampler.predict_hidden = remember
    torch.manual_seed(0)
    codes = tokens.codes(0)
    parts = module({"codes": codes[None], "captions": ["a calm sea"]}, 0.0)
    parts["loss"].backward()
    keep, logits = seen["keep"], seen["logits"]
    assert keep.any() and not keep.all()
    targets = codes[:, SCALES.slice(3)].reshape(1, -1)
    each = torch.nn.functional.cross_entropy(logits.detach()[0], targets[0], reduction="none")
    assert float(parts["loss"].detach()) == pytest.approx(float(each[~keep[0]].mean()), abs=1e-6)
    assert float(logits.grad[keep].abs().max()) == 0.0
    assert float(logits.grad[~keep].abs().amax(dim=-1).min()) > 0.0


def test_settings_of_what_the_source_has_already_are_not_ignored(tmp_path, cubes, tokens):
    def recipe(module, *words):
        return module.build(arguments(module, "--gen_ckpt", cubes, "--tokens", tokens.folder, *words))

    own = recipe(star_faceray).faceray
    assert recipe(star_faceray, "--adapter-dim", own.adapter_dim).faceray == own
    for words, told in (
        (("--adapter-dim", 24), "adapter_dim 12, asked 24, head_dim 6, asked 12. Leave these options out"),
        (("--adapter-input", "raw"), "adapter_input normed, asked raw"),
        (("--depth-matched",), "depth_matched False, asked True"),
    ):
        with pytest.raises(InputError, match=f"has adapters of other settings: {told}"):
            recipe(star_faceray, *words)
    trainer, _ = trained(recipe(star_sampler, "--sampler-blocks", 1), tmp_path / "run", steps=1)
    trainer.export(tmp_path / "whole")
    cubes = tmp_path / "whole"
    assert recipe(star_sampler).blocks == recipe(star_sampler, "--sampler-blocks", 1).blocks == 1
    with pytest.raises(
        InputError, match="has a masked sampler of 1 blocks, asked 2: leave --sampler-blocks out"
    ):
        recipe(star_sampler, "--sampler-blocks", 2)


def test_the_defaults_of_a_plain_model_do_not_bind_its_adapters(tmp_path, star, tokens):
    config = read_config(shutil.copytree(star, tmp_path / "plain"))
    defaults = GenerationOptions(cfg=3.0, cross_attention="cond_shared")
    write_config(tmp_path / "plain", replace(config, defaults=defaults))
    trainer, _ = trained(faceray_recipe(tmp_path / "plain", tokens), tmp_path / "run", steps=1)
    trainer.export(tmp_path / "cubes")
    assert read_config(tmp_path / "cubes").defaults == GenerationOptions(cfg=3.0)


def test_bad_input_is_told_before_training(tmp_path, star, tokens, scenes, vqvae, capsys):
    with pytest.raises(InputError, match="depth 3, asked 30"):
        faceray_recipe(star, tokens, "--depth", 30)
    with pytest.raises(InputError, match="patch_nums"):
        faceray_recipe(star, tokens, "--patch_nums", "1,2,3,5")
    with pytest.raises(InputError, match="lambda_seam"):
        faceray_recipe(star, tokens, "--lambda_seam", -1)
    with pytest.raises(InputError, match="seam_warmup_ratio"):
        faceray_recipe(star, tokens, "--seam_warmup_ratio", 1.5)
    with pytest.raises(InputError, match="nothing called 'blocks.77'"):
        faceray_recipe(star, tokens, "--unfreeze", "blocks.77").module()
    with pytest.raises(CheckpointError, match="text_encoder"):
        faceray_recipe(star, tokens, "--text_encoder", tmp_path)
    with pytest.raises(CheckpointError):
        faceray_recipe(tmp_path / "nothing", tokens)
    with pytest.raises(InputError, match="need --tokens"):
        words = ("--gen_ckpt", star, "--data_root", scenes.root, "--repeat-rooms", 2)
        star_faceray.build(arguments(star_faceray, *words))
    for sizes, words in (
        ({"width": 30}, "width 30 of the text tower is no multiple of its 4 heads"),
        ({"layers": -1}, "layers of the text tower must be a whole number of at least 1, got -1"),
    ):
        with pytest.raises(InputError, match=words):
            TowerConfig(**sizes)
    for option, value, words in (
        ("--adapter-dim", 0, "adapter_dim must be a whole number of at least 1, got 0"),
        ("--adapter-heads", 0, "heads must be a whole number of at least 1, got 0"),
        ("--batch_size", 0, "batch_size must be a whole number of at least 1, got 0"),
    ):
        with pytest.raises(InputError, match=words):
            faceray_recipe(star, tokens, option, value)
    for command in (
        ("star-tokens", "--vqvae", vqvae, "--scenes", scenes.root),
        ("cubemap-scenes", "--size", SIZE),
    ):
        assert main(["train", *map(str, command), "--workers", "-1", "--out", str(tmp_path / "no")]) == 1
        assert "workers must be a whole number of at least 0, got -1" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"seed \(--seed\) must be at least 0"):
        LoopConfig(out=tmp_path, steps=1, seed=-1)
    other = CubeTokens(tokens.folder)
    other.autoencoder += 1.0
    with pytest.raises(InputError, match="another autoencoder"):
        star_recipe(other, vqvae)
    with pytest.raises(InputError, match="not 16x16"):
        words = ("--gen_ckpt", star, "--data_root", _wrong_size(tmp_path, scenes))
        star_faceray.build(arguments(star_faceray, *words))


@pytest.mark.parametrize(
    ("module", "option"),
    [
        (star_faceray, "--data_root"),
        (star_sampler, "--data_root"),
        (star_vqvae, "--scenes"),
        (star_tokens, "--scenes"),
        (star_round_trips, "--scenes"),
        (star_reader, "--scenes"),
    ],
)
def test_whoever_reads_scenes_can_leave_out_bad_ones(module, option):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    options = {name for action in parser._actions for name in action.option_strings}
    assert {option, "--skip-bad"} <= options


def test_an_autoencoder_learns_from_what_is_left_of_spoiled_scenes(tmp_path, scenes):
    words = ("--scenes", _wrong_size(tmp_path, scenes), "--patch-nums", "1,2,3,4", "--multipliers", "1,1,1")
    with pytest.raises(InputError, match="scene scene0002: .*--skip-bad"):
        star_vqvae.build(arguments(star_vqvae, *words))
    assert len(star_vqvae.build(arguments(star_vqvae, *words, "--skip-bad")).data.scenes) == 2


def _wrong_size(tmp_path, scenes):
    from PIL import Image

    shutil.copytree(scenes.root, tmp_path / "wrong")
    Image.new("RGB", (8, 8)).save(tmp_path / "wrong" / "scene0002" / "faces" / "U.png")
    return tmp_path / "wrong"


# -- the runbook -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_runbook_passes_and_prints_its_figures(capsys):
    assert main(["runbook", "star"]) == 0
    said = capsys.readouterr().out
    assert said.count("pass  ") == 7 and "FAIL" not in said
    for figure in (
        "10 scenes, faces [[6, 3, 512, 512]]",
        "4500 boundary tokens, 24072 neighbours, 100% on adjacent faces",
        "identical to plain STAR",
        "30 calls in 3 blocks × 10 scales",
        "logits [1, 6144, 4096], mask [1, 6144]",
        "7 of 7 passed",
    ):
        assert figure in said
