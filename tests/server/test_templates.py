"""The templates beside the first: complete, with the files that the download table has, and run to the end.

What is real: the server, every node, the formats of the files, the template but for file names and sizes. What is not: the
weights. They are random and small, except where ComfyUI loads real widths only: its VAE, and before it counted heads, FLUX.
"""

from __future__ import annotations

import io

import pytest
from PIL import Image

from panodiff_core.engines.dit360.checkpoint.sources import SITE, SOURCES
from panodiff_core.engines.star.sources import SOURCES as STAR_SOURCES
from tests.server import stand_ins
from tests.server.comfy_server import Run
from tests.server.conftest import TEMPLATES, TINY
from tests.server.workflows import read_workflow, to_prompt
from tests.tiny_files import build_tiny_files

pytestmark = pytest.mark.comfyui

SIZE = (256, 128)
WAIT_SECONDS = 1500


def template(name: str) -> dict:
    (path,) = (path for path in TEMPLATES if path.stem == name)
    return read_workflow(path)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_template_is_complete(path, definitions) -> None:
    workflow = read_workflow(path)
    core = {name for name in definitions if not name.startswith("PanoDiff_")} | {"MarkdownNote", "Note"}
    for node in workflow["nodes"]:
        if node["type"] in core:
            continue
        assert node["type"] in definitions, node["type"]
        assert node["properties"]["cnr_id"] == "panodiff" and node["properties"]["ver"], node["type"]
    assert any(node["type"] == "MarkdownNote" for node in workflow["nodes"])
    assert to_prompt(workflow, definitions)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_models_to_fetch_are_those_of_the_download_table(path) -> None:
    known = {}
    single = [source for source in SOURCES if source.layout != "diffusers"]
    for source in [*single, *(each for each in STAR_SOURCES if each.part != "text encoder")]:
        for file in source.files:
            folder, _, below = source.folder.partition("/")
            name = f"{below}/{file}" if below else file
            known[f"{SITE}/{source.repo}/resolve/main/{file}"] = {"name": name, "directory": folder}
    for node in read_workflow(path)["nodes"]:
        for model in node["properties"].get("models", ()):
            assert known[model["url"]] == {key: model[key] for key in ("name", "directory")}
            assert model["name"] in node["widgets_values"]
        chosen = [value for value in node["widgets_values"] if str(value).endswith((".safetensors", ".pth"))]
        assert chosen == [model["name"] for model in node["properties"].get("models", ())]


def change(prompt: dict, **inputs) -> dict:
    """The prompt with inputs changed by the node's type: Type=dict(input=value)."""
    for kind, values in inputs.items():
        nodes = [node for node in prompt.values() if node["class_type"] == kind]
        assert nodes, kind
        for node in nodes:
            assert values.keys() <= node["inputs"].keys()
            node["inputs"].update(values)
    return prompt


def run_to_the_end(server, prompt: dict, size: tuple[int, int]) -> Run:
    run = server.run(prompt, seconds=WAIT_SECONDS)
    problems = [f"{data['node_type']}: {data['exception_message']}" for data in run.named("execution_error")]
    assert run.succeeded, problems
    # A loader may have run for another test already.
    kept = {name for data in run.named("execution_cached") for name in data["nodes"]}
    assert set(run.executed_nodes) | kept == set(prompt)
    assert all("Load" in prompt[name]["class_type"] for name in kept)
    (saved,) = [image for output in run.outputs.values() for image in output.get("images", [])]
    with Image.open(io.BytesIO(server.view(saved))) as picture:
        assert picture.size == size
        assert "equirectangular" in picture.text["XML:com.adobe.xmp"]
        assert all(high - low > 20 for low, high in picture.convert("RGB").getextrema())
    (shown,) = [
        output["panodiff_panorama"] for output in run.outputs.values() if "panodiff_panorama" in output
    ]
    assert (shown[0]["width"], shown[0]["height"]) == size
    assert any("Seam ratio" in text for output in run.outputs.values() for text in output.get("text", []))
    return run


