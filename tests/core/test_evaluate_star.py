"""`evaluate star` end to end on a tiny model, each of its figures on answers that are known, and the reader of faces."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import panodiff_core as pano
from panodiff_core import __main__ as cli
from panodiff_core.commands import evaluate
from panodiff_core.commands.evaluation import criteria, cubes, faces, scenes, sheet, star
from panodiff_core.commands.evaluation.star_report import CODED, NAMED, OFF, ON, WORLDS, reader_table
from panodiff_core.data.cubemap_scenes import CubemapScenes
from panodiff_core.data.cubemap_worlds import FACE_TEXTS, FACE_WORDS
from panodiff_core.data.cubemap_writing import SourceScene, write_round_trips, write_scene, write_world_scenes
from panodiff_core.data.face_readings import FaceReadings, WorldScenes
from panodiff_core.data.readings import NOT_THERE, READ, reading_targets
from panodiff_core.data.worlds import ATTRIBUTES, sample_scene, vocabulary
from panodiff_core.engines.star.config import FaceRayConfig, STARConfig, VQVAEConfig
from panodiff_core.engines.star.faceray import FaceRayGenerator
from panodiff_core.engines.star.scales import Scales
from panodiff_core.engines.star.training.codebook import new_vqvae
from panodiff_core.engines.star.training.text import TowerConfig, new_text_tower
from panodiff_core.metrics.attributes import ReaderConfig, load_reader, save_reader
from panodiff_core.metrics.cube import gradient_energy
from panodiff_core.metrics.face_attributes import (
    FaceReaderConfig,
    kind_of,
    load_face_reader,
    new_network,
    save_face_reader,
)
from panodiff_core.metrics.reader_network import ReaderNetwork
from panodiff_core.runtime.errors import CheckpointError, InputError
from panodiff_core.training.config import LoopConfig
from panodiff_core.training.loop import Trainer
from panodiff_core.training.recipes.star_reader import FaceReaderRecipe, face_scores
from panodiff_core.training.star_folder import StarParts, write_star
from tests.tiny_star import build_tiny_star

pytest.importorskip("transformers")

SIZE = 32
GENERATOR = STARConfig(
    depth=2, width=24, heads=2, text_width=16, text_tokens=40, class_rows=0, cross_attention="per_row",
    patch_nums=(1, 2, 4, 8), vocab=24, latent_channels=4,
)  # fmt: skip
FACERAY = FaceRayConfig(adapter_dim=12, heads=2, head_dim=6, ray_subdim=6)
VQ = VQVAEConfig(channels=8, multipliers=(1, 1, 2), blocks=1, latent_channels=4, vocab=24, norm_groups=4)
EVERYTHING = {name: ATTRIBUTES[name] for name in READ}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Faces of 32 pixels, adapters that do something."""
    folder = tmp_path_factory.mktemp("evaluate") / "tiny"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        generator, vqvae = FaceRayGenerator(GENERATOR, FACERAY), new_vqvae(VQ, Scales(GENERATOR.patch_nums))
        generator.reset_parameters()
        for weight in generator.parameters():
            torch.nn.init.normal_(weight, std=0.3)
        sizes = TowerConfig(width=16, layers=1, heads=2, max_length=40)
        tower = new_text_tower(sizes, (*vocabulary(), *FACE_WORDS.values()))
    write_star(folder, StarParts(GENERATOR, vqvae, generator, faceray=FACERAY, tower=tower))
    return folder


@pytest.fixture(scope="module")
def worlds():
    return cubes.render_cubes([case.scene for case in scenes.held_out_cases(6, 0)][:6], SIZE)


class PerfectReader:
    """Reads the first value of everything, and counts `time` on all faces and `place` on the sides."""

    config = FaceReaderConfig(
        EVERYTHING, {"sides": {"time": 0.95, "place": 0.9, "sky": 0.89}, "U": {"time": 1.0}, "D": {"time": 0.9}}, 7
    )  # fmt: skip

    def read(self, pixels):
        return [({name: values[0] for name, values in EVERYTHING.items()},) * 6 for _ in pixels]


