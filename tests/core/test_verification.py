"""What all engines verify with: rows and bounds, results that are not passed over, groups, and the command."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from panodiff_core.__main__ import main
from panodiff_core.commands import verify as command
from panodiff_core.engines import ENGINES
from panodiff_core.runtime.errors import CheckpointError, InputError
from panodiff_core.verification import (
    Absent,
    Group,
    Results,
    Row,
    VectorFolder,
    compare,
    compare_scaled,
    failed,
    measure,
)


def test_compare():
    """The largest difference, infinite for another shape; equal infinities are equal and NaN is never met."""
    a = torch.tensor([1.0, -2.0, float("inf")])
    assert compare("t", "x", a, a, 0.0) == Row("t", "x", 0.0, 0.0)
    assert compare("t", "x", a + torch.tensor([0.0, 0.25, 0.0]), a, 0.25).error == 0.25
    assert not compare("t", "x", a, a[:2], 9.0).met
    for value in (float("nan"), float("-inf")):
        assert not compare("t", "x", torch.tensor([1.0, -2.0, value]), a, 1e30).met
    assert compare("t", "x", torch.empty(0), torch.empty(0), 0.0).met


def test_compare_scaled():
    """Floats to 1e-4 of one plus the largest, integers and truth values exactly; a tighter bound wins."""
    golden = torch.tensor([99.0, -3.0])
    assert compare_scaled("t", "x", golden, golden).bound == pytest.approx(1e-2)
    off = golden.double() + torch.tensor([0.0, 0.0099], dtype=torch.float64)
    assert compare_scaled("t", "x", off, golden).met
    assert not compare_scaled("t", "x", off + 2e-4, golden).met
    assert compare_scaled("t", "x", golden, golden, bound=1e-5).bound == 1e-5
    assert compare_scaled("t", "x", golden, golden, bound=1.0).bound == pytest.approx(1e-2)
    assert compare_scaled("t", "x", golden, golden, relative=1e-6).bound == pytest.approx(1e-4)
    far = torch.tensor([float("inf"), 1.0])
    assert compare_scaled("t", "x", far, far).bound == pytest.approx(2e-4)
    whole = torch.tensor([70000, 3])
    assert compare_scaled("t", "x", whole.int(), whole).met
    assert not compare_scaled("t", "x", whole + 1, whole).met
    assert not compare_scaled("t", "x", torch.tensor([True]), torch.tensor([False])).met


def test_nothing_of_a_file_is_passed_over():
    one = torch.ones(1)
    results = Results("t", {"in.x": one, "a": one, "b": one, "c": one, "seed": one})
    assert results.row("a", one, 0.0, ", again").what == "a, again"
    assert [row.met for row in results.rows("b", one + 1, 0.5)] == [False]
    assert list(results.rows("z", one, 0.0)) == []
    assert results.given("seed") is one
    left = list(results.left())
    assert [row.what for row in left] == ["c was not compared: this version does not know it"]
    assert not left[0].met
    with pytest.raises(KeyError):
        results.row("z", one, 0.0)


def groups() -> tuple[Group, ...]:
    good = Row("t", "good", 0.0, 0.0)

    def lacks_file(vectors):
        yield good
        vectors.tensors("nothing")

    def lacks_tensor(vectors):
        yield good
        raise KeyError("x")

    def damaged(vectors):
        yield good
        raise CheckpointError("torn")

    def breaks(vectors):
        yield good
        torch.ones(2) + torch.ones(3)

    checks = {"good": lambda vectors: iter([good]), "file": lacks_file}
    checks |= {"tensor": lacks_tensor, "damaged": damaged, "breaks": breaks}
    return tuple(Group(title, check) for title, check in checks.items())


def test_measure(tmp_path):
    """A missing file makes a group absent; anything else that is wrong stands after the rows before it."""
    found = dict(measure(groups(), VectorFolder(tmp_path)))
    good = Row("t", "good", 0.0, 0.0)
    assert found["good"] == [good]
    assert found["file"] == Absent("file", "nothing.safetensors")
    assert found["tensor"] == [good, failed("error", "the vectors lack 'x'")]
    assert found["damaged"] == [good, failed("error", "torn")]
    assert found["breaks"][0] == good
    assert found["breaks"][1].what.startswith("RuntimeError: ") and not found["breaks"][1].met
    with pytest.raises(InputError, match="there is no folder"):
        VectorFolder(tmp_path / "nowhere")


def test_the_command_asks_the_engine_of_that_name(tmp_path, monkeypatch, capsys):
    asked: list[Path] = []

    def check(folder):
        asked.append(folder)
        return measure(groups()[:1], VectorFolder(folder))

    monkeypatch.setattr(command, "ENGINES", {**ENGINES, "other": SimpleNamespace(verify=check)})
    assert main(["verify", "other", "--vectors", str(tmp_path)]) == 0
    assert asked == [tmp_path] and "1 comparisons, 0 failed" in capsys.readouterr().out
