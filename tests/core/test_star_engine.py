"""STAR as an engine: its stages against golden vectors and the loop called by hand, placement, bad input, commands."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import panodiff_core as pano
from panodiff_core import __main__ as cli
from panodiff_core.autoencoders.preview import fit_colours
from panodiff_core.engines import ENGINES
from panodiff_core.engines.star.checkpoint import read_config
from panodiff_core.engines.star.condition import StarCondition
from panodiff_core.engines.star.config import STARConfig
from panodiff_core.engines.star.inference import generate
from panodiff_core.engines.star.memory import Job, check_room
from panodiff_core.engines.star.options import GenerationOptions
from panodiff_core.engines.star.text import TextFeatures
from panodiff_core.engines.star.verification import StarVectors, faceray, generator
from panodiff_core.io.images import load_image, read_text
from panodiff_core.runtime.placement import PerStage
from tests.tiny_star import VECTORS, build_tiny_star

pytest.importorskip("transformers")

SEA, HOUSE = "a calm sea at sunset", "a red house"
GREEDY = {"top_k": 1, "top_p": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Generator, masked sampler, both with FaceRay."""
    return build_tiny_star(tmp_path_factory.mktemp("star") / "faceray")


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory) -> Path:
    """STAR without adapters and without masked sampler."""
    return build_tiny_star(tmp_path_factory.mktemp("star") / "plain", faceray=False, sampler=False)


@pytest.fixture(scope="module")
def engine(folder):
    return pano.load("star", folder, device="cpu")


@pytest.fixture(scope="module")
def plain(plain_folder):
    return pano.load("star", plain_folder, device="cpu")


@pytest.fixture(scope="module")
def vectors() -> StarVectors:
    return StarVectors(VECTORS)


def condition_of(text: TextFeatures, empty: TextFeatures) -> StarCondition:
    return StarCondition(text, empty.repeat(len(text)))


def close(got: torch.Tensor, golden: torch.Tensor) -> bool:
    """The vectors' own rule."""
    return bool(((got - golden).abs() < 1e-4 * (1 + golden.abs().max())).all())


# the numbers


@pytest.mark.parametrize("mode", ["per_row", "cond_shared", "row0"])
def test_single_pictures_are_the_vectors(plain, vectors, mode):
    t, condition = (
        vectors.tensors("star"),
        condition_of(*(generator.text_of(vectors, half) for half in ("cond", "uncond"))),
    )
    cfg = vectors.about()["cfg"]
    latents = plain.sample(condition, faces=False, cfg=cfg, cross_attention=mode, **GREEDY)
    indices = [t[f"infer.{mode}.idx.{s}"] for s in range(len(plain.generator.scales))]
    assert close(latents, plain.quantizer.accumulate(indices)[-1])  # the greedy codes, every one
    assert close(latents, t[f"infer.{mode}.f_hat"])
    picture = plain.decode(latents, faces=False)
    assert isinstance(picture, pano.Views) and picture.cameras == (pano.Camera(fov_deg=90.0),)
    assert close(picture.pixels[:, 0], t[f"infer.{mode}.img01"])


def test_cubes_are_the_vectors(engine, vectors):
    t, condition = (
        vectors.tensors("faceray"),
        condition_of(*(faceray.text_of(vectors, half) for half in ("", "_uncond"))),
    )
    latents = engine.sample(condition, cfg=vectors.about("faceray")["cfg"], **GREEDY)
    indices = [t[f"infer6.idx.{s}"] for s in range(len(engine.generator.scales))]
    assert close(latents, engine.quantizer.accumulate(indices)[-1])
    assert close(latents, t["infer6.f_hat"])
    off = engine.sample(condition, cfg=vectors.about("faceray")["cfg"], adapter_strength=0.0, **GREEDY)
    assert not close(off, t["infer6.f_hat"])