# -- figures -----------------------------------------------------------------------------------------------------------


def test_a_broken_edge_raises_the_ratio_and_only_where_it_is_broken(worlds):
    true = faces.edge_figures(worlds)
    assert 0.6 < true["ratio_1"]["mean"] < 1.5
    bright, turned = worlds.clone(), worlds.clone()
    bright[:, 4] = (bright[:, 4] + 0.3).clamp(max=1)
    turned[:, 0] = turned[:, 0].rot90(2, (-2, -1))
    for broken in (faces.edge_figures(bright), faces.edge_figures(turned)):
        assert faces.excess(broken, true, 1) > 1.0 and faces.excess(broken, true, 1, "p95") > 2.0
        assert faces.excess(broken, true, 16) > 0.05
    assert faces.excess(true, true, 1) == faces.excess(true, true, 16, "p95") == 0.0
    per_edge, names = faces.cube_edge_ratios(bright)
    before, _ = faces.cube_edge_ratios(worlds)
    touched = torch.tensor(["U" in name for name in names])
    assert int(touched.sum()) == 4 and torch.equal(per_edge[1][:, ~touched], before[1][:, ~touched])
    assert (per_edge[1][:, touched].mean() / before[1][:, touched].mean()) > 3


def test_edge_figures_do_not_depend_on_how_cubes_are_split(worlds, monkeypatch):
    whole = faces.edge_figures(worlds)
    monkeypatch.setattr(faces, "PART", 2)
    parts = faces.edge_figures(worlds)
    for name, values in whole.items():
        for key, value in values.items():
            assert parts[name][key] == pytest.approx(value, rel=1e-6), (name, key)


def test_gradient_energy_is_that_of_its_definition():
    ramp = (0.01 * torch.arange(SIZE))[None, None, None, None].expand(1, 6, 3, SIZE, SIZE)
    border, inside = gradient_energy(ramp)
    # Steps of 0.01 along rows and 0 along columns, as many of each.
    assert torch.allclose(border, torch.full((1, 6), 0.5e-4), rtol=1e-3)
    assert torch.allclose(inside, torch.full((1, 6), 0.5e-4), rtol=1e-3)
    for border in (1, 16):
        with pytest.raises(InputError, match="does not fit faces of 32"):
            gradient_energy(ramp, border)
    with pytest.raises(InputError, match="6,C,S,S"):
        gradient_energy(ramp[0])


def test_grey_and_blurred_borders_lack_gradients(worlds):
    true, outer = faces.edge_figures(worlds)["gradient"], torch.ones(SIZE, SIZE, dtype=torch.bool)
    outer[4:-4, 4:-4] = False
    grey = torch.where(outer, torch.tensor(0.5), worlds)
    smooth = torch.nn.functional.avg_pool2d(worlds.flatten(0, 1), 3, 1, 1, count_include_pad=False)
    blurred = torch.where(outer, smooth.unflatten(0, (-1, 6)), worlds)
    figures = faces.edge_figures(grey)["gradient"]
    assert figures["border"] == 0.0 and figures["inside"] == true["inside"] > 0.0
    figures = faces.edge_figures(blurred)["gradient"]
    assert figures["border"] < 0.8 * true["border"] and figures["inside"] == true["inside"]


def row(ratio, border=1.0):
    ratios = {f"ratio_{d}": {"mean": ratio, "p95": 2 * ratio} for d in (1, 2, 8, 16)}
    return {**ratios, "gradient": {"border": border, "inside": 1.0}}


