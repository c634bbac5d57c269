"""The `verify` command: a table, exit codes, and that a wrong number, a missing file or an empty folder never pass."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers")

from panodiff_core.__main__ import main
from tests.core.dit360_vectors import FOLDER


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "vectors"))


def rewrite(path: Path, change) -> None:
    with safe_open(path, "pt") as handle:
        metadata = handle.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata)


def test_all_of_it(capsys, tmp_path):
    out = tmp_path / "rows.json"
    assert main(["verify", "dit360", "--vectors", str(FOLDER), "--json", str(out)]) == 0
    text = capsys.readouterr().out
    assert "0 failed" in text and "FAILED" not in text and "ABSENT" not in text
    assert "negative controls" in text and "losses" in text
    records = json.loads(out.read_text(encoding="utf-8"))
    assert len(records) > 400 and all(record["met"] for record in records)


def test_wrong_numbers_and_missing_files(folder, capsys):
    """One number off by ten bounds, one file gone: both are said, the missing file counts more."""
    rewrite(folder / "losses.safetensors", lambda t: t["yaw.60.pred"].view(-1)[7:8].add_(1e-4))
    assert main(["verify", "dit360", "--vectors", str(folder)]) == 1
    text = capsys.readouterr().out
    assert "1 failed" in text and "yaw.60.pred" in text
    (folder / "text.safetensors").unlink()
    assert main(["verify", "dit360", "--vectors", str(folder)]) == 2
    assert "no text.safetensors" in capsys.readouterr().out


def test_an_empty_folder_never_passes(tmp_path, capsys):
    assert main(["verify", "dit360", "--vectors", str(tmp_path)]) == 2
    assert "0 comparisons" in capsys.readouterr().out
    assert main(["verify", "dit360", "--vectors", str(tmp_path / "nowhere")]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_a_file_that_does_not_load_and_a_tensor_that_is_not_there(folder, capsys):
    bfl = folder / "transformer_bfl.safetensors"
    bfl.write_bytes(bfl.read_bytes()[:-10])
    rewrite(folder / "losses.safetensors", lambda t: t.pop("in.crop"))
    assert main(["verify", "dit360", "--vectors", str(folder)]) == 1
    text = capsys.readouterr().out
    assert "transformer_bfl.safetensors" in text and "the vectors lack 'in.crop'" in text


@pytest.mark.parametrize(
    "options, text",
    [
        ([], "say what to verify"),
        (["--vectors", "x", "--model", "y"], "give one of them"),
        (["--model", "x", "--all"], "--all and --json belong to --vectors"),
        (["--model", "nowhere"], "there is no model folder or file nowhere"),
        (["--model", "x", "--part", "vea=y"], "--part takes NAME=PATH with a name of transformer, vae"),
        (["--model", "x", "--part", "vae=y", "--part", "vae=z"], "--part vae was given twice"),
    ],
)
def test_refused(options, text, capsys):
    assert main(["verify", "dit360", *options]) == 1
    assert text in capsys.readouterr().err


def test_a_model_of_ones_own(tiny_folder, capsys):
    assert main(["verify", "dit360", "--model", str(tiny_folder), "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    for line in (
        "transformer, format",
        "diffusers folder",
        "all numbers finite",
        "seam ratio",
        "peak memory",
    ):
        assert line in text
    weights = tiny_folder / "transformer" / "diffusion_pytorch_model.safetensors"
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    parts = [word for name in names for word in ("--part", f"{name}={tiny_folder / name}")]
    assert main(["verify", "dit360", "--model", str(weights), "--device", "cpu", *parts]) == 0
    assert "transformer, format" in capsys.readouterr().out
    broken = tiny_folder.parent / "broken"
    shutil.copytree(tiny_folder, broken)
    rewrite(
        broken / "vae" / "diffusion_pytorch_model.safetensors",
        lambda t: t["decoder.conv_in.bias"].fill_(torch.nan),
    )
    assert main(["verify", "dit360", "--model", str(broken), "--device", "cpu"]) == 1
    assert "NaN or infinite" in capsys.readouterr().err