@pytest.mark.parametrize("sampler", ["off", "new"])
def test_the_engine_is_the_loop_called_by_hand(engine, sampler):
    """Prompts, negatives, batch and seeds arrive at `generate` as they should."""
    condition = engine.encode([SEA, HOUSE], negative=["", "snow"])
    steps: list[pano.Step] = []
    latents = engine.sample(
        condition, seed=5, batch_size=2, cfg=3.0, top_k=9, sampler=sampler, on_step=steps.append
    )
    assert latents.shape == (24, 8, 8, 8) and latents.dtype == torch.float32
    with torch.no_grad():
        text = engine.text.encode([SEA, SEA, HOUSE, HOUSE])
        negative = engine.text.encode(["", "", "snow", "snow"])
    by_hand = generate(
        engine.generator,
        engine.vqvae.quantize,
        text,
        negative,
        GenerationOptions(cfg=3.0, top_k=9, sampler=sampler),
        seed=5,
        group=6,
        sampler=engine.sampler,
        branches=engine.generator.branches(1.0),
    )
    assert torch.allclose(latents, by_hand, atol=1e-5)
    assert torch.equal(steps[-1].latents, latents)
    assert [step.index for step in steps] == list(range(1, (13 if sampler == "new" else 6) + 1))
    # cube 3 is the second one of the second prompt
    alone = engine.sample(engine.encode(HOUSE, "snow"), seed=8, cfg=3.0, top_k=9, sampler=sampler)
    assert torch.allclose(latents[18:], alone, atol=1e-5)


def test_seeds(engine):
    condition = engine.encode(SEA)
    first = engine.sample(condition, seed=1)
    assert torch.equal(first, engine.sample(condition, seed=1))
    assert (first - engine.sample(condition, seed=2)).abs().max() > 0.1
    assert (first[0] - first[1]).abs().max() > 0.1  # faces have numbers of their own


def test_without_adapters_it_is_star(engine, plain):
    condition = engine.encode(SEA)
    off = engine.sample(condition, seed=1, adapter_strength=0.0)
    star = plain.sample(condition, seed=1, cross_attention="per_row")
    assert torch.allclose(off, star, atol=1e-5)
    assert (off - engine.sample(condition, seed=1)).abs().max() > 0.1


@pytest.mark.parametrize("sampler", ["off", "new"])
def test_texts_of_faces(engine, sampler):
    with_sky = engine.encode(SEA, faces={"U": "stars over {prompt}"})
    texts = (SEA, SEA, SEA, SEA, f"stars over {SEA}", SEA)
    assert with_sky.face_prompts == (texts,) and len(with_sky.faces) == 6
    options = {"seed": 3, "adapter_strength": 0.0, "sampler": sampler}
    scene = engine.sample(engine.encode(SEA), **options)
    same = engine.sample(engine.encode(SEA, faces={"F": "{prompt}"}), **options)
    assert torch.allclose(scene, same, atol=1e-5)
    sky = engine.sample(with_sky, **options)
    changed = (sky - scene).abs().amax(dim=(1, 2, 3)) > 1e-4
    if sampler == "off":
        assert changed.tolist() == [False] * 4 + [True, False]
    else:  # the sampler's text token sees all faces
        assert changed[4]
    two = engine.sample(
        engine.encode([HOUSE, SEA], faces={"U": "stars over {prompt}"}), **{**options, "seed": 2}
    )
    assert torch.allclose(two[6:], sky, atol=1e-5)


def test_texts_of_faces_where_text_is_shared(plain):
    """The conditional text of the face serves both halves, as it does for single pictures."""
    faces = dict(zip("FRBLUD", (SEA, HOUSE, "snow", "stars", "the moon", "a city"), strict=True))
    cube = plain.sample(plain.encode(SEA, faces=faces), **GREEDY)
    each = plain.sample(plain.encode(list(faces.values())), faces=False, **GREEDY)
    assert plain.config.generator.cross_attention == "cond_shared" and torch.allclose(cube, each, atol=1e-5)


@pytest.mark.parametrize("which", ["engine", "plain"])
def test_texts_of_faces_go_with_their_part(which, request):
    """Cubes that pass one after the other hear what they hear together."""
    model = request.getfixturevalue(which)
    condition = model.encode([SEA, HOUSE], faces={"U": "stars over {prompt}"})
    together, apart = (model.sample(condition, seed=1, part_tokens=count) for count in (10**9, 1))
    assert torch.allclose(together, apart, atol=1e-5)