def test_edge_criteria_take_the_best_row_without_faceray():
    def verdict(named, off, on, border=1.0):
        rows = {"w": row(1.0), "n": row(named), "o": row(off), "f": row(on, border)}
        return list(criteria.edge_criteria(rows, "w", ("n", "o"), "f"))

    values = [c.value for c in verdict(2.0, 3.0, 1.4)]
    assert values == pytest.approx([0.4] * 4 + [1.0])
    assert [c.met for c in verdict(2.0, 3.0, 1.4)] == [True] * 5
    assert [c.met for c in verdict(3.0, 2.0, 1.6)] == [False] * 4 + [True]
    assert [c.met for c in verdict(2.0, 3.0, 0.9, 0.79)] == [True] * 4 + [False]
    assert verdict(2.0, 3.0, 1.0, 0.81)[-1].met
    # Where independent faces are no worse than the worlds there is nothing to take away.
    none = verdict(1.0, 3.0, 1.0)
    assert math.isnan(none[0].value) and not none[0].met


def test_face_criteria_compare_with_the_better_row():
    def verdict(on, mean=0.8):
        rows = {"n": {"accuracy": 0.9, "mean": 0.0}, "o": {"accuracy": 0.8, "mean": 0.0}}
        return [
            c.met for c in criteria.face_criteria({**rows, "f": {"accuracy": on, "mean": mean}}, "no", "f")
        ]

    assert verdict(0.881) == [True, True] and verdict(0.879) == [False, True]
    assert verdict(0.95, 0.74) == [True, False] and verdict(math.nan, math.nan) == [False, False]


# -- attributes --------------------------------------------------------------------------------------------------------


def test_only_what_counts_on_a_face_is_asked():
    counts = PerfectReader.config.counts
    assert [counts(face, "time") for face in range(6)] == [True] * 6
    assert [counts(face, "place") for face in range(6)] == [True] * 4 + [False] * 2
    assert not any(counts(face, name) for face in range(6) for name in ("sky", "wall"))
    assert [kind_of(face) for face in range(6)] == ["sides"] * 4 + ["U", "D"]
    said = {"place": "sea", "time": "day", "sky": "cloudy", "light": "ahead"}
    right = {"place": "sea", "time": "day", "sky": "clear", "light": "behind"}
    blind_above = {**right, "place": "room"}
    found = faces.face_scores([said] * 3, [(right,) * 4 + (blind_above,) * 2] * 3, counts)
    assert found["accuracy"] == found["mean"] == 1.0 and found["questions"] == 3 * (4 * 2 + 2)
    assert set(found["faces"]["F"]["attributes"]) == {"place", "time"}
    assert set(found["faces"]["U"]["attributes"]) == {"time"}
    wrong = faces.face_scores([said], [(right,) * 4 + ({**right, "time": "night"},) * 2], counts)
    assert wrong["accuracy"] == pytest.approx(4 / 6) and wrong["faces"]["U"]["mean"] == pytest.approx(-1 / 3)
    nothing = faces.face_scores([said], [(right,) * 6], lambda face, name: False)
    assert math.isnan(nothing["mean"]) and nothing["faces"] == {} and nothing["questions"] == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faces")


@pytest.fixture(scope="module")
def scenes128(folder):
    write_world_scenes(folder / "scenes", 3, 128)
    return CubemapScenes(folder / "scenes", 128)


