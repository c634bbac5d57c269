"""`verify dit360` on a folder of other sizes: every group compares and passes, and no number in it may be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from panodiff_core.engines.dit360.verification import GROUPS, DiT360Vectors, verify
from panodiff_core.verification import measure
from tests.core.other_sizes import make_vectors

COMPARED = (5, 10, 8, 45, 17, 10, 17, 47, 6, 7, 9)
"""How many comparisons each group makes on that folder."""
OFFSETS = "derived.roll_each_step.offsets"
FORMATS, FORWARD, SCHEDULES, TRAJECTORIES = GROUPS[:4]
RESULTS = ("derived_img2img_inpaint", "derived_padding", "edit", "formats_expected", "forward", "losses")
RESULTS += ("t2i", "text", "vae")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "vectors"
    make_vectors(folder)
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "vectors"))


@pytest.fixture(scope="module")
def results(made) -> dict:
    return dict(verify(made))


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    with safe_open(path, "pt") as handle:
        metadata = handle.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata)


def unmet(folder: Path, groups=GROUPS) -> dict[str, list[str]]:
    outcomes = measure(groups, DiT360Vectors(folder))
    return {title: [row.what for row in rows if not row.met] for title, rows in outcomes}


@pytest.mark.parametrize(
    "group, compared", list(zip(GROUPS, COMPARED, strict=True)), ids=lambda v: getattr(v, "title", None)
)
def test_group(results, group, compared):
    rows = results[group.title]
    assert not [f"{row.what}: {row.error:.2e}, bound {row.bound:g}" for row in rows if not row.met]
    assert len(rows) == compared


def test_every_number_counts(folder):
    """One number of every result is off by three: every one of them is named."""
    spoilt = {}

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        for key, value in tensors.items():
            if not key.startswith("in.") and key != OFFSETS:
                spoilt.setdefault(file, []).append(key)
                value.view(-1)[-1:] += 3

    for file in RESULTS:
        rewrite(folder / f"{file}.safetensors", spoil)
    found = unmet(folder)
    said = [what for whats in found.values() for what in whats]
    formats = spoilt.pop("formats_expected")
    assert sum(what.endswith(": velocity") for what in found[FORMATS.title]) == len(formats) == 2
    assert len(spoilt) == 8
    for keys in spoilt.values():
        for key in keys:
            assert any(what == key or what.startswith((f"{key} ", f"{key},")) for what in said), key


def test_a_noise_level_off_by_a_millionth(folder):
    path = folder / "schedules.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    rows["official"][1]["sigmas"][2] += 1e-6
    path.write_text(json.dumps(rows), encoding="utf-8")
    assert unmet(folder, (SCHEDULES,)) == {SCHEDULES.title: ["40x24, padding 3, 7 steps: sigmas"]}


def test_what_is_not_known_fails(folder):
    """A trajectory of an unknown kind and a step too many are said, and the rest is still compared."""
    more = {"other.final_packed": torch.zeros(1, 15, 16), "cfg_off.velocity.3": torch.zeros(1)}
    rewrite(folder / "t2i.safetensors", lambda tensors: tensors.update(more))
    assert unmet(folder, (TRAJECTORIES,))[TRAJECTORIES.title] == [
        "other: this version does not know such a trajectory",
        "cfg_off.velocity.3 was not compared: this version does not know it",
        "other.final_packed was not compared: this version does not know it",
    ]


def test_what_may_be_missing_and_what_may_not(folder):
    """Without its intermediates a file still compares its result; without that it fails."""
    rewrite(folder / "forward.safetensors", lambda tensors: tensors.pop("double.0.img"))
    assert unmet(folder, (FORWARD,)) == {FORWARD.title: []}
    rewrite(folder / "forward.safetensors", lambda tensors: tensors.pop("out.velocity"))
    assert unmet(folder, (FORWARD,)) == {FORWARD.title: ["the vectors lack 'out.velocity'"]}
