"""Load STAR, Encode (Face) Prompts, Sample Cubemap, Decode Cubemap and Decode Panorama: what they hand on is the core's own."""

from __future__ import annotations

import gc
import shutil
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_star import build_tiny_star

pytestmark = pytest.mark.comfyui

LOAD, ENCODE, FACES = "PanoDiff_LoadSTAR", "PanoDiff_EncodePrompt", "PanoDiff_EncodeFacePrompts"
SAMPLE, CUBEMAP, PANORAMA = "PanoDiff_SampleCubemap", "PanoDiff_DecodeCubemap", "PanoDiff_DecodePanorama"
FOLDER, PLAIN, GENERATOR, VQVAE = "tiny-star", "plain/star", "tiny_star.pth", "tiny_vqvae.pth"
OWN = {"dtype": "float32", "vqvae": "from the model", "text": "from the model"}
INPUTS = {"seed": 5, "batch_size": 1, "cfg": 2.0, "sampler": "model default", "adapter_strength": 1.0}
SCALES = 6
PROMPT = "a calm sea at sunset"


@pytest.fixture(scope="module", autouse=True)
def files(comfyui):
    """A model folder with adapters and masked sampler, one without both, and the latter as its trainer publishes it."""
    models = comfyui / "models"
    build_tiny_star(models / "diffusers" / FOLDER)
    plain = build_tiny_star(models / "diffusion_models" / PLAIN, faceray=False, sampler=False)
    notes = {"patch_nums": (1, 2, 3, 4, 6, 8)}
    state = load_file(plain / "star.safetensors")
    torch.save({"trainer": {"config": notes, "var_wo_ddp": state}}, models / "diffusion_models" / GENERATOR)
    (models / "vae").mkdir(exist_ok=True)
    torch.save(load_file(plain / "vqvae.safetensors"), models / "vae" / VQVAE)
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(plain / part, models / "text_encoders" / "words" / part)
    return models


@pytest.fixture(scope="module")
def run(node_classes):
    def execute(node_id: str, **inputs):
        return node_classes[node_id].execute(**inputs).result[0]

    return execute


@pytest.fixture(scope="module")
def engine(run):
    return run(LOAD, model=FOLDER, **OWN)


@pytest.fixture(scope="module")
def condition(run, engine):
    return run(ENCODE, engine=engine, prompt=PROMPT)


@pytest.fixture(scope="module")
def core(extension, files):
    """The core's engine with the same folder, as one would load it without a node."""
    from custom_nodes_PanoDiff_x_1.panodiff_core import load

    return load("star", files / "diffusers" / FOLDER, dtype="float32", device="cpu")


@pytest.fixture
def progress(comfyui, monkeypatch) -> list:
    """(value, total, preview) of every update of ComfyUI's progress bar."""
    import comfy.utils

    seen = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda *update, node_id=None: seen.append(update))
    return seen


def test_models_are_listed_and_found(node_classes, tiny_choice) -> None:
    options = {item.id: item.options for item in node_classes[LOAD].define_schema().inputs[:3]}
    assert options["model"][:3] == ["star-small (bundled)", PLAIN, FOLDER]
    assert GENERATOR in options["model"] and tiny_choice not in options["model"]
    assert options["vqvae"][0] == options["text"][0] == "from the model"
    assert VQVAE in options["vqvae"]
    assert {FOLDER, PLAIN, "words", tiny_choice} <= set(options["text"])