def test_words_of_the_model_around_texts_of_faces(engine, monkeypatch):
    framed = replace(engine.config, face_texts={"F": "front, {prompt}", "U": "up, {prompt}"})
    monkeypatch.setattr(engine, "config", framed)
    named = engine.encode([SEA, HOUSE])
    assert named.prompts == (SEA, HOUSE)
    assert named.face_prompts == tuple((f"front, {s}", s, s, s, f"up, {s}", s) for s in (SEA, HOUSE))
    own = engine.encode(SEA, faces={"U": "stars over {prompt}", "D": "snow"})
    assert own.face_prompts == ((f"front, {SEA}", SEA, SEA, SEA, f"up, stars over {SEA}", "snow"),)
    bare = engine.encode(SEA, faces={})
    assert bare.faces is None and bare.face_prompts == ()
    with pytest.raises(pano.InputError, match=r"encode the prompt with faces=\{\}"):
        engine.sample(named, faces=False)


def test_what_was_not_understood_stands_in_the_condition(engine, caplog):
    condition = engine.encode("a zeppelin " + "sea " * 30, faces={"D": "a submarine"})
    assert condition.unknown_words == ("zeppelin", "submarine") and condition.batch == 1
    assert condition.truncated[0].startswith("CLIP reads 22 tokens") and "zeppelin" in caplog.text
    assert condition.negative_prompts == ("",)


def test_previews(engine):
    previews: list[torch.Tensor] = []
    engine.sample(
        engine.encode([SEA, HOUSE]), on_step=lambda step: previews.append(engine.preview(step.denoised))
    )
    assert all(each.shape == (2, 3, 16, 32) for each in previews) and len(previews) == 6
    assert all(each.min() >= 0 and each.max() <= 1 and each.isfinite().all() for each in previews)
    assert (previews[0] - previews[-1]).abs().max() > 0.01
    single = torch.randn(1, 8, 8, 8)
    inside = single[..., [1, 1, 2, 3, 4, 5, 6, 6], :][..., [1, 1, 2, 3, 4, 5, 6, 6]]
    assert torch.equal(engine.preview(single, faces=False), engine._preview(inside))


def test_a_printed_step_is_one_line(engine):
    """`on_step=print` tells how far it is, not thousands of numbers."""
    printed: list[str] = []
    engine.sample(engine.encode(SEA), on_step=lambda step: printed.append(repr(step)))
    assert printed[-1] == "Step(index=6, total=6, sigma=0.0)"
    assert all(each.startswith("Step(index=") and "tensor" not in each for each in printed)