def test_batches_hold_faces_with_the_classes_of_their_scene(folder):
    """Faces of one colour per scene, so that each tells which scene it is of."""
    for index, seed in enumerate((5, 6, 7, 8)):
        grey = torch.full((6, 3, 16, 16), 0.1 + 0.2 * index)
        write_scene(folder / "flat" / f"scene{index:04d}", SourceScene(grey, "", f"world {seed} train 16"))
    flat = WorldScenes(CubemapScenes(folder / "flat", 16))
    assert [world.values for world in flat.worlds] == [sample_scene(seed).values for seed in (5, 6, 7, 8)]
    data, found = FaceReadings((flat,), 24, seed=0), set()
    batch = data[3]
    assert batch["pixels"].shape == (24, 3, 16, 16) and batch["classes"].shape == (24, len(READ))
    for pixels, classes in zip(batch["pixels"], batch["classes"].tolist(), strict=True):
        # Contrast and colour change by a few percent, scenes lie 0.2 apart.
        index = min(range(4), key=lambda i: abs(float(pixels.mean()) - 0.1 - 0.2 * i))
        assert classes == reading_targets(flat.worlds[index])[0]
        found.add(index)
    assert found == {0, 1, 2, 3} and torch.equal(data[3]["pixels"], batch["pixels"])
    assert NOT_THERE in batch["classes"]
    write_scene(folder / "photo" / "scene0000", SourceScene(torch.rand(6, 3, 16, 16), "", "beach.jpg 16"))
    with pytest.raises(InputError, match=r"scene0000 is no rendered world \(source 'beach.jpg 16'\)"):
        WorldScenes(CubemapScenes(folder / "photo", 16))


def test_round_trips_are_scenes_of_the_same_worlds(folder, scenes128):
    calls = []

    def trip(pixels):
        calls.append(pixels)
        return 1.0 - pixels

    for count in (1, 2):
        write_round_trips(folder / "trips", scenes128, trip, count)
    assert len(calls) == 2  # the first stayed
    trips, before = WorldScenes(CubemapScenes(folder / "trips", 128)), WorldScenes(scenes128)
    assert trips.worlds == before.worlds[:2]
    assert float((trips.cube(1) + before.cube(1) - 1).abs().max()) < 1e-6
    assert torch.equal(trips.face(1, 4), trips.cube(1)[4])


def test_scores_of_a_reader_that_knows_and_of_one_that_guesses(scenes128):
    worlds = WorldScenes(scenes128)
    answers = iter([*worlds.worlds, *worlds.worlds])

    def known(pixels):
        return [({name: value for name, value in next(answers).attributes().items()},) * 6]

    perfect = face_scores(SimpleNamespace(read=known), worlds)
    assert set(perfect) == {"sides", "U", "D"}
    assert set(perfect["U"]) == {n for world in worlds.worlds for n in READ if world[n] is not None}
    assert all(value == 1.0 for scores in perfect.values() for value in scores.values())

    def never(pixels):
        return [({name: None for name in READ},) * 6]

    blind = face_scores(SimpleNamespace(read=never), worlds)
    assert blind["sides"]["place"] == round(-1 / 7, 4)


def test_face_reader_trains_exports_and_reads(folder, scenes128):
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    worlds = WorldScenes(scenes128)
    recipe = FaceReaderRecipe((worlds,), worlds, 4, 0)
    config = LoopConfig(out=folder / "run", steps=3, precision="no", warmup=1, picture_every=0, log_every=1)
    trainer, losses = Trainer(recipe, config), []
    trainer.run(on_step=lambda step, parts: losses.append(parts["loss"]))
    assert all(math.isfinite(loss) for loss in losses)
    trainer.export(folder / "reader")
    assert (folder / "reader" / "reader.safetensors").stat().st_size < 2 * 10**6
    reader = load_face_reader(folder / "reader")
    assert reader.config.attributes == EVERYTHING and reader.config.checked == 3
    assert reader.config.scores == json.loads((folder / "reader" / "reader.json").read_text())["scores"]
    readings = reader.read(torch.rand(2, 6, 3, 48, 48))
    assert len(readings) == 2 and all(len(cube) == 6 for cube in readings)
    assert all(face[name] in values for face in readings[0] for name, values in EVERYTHING.items())
    with pytest.raises(InputError, match=r"must be \[B, 6, 3, S, S\]"):
        reader.read(torch.rand(2, 3, 128, 128))
    with pytest.raises(InputError, match="finite"):
        reader.read(torch.full((1, 6, 3, 32, 32), math.nan))
    with pytest.raises(CheckpointError, match="reads faces of a cube, not panoramas"):
        load_reader(folder / "reader")