def test_what_is_missing_is_named_with_where_from_and_where_to(node_classes, run) -> None:
    from custom_nodes_PanoDiff_x_1.panodiff_core.runtime.errors import CheckpointError

    gone = {
        "model": ("no file 'gone' in models/diffusion_models", "taocrayon/STAR to models/diffusion_models/"),
        "vqvae": ("no file 'gone' in models/vae", "FoundationVision/var to models/vae/"),
        "text": (
            (
                "no folder 'gone' with text_encoder/ and tokenizer/ in models/diffusers, models/diffusion_models, "
                "models/text_encoders. "
            ),
            "stable-diffusion-2-1 to models/diffusers/stable-diffusion-2-1/",
        ),
    }
    for name, words in gone.items():
        with pytest.raises(ValueError) as caught:
            run(LOAD, **{"model": GENERATOR, **OWN, name: "gone"})
        assert str(caught.value).startswith(f"{name}: ") and all(each in str(caught.value) for each in words)
    with pytest.raises(ValueError, match="no file 'gone.pth' in models/checkpoints"):
        run(LOAD, model="checkpoints/gone.pth", **OWN)
    for chosen, words in (
        ({}, "holds no autoencoder(.|\n)*vae_ch160v4096z32.pth .* to models/vae/"),
        ({"vqvae": VQVAE}, "has no text_encoder/(.|\n)*to models/diffusers/stable-diffusion-2-1/"),
    ):
        with pytest.raises(CheckpointError, match=words):
            run(LOAD, model=GENERATOR, **{**OWN, **chosen})


def test_a_folder_takes_no_autoencoder_and_no_preset(run) -> None:
    for more in ({"vqvae": VQVAE}, {"preset": "d30-512"}):
        with pytest.raises(ValueError, match="says itself what it is"):
            run(LOAD, model=FOLDER, **{**OWN, **more})


def test_published_files_are_the_model_of_the_folder(run) -> None:
    from_files = run(LOAD, model=GENERATOR, vqvae=VQVAE, text="words", dtype="float32")
    from_folder = run(LOAD, model=PLAIN, **OWN)
    made = [
        run(SAMPLE, engine=one, condition=run(ENCODE, engine=one, prompt=PROMPT), **INPUTS)
        for one in (from_files, from_folder)
    ]
    assert torch.equal(*made)
    pictures = [run(CUBEMAP, engine=one, latents=made[0]) for one in (from_files, from_folder)]
    assert torch.equal(*pictures)


def test_the_preset_must_be_that_of_the_file(run) -> None:
    from custom_nodes_PanoDiff_x_1.panodiff_core.runtime.errors import CheckpointError

    with pytest.raises(CheckpointError, match="preset 'd30-512'"):
        run(LOAD, model=GENERATOR, vqvae=VQVAE, text="words", dtype="float32", preset="d30-512")


def test_what_was_loaded_is_shown(node_classes) -> None:
    def text(model: str) -> str:
        return node_classes[LOAD].execute(model=model, **OWN).ui.as_dict()["text"][0]

    assert "faces of 16 pixels" in text(FOLDER)
    assert "FaceRay: yes" in text(FOLDER) and "masked sampler: 1024, new" in text(FOLDER)
    assert "will not meet" in text(PLAIN) and "masked sampler: none" in text(PLAIN)


def test_prompt_to_panorama_is_the_cores(run, engine, condition, core) -> None:
    own = core.encode(PROMPT)
    latents = run(SAMPLE, engine=engine, condition=condition, **{**INPUTS, "batch_size": 2})
    expected = core.sample(own, seed=5, batch_size=2, cfg=2.0)
    assert latents.shape == (12, 8, 8, 8) and torch.equal(latents, expected)
    cubes = core.decode(expected)
    faces = run(CUBEMAP, engine=engine, latents=latents)
    assert faces.shape == (12, 16, 16, 3) and torch.equal(faces.movedim(-1, 1), cubes.pixels.flatten(0, 1))
    panorama = run(PANORAMA, engine=engine, latents=latents)
    assert panorama.shape == (2, 32, 64, 3)
    assert torch.equal(panorama.movedim(-1, 1), cubes.to_equirect().pixels)
    joined = run("PanoDiff_ConvertCubemapToPanorama", faces=faces, height=0, interpolation="bilinear")
    assert (joined - panorama).abs().max() < 5e-5  # another order of sums, by batches