def test_colours_are_fitted():
    """Latents that are a linear map of the colours are read back."""
    matrix = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))

    def encode(signed: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ck,bkhw->bchw", matrix, F.avg_pool2d(signed, 8))

    shown = fit_colours(encode)(encode(pixels * 2 - 1))
    assert (shown - F.avg_pool2d(pixels, 8)).abs().max() < 0.01


def test_decoding_in_parts(engine):
    latents, tiles = torch.randn(12, 8, 8, 8), []
    whole = engine.decode(latents)
    assert whole.pixels.shape == (2, 6, 3, 16, 16)
    assert torch.allclose(whole.pixels[1, 2], engine.vqvae.decode(latents[8:9])[0], atol=1e-5)
    parts = engine.decode(latents, memory_gb=3.1 * 4 * 5 * 16**2 * 64 / 2**30, on_tile=tiles.append)
    assert [tile.index for tile in tiles] == [1, 2, 3, 4] and tiles[0].total == 4
    assert torch.allclose(parts.pixels, whole.pixels, atol=1e-5)
    with pytest.raises(pano.InputError, match=r"memory_gb is 1e-06, and one face takes 0.000 GB"):
        engine.decode(latents, memory_gb=1e-6)


def test_half_precision_and_8_bit_storage(folder, engine):
    half = pano.load("star", folder, device="cpu", dtype="bfloat16", offload="stage", attention="sliced")
    assert half.generator.dtype == torch.bfloat16 == half.sampler.head_proj.weight.dtype
    assert half.vqvae.quant_conv.weight.dtype == half.text.model.dtype == torch.float32
    assert half.generator.blocks[0].attn.scale_mul_1H11.dtype == torch.float32
    assert half.sample(half.encode(SEA), sampler="new").dtype == torch.float32
    packed = pano.load("star", folder, device="cpu", storage="float8_e4m3fn")
    assert packed.generator.blocks[0].attn.mat_qkv.weight.dtype == torch.float8_e4m3fn
    options = {"seed": 1, "more_smooth": True}
    error = packed.sample(packed.encode(SEA), **options) - engine.sample(engine.encode(SEA), **options)
    assert 0 < error.abs().mean() < 1.0


# memory and placement


class Recording(PerStage):
    """Every stage on the CPU; what was used and moved, and with how many bytes of work."""

    def __init__(self, room: int | None = None) -> None:
        self.log, self.moved, self.bytes, self.left = [], [], {}, room
        super().__init__(
            "cpu", mover=lambda module, device: self.moved.append(sorted(dict(module.named_children())))
        )

    @contextmanager
    def use(self, stage, module, memory_bytes=0):
        self.log.append(stage)
        self.bytes[stage] = memory_bytes
        with super().use(stage, module, memory_bytes) as device:
            yield device

    def room(self, stage, module):
        return self.left


def test_what_is_used_when(folder):
    placement = Recording()
    engine = pano.load("star", folder, device="cpu", offload=placement)
    condition = engine.encode(SEA)
    assert placement.log == ["text_encoders"]
    latents = engine.sample(condition, on_step=lambda step: engine.preview(step.latents))
    assert placement.log == ["text_encoders", "vae", "transformer"]  # the preview is fitted before
    engine.sample(condition, on_step=lambda step: engine.preview(step.latents))
    engine.decode(latents)
    assert placement.log[3:] == ["transformer", "vae"]
    networks = ["generator", "quantizer", "sampler"]
    assert placement.moved == [["text"]] * 2 + [["vae"]] * 2 + [networks] * 4 + [["vae"]] * 2
    assert placement.bytes["transformer"] == engine._job(engine.config.defaults, 1, 6).bytes > 0
    owned = {id(p) for p in engine.stages["transformer"].parameters()}
    assert not owned & {id(p) for p in engine.stages["vae"].parameters()}  # no weight has two owners


@pytest.mark.parametrize("offload", ["group", "sequential"])
def test_the_generator_comes_whole(folder, engine, offload):
    streamed = pano.load("star", folder, device="cpu", offload=offload)
    estimates = {each.mode: each for each in streamed.estimate()}
    assert estimates[offload].weights == estimates["stage"].weights
    assert torch.equal(streamed.sample(streamed.encode(SEA)), engine.sample(engine.encode(SEA)))


def test_memory_of_the_published_model():
    config, options = STARConfig(), GenerationOptions()
    one = Job(config, GenerationOptions(cfg=0.0), 1, 1, 2)
    cube = Job(config, options, 1, 6, 2)
    assert one.cache == 516_096_000 and cube.cache == 12 * one.cache
    weights = 2 * 1_678_731_016
    assert cube.cache + weights < cube.bytes + weights < 16e9  # a cube with guidance in 16 GB
    masked = Job(config.changed(sampler_blocks=3), options.changed(sampler="new"), 1, 6, 2)
    assert cube.bytes < masked.bytes < 1.2 * cube.bytes


def test_short_memory_says_what_would_fit(folder):
    placement = Recording()
    engine = pano.load("star", folder, device="cpu", offload=placement)
    condition, job = engine.encode(SEA), engine._job(engine.config.defaults, 1, 6)
    placement.left = 2 * job.cache
    with pytest.raises(pano.MemoryLimitError, match=r"keys and values of 3 cubes take .* make 2 at a time"):
        engine.sample(condition, batch_size=3)
    placement.left = job.cache - 1
    with pytest.raises(
        pano.MemoryLimitError, match=r"1 cube take.*: use cfg 0, which halves it, or storage float8"
    ):
        engine.sample(condition)
    for least, resident in ((job.cache // 2, False), (job.cache // 2 - 1, True)):
        with pytest.raises(pano.MemoryLimitError) as refused:
            check_room(job, least, resident=resident)
        assert ("cfg 0" in str(refused.value), "offload='stage'" in str(refused.value)) == (
            not resident,
            resident,
        )
    assert "transformer" not in placement.log
    assert engine.sample(condition, cfg=0.0).shape == (6, 8, 8, 8)


# what is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1"),
        ({"cfg": 101.0}, "cfg must be a number from 0 to 100"),
        ({"top_k": (1, 2)}, "top_k has 2 numbers for 6 scales"),
        ({"sampler": "old"}, "sampler must be one of off, 1024, new"),
        ({"steps": 9}, "unknown option 'steps': there are cfg, top_k"),
        (
            {"cross_attention": "cond_shared"},
            "is not what the adapters of this model were trained with: choose 'per_row', or the model default",
        ),
        ({"adapter_strength": float("nan")}, "adapter_strength is nan; pass a number from 0 to 4"),
        ({"adapter_strength": "1"}, "adapter_strength is '1'; pass a number from 0 to 4"),
        ({"adapter_strength": -0.5}, "adapter_strength is -0.5; pass a number from 0 to 4"),
        ({"adapter_strength": 4.01}, "adapter_strength is 4.01; pass a number from 0 to 4"),
        ({"adapter_strength": float("nan"), "faces": False}, "adapter_strength is nan"),
        ({"more_smooth": "off"}, "more_smooth must be true or false, got 'off'"),
    ],
)
def test_bad_options(engine, options, words):
    with pytest.raises(pano.InputError, match=words):
        engine.sample(engine.encode(SEA), **options)


def test_an_estimate_refuses_what_sampling_would(engine, plain):
    for options, words in (
        ({"batch_size": 0}, "batch_size must be a whole number from 1"),
        ({"batch_size": "2"}, "batch_size must be a whole number from 1"),
        ({"top_k": []}, "top_k has 0 numbers for 6 scales"),
        ({"top_k": [1]}, "top_k has 1 numbers for 6 scales"),
    ):
        with pytest.raises(pano.InputError, match=words):
            engine.estimate(**options)
    with pytest.raises(pano.InputError, match="sampler 'new' needs a model with a masked sampler"):
        plain.estimate(sampler="new")


def test_what_a_plain_model_cannot_do(plain, caplog):
    condition = plain.encode(SEA)
    with pytest.raises(pano.InputError, match="sampler 'new' needs a model with a masked sampler"):
        plain.sample(condition, sampler="new")
    with pytest.raises(
        pano.InputError, match="adapter_strength is 0.5, and this model has no FaceRay adapters"
    ):
        plain.sample(condition, adapter_strength=0.5)
    with pytest.raises(pano.InputError, match='with cross_attention "row0" all rows hear the first'):
        plain.sample(plain.encode(SEA, faces={"U": "stars"}), cross_attention="row0")
    with pytest.raises(pano.InputError, match="the condition has texts for the faces of a cube"):
        plain.sample(plain.encode(SEA, faces={"U": "stars"}), faces=False)
    assert (plain.has_faceray, plain.samplers) == (False, ("off",)) and not caplog.text
    plain.sample(condition, **GREEDY)
    assert "the faces of a cube will not meet at their edges" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("",), "the prompt is empty"),
        (([],), "non-empty list of texts"),
        ((None,), "prompt must be a text or a non-empty list of texts"),
        ((SEA, 5), "negative prompt must be a text"),
        (([SEA, HOUSE], ["", "", ""]), "3 negative prompts for 2 prompts"),
        ((SEA, None, {"N": "stars"}), "there is no face 'N': use F, R, B, L, U, D"),
        ((SEA, None, {"U": " "}), "the text of face U is empty"),
        ((SEA, None, [SEA] * 6), "faces must map names of faces"),
    ],
)
def test_bad_prompts(engine, arguments, words):
    prompt, negative, faces = (*arguments, None, None)[:3]
    with pytest.raises(pano.InputError, match=words):
        engine.encode(prompt, negative, faces=faces)


