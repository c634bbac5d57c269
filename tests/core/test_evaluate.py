"""`evaluate` end to end on a tiny model, and each of its figures on answers that are known."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from panodiff_core import __main__ as cli
from panodiff_core.commands import evaluate
from panodiff_core.commands.evaluation import (
    attributes,
    criteria,
    dit360,
    figures,
    pictures,
    report,
    scenes,
    sheet,
)
from panodiff_core.data.worlds import ATTRIBUTES, is_held_out
from panodiff_core.metrics.ring import column_steps, seam_ratio
from panodiff_core.runtime.errors import InputError
from tests.tiny_model import build_tiny_model


@dataclass(frozen=True)
class Seen:
    values: dict[str, str]
    light_azimuth_deg: float


def seen_in(scene) -> Seen:
    """A perfect reading; what a scene does not have reads as the first value."""
    values = {name: value or ATTRIBUTES[name][0] for name, value in scene.attributes().items()}
    return Seen(values, scene.light_azimuth_deg or 0.0)


class BlindReader:
    def read(self, pixels):
        return [Seen({name: values[0] for name, values in ATTRIBUTES.items()}, 0.0) for _ in pixels]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("evaluate") / "model", defaults={"steps": 2})


@pytest.fixture(scope="module")
def cases():
    return scenes.held_out_cases(64, 0)


def test_cases_are_held_out_repeatable_and_state_their_place(cases):
    assert all(is_held_out(case.scene) for case in cases)
    assert scenes.held_out_cases(3, 0) == cases[:3]
    assert not {case.scene.seed for case in cases} & {
        case.scene.seed for case in scenes.held_out_cases(64, 1)
    }
    assert not {case.scene.seed for case in cases} & {case.scene.seed for case in scenes.short_cases(4, 0)}
    assert len({case.scene["place"] for case in cases}) == len(ATTRIBUTES["place"])
    assert all(case.caption.mentioned["place"] == case.scene["place"] for case in cases)


def test_every_attribute_is_asked_often_enough(cases):
    """A dozen questions about each in a full run; what is added comes after the prompts asked for."""
    asked = Counter(name for case in cases for name in case.caption.mentioned)
    assert set(asked) == set(ATTRIBUTES) and min(asked.values()) >= 12
    assert 64 < len(cases) < 90 and all(is_held_out(case.scene) for case in cases)
    assert len({case.scene.seed for case in cases}) == len(cases)


def test_scenes_that_say_agree_with_the_caption_and_differ_elsewhere(monkeypatch):
    found = scenes.scenes_that_say({"place": "desert", "time": "night"}, 8, 0)
    assert len({scene.seed for scene in found}) == 8
    assert {(scene["place"], scene["time"]) for scene in found} == {("desert", "night")}
    assert len({scene["sky"] for scene in found}) > 1
    monkeypatch.setattr(scenes, "_MOST_DRAWS", 500)
    with pytest.raises(InputError, match="only 0 of 2"):
        # No place has both; the search has to end.
        scenes.scenes_that_say({"place": "room", "sky": "clear"}, 2, 0)


def test_seam_figures_of_worlds_are_those_of_a_ring_and_turning_steadies_them():
    worlds = scenes.render_scenes([case.scene for case in scenes.held_out_cases(16, 3)], 64)
    once, turned = figures.seam_figures(worlds), figures.seam_figures(worlds, 8)
    assert 0.5 < once["ratio_1"]["mean"] < 1.6 and 0.8 < turned["ratio_1"]["mean"] < 1.25
    expected = torch.stack([seam_ratio(column_steps(worlds.roll(16 * k, -1), 2), 2) for k in range(8)])
    assert turned["ratio_2"]["mean"] == pytest.approx(float(expected.mean()), rel=1e-4)
    assert turned["ratio_2"]["p95"] == pytest.approx(
        float(expected.double().flatten().quantile(0.95)), rel=1e-4
    )
    assert turned["wrap_rank"] == once["wrap_rank"] and 0 <= once["wrap_rank"]["p_value"] <= 1
    broken = worlds.clone()
    broken[..., :20] = 1 - broken[..., :20]
    assert figures.seam_figures(broken)["ratio_1"]["mean"] > 3 * once["ratio_1"]["mean"]
    assert figures.seam_figures(broken)["wrap_rank"]["p_value"] < 0.01


def test_a_perfect_picture_scores_one_and_a_blind_guess_zero(cases):
    perfect = attributes.prompt_scores(cases, [seen_in(case.scene) for case in cases])
    assert perfect["mean"] == perfect["accuracy"] == 1
    # The prompt states one of eight directions; the true azimuth lies within half of 45° of its centre.
    assert 0 < perfect["azimuth_error_deg"] <= 22.5 and perfect["azimuth_count"] > 10
    many = scenes.held_out_cases(600, 5)
    blind = attributes.prompt_scores(many, BlindReader().read(many))
    assert abs(blind["mean"]) < 0.1
    assert blind["attributes"]["place"]["chance"] == pytest.approx(1 / 8)
    own = attributes.reader_scores([case.scene for case in cases], [seen_in(case.scene) for case in cases])
    assert own["accuracy"] == 1 and own["azimuth_error_deg"] == 0
    # A reader is asked for everything a scene has, a picture only for what its prompt states.
    assert own["attributes"]["time"]["count"] > perfect["attributes"]["time"]["count"]


def test_chance_correction_is_that_of_the_definition(cases):
    wrong = [Seen({**seen_in(case.scene).values, "place": "sea"}, 0.0) for case in cases]
    row = attributes.prompt_scores(cases, wrong)["attributes"]["place"]
    accuracy = sum(case.scene["place"] == "sea" for case in cases) / len(cases)
    assert row["accuracy"] == accuracy and row["corrected"] == pytest.approx((accuracy - 1 / 8) / (7 / 8))


def test_difference_share_ignores_what_the_prompt_states():
    first = {name: values[0] for name, values in ATTRIBUTES.items()}
    second = {**first, "time": ATTRIBUTES["time"][1], "sky": ATTRIBUTES["sky"][1]}
    group = [Seen(first, 0), Seen(second, 0)]
    assert attributes.difference_share([group], [{"place": "desert", "time": "day"}]) == pytest.approx(1 / 5)
    assert attributes.difference_share([[group[0]] * 3], [{"place": "desert"}]) == 0


def test_yaw_figures_are_zero_for_a_sampler_that_turns_along():
    made = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    assert figures.yaw_figures(made, made.roll(24, -1), 24)["low_pass_rms"] == pytest.approx(0, abs=1e-6)
    assert figures.yaw_figures(made, made, 24)["low_pass_rms"] > 0.1
    assert figures.yaw_figures(made * 0 + 0.5, made * 0 + 0.4, 24)["low_pass_rms"] == pytest.approx(
        0.1, abs=1e-5
    )


def test_angles_and_medians():
    assert (
        figures.angle_between_deg(350, 10) == pytest.approx(20) and figures.angle_between_deg(-90, 90) == 180
    )
    assert figures.median([3.0, 1.0, 10.0]) == 3 and math.isnan(figures.median([]))
    assert attributes.word_azimuth_deg("right") == 90 and attributes.word_azimuth_deg("behind_left") == 225


def seam_set(ratio=1.0, p=0.5, pole=0.1):
    found = {f"ratio_{d}": {"mean": ratio, "p95": ratio * 1.5} for d in (1, 2, 8, 16)}
    found |= {name: {"mean": pole} for name in ("pole_variance", "pole_variance_top", "pole_variance_bottom")}
    return found | {
        "wrap_rank": {"mean": 0.5, "p_value": p},
        "wrap_rank_in_block": {"mean": 0.5, "p_value": p},
    }


def test_criteria_bite_in_both_directions():
    def failed(**changes):
        return [c.name for c in criteria.seam_criteria(seam_set(**changes), seam_set()) if not c.met]

    assert failed() == [] and failed(ratio=1.14) == [] and failed(pole=0.119) == []
    assert len(failed(ratio=1.16)) == len(failed(ratio=0.84)) == 8
    assert failed(p=0.04) == ["wrap column among all columns, p"] and failed(pole=0.13) == [
        "pole variance ÷ worlds'"
    ]
    assert not criteria.Criterion("x", math.nan, low=0).met
    low = list(criteria.diversity_criteria({"low_pass_rms": 0.4}, {"low_pass_rms": 1.0}))
    assert [c.met for c in low] == [False]
    made = {
        "mean": 0.9,
        "attributes": {"sky": {"corrected": 0.5}, "time": {"corrected": 0.9}},
        "azimuth_error_deg": 31.0,
    }
    verdict = {c.name: c.met for c in criteria.attribute_criteria(made, {"accuracy": 0.98})}
    assert verdict["attributes, chance-corrected, weakest (sky)"] is False
    assert verdict["light's azimuth, median error in degrees"] is False and sum(verdict.values()) == 2


def test_evaluate_end_to_end(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dit360, "load_reader", lambda _: BlindReader())
    argv = ["evaluate", "dit360", "--model", str(model), "--out", str(tmp_path / "e"), "--prompts", "12", "--batch", "5",
            "--diversity-prompts", "2", "--diversity-seeds", "2", "--seam-study", "12"]  # fmt: skip
    assert cli.main(argv) == 0, capsys.readouterr().err
    captured = capsys.readouterr()
    assert "| criterion | bound | value | met |" in captured.out and "held_out 6/6" in captured.err
    plain = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    count = len(scenes.held_out_cases(12, 0))
    assert plain["about"]["prompts"] == count > 12 and plain["about"]["steps"] == 2
    assert set(plain["seams"]) == {"made", "made, at other columns", "worlds", "worlds through the VAE"}
    assert set(plain["seam_study"]) == set(dit360.SEAM_VARIANTS)
    assert {"value", "low", "high", "met", "name"} == set(plain["criteria"][0]) and len(
        plain["criteria"]
    ) == 15
    text = (tmp_path / "e" / "evaluation.md").read_text()
    for part in (
        "Seams and poles",
        "Attributes read back",
        "Diversity",
        "Seam study",
        "roll (random)",
        "dependence on yaw",
    ):
        assert part in text
    assert Image.open(tmp_path / "e" / "grid.png").width > 3 * 512
    assert len(list((tmp_path / "e" / "pictures" / "held_out").glob("*.png"))) == count


def test_pictures_are_made_once_and_do_not_depend_on_the_batch(model, tmp_path, cases):
    from panodiff_core.engines import load

    engine = load("dit360", model)
    options = {"roll": "random"}
    request = pictures.Request("a", tuple(case.caption.text for case in cases[:3]), (5, 6, 7), options)

    def studio(batch, folder):
        return pictures.Studio(engine, tmp_path / folder, batch, lambda _: (16, 8, 16))

    first = studio(3, "x").pictures(request)
    assert first.shape == (3, 3, 64, 128)
    assert (studio(1, "y").pictures(request) - first).abs().max() <= 1.01 / 255
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "x" / "a").iterdir())]
    kept = pictures.Request("a", request.prompts, (5, 6, 8), options)
    again = studio(3, "x").pictures(kept)
    after = [path.stat().st_mtime_ns for path in sorted((tmp_path / "x" / "a").iterdir())]
    assert times[:2] == after[:2] and times[2] != after[2]
    assert torch.equal(again[:2], first[:2]) and not torch.equal(again[2], first[2])
    (tmp_path / "x" / "a" / "0000.png").write_bytes(b"damaged")
    # The damaged one is made again, alone: another batch size may round its last bit differently.
    assert (studio(3, "x").pictures(kept)[0] - first[0]).abs().max() <= 1.01 / 255


def test_another_lora_makes_other_pictures(tmp_path):
    (tmp_path / "lora.safetensors").write_bytes(b"x")
    weights = SimpleNamespace(file=tmp_path / "lora.safetensors")
    stacks = [None, *(SimpleNamespace(adapters=[weights], strengths=[s]) for s in (1.0, 0.5))]
    prints = [pictures.fingerprint(SimpleNamespace(folder=tmp_path, loras=stack)) for stack in stacks]
    assert len(set(prints)) == 3


def test_sheet_and_choice(tmp_path):
    assert sheet.varied("aababc", 3) == [0, 2, 5] and sheet.varied("aab", 3) == [0, 2, 1]
    tall = sheet.save_sheet(torch.rand(4, 3, 32, 64), ["a calm sea"] * 4, tmp_path / "s.png", width=128)
    assert Image.open(tall).size == (3 * 138 + 10, 2 * 104 + 10)


def test_report_survives_infinite_figures(tmp_path):
    about = {"engine": "dit360", "model": "m", "prompts": 1, "width": 2, "height": 1, "steps": 1, "cfg": 1.0,
             "guidance": 1.0, "padding": 0, "roll": "off", "seed": 0}  # fmt: skip
    made = {
        "about": about,
        "seams": {"made": seam_set(ratio=math.inf)},
        "diversity": {"made": {"low_pass_rms": 0.1}},
    }
    data, _ = report.write_report(tmp_path, made, [criteria.Criterion("x", math.nan, low=1)], report.markdown)
    assert json.loads(data.read_text())["seams"]["made"]["ratio_1"]["mean"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompts", "3"], "--prompts must be at least 12"),
        (["--diversity-seeds", "1"], "--diversity-seeds must be at least 2"),
        (["--seam-study", "4"], "--seam-study needs at least 12"),
        (["--height", "100"], "nearest is 96"),
        (["--out", "file/inside"], "cannot make the folder"),
    ],
)
def test_bad_requests_are_refused_before_a_model_loads(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    monkeypatch.setattr(evaluate, "load_engine", lambda _: pytest.fail("a model was loaded"))
    assert cli.main(["evaluate", "dit360", *options]) == 1
    assert message in capsys.readouterr().err


def test_size_of_a_model_that_is_not_two_to_one_is_asked_for(tmp_path, monkeypatch):
    model = build_tiny_model(tmp_path / "m", defaults={"width": 64})
    args = cli.build_parser().parse_args(
        ["evaluate", "dit360", "--model", str(model), "--out", str(tmp_path)]
    )
    with pytest.raises(InputError, match="not 2:1; give --height"):
        evaluate.check_request(args)
