"""Cubemap scenes: faces that agree along their edges, folders that are checked, written and continued."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch

from panodiff_core.__main__ import main
from panodiff_core.data.cubemap_scenes import CubemapScenes
from panodiff_core.data.cubemap_worlds import (
    FACE_WORDS,
    WorldCubemaps,
    WorldFaces,
    face_caption,
    render_faces,
)
from panodiff_core.data.cubemap_writing import write_panorama_scenes, write_world_scenes
from panodiff_core.data.worlds import caption, render_equirect, sample_scene
from panodiff_core.geometry import FACES, cubemap_to_equirect, equirect_directions, face_directions
from panodiff_core.io.images import to_bytes_image
from panodiff_core.runtime.errors import InputError

SIZE = 16


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Three scenes of worlds 5, 6 and 7."""
    root = tmp_path_factory.mktemp("scenes")
    write_world_scenes(root, 3, SIZE, first_seed=5)
    return root


@pytest.fixture
def scenes(written, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(written, tmp_path / "scenes")


# -- reading ----------------------------------------------------------------------------------------------------------


def test_items_hold_the_faces_of_the_worlds_that_were_written(written):
    data = CubemapScenes(written, SIZE)
    assert data.scene_ids == ("scene0000", "scene0001", "scene0002")
    item = data[1]
    assert item.keys() == {"faces", "prompt", "scene_id"}
    assert item["faces"].shape == (6, 3, SIZE, SIZE) and item["faces"].dtype == torch.float32
    expected = render_faces(sample_scene(6, split="train"), SIZE)
    assert float((item["faces"] - expected).abs().max()) <= 0.5 / 255 + 1e-6
    assert item["prompt"] == caption(sample_scene(6, split="train"), 6).text
    assert item["scene_id"] == "scene0001"


def test_face_order_is_that_of_the_names(scenes):
    for index, name in enumerate("FRBLUD"):
        flat = torch.full((3, SIZE, SIZE), index / 5)
        to_bytes_image(flat).save(scenes / "scene0000" / "faces" / f"{name}.png")
    faces = CubemapScenes(scenes, SIZE)[0]["faces"]
    assert torch.allclose(faces[:, 0, 0, 0], torch.arange(6) / 5)


def test_scenes_come_by_name_and_other_files_do_not_matter(scenes):
    (scenes / "scene0000").rename(scenes / "zoo")
    (scenes / "notes.txt").write_text("no scene")
    (scenes / ".hidden").mkdir()
    (scenes / "zoo" / "dice.png").write_bytes(b"not a picture")
    assert CubemapScenes(scenes, SIZE).scene_ids == ("scene0001", "scene0002", "zoo")


def test_no_prompt_is_an_empty_one_and_is_told(scenes, caplog):
    (scenes / "scene0000" / "prompts.json").unlink()
    (scenes / "scene0001" / "prompts.json").write_text('{"front": "a door"}')
    with caplog.at_level(logging.WARNING):
        data = CubemapScenes(scenes, SIZE)
    assert [item["prompt"] for item in (data[0], data[1])] == ["", ""]
    assert data[2]["prompt"]
    assert "2 of 3 scenes have no prompt" in caplog.text


def spoil_size(scene):
    to_bytes_image(torch.zeros(3, SIZE, SIZE + 1)).save(scene / "faces" / "L.png")


def spoil_missing(scene):
    (scene / "faces" / "U.png").unlink()


def spoil_bytes(scene):
    (scene / "faces" / "D.png").write_bytes(b"no picture")


def spoil_json(scene):
    (scene / "prompts.json").write_text("{")


def spoil_prompt(scene):
    (scene / "prompts.json").write_text('{"scene": 3}')


def spoil_depth(scene):
    (scene / "prompts.json").write_text("[" * 100_000)


def spoil_kind(scene):
    (scene / "prompts.json").unlink()
    (scene / "prompts.json").mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_size, r"scene scene0001: .*L\.png is 17x16 pixels, not 16x16"),
        (spoil_missing, r"scene scene0001: face U is missing"),
        (spoil_bytes, r"scene scene0001: face D: .*cannot be read as a picture"),
        (spoil_json, r"scene scene0001: .*cannot be read as JSON"),
        (spoil_prompt, r'scene scene0001: "scene" in .* is int, not a text'),
        (spoil_depth, r"scene scene0001: .*cannot be read as JSON"),
        (spoil_kind, r"scene scene0001: .*prompts\.json cannot be read as JSON"),
    ],
)
def test_a_bad_scene_is_named_or_left_out(scenes, caplog, spoil, message):
    spoil(scenes / "scene0001")
    with pytest.raises(InputError, match=message):
        CubemapScenes(scenes, SIZE)
    with caplog.at_level(logging.WARNING):
        data = CubemapScenes(scenes, SIZE, skip_bad=True)
    assert data.scene_ids == ("scene0000", "scene0002") and len(data) == 2
    assert data[1]["scene_id"] == "scene0002"
    assert "left out: scene scene0001" in caplog.text