def test_options_reach_the_engine(run, engine, condition, core) -> None:
    own = core.encode(PROMPT)
    for inputs, options in (
        ({"cfg": -1.0}, {}),
        ({"cfg": 0.0, "top_k": 1}, {"cfg": 0.0, "top_k": 1}),
        ({"cfg": 0.0, "top_k": 0, "top_p": 0.0}, {"cfg": 0.0, "top_k": 0, "top_p": 0.0}),
        ({"more_smooth": "on"}, {"cfg": 2.0, "more_smooth": True}),
        ({"sampler": "new"}, {"cfg": 2.0, "sampler": "new"}),
        ({"adapter_strength": 0.0}, {"cfg": 2.0, "adapter_strength": 0.0}),
    ):
        latents = run(SAMPLE, engine=engine, condition=condition, **{**INPUTS, **inputs})
        assert torch.equal(latents, core.sample(own, seed=5, **options)), inputs


def test_errors_name_what_the_widgets_offer(run, engine, condition) -> None:
    for inputs, words in (
        ({"cross_attention": "row0"}, "cross_attention 'row0' .* choose 'per_row', or the model default"),
        ({"cfg": -0.5}, "cfg is -0.5: set -1 for the model's own value, or 0 or more"),
        ({"top_p": -0.25}, "top_p is -0.25: set -1 for the model's own value, or 0 or more"),
    ):
        with pytest.raises(ValueError, match=words):
            run(SAMPLE, engine=engine, condition=condition, **{**INPUTS, **inputs})
    plain = run(LOAD, model=PLAIN, **OWN)
    with pytest.raises(ValueError, match="no FaceRay adapters: set it to 1 or 0, which are the same here"):
        run(SAMPLE, engine=plain, condition=condition, **{**INPUTS, "adapter_strength": 0.5})


def test_the_node_offers_every_strength_that_the_engine_takes(node_classes, extension) -> None:
    from custom_nodes_PanoDiff_x_1.panodiff_core.engines.star.faceray import MAX_STRENGTH

    (widget,) = (
        each for each in node_classes[SAMPLE].define_schema().inputs if each.id == "adapter_strength"
    )
    assert (widget.min, widget.max) == (0.0, MAX_STRENGTH)


def test_negative_prompt_reaches_the_engine(run, engine, condition, core) -> None:
    other = run(ENCODE, engine=engine, prompt=PROMPT, negative_prompt="a stormy desert")
    latents = run(SAMPLE, engine=engine, condition=other, **INPUTS)
    assert torch.equal(latents, core.sample(core.encode(PROMPT, "a stormy desert"), seed=5, cfg=2.0))
    assert not torch.equal(latents, run(SAMPLE, engine=engine, condition=condition, **INPUTS))


def test_faces_have_texts_of_their_own(run, node_classes, engine, condition, core) -> None:
    texts = {"up": "{prompt}, red clouds", "down": "  ", "left": "a forest"}
    own = run(FACES, engine=engine, prompt=PROMPT, **texts)
    expected = core.encode(PROMPT, faces={"U": f"{PROMPT}, red clouds", "L": "a forest"})
    assert own.face_prompts == expected.face_prompts
    assert own.face_prompts == ((PROMPT, PROMPT, PROMPT, "a forest", f"{PROMPT}, red clouds", PROMPT),)
    latents = run(SAMPLE, engine=engine, condition=own, **INPUTS)
    assert torch.equal(latents, core.sample(expected, seed=5, cfg=2.0))
    without = run(FACES, engine=engine, prompt=PROMPT)
    assert without.faces is None
    assert torch.equal(
        run(SAMPLE, engine=engine, condition=without, **INPUTS),
        run(SAMPLE, engine=engine, condition=condition, **INPUTS),
    )
    shown = (
        node_classes[FACES].execute(engine=engine, prompt=PROMPT, back="a zeppelin").ui.as_dict()["text"][0]
    )
    assert "zeppelin" in shown
    assert "empty" in node_classes[FACES].validate_inputs(prompt=" ")
    dynamic = {
        i.id: bool(i.as_dict().get("dynamicPrompts")) for i in node_classes[FACES].define_schema().inputs
    }
    assert dynamic["prompt"] and not dynamic["up"], "braces of dynamic prompts would eat {prompt}"


