"""The pack inside a real ComfyUI: it loads, its templates run, caching, validation and cancelling work."""

from __future__ import annotations

import io
import json
import re

import pytest
from PIL import Image

from tests.server.comfy_server import PACK, RefusedError
from tests.server.conftest import FIRST, TEMPLATES
from tests.server.workflows import read_workflow, to_prompt

pytestmark = pytest.mark.comfyui


def test_pack_loads_without_complaint(server, definitions) -> None:
    assert len([name for name in definitions if name.startswith("PanoDiff_")]) == 26
    log = server.log_text()
    assert re.search(rf"[\d.]+ seconds:[^\n]*{PACK}", log)
    assert "Error while calling comfy_entrypoint" not in log and "IMPORT FAILED" not in log


def test_texts_and_help_are_served(server, definitions) -> None:
    locale = server.get("/i18n")["en"]["nodeDefs"]
    for name in definitions:
        if name.startswith("PanoDiff_"):
            assert locale[name]["display_name"] == definitions[name]["display_name"]
            assert server.get_bytes(f"/extensions/{PACK}/docs/{name}.md").startswith(b"# ")


def test_templates_are_listed_with_their_pictures(server) -> None:
    listed = server.get("/workflow_templates")[PACK]
    assert sorted(listed) == [path.stem for path in TEMPLATES]
    for name in listed:
        assert server.get(f"/api/workflow_templates/{PACK}/{name}.json")["nodes"]
        picture = Image.open(io.BytesIO(server.get_bytes(f"/api/workflow_templates/{PACK}/{name}.jpg")))
        assert picture.format == "JPEG" and picture.width <= 1024


@pytest.mark.slow
def test_template_runs_and_runs_again_from_cache(server, definitions) -> None:
    workflow = read_workflow(FIRST)
    prompt = to_prompt(workflow, definitions)
    run = server.run(prompt, extra={"extra_pnginfo": {"workflow": workflow}})
    assert run.succeeded, run.named("execution_error")
    assert set(run.executed_nodes) == set(prompt)
    again = server.run(prompt)
    assert again.succeeded and not again.executed_nodes


def test_tiny_model_from_prompt_to_files(server, tiny_prompt) -> None:
    workflow = {"nodes": [], "links": [], "note": "as the frontend sends it"}
    run = server.run(tiny_prompt, extra={"extra_pnginfo": {"workflow": workflow}})
    assert run.succeeded, run.named("execution_error")
    (saved,) = run.outputs["7"]["images"]
    with Image.open(io.BytesIO(server.view(saved))) as picture:
        assert picture.size == (128, 64)
        assert json.loads(picture.text["workflow"]) == workflow
        assert json.loads(picture.text["prompt"])["3"]["inputs"]["seed"] == 7
        assert "equirectangular" in picture.text["XML:com.adobe.xmp"]
        saved_bytes = picture.convert("RGB").tobytes()
    (shown,) = run.outputs["6"]["panodiff_panorama"]
    with Image.open(io.BytesIO(server.view(shown))) as picture:
        assert picture.convert("RGB").tobytes() == saved_bytes
    assert "Seam ratio" in run.outputs["5"]["text"][0]


def test_progress_and_previews_arrive(server, tiny_prompt) -> None:
    tiny_prompt["3"]["inputs"]["seed"] = 1001
    run = server.run(tiny_prompt)
    steps = [data["value"] for data in run.named("progress") if data.get("node") == "3"]
    assert steps[-1] == 3 and run.previews
    preview = Image.open(io.BytesIO(run.previews[-1]))
    assert preview.format == "JPEG" and preview.width == 2 * preview.height


def test_second_run_is_served_from_cache(server, tiny_prompt) -> None:
    tiny_prompt["3"]["inputs"]["seed"] = 1002
    first = server.run(tiny_prompt)
    assert "3" in first.executed_nodes
    second = server.run(tiny_prompt)
    assert second.succeeded and second.executed_nodes == []
    assert second.named("execution_cached")[0]["nodes"]
    assert second.outputs == first.outputs


def test_only_what_changed_runs_again(server, tiny_prompt) -> None:
    tiny_prompt["3"]["inputs"]["seed"] = 1003
    server.run(tiny_prompt)
    tiny_prompt["3"]["inputs"]["seed"] = 1004
    run = server.run(tiny_prompt)
    assert not {"1", "2"} & set(run.executed_nodes) and {"3", "4"} <= set(run.executed_nodes)


@pytest.mark.parametrize(
    ("node", "changes", "words"),
    [
        ("3", {"width": 120}, "width 120 is not 2 × height 64: set 128 x 64 or 120 x 60"),
        ("3", {"width": 32768, "height": 16384}, "out of range"),
        ("2", {"prompt": "   "}, "the prompt is empty"),
        ("1", {"model": "../../etc"}, "not in list"),
        ("7", {"format": "gif"}, "not in list"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(server, tiny_prompt, node, changes, words) -> None:
    tiny_prompt[node]["inputs"].update(changes)
    del tiny_prompt["5"], tiny_prompt["6"]  # the server runs what is left of a prompt with several outputs
    with pytest.raises(RefusedError) as refused:
        server.run(tiny_prompt)
    answer = refused.value.answer
    assert answer["error"]["type"] == "prompt_outputs_failed_validation"
    assert words in json.dumps(answer["node_errors"][node], ensure_ascii=False)


@pytest.mark.parametrize(
    ("node", "changes", "kind", "words"),
    [
        ("3", {"width": 240, "height": 120}, "InputError", "the nearest legal size is"),
        ("7", {"filename_prefix": "../../outside"}, "Exception", "outside the output folder"),
    ],
)
def test_errors_of_the_run_say_what_to_do(server, tiny_prompt, node, changes, kind, words) -> None:
    tiny_prompt[node]["inputs"].update(changes)
    run = server.run(tiny_prompt)
    (error,) = run.named("execution_error")
    assert error["node_id"] == node and words in error["exception_message"]
    assert error["exception_type"].endswith(kind)


def test_cancel_stops_soon_and_the_next_run_works(server, tiny_prompt) -> None:
    """How soon is a matter of the network here; the node test pins it to one step."""
    tiny_prompt["3"]["inputs"].update(seed=1005, steps=400)
    reached = []

    def cancel_at_the_first_report(name: str, data: dict) -> None:
        if name == "progress" and data.get("node") == "3":
            reached.append(data["value"])
            if len(reached) == 1:
                server.post("/interrupt", {})

    run = server.run(tiny_prompt, on_event=cancel_at_the_first_report)
    assert run.named("execution_interrupted") and not run.succeeded
    assert reached[-1] < 200
    tiny_prompt["3"]["inputs"].update(steps=2)
    assert server.run(tiny_prompt).succeeded


def test_pictures_of_core_nodes_go_through(server) -> None:
    prompt = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 32, "batch_size": 1, "color": 255},
        },
        "2": {
            "class_type": "PanoDiff_ConvertPanoramaToCubemap",
            "inputs": {"panorama": ["1", 0], "face_size": 0},
        },
        "3": {"class_type": "PanoDiff_ConvertCubemapToPanorama", "inputs": {"faces": ["2", 0], "height": 0}},
        "4": {"class_type": "PanoDiff_ViewPanorama", "inputs": {"panorama": ["3", 0]}},
    }
    run = server.run(prompt)
    assert run.succeeded, run.named("execution_error")
    (shown,) = run.outputs["4"]["panodiff_panorama"]
    assert (shown["width"], shown["height"]) == (64, 32)