def test_a_missing_or_foreign_reader_is_named(tmp_path):
    with pytest.raises(
        CheckpointError, match="lacks reader.json.* train star-reader --scenes .* --export .*gone"
    ):
        load_face_reader(tmp_path / "gone")
    classes = {"place": ("sea", "city")}
    save_reader(ReaderNetwork((2,)), ReaderConfig(classes, {"sea": {}, "city": {}}), tmp_path / "ring")
    with pytest.raises(CheckpointError, match="reads panoramas, not faces of a cube"):
        load_face_reader(tmp_path / "ring")
    config = FaceReaderConfig(classes, {"sides": {}, "U": {}}, 1)
    save_face_reader(new_network(config), config, tmp_path / "half")
    with pytest.raises(CheckpointError, match="scores lack D"):
        load_face_reader(tmp_path / "half")


def test_a_face_does_not_wrap():
    """What lies at the left edge reaches the right one on a ring, and not on a face."""
    torch.manual_seed(0)
    face, ring = (ReaderNetwork((3,), height=64, ring=wraps).train(False) for wraps in (False, True))
    pictures = torch.rand(1, 3, 64, 64)
    changed = pictures.clone()
    changed[..., 0] += 1.0
    with torch.no_grad():
        for network, wraps in ((face, False), (ring, True)):
            gap = (network.fine[0](changed) - network.fine[0](pictures)).abs()
            assert float(gap[..., 0].max()) > 1e-3 and (float(gap[..., -1].max()) > 1e-3) is wraps
        assert face(pictures)[1] is None and ring(pictures)[1].shape == (1, 2)
    padded = [m for m in face.modules() if isinstance(m, torch.nn.Conv2d)]
    assert padded and all(m.width_mode == "replicate" for m in padded)
    assert not any(name.startswith("votes") for name in face.state_dict())


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_ranges_of_what_is_missing():
    assert cubes.consecutive([0, 1, 2, 5, 6, 9], 2) == [range(2), range(2, 3), range(5, 7), range(9, 10)]
    assert cubes.consecutive([], 4) == []


def test_cubes_are_drawn_once_and_each_has_its_own_seed(model, tmp_path):
    engine = pano.load("star", model, device="cpu")
    prompts = tuple(case.caption.text for case in scenes.held_out_cases(3, 0)[:3])
    request = cubes.CubeRequest("a", prompts, 5, 1.0, False, {"cfg": 2.0})

    def drawn(request, batch=3, folder="x"):
        return cubes.CubeStudio(engine, tmp_path / folder, batch, [model]).cubes(request)

    first = drawn(request)
    assert first.shape == (3, 6, 3, SIZE, SIZE) and torch.equal(first, scenes.to_eight_bits(first))
    direct = engine.decode(engine.sample(engine.encode(prompts[1]), seed=6, cfg=2.0)).pixels
    assert float((direct[0] - first[1]).abs().max()) < 0.51 / 255 + 1e-3
    paths = sorted((tmp_path / "x" / "a").iterdir())
    times = [path.stat().st_mtime_ns for path in paths]
    paths[1].write_bytes(b"damaged")
    again = drawn(request)
    assert float((again - first).abs().max()) <= 1.01 / 255
    after = [path.stat().st_mtime_ns for path in paths]
    assert (times[0], times[2]) == (after[0], after[2]) and times[1] != after[1]
    for other in ({"strength": 0.0}, {"directions": True}, {"seed": 9}, {"options": {"cfg": 3.0}}):
        changed = replace(request, **other)
        assert not torch.equal(drawn(changed, folder="y"), first), other
        assert changed.key(0, "m") != request.key(0, "m")


def test_what_directions_say():
    assert FACE_TEXTS["F"] == "front, {prompt}" and FACE_TEXTS["D"] == "down, {prompt}"
    assert list(FACE_TEXTS) == list("FRBLUD")


