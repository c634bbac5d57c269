"""The command line: what it writes, what it refuses and in which words; nothing half-done is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from panodiff_core import __main__ as cli
from panodiff_core.commands import console, generate
from panodiff_core.io.images import load_image, read_gpano, read_text, save_panorama, to_bytes_image
from panodiff_core.runtime.errors import Cancelled, InputError
from panodiff_core.runtime.progress import Step
from tests.tiny_model import build_tiny_model

ROOT = Path(__file__).resolve().parents[2]
SEA = "a calm sea at sunset"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("cli") / "model")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_loading(monkeypatch):
    """Any attempt to load a model fails the test: what is refused must be refused before."""

    def load(*_args, **_kwargs):
        raise AssertionError("a model was loaded before the request was checked")

    monkeypatch.setattr("panodiff_core.engines.load", load)


def refused(capsys, *argv: str, code: int = 1) -> str:
    assert cli.main(list(argv)) == code
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    return captured.err


def test_generate_writes_picture_and_page(here, model, capsys):
    code = cli.main(
        ["generate", SEA, "--model", str(model), "--seed", "7", "--steps", "2", "--heading", "90"]
    )
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert sorted(path.name for path in here.iterdir()) == ["pano.html", "pano.png"]
    assert load_image("pano.png").shape == (1, 3, 64, 128)
    gpano = read_gpano("pano.png")
    assert gpano["ProjectionType"] == "equirectangular" and gpano["PoseHeadingDegrees"] == 90
    texts = read_text("pano.png")
    settings = json.loads(texts["panodiff"])
    assert texts["Description"] == SEA and settings["prompt"] == SEA
    assert (settings["seed"], settings["steps"], settings["height"], settings["engine"]) == (
        7,
        2,
        64,
        "dit360",
    )
    page = Path("pano.html").read_text(encoding="utf-8")
    assert SEA in page and "data:image/png;base64," in page
    assert "pano.png" in captured.out and "pano.html" in captured.out
    assert "Seam ratio" in captured.out and "Pole variance" in captured.out
    assert "step 1/2" in captured.err and "step 2/2" in captured.err and "left" in captured.err


def test_generate_equals_the_public_api(here, model):
    import panodiff_core as pano

    assert (
        cli.main(["generate", SEA, "--model", str(model), "--no-page", "--out", "a.png", "--seed", "3"]) == 0
    )
    engine = pano.load("dit360", model)
    picture = engine.decode(engine.sample(engine.encode(SEA), seed=3))
    assert (load_image("a.png") - picture.pixels).abs().max() <= 0.5 / 255 + 1e-6


def test_generate_numbers_a_batch_and_passes_every_option(here, model, capsys):
    options = "--polar-filter --batch 2 --height 96 --steps 1 --guidance 2 --cfg 2 --padding 2 --roll alternate --grid cosine"
    argv = [
        "generate",
        SEA,
        "--model",
        str(model),
        "--out",
        "p.jpg",
        "--negative",
        "snow",
        *options.split(),
        "--solver",
        "heun",
    ]
    assert cli.main([*argv, "--device", "cpu", "--dtype", "float32", "--offload", "stage"]) == 0, (
        capsys.readouterr().err
    )
    assert sorted(path.name for path in here.iterdir()) == ["p_1.html", "p_1.jpg", "p_2.html", "p_2.jpg"]
    first, second = load_image("p_1.jpg"), load_image("p_2.jpg")
    assert first.shape == (1, 3, 96, 192) and not torch.equal(first, second)
    settings = json.loads(read_text("p_2.jpg")["panodiff"])
    expected = {
        "cfg": 2,
        "guidance": 2,
        "padding": 2,
        "roll": "alternate",
        "grid": "cosine",
        "solver": "heun",
        "index": 1,
        "polar_filter": True,
        "model": model.name,
        "lora": None,
    }
    assert expected.items() <= settings.items() and settings["negative"] == "snow"


def test_generate_starts_from_a_picture(here, model, capsys):
    """The picture gives the size; the mask says where; what is refused names the option."""
    import panodiff_core as pano
    from panodiff_core.autoencoders.masks import latent_mask

    pixels = torch.rand(1, 3, 96, 192, generator=torch.Generator().manual_seed(4))
    save_panorama(pixels[0], "from.png")
    half = torch.zeros(3, 48, 96)
    half[..., 48:] = 1.0
    save_panorama(half, "mask.png")
    argv = ["generate", SEA, "--model", str(model), "--no-page", "--seed", "3", "--steps", "4", "--mu", "0.5"]
    start = ["--image", "from.png", "--strength", "0.5", "--mask", "mask.png"]
    assert cli.main([*argv, "--out", "to.png", *start]) == 0, capsys.readouterr().err
    engine = pano.load("dit360", model)
    latents = engine.sample(
        engine.encode(SEA), seed=3, steps=4, mu=0.5, strength=0.5,
        image_latents=engine.encode_image(load_image("from.png")), mask=latent_mask(load_image("mask.png").mean(1), 12, 24),
    )  # fmt: skip
    assert (load_image("to.png") - engine.decode(latents).pixels).abs().max() <= 0.5 / 255 + 1e-6
    settings = json.loads(read_text("to.png")["panodiff"])
    assert {
        "image": "from.png",
        "strength": 0.5,
        "mask": "mask.png",
        "mu": 0.5,
        "height": 96,
    }.items() <= settings.items()
    assert cli.main([*argv, "--image", "from.png", "--mask", "mask.png", "--out", "all.png"]) == 0
    assert json.loads(read_text("all.png")["panodiff"])["strength"] == 1.0
    capsys.readouterr()
    assert "--image needs --strength" in refused(capsys, *argv, "--image", "from.png")
    assert "--strength must be above 0" in refused(capsys, *argv, *start, "--strength", "1.5")
    assert "contradicts --image, which is 96 high" in refused(capsys, *argv, *start, "--height", "64")
    to_bytes_image(pixels[0, :, :, :96]).save("square.png")
    assert "twice as wide as high" in refused(capsys, *argv, "--image", "square.png", "--strength", "1")
    assert "twice as wide as high" in refused(capsys, *argv, "--image", "from.png", "--mask", "square.png")


def test_generate_passes_the_lora(here, model, capsys, monkeypatch):
    argv = ["generate", SEA, "--model", str(model), "--lora", "none.safetensors", "--lora-strength", "0.5"]
    assert "there is no LoRA none.safetensors" in refused(capsys, *argv)
    given = {}

    def load(*_args, **options):
        given.update(options)
        raise InputError("that is enough")

    monkeypatch.setattr("panodiff_core.engines.load", load)
    assert "that is enough" in refused(capsys, *argv)
    assert given["lora"] == (Path("none.safetensors"), 0.5)
    refused(capsys, "generate", SEA, "--model", str(model))
    assert given["lora"] is None


def test_unknown_words_and_what_was_cut_are_said(here, model, capsys):
    prompt = "a calm zeppelin sea " + "and stars " * 30
    assert cli.main(["generate", prompt, "--model", str(model), "--no-page", "--steps", "1"]) == 0
    errors = capsys.readouterr().err
    assert "warning: " in errors and "zeppelin" in errors
    assert "T5 reads 31 tokens" in errors and "CLIP reads 22 tokens" in errors


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["generate", "  "], "the prompt is empty"),
        (["generate", SEA, "--height", "100"], r"multiple of 16; the nearest is 96 \(192 x 96"),
        (["generate", SEA, "--out", "pano.gif"], r"pano.gif.*\.png, \.jpg"),
        (["generate", SEA, "--out", "nowhere/pano.png"], "nowhere does not exist"),
        (["generate", SEA, "--page", "pano.txt"], "should end in .html"),
        (["generate", SEA, "--page", "nowhere/pano.html"], "nowhere does not exist"),
        (["generate", SEA, "--page", "a.html", "--no-page"], "contradict"),
        (["generate", SEA, "--viewer", "nowhere"], r"nowhere.*--viewer DIR.*or use --no-page"),
        (["generate", SEA, "--steps", "0"], "steps must be .* at least 1, got 0"),
        (["generate", SEA, "--padding", "-1"], "padding must be"),
        (["generate", SEA, "--padding", "40"], "circular padding must be 0 … 32"),
        (["evaluate", "dit360", "--seed", "10000000000000"], "--seed must be at most"),
        (["generate", SEA, "--cfg", "nan"], "cfg must be"),
        (["generate", SEA, "--seed", "-1"], "--seed must be from 0"),
        (["generate", SEA, "--batch", "0"], "--batch must be from 1"),
        (["generate", SEA, "--quality", "101"], "--quality must be from 1 to 100"),
        (["generate", SEA, "--heading", "nan"], "--heading must be a finite number"),
        (["generate", SEA, "--lora-strength", "2"], "--lora-strength without --lora has no effect"),
        (["generate", SEA, "--mu", "round"], "mu must be one of padded, unpadded or a number, got 'round'"),
        (["generate", SEA, "--strength", "0.5"], "--strength without --image has no effect"),
        (["generate", SEA, "--mask", "m.png"], "--mask without --image has no effect"),
        (["generate", SEA, "--image", "gone.png"], "there is no picture at gone.png"),
        (["generate", SEA, "--image", "gone.png", "--strength", "0.5"], "gone.png"),
        (["generate", SEA, "--preset", "8k"], "there are draft, balanced, best.*--upscale 2 or 4"),
        (["generate", SEA, "--negative", "snow", "--cfg", "1"], "--negative has no effect at cfg 1"),
        (["generate", SEA, "--out", "p.webp", "--height", "8192"], "WEBP holds at most 16383"),
    ],
)
def test_bad_requests_are_refused_before_a_model_loads(here, capsys, no_loading, argv, message):
    import re

    error = refused(capsys, *argv)
    assert error.startswith("error: ") and re.search(message, error), error
    assert list(here.iterdir()) == []


def test_bad_model_folders_are_named(here, capsys, model):
    error = refused(capsys, "generate", SEA, "--model", "missing", "--no-page")
    for words in (
        "there is no model folder or file missing",
        "huggingface.co/black-forest-labs/FLUX.1-dev",
        "models/diffusers/FLUX.1-dev/",
        "python -m panodiff_core download dit360 --to models",
    ):
        assert words in error
    (here / "broken").mkdir()
    (here / "broken" / "panodiff.json").write_text('{"panodiff": 1, "defaults": {"stpes": 3}}')
    assert "'stpes'" in refused(capsys, "generate", SEA, "--model", "broken", "--no-page")
    assert "unknown device 'gpu'" in refused(
        capsys, "generate", SEA, "--model", str(model), "--device", "gpu", "--no-page"
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["genrate", SEA], "unknown command 'genrate'; did you mean 'generate'?"),
        (["evalute", "dit360"], "did you mean 'evaluate'?"),
        ([SEA], f"python -m panodiff_core generate '{SEA}'"),
        (["generate", SEA, "--sede", "3"], "unknown option --sede; did you mean '--seed'?"),
        (["generate", SEA, "--ste", "3"], "unknown option --ste"),
        (["--sede"], "unknown option --sede"),
        (["--"], "unknown option --"),
        (
            ["generate", SEA, "--width", "500"],
            "--width; did you mean '--height'? The width is twice that. See",
        ),
        (["generate", SEA, "--size", "300x500"], "--size; did you mean '--height'? The width is twice that."),
        (["generate", SEA, "--num_inference_steps=3"], "did you mean '--steps'? See"),
        (["generate", SEA, "--guidance-scale", "3"], "did you mean '--guidance'?"),
        (["generate", SEA, "--Memory_gb", "3"], "did you mean '--memory-gb'?"),
        (["generate", SEA, "--zoom", "3"], "unknown option --zoom. See"),
        (["verify", "dit360", "--width", "3"], "unknown option --width. See"),
        (["train", "dit360-text", "--out", "x", "--wdith", "3"], "did you mean '--width'?"),
        (
            ["generate", "a", "calm", "sea"],
            "'calm sea' is left over; put a prompt of several words in quotes",
        ),
        (["generate", SEA, "--engine", "dit36"], "dit36"),
        (["generate", SEA, "--seed", "x"], "--seed"),
        (["generate", SEA, "--roll", "alternate", "--no-roll"], "not allowed with"),
        (["generate"], "PROMPT"),
        (["evaluate", "dit3600"], "dit3600"),
        ([], "COMMAND"),
    ],
)
def test_usage_errors_exit_2_and_help(here, capsys, no_loading, argv, message):
    assert message in refused(capsys, *argv, code=2)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "command", "words"),
    [
        (["generate", SEA, "--engine", "sdxl"], "generate", ("--engine", "'sdxl'", "dit360", "star")),
        (["generate", SEA, "--steps", "3.5"], "generate", ("--steps", "'3.5'", "int")),
        (["generate"], "generate", ("PROMPT",)),
        (["download", "dit360", "--only", "unet"], "download", ("--only", "'unet'", "transformer")),
        (["train", "dit360-vae", "--seed", "x"], "train dit360-vae", ("--seed", "'x'")),
    ],
)
def test_what_cannot_be_parsed_is_one_line(here, capsys, no_loading, argv, command, words):
    error = refused(capsys, *argv, code=2)
    assert error.startswith("error: ") and error.count("\n") == 1
    assert error.endswith(f". See python -m panodiff_core {command} --help.\n")
    assert all(word in error for word in words), error


def test_every_other_name_of_an_option_leads_to_one_of_ours():
    known = cli.build_parser().commands["generate"].option_names()
    for other, ours in console.OTHER_NAMES.items():
        assert f"--{other}" not in known and f"--{ours}" in known
        assert console.nearest_option(f"--{other}", known).startswith(f"; did you mean '--{ours}'?")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Cancelled])
def test_a_stop_leaves_no_file_and_exits_130(here, model, capsys, monkeypatch, stop):
    (here / "pano.png").write_bytes(b"from before")

    def interrupt(_self, step: Step) -> None:
        assert step.index == 1
        raise stop

    monkeypatch.setattr(console.Progress, "__call__", interrupt)
    assert "stopped" in refused(capsys, "generate", SEA, "--model", str(model), code=130)
    assert [(path.name, path.read_bytes()) for path in here.iterdir()] == [("pano.png", b"from before")]


def test_a_missing_library_is_a_sentence(here, capsys, monkeypatch, model):
    def absent(*_args, **_kwargs):
        raise ModuleNotFoundError("No module named 'diffusers.models'", name="diffusers.models")

    monkeypatch.setattr(generate, "load_engine", absent)
    assert "pip install -r requirements.txt" in refused(
        capsys, "generate", SEA, "--model", str(model), "--no-page"
    )
    monkeypatch.setattr(
        generate, "load_engine", lambda _: (_ for _ in ()).throw(ModuleNotFoundError("x", name="own"))
    )
    with pytest.raises(ModuleNotFoundError):
        cli.main(["generate", SEA, "--model", str(model), "--no-page"])


def test_engines_lists_models_and_libraries(capsys):
    assert cli.main(["engines"]) == 0
    out = capsys.readouterr().out
    assert "dit360" in out and "torch" in out and torch.__version__.split("+")[0] in out


def test_engines_names_what_is_missing(capsys, monkeypatch, tmp_path):
    from panodiff_core.commands import engines
    from panodiff_core.engines import EngineStatus

    status = EngineStatus("dit360", "DiT360", "text to panorama", tmp_path, ("vae/config.json",))
    monkeypatch.setattr(engines, "describe", lambda: (status,))
    monkeypatch.setattr(
        engines, "LIBRARIES", {"no-such-library": "everything", "nor-this": "optional: speed"}
    )
    assert cli.main(["engines"]) == 0
    out = capsys.readouterr().out
    assert "incomplete: 1 missing" in out and "vae/config.json" in out
    assert "MISSING" in out and "not installed" in out and "pip install -r requirements.txt" in out


def test_progress_on_a_terminal_stays_on_one_line(capsys, monkeypatch):
    clock = iter([0.0, 2.0, 4.0, 300.0]).__next__
    progress = console.Progress("step", clock)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    latents = torch.zeros(1)
    for index in (1, 2, 3):
        progress(Step(index, 3, 0.5, latents, latents))
    lines = capsys.readouterr().err.split("\r")[1:]
    assert lines[0].startswith("step 1/3, 2.00 s per step, 4.0 s left") and "\n" not in lines[0] + lines[1]
    assert lines[2].startswith("step 3/3, 100.00 s per step") and lines[2].endswith("\n")


def test_the_module_runs_as_a_program(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "panodiff_core", "enginse"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 2 and "did you mean 'engines'?" in done.stderr and done.stdout == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows reports a closed pipe in another way")
@pytest.mark.parametrize(("argv", "unbuffered"), [(["engines"], "1"), (["generate", "--help"], "")])
def test_a_reader_that_is_gone_ends_the_program_quietly(argv, unbuffered):
    """As with `… | head -1`; 141 is what a shell reports for usual tools."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "panodiff_core", *argv],
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=600,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_broken_pipe_inside_a_training_is_no_quiet_end(monkeypatch):
    def run(_args):
        raise BrokenPipeError

    monkeypatch.setattr("panodiff_core.commands.train.run", run)
    with pytest.raises(RuntimeError, match="broke off"):
        cli.main(["train", "dit360-text", "--out", "x"])