def test_bad_latents_and_conditions(engine):
    for shape in ((6, 8, 8), (6, 7, 8, 8), (6, 8, 4, 4), (0, 8, 8, 8)):
        with pytest.raises(pano.InputError, match=r"latents must be \[B, 8, 8, 8\]"):
            engine.decode(torch.zeros(shape))
    for other, kind in ((None, "NoneType"), (torch.zeros(6, 8, 8, 8, dtype=torch.int64), "torch.int64")):
        for call in (engine.decode, engine.preview):
            with pytest.raises(pano.InputError, match=rf"\] of floats, as sample gives them, got {kind}"):
                call(other)
    with pytest.raises(pano.InputError, match="memory_gb is '2'"):
        engine.decode(torch.zeros(6, 8, 8, 8), memory_gb="2")
    for call in (engine.decode, engine.preview):
        with pytest.raises(pano.InputError, match="4 latents are no whole number of cubes"):
            call(torch.zeros(4, 8, 8, 8))
    with pytest.raises(pano.NumericalError, match="latents hold NaN"):
        engine.decode(torch.full((6, 8, 8, 8), torch.nan))
    wide = TextFeatures(torch.zeros(1, 2, 24), torch.zeros(1, 24), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(pano.InputError, match="the text is 24 wide and the model was trained with 56"):
        engine.sample(StarCondition(wide, wide))
    with pytest.raises(pano.InputError, match="condition is TextFeatures, another engine's"):
        engine.sample(wide)
    with pytest.raises(pano.InputError, match="1 scenes have 6 faces, got 1 texts"):
        StarCondition(wide, wide, wide)


def test_numbers_that_are_not_finite(folder):
    engine = pano.load("star", folder, device="cpu")
    condition = engine.encode(SEA)
    engine.generator.lvl_embed.weight.data[2] = torch.nan
    with pytest.raises(pano.NumericalError, match="the logits of scale 3 of 6"):
        engine.sample(condition)
    weights = engine.text.model.named_parameters()
    next(p for name, p in weights if name.endswith("final_layer_norm.weight")).data[0] = torch.nan
    with pytest.raises(pano.NumericalError, match="stage text_encoders"):
        engine.encode(SEA)


def test_cancelling(engine):
    def stop(step):
        raise pano.Cancelled("enough")

    condition = engine.encode(SEA)
    with pytest.raises(pano.Cancelled, match="enough"):
        engine.sample(condition, on_step=stop)
    assert engine.sample(condition).isfinite().all()


# loading, and the registry


def test_loading(folder, tmp_path):
    weights = folder / "star.safetensors"
    with pytest.raises(pano.CheckpointError, match="nothing says which scales these are: choose a preset"):
        pano.load("star", weights, vqvae=folder / "vqvae.safetensors", text=folder, device="cpu")
    with pytest.raises(pano.InputError, match="is a model folder, which says itself what it is"):
        pano.load("star", folder, preset="d30-512", device="cpu")
    with pytest.raises(
        pano.CheckpointError, match="has no text_encoder/: take text_encoder/ and tokenizer/ from .*--text"
    ):
        pano.load("star", folder, text=tmp_path, device="cpu")
    for option, words in (
        ({"dtype": "int8"}, "unknown dtype"),
        ({"storage": "int3"}, "unknown storage"),
        ({"attention": "fast"}, "unknown attention"),
        ({"offload": "disk"}, "unknown offload"),
        ({"lora": "x"}, "lora"),
    ):
        with pytest.raises((pano.InputError, TypeError), match=words):
            pano.load("star", folder, device="cpu", **option)


def test_the_models_own_defaults(tmp_path):
    said = GenerationOptions(cfg=2.0, top_k=(1, 1, 1, 1, 1, 1), sampler="new")
    folder = build_tiny_star(tmp_path / "model", defaults=said)
    assert read_config(folder).defaults == said
    engine = pano.load("star", folder, device="cpu")
    condition, steps = engine.encode(SEA), []
    own = engine.sample(condition, cfg=None, on_step=steps.append)
    assert len(steps) == 13 and torch.equal(own, engine.sample(condition, cfg=2.0, top_k=1, sampler="new"))
    values = json.loads((folder / "config.json").read_text())
    values["defaults"] = {"cfgs": 1}
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(pano.CheckpointError, match="defaults: unknown option 'cfgs'"):
        read_config(folder)


def test_the_registry(capsys):
    entry, (status,) = ENGINES["star"], [each for each in pano.describe() if each.name == "star"]
    assert status.installed and status.folder == entry.small_model and status.missing == ()
    assert cli.main(["engines"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["star"])
    assert "none" not in line
    title, outcome = next(iter(entry.verify(VECTORS)))
    assert title and all(row.met for row in outcome)


# the command line


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *argv: str) -> str:
    assert cli.main(list(argv)) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    return captured.err


def test_generate_end_to_end(here, folder, engine, capsys):
    argv = [
        "generate",
        SEA,
        "--engine",
        "star",
        "--model",
        str(folder),
        "--batch",
        "2",
        "--seed",
        "4",
        "--faces",
        "scene",
    ]
    argv += ["--cfg", "2", "--top-k", "9", "--sampler", "new", "--adapter-strength", "0.5", "--fade", "4"]
    argv += [
        "--height",
        "48",
        "--face-prompt",
        "U=stars over {prompt}",
        "--negative",
        "snow",
        "--device",
        "cpu",
    ]
    assert cli.main(argv) == 0, capsys.readouterr().err
    printed = capsys.readouterr()
    assert "step 13/13" in printed.err
    assert printed.out.count("Panorama, back meridian: Seam ratio") == printed.out.count("Seam ratio") == 2
    names = ["pano_1.html", "pano_1.png", "pano_2.html", "pano_2.png", "scene_1", "scene_2"]
    assert sorted(path.name for path in here.iterdir()) == names
    condition = engine.encode(SEA, "snow", faces={"U": "stars over {prompt}"})
    latents = engine.sample(
        condition, seed=4, batch_size=2, cfg=2.0, top_k=9, sampler="new", adapter_strength=0.5
    )
    cubes = engine.decode(latents)
    stitched = cubes.to_equirect(48, 4).pixels
    assert (load_image("pano_2.png")[0] - stitched[1]).abs().max() <= 0.5 / 255 + 1e-6
    up = load_image(here / "scene_2" / "faces" / "U.png")[0]
    assert (up - cubes.pixels[1, 4]).abs().max() <= 0.5 / 255 + 1e-6
    assert json.loads((here / "scene_1" / "prompts.json").read_text())["scene"] == SEA
    settings = json.loads(read_text("pano_2.png")["panodiff"])
    expected = {"engine": "star", "seed": 4, "index": 1, "cfg": 2.0, "sampler": "new", "fade": 4}
    expected |= {"face_prompts": {"U": "stars over {prompt}"}, "model": folder.name, "negative": "snow"}
    assert expected.items() <= settings.items()


@pytest.mark.parametrize(
    ("fade", "label"), [(0, "Cube, 12 edges: "), (4, "Cube, 12 edges, before the fade over 4 px: ")]
)
def test_the_edges_of_a_cube_are_reported(here, capsys, fade, label):
    from panodiff_core.commands.generate import _write_cube

    _write_cube(torch.rand(6, 3, 32, 32), (here / "scene",), SEA, fade)
    out = capsys.readouterr().out
    assert "12 cube edges; farthest from 1: " in out and f"faces    {here / 'scene'}" in out
    assert f"{label}Seam ratio" in out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ["--steps", "9"],
            "--steps is an option of engine dit360, and engine star has none such: leave it out. STAR has",
        ),
        (["--lora", "x"], "--lora is an option of engine dit360"),
        (["--part", "vae=x"], "--part is an option of engine dit360"),
        (["--preset", "draft"], "--preset is an option of engine dit360"),
        (["--image", "x.png"], "--image is an option of engine dit360"),
        (["--sampler", "new"], "--sampler new: this model has no masked sampler"),
        (["--adapter-strength", "2"], "--adapter-strength: this model has no FaceRay adapters"),
        (["--cfg", "0", "--negative", "snow"], "--negative has no effect at cfg 0"),
        (["--top-k", "-1"], "top_k must be a whole number of at least 0"),
        (["--top-p", "2"], "top_p must be a number from 0 to 1"),
        (["--fade", "9"], "--fade must be 0, or from 2 to 8, half a face, got 9"),
        (
            ["--face-prompt", "stars"],
            "--face-prompt takes FACE=TEXT with a face of F, R, B, L, U, D, got 'stars'",
        ),
        (["--face-prompt", "U=a", "--face-prompt", "U=b"], "--face-prompt U was given twice"),
        (["--height", "16"], "--height must be at least 17, got 16"),
        (["--memory-gb", "0"], "memory_gb is 0.0, and one face takes"),
        (["--adapter-strength", "nan"], "--adapter-strength is nan; pass a number from 0 to 4"),
        (["--adapter-strength", "-3"], "--adapter-strength is -3.0; pass a number from 0 to 4"),
        (["--adapter-strength", "1000"], "--adapter-strength is 1000.0; pass a number from 0 to 4"),
        (
            ["--cross-attention", "row0", "--face-prompt", "U=stars"],
            "with cross-attention row0 all faces hear one text",
        ),
        (["--faces", "nowhere/scene"], "nowhere does not exist"),
        (["--vqvae", "x"], "is a model folder"),
    ],
)
def test_requests_refused_before_a_model_loads(here, plain_folder, capsys, monkeypatch, argv, words):
    monkeypatch.setattr("panodiff_core.engines.load", lambda *_, **__: pytest.fail("a model was loaded"))
    assert words in refused(capsys, "generate", SEA, "--engine", "star", "--model", str(plain_folder), *argv)
    assert list(here.iterdir()) == []