def test_through_the_autoencoder(model, worlds):
    engine = pano.load("star", model, device="cpu")
    trips = cubes.through_autoencoder(engine, worlds[:1])
    flat = worlds[0]
    expected = engine.vqvae.decode_indices(engine.vqvae.encode(flat))
    assert trips.shape == worlds[:1].shape and float((trips[0] - expected).abs().max()) <= 0.51 / 255


def test_sheet_unfolds_the_cube_beside_its_panorama(tmp_path):
    shades = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    cube = shades[None, :, None, None, None].expand(3, 6, 3, 16, 16)
    panorama = torch.full((3, 3, 32, 64), 0.5)
    path = sheet.save_cube_sheet(cube, panorama, ["a calm sea"] * 3, tmp_path / "s.png", face=20)
    image = Image.open(path)
    assert image.size == (2 * (10 * 20 + 20) + 10, 2 * (60 + 30 + 10) + 10)

    def at(column, row):
        return image.getpixel((10 + 20 * column + 10, 10 + 20 * row + 10))[0]

    # L F R B in a row, U above F, D below it; the corners are paper.
    assert [at(column, 1) for column in range(4)] == [153, 0, 51, 102]
    assert (at(1, 0), at(1, 2)) == (204, 255)
    assert all(at(column, row) == 250 for column in (0, 2, 3) for row in (0, 2))
    assert image.getpixel((10 + 80 + 10 + 60, 40))[0] in (127, 128)


# -- the command -------------------------------------------------------------------------------------------------------