def test_a_face_that_ends_early_is_left_out_before_training_meets_it(scenes, caplog):
    path = scenes / "scene0001" / "faces" / "U.png"
    path.write_bytes(path.read_bytes()[:-40])
    with caplog.at_level(logging.WARNING):
        data = CubemapScenes(scenes, SIZE, skip_bad=True)
    assert data.scene_ids == ("scene0000", "scene0002") and "left out:" in caplog.text
    data = CubemapScenes(scenes, SIZE)
    assert len(data) == 3  # the header is whole, and without skip_bad nothing more is read
    with pytest.raises(InputError, match=r"scene scene0001: .*U\.png .* or pass skip_bad \(--skip-bad\)"):
        data[1]


def test_nothing_usable_is_an_error_even_when_bad_scenes_are_skipped(scenes, tmp_path):
    with pytest.raises(InputError, match=r"not 8x8.*\(3 of 3 scenes are bad\)"):
        CubemapScenes(scenes, 8, skip_bad=True)
    with pytest.raises(InputError, match="there is no folder"):
        CubemapScenes(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="cubemap-scenes"):
        CubemapScenes(tmp_path / "empty")


# -- writing ----------------------------------------------------------------------------------------------------------


def test_writing_continues_adds_and_refuses_other_scenes(scenes):
    before = (scenes / "scene0000" / "faces" / "F.png").stat().st_mtime_ns
    (scenes / "scene0001" / "prompts.json").unlink()  # as if it had been stopped there
    (scenes / "scene0001" / "faces" / "B.png").unlink()
    seen = []
    write_world_scenes(scenes, 4, SIZE, first_seed=5, on_scene=lambda *at: seen.append(at))
    assert seen == [(3, 4), (4, 4)]
    assert (scenes / "scene0000" / "faces" / "F.png").stat().st_mtime_ns == before
    assert len(CubemapScenes(scenes, SIZE)) == 4
    for change in ({"first_seed": 6}, {"size": 8}, {"split": "all"}):
        with pytest.raises(InputError, match="holds 'world 5 train 16'"):
            write_world_scenes(scenes, 4, **{"size": SIZE, "first_seed": 5, **change})


def test_worker_processes_write_the_same(written, tmp_path):
    write_world_scenes(tmp_path, 2, SIZE, first_seed=5, workers=1)
    a, b = CubemapScenes(written, SIZE)[1], CubemapScenes(tmp_path, SIZE)[1]
    assert torch.equal(a["faces"], b["faces"]) and a["prompt"] == b["prompt"]