@pytest.mark.slow
def test_core_template_runs(server, definitions) -> None:
    files = build_tiny_files(server.base / "models")
    prompt = change(
        to_prompt(template("dit360_core"), definitions),
        PanoDiff_LoadDiT360Files={
            "transformer": files.transformer,
            "vae": files.vae,
            "clip_l": files.clip,
            "t5xxl": files.t5,
            "lora": files.lora,
        },
        PanoDiff_SampleDiT360={"width": SIZE[0], "height": SIZE[1], "steps": 2},
    )
    run_to_the_end(server, prompt, SIZE)


@pytest.mark.slow
def test_native_template_runs(server, definitions) -> None:
    width = stand_ins.smallest_flux()
    files = build_tiny_files(server.base / "models", "native", width=width, vae_width=128)
    prompt = change(
        to_prompt(template("dit360_flux_native"), definitions),
        UNETLoader={"unet_name": files.transformer},
        LoraLoaderModelOnly={"lora_name": files.lora},
        DualCLIPLoader={"clip_name1": files.clip, "clip_name2": files.t5},
        VAELoader={"vae_name": files.vae},
        PanoDiff_EmptyPanoramaLatent={"width": SIZE[0]},
        PanoDiff_PanoramaSigmas={"steps": 2},
    )
    run_to_the_end(server, prompt, SIZE)
    log = server.log_text()
    assert "lora key not loaded" not in log and "unet missing" not in log
    # FLUX takes CLIP before its projection, which the official clip_l.safetensors does not hold either.
    missing = [
        line.split("clip missing: ")[1].strip() for line in log.splitlines() if "clip missing: " in line
    ]
    assert set(missing) <= {"['text_projection.weight']"}


@pytest.mark.slow
def test_upscale_template_runs(server, definitions) -> None:
    prompt = change(
        to_prompt(template("dit360_upscale_8k"), definitions), PanoDiff_LoadDiT360={"model": TINY}
    )
    run_to_the_end(server, prompt, (512, 256))


@pytest.mark.slow
def test_picture_template_runs(server, definitions) -> None:
    """As it stands, on the bundled model."""
    run_to_the_end(server, to_prompt(template("image_to_panorama_img2img"), definitions), (512, 256))


@pytest.mark.slow
def test_edit_round_trip_template_runs(server, definitions) -> None:
    """As it stands, on the bundled model."""
    run_to_the_end(server, to_prompt(template("edit_round_trip"), definitions), (512, 256))


def test_cubemap_template_runs(server, definitions) -> None:
    """As it stands, on the bundled model, with a preview after every scale."""
    prompt = to_prompt(template("text_to_cubemap"), definitions)
    run = run_to_the_end(server, prompt, (512, 256))
    (sampler,) = (name for name, node in prompt.items() if node["class_type"] == "PanoDiff_SampleCubemap")
    steps = [data for data in run.named("progress") if data["node"] == sampler]
    assert [data["value"] for data in steps] == list(range(1, steps[0]["max"] + 1)) and len(steps) >= 8
    assert len(run.previews) >= 8
    texts = [text for output in run.outputs.values() for text in output.get("text", [])]
    assert any("faces of 128 pixels" in text and "FaceRay: yes" in text for text in texts)
    assert any("12 cube edges" in text for text in texts)


@pytest.mark.slow
def test_star_template_runs(server, definitions) -> None:
    """On files in the published formats: the trainer's .pth, VAR's flat .pth, a text encoder in diffusers' layout."""
    files = stand_ins.write_star_files(server.base / "models")
    chosen = {"model": files.generator, "vqvae": files.vqvae, "text": files.text}
    prompt = change(to_prompt(template("star_d30_512"), definitions), PanoDiff_LoadSTAR=chosen)
    run = run_to_the_end(server, prompt, (512, 256))
    (sampler,) = (name for name, node in prompt.items() if node["class_type"] == "PanoDiff_SampleCubemap")
    steps = [data for data in run.named("progress") if data["node"] == sampler]
    assert [(data["value"], data["max"]) for data in steps] == [(scale, 4) for scale in range(1, 5)]
    with Image.open(io.BytesIO(run.previews[-1])) as preview:
        assert preview.size == (512, 256)
    texts = [text for output in run.outputs.values() for text in output.get("text", [])]
    assert any("faces of 128 pixels" in text and "will not meet" in text for text in texts)
    assert any("12 cube edges" in text and "F-R " in text for text in texts)