def test_the_cross_attention_of_adapters_is_told_before_a_model_loads(here, folder, capsys, monkeypatch):
    monkeypatch.setattr("panodiff_core.engines.load", lambda *_, **__: pytest.fail("a model was loaded"))
    argv = ("generate", SEA, "--engine", "star", "--model", str(folder), "--cross-attention", "row0")
    assert "is not what the adapters of this model were trained with" in refused(capsys, *argv)


def test_faces_go_to_a_new_folder_or_replace_a_scene(here, plain_folder, capsys, monkeypatch):
    argv = ["generate", SEA, "--engine", "star", "--model", str(plain_folder), "--no-page", "--faces"]
    for _ in range(2):
        assert cli.main([*argv, "scene", "--cfg", "0", "--top-k", "1"]) == 0, capsys.readouterr().err
    assert sorted(path.name for path in (here / "scene").iterdir()) == ["faces", "prompts.json"]
    monkeypatch.setattr("panodiff_core.engines.load", lambda *_, **__: pytest.fail("a model was loaded"))
    capsys.readouterr()
    assert "--faces: pano.png is a file" in refused(capsys, *argv, "pano.png")
    assert "--faces: . holds other things" in refused(capsys, *argv, ".")


def test_options_of_the_other_engine(here, capsys, monkeypatch):
    monkeypatch.setattr("panodiff_core.engines.load", lambda *_, **__: pytest.fail("a model was loaded"))
    assert "--top-k is an option of engine star, and engine dit360" in refused(
        capsys, "generate", SEA, "--top-k", "5"
    )
    assert "--text is an option of engine star" in refused(
        capsys, "verify", "dit360", "--model", "x", "--text", "y"
    )