def test_panoramas_become_scenes(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rays = equirect_directions(32, 64)
    to_bytes_image((rays.permute(2, 0, 1) + 1) / 2).save(pictures / "b.png")
    to_bytes_image(torch.full((3, 32, 64), 0.5)).save(pictures / "a.png")
    (pictures / "b.txt").write_text("directions as colours\n", encoding="utf-8")
    write_panorama_scenes(tmp_path / "out", pictures, SIZE)
    data = CubemapScenes(tmp_path / "out", SIZE)
    assert [data[i]["prompt"] for i in range(2)] == ["", "directions as colours"]
    expected = (face_directions(SIZE).permute(0, 3, 1, 2) + 1) / 2
    assert float((data[1]["faces"] - expected).abs().max()) < 0.02
    to_bytes_image(torch.zeros(3, 32, 65)).save(pictures / "c.png")
    with pytest.raises(InputError, match=r"c\.png is 65x32"):
        write_panorama_scenes(tmp_path / "other", pictures, SIZE)
    assert not (tmp_path / "other").exists()
    write_panorama_scenes(tmp_path / "other", pictures, SIZE, count=1)
    assert len(CubemapScenes(tmp_path / "other", SIZE)) == 1
    (pictures / "a.txt").write_bytes("Gebäude".encode("cp1252"))
    with pytest.raises(InputError, match=r"a\.txt is no text in UTF-8"):
        write_panorama_scenes(tmp_path / "more", pictures, SIZE, count=1)
    with pytest.raises(InputError, match="holds 3 pictures"):
        write_panorama_scenes(tmp_path / "other", pictures, SIZE, count=4)


def test_the_command_writes_scenes(tmp_path):
    options = ["--count", "1", "--size", "16", "--workers", "0", "--first-seed", "5"]
    assert main(["train", "cubemap-scenes", "--out", str(tmp_path / "s"), *options]) == 0
    assert len(CubemapScenes(tmp_path / "s", SIZE)) == 1
    prompts = json.loads((tmp_path / "s" / "scene0000" / "prompts.json").read_text(encoding="utf-8"))
    assert prompts["source"] == "world 5 train 16"


# -- worlds without files ---------------------------------------------------------------------------------------------


def test_faces_show_what_the_panorama_shows():
    scene = next(
        s for s in map(sample_scene, range(50)) if s["place"] == "meadow" and s["feature"] == "empty"
    )
    around = cubemap_to_equirect(render_faces(scene, 64)[None], 64)
    assert float((around[0] - render_equirect(scene, 64, 128)).abs().mean()) < 0.02


def test_world_cubemaps_depend_on_seed_and_index_alone():
    data, again = WorldCubemaps(8, 2, seed=3), WorldCubemaps(8, 2, seed=3)
    batch = data[4]
    assert batch["faces"].shape == (2, 6, 3, 8, 8)
    assert float(batch["faces"].min()) >= 0.0 and float(batch["faces"].max()) <= 1.0
    assert torch.equal(batch["faces"], again[4]["faces"]) and batch["captions"] == again[4]["captions"]
    assert not torch.equal(batch["faces"], data[5]["faces"])
    assert not torch.equal(batch["faces"], WorldCubemaps(8, 2, seed=4)[4]["faces"])
    assert all(batch["captions"])


def test_single_faces_are_those_of_the_cube_and_say_where_they_look():
    data = WorldFaces(8, 40, seed=3)
    batch = data[0]
    assert batch["pixels"].shape == (40, 3, 8, 8)
    assert set(batch["faces"].tolist()) == set(range(6))
    for face, text in zip(batch["faces"].tolist(), batch["captions"], strict=True):
        assert text.startswith(FACE_WORDS[FACES[face]] + ", ") and len(text.split(", ", 1)[1]) > 2
    scene = sample_scene(8)
    assert torch.allclose(render_faces(scene, 8, [4])[0], render_faces(scene, 8)[4], atol=1e-6)
    assert list(FACE_WORDS.values()) == ["front", "right", "behind", "left", "up", "down"]
    assert face_caption(2, "a sea") == "behind, a sea" and face_caption(2, "") == ""


def test_worlds_are_rendered_in_float32_whatever_training_computes_in():
    plain = [render_faces(sample_scene(seed), 8) for seed in range(6)]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = [render_faces(sample_scene(seed), 8) for seed in range(6)]
    for one, other in zip(plain, mixed, strict=True):
        assert torch.equal(one, other)


def test_a_share_of_captions_is_left_empty():
    texts = [t for i in range(10) for t in WorldFaces(1, 10, seed=0, dropout=0.3)[i]["captions"]]
    assert 15 <= texts.count("") <= 45
    with pytest.raises(InputError, match="dropout is 1.5"):
        WorldFaces(1, 1, seed=0, dropout=1.5)
    with pytest.raises(InputError, match="split is 'test'"):
        WorldCubemaps(1, 1, seed=0, split="test")
    with pytest.raises(InputError, match="size is 0"):
        WorldCubemaps(0, 1, seed=0)