def test_the_model_s_own_words_around_faces_are_shown_and_can_be_left_out(
    run, node_classes, engine, condition, monkeypatch
) -> None:
    monkeypatch.setattr(engine, "config", replace(engine.config, face_texts={"U": "up, {prompt}"}))
    output = node_classes[ENCODE].execute(engine=engine, prompt=PROMPT)
    assert output.result[0].face_prompts[0][4] == f"up, {PROMPT}"
    (line,) = (x for x in output.ui.as_dict()["text"][0].splitlines() if x.startswith("each face hears"))
    assert line == (
        "each face hears a text of its own, in which … is the prompt: "
        'front "…", right "…", back "…", left "…", up "up, …", down "…"'
    )
    plain = node_classes[ENCODE].execute(engine=engine, prompt=PROMPT, model_prefix=False)
    assert plain.result[0].faces is None and torch.equal(plain.result[0].text.hidden, condition.text.hidden)
    assert "each face" not in plain.ui.as_dict()["text"][0]


def test_generic_nodes_ask_the_engine_what_it_takes(run, engine, condition) -> None:
    plain = run(ENCODE, engine=engine, prompt=PROMPT, model_prefix=False)
    assert torch.equal(plain.text.hidden, condition.text.hidden)
    latents = torch.zeros(6, 8, 8, 8)
    off = run(PANORAMA, engine=engine, latents=latents, polar_filter="off")
    assert torch.equal(off, run(PANORAMA, engine=engine, latents=latents))
    with pytest.raises(ValueError, match="polar_filter is on, and STAR has none"):
        run(PANORAMA, engine=engine, latents=latents, polar_filter="on")
    with pytest.raises(ValueError, match="one face takes"):
        run(CUBEMAP, engine=engine, latents=latents, memory_gb=1e-9)