def test_every_option_of_generate_has_an_owner():
    """What is neither one engine's nor listed here would be ignored by one of them."""
    from panodiff_core.commands.generation import MAKINGS
    from panodiff_core.commands.options import ENGINE_OPTIONS

    args = vars(cli.build_parser().parse_args(["generate", SEA]))
    owned = {name for each in (*MAKINGS.values(),) for name in each.OPTIONS}
    owned |= {name for each in ENGINE_OPTIONS.values() for name in each.LOADING}
    shared = {
        "command",
        "run",
        "prompt",
        "engine",
        "seed",
        "batch",
        "negative",
        "out",
        "page",
        "no_page",
        "viewer",
    }
    shared |= {"quality", "heading", "model", "device", "dtype", "storage", "offload"}
    assert set(args) == owned | shared and not owned & shared
    assert all(args[name] in (None, []) for name in owned)  # so that "given" can be told


def test_verify_a_model(here, folder, capsys):
    assert cli.main(["verify", "star", "--model", str(folder), "--device", "cpu"]) == 0, (
        capsys.readouterr().err
    )
    out = capsys.readouterr().out
    for words in (
        "PanoDiff folder",
        "depth 3, width 48, 4 heads",
        "1, 2, 3, 4, 6, 8 (16 px)",
        "3 blocks from scale 6",
    ):
        assert words in out
    assert "all numbers finite" in out and "one cube, offload 'stage'" in out