def test_evaluate_star_end_to_end(model, tmp_path, capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(star, "load_face_reader", lambda _: PerfectReader())
    original = cubes.CubeStudio.cubes
    monkeypatch.setattr(
        cubes.CubeStudio, "cubes", lambda self, request: calls.append(request) or original(self, request)
    )
    out = tmp_path / "e"
    argv = ["evaluate", "star", "--model", str(model), "--out", str(out), "--prompts", "12", "--batch", "8",
            "--seeds", "1", "--cfg", "2", "--fade", "4", "--device", "cpu"]  # fmt: skip
    assert cli.main(argv) == 0, capsys.readouterr().err
    assert "| criterion | bound | value | met |" in capsys.readouterr().out
    plain = json.loads((out / "evaluation.json").read_text())
    count = len(scenes.held_out_cases(12, 0))
    assert (
        plain["about"]["prompts"] == count > 12 and plain["about"]["cfg"] == 2 and plain["about"]["fade"] == 4
    )
    assert list(plain["edges"]) == list(plain["faces"]) == [WORLDS, CODED, NAMED, OFF, ON]
    assert [(c.strength, c.directions, c.seed) for c in calls] == [(0, True, 0), (0, False, 0), (1, False, 0)]
    assert len({c.prompts for c in calls}) == 1 and len({c.name for c in calls}) == 3
    assert len(plain["criteria"]) == 7 and plain["reader"]["checked"] == 7
    left = plain["criteria"][0]["value"]
    edges = plain["edges"]
    best = min(edges[name]["ratio_1"]["mean"] for name in (NAMED, OFF)) - edges[WORLDS]["ratio_1"]["mean"]
    if best > 0:
        above = edges[ON]["ratio_1"]["mean"] - edges[WORLDS]["ratio_1"]["mean"]
        assert left == pytest.approx(above / best)
    else:
        assert left is None
    # Random weights: the three rows differ, and all of the worlds' figures are those of cubes that meet.
    assert (
        len({json.dumps(edges[name]) for name in edges}) == 5 and 0.6 < edges[WORLDS]["ratio_1"]["mean"] < 1.5
    )
    text = (out / "evaluation.md").read_text()
    for part in (
        "The twelve edges",
        "face by face",
        "What can be read on true faces",
        "above the worlds at 16 px",
    ):
        assert part in text
    assert Image.open(out / "grid.png").size == (2 * 980 + 10, 6 * (288 + 40) + 10)
    assert len(list((out / "pictures" / "FaceRay_on").glob("*.png"))) == count


def test_captions_of_faces_and_seeds_reach_the_row_with_faceray(model, tmp_path, monkeypatch):
    calls = []

    def instead(self, request):
        calls.append(request)
        return torch.rand(len(request.prompts), 6, 3, SIZE, SIZE)

    monkeypatch.setattr(cubes.CubeStudio, "cubes", instead)
    argv = ["evaluate", "star", "--model", str(model), "--out", str(tmp_path / "e"), "--prompts", "12", "--seeds", "2",
            "--captions", "face", "--adapter-strength", "0.5", "--seed", "3", "--no-attributes"]  # fmt: skip
    assert cli.main(argv) == 0
    assert [(c.strength, c.directions) for c in calls] == [(0.0, True), (0.0, False), (0.5, True)]
    cases = scenes.held_out_cases(12, 3)
    assert calls[2].prompts == tuple(case.caption.text for case in cases for _ in range(2))
    assert calls[2].seed == 300_000
    plain = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert "faces" not in plain and len(plain["criteria"]) == 5


def test_the_help_says_how_many_prompts_there_are(capsys):
    assert cli.main(["evaluate", "star", "--help"]) == 0
    words = "held-out prompts, at least 12; more are added until every attribute is asked often enough"
    assert words in " ".join(capsys.readouterr().out.split())
    assert len(scenes.held_out_cases(60, 0)) > 60


def test_reader_table_marks_what_counts():
    text = reader_table({"scores": PerfectReader.config.scores, "checked": 7})
    assert "**0.950**" in text and "| 0.890 |" in text and "| sky | 0.890 | – | – |" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--padding", "1"], "--padding is an option of engine dit360"),
        (["--steps", "9"], "--steps is an option of engine dit360"),
        (["--diversity-seeds", "4"], "--diversity-seeds is an option of engine dit360"),
        (["--seeds", "0"], "--seeds must be from 1 to 1000"),
        (["--adapter-strength", "0"], "--adapter-strength must be above 0"),
        (["--adapter-strength", "1000"], "--adapter-strength is 1000.0; pass a number from 0 to 4"),
        (["--sampler", "new"], "this model has no masked sampler"),
        (["--fade", "17"], "from 2 to 16, half a face"),
        (["--top-p", "2"], "top_p"),
        (["--prompts", "11"], "--prompts must be at least 12"),
    ],
)
def test_bad_requests_are_refused_before_a_model_loads(
    model, tmp_path, monkeypatch, capsys, options, message
):
    monkeypatch.setattr(evaluate, "load_engine", lambda _: pytest.fail("a model was loaded"))
    argv = ["evaluate", "star", "--model", str(model), "--out", str(tmp_path / "e"), *options]
    assert cli.main(argv) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    "options", [["--seeds", "2"], ["--captions", "face"], ["--top-k", "3"], ["--fade", "4"]]
)
def test_options_of_star_are_refused_for_dit360(tmp_path, capsys, options):
    assert cli.main(["evaluate", "dit360", "--out", str(tmp_path / "e"), *options]) == 1
    assert f"{options[0]} is an option of engine star" in capsys.readouterr().err


def test_models_without_comparable_cubes_and_missing_readers_are_refused(
    model, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(evaluate, "load_engine", lambda _: pytest.fail("a model was loaded"))

    def error(*options):
        assert cli.main(["evaluate", "star", "--out", str(tmp_path / "e"), *options]) == 1
        return capsys.readouterr().err

    plain = build_tiny_star(tmp_path / "plain", faceray=False)
    assert "no FaceRay adapters" in error("--model", str(plain))
    small = build_tiny_star(tmp_path / "small")
    assert "at least 32 pixels, this model's have 16" in error("--model", str(small))
    gone = error("--model", str(model), "--reader", str(tmp_path / "gone"))
    assert "train star-reader --scenes" in gone and "gone" in gone