def test_engines_and_conditions_are_not_mixed_up(run, node_classes, engine, condition, tiny_choice) -> None:
    dit360 = run("PanoDiff_LoadDiT360", model=tiny_choice, dtype="float32")
    other = run(ENCODE, engine=dit360, prompt=PROMPT)
    size = {"width": 128, "height": 64, "steps": 1, "guidance": 0.0}
    plain = {"seed": 0, "batch_size": 1, "cfg": 0.0, **size}
    panorama, cube = torch.zeros(1, 32, 64, 3), torch.zeros(6, 8, 8, 8)
    upscale = {"factor": "2", "strength": 0.5, "steps": 1, "seed": 0}
    for node_id, inputs, words in (
        (SAMPLE, {"engine": dit360, "condition": other, **INPUTS}, "works with STAR, and this engine is DiT360"),
        (SAMPLE, {"engine": engine, "condition": other, **INPUTS}, "made by another engine than STAR"),
        (FACES, {"engine": dit360, "prompt": PROMPT}, "DiT360 makes a panorama of one text"),
        (CUBEMAP, {"engine": dit360, "latents": cube}, "DiT360 makes panoramas, not cube faces"),
        ("PanoDiff_SampleDiT360", {"engine": engine, "condition": condition, **plain}, "works with DiT360"),
        ("PanoDiff_SampleDiT360", {"engine": dit360, "condition": condition, **plain}, "another engine than DiT360"),
        ("PanoDiff_EncodePanorama", {"engine": engine, "panorama": panorama}, "works with DiT360, and this engine"),
        ("PanoDiff_UpscalePanorama", {"engine": engine, "condition": condition, "latents": cube, **upscale},
         "works with DiT360, and this engine is STAR"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            node_classes[node_id].execute(**inputs)


def test_progress_counts_scales_and_shows_the_panorama(run, engine, condition, core, progress) -> None:
    from custom_nodes_PanoDiff_x_1.nodes.progress import preview_image

    seen = []
    core.sample(core.encode(PROMPT), seed=5, batch_size=2, cfg=2.0, on_step=seen.append)
    run(SAMPLE, engine=engine, condition=condition, **{**INPUTS, "batch_size": 2})
    assert [update[:2] for update in progress] == [(done, SCALES) for done in range(1, SCALES + 1)]
    for (_, _, (kind, picture, limit)), step in zip(progress, seen, strict=True):
        assert kind == "JPEG" and picture.size == (512, 256) and limit == 512
        assert len(step.denoised) == 12
        assert picture.tobytes() == preview_image(core, step).tobytes()
    assert len({picture.tobytes() for _, _, (_, picture, _) in progress}) == SCALES


def test_progress_counts_steps_of_the_masked_sampler(run, engine, condition, core, progress) -> None:
    seen = []
    core.sample(core.encode(PROMPT), seed=5, cfg=2.0, sampler="new", on_step=seen.append)
    run(SAMPLE, engine=engine, condition=condition, **{**INPUTS, "sampler": "new"})
    total = seen[0].total
    assert total > SCALES and len(seen) == total
    assert [update[:2] for update in progress] == [(done, total) for done in range(1, total + 1)]


def test_cancel_stops_at_the_next_step_and_leaves_nothing(
    run, engine, condition, comfyui, monkeypatch
) -> None:
    import comfy.utils
    from comfy import model_management

    caches = sys.modules[type(engine).__module__].__package__ + ".cache"
    expected = run(SAMPLE, engine=engine, condition=condition, **INPUTS)
    seen = []

    def press_cancel(value, total, preview, node_id=None) -> None:
        seen.append(value)
        if value == 3:
            model_management.interrupt_current_processing(True)

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", press_cancel)
    try:
        run(SAMPLE, engine=engine, condition=condition, **INPUTS)
    except model_management.InterruptProcessingException:
        pass
    else:
        pytest.fail("cancel was not heeded")
    assert seen == [1, 2, 3]
    assert not model_management.processing_interrupted()
    gc.collect()
    kept = sys.modules[caches].KVCache
    assert not [one for one in gc.get_objects() if type(one) is kept]
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", None)
    assert torch.equal(run(SAMPLE, engine=engine, condition=condition, **INPUTS), expected)


def test_weights_move_through_comfyui_alone(run, comfyui, monkeypatch) -> None:
    from comfy import model_management

    asked, original = [], model_management.load_models_gpu

    def record(models, *args, **options):
        asked.append((models, options))
        return original(models, *args, **options)

    monkeypatch.setattr(model_management, "load_models_gpu", record)
    engine = run(LOAD, model=FOLDER, **OWN)
    assert not asked, "loading moves nothing"
    latents = run(SAMPLE, engine=engine, condition=run(ENCODE, engine=engine, prompt=PROMPT), **INPUTS)
    run(CUBEMAP, engine=engine, latents=latents)
    stages = {id(holder): name for name, holder in engine.stages.items()}
    order = [stages[id(patcher.model.stage)] for ((patcher,), _) in asked]
    # The autoencoder comes for the map of the previews first, so that no preview moves anything.
    assert order == ["text_encoders", "vae", "transformer", "vae"]
    assert all(options["force_full_load"] and options["memory_required"] > 0 for _, options in asked)


def test_storage_reaches_the_core(run, condition) -> None:
    small = run(LOAD, model=FOLDER, **OWN, storage="float8_e4m3fn")
    assert small.generator.blocks[0].ffn.fc1.weight.dtype == torch.float8_e4m3fn
    assert run(SAMPLE, engine=small, condition=condition, **INPUTS).isfinite().all()


def test_a_gpu_too_small_is_told_without_flux(run, comfyui, monkeypatch) -> None:
    from comfy import model_management
    from custom_nodes_PanoDiff_x_1.nodes import placement
    from custom_nodes_PanoDiff_x_1.panodiff_core.runtime.errors import MemoryLimitError

    engine = run(LOAD, model=FOLDER, **OWN)
    monkeypatch.setattr(placement, "stage_devices", lambda stage: (torch.device("meta"), torch.device("cpu")))
    monkeypatch.setattr(model_management, "get_total_memory", lambda device: 1000)
    with (
        pytest.raises(MemoryLimitError, match="stage 'transformer' needs") as caught,
        engine.placement.use("transformer", engine.stages["transformer"], 0),
    ):
        pytest.fail("it must not begin")
    assert "FLUX" not in str(caught.value)
