"""The training loop: exact resume, clean stops, checkpoints, log, averages, optimizers."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from panodiff_core.data.folders import staged
from panodiff_core.runtime.errors import CheckpointError, InputError, NumericalError
from panodiff_core.training.checkpoint import list_checkpoints, load_checkpoint, load_weights, save_checkpoint
from panodiff_core.training.config import LoopConfig
from panodiff_core.training.ema import Ema
from panodiff_core.training.loop import Trainer
from panodiff_core.training.muon import Muon, orthogonalise
from panodiff_core.training.optimizers import matrices_and_rest
from panodiff_core.training.schedule import lr_factor


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """accelerate keeps one precision per process; every test chooses its own."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


class Numbers(Dataset):
    def __len__(self):
        return 2**40

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return {"x": torch.randn(6, 5, generator=generator), "index": torch.tensor(index)}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))
        self.seen = []
        self.poison = None

    def forward(self, batch, progress):
        self.seen.append(int(batch["index"]))
        noisy = batch["x"] + 0.1 * torch.randn_like(batch["x"])
        loss = (self.body(noisy) - batch["x"][:, :3]).square().mean()
        if self.poison is not None and len(self.seen) >= self.poison:
            loss = loss * float("nan")
        return {"loss": loss, "twice": 2 * loss}


class NetRecipe:
    name = "net"

    def module(self):
        torch.manual_seed(7)
        return Net()

    def batches(self):
        return Numbers()

    def optimizers(self, module, learning_rate):
        return matrices_and_rest(module, learning_rate, "muon", hidden=lambda name, p: p.ndim == 2)

    def pictures(self, module):
        torch.rand(3)  # pictures may use random numbers without disturbing the run
        return torch.full((3, 4, 8), 0.5)

    def export(self, module, folder, run):
        assert run.step == run.config.steps and run.minutes > 0
        (folder / "sum.txt").write_text(str(float(module.body[0].weight.detach().sum())))


def config(out, **changes):
    defaults = {
        "out": out,
        "steps": 8,
        "seed": 3,
        "learning_rate": 1e-2,
        "warmup": 3,
        "grad_accumulation": 2,
        "precision": "no",
        "ema_decay": 0.9,
        "log_every": 2,
        "picture_every": 3,
        "checkpoint_every": 3,
    }
    return LoopConfig(**{**defaults, **changes})


def final_tensors(out):
    tensors, meta = load_checkpoint(list_checkpoints(out)[-1])
    return {f"{group}/{name}": t for group, entries in tensors.items() for name, t in entries.items()}, meta


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    whole = Trainer(NetRecipe(), config(tmp_path / "whole"))
    assert whole.run()

    def terminate(step, losses):
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    first = Trainer(NetRecipe(), config(tmp_path / "parts"))
    assert not first.run(on_step=terminate)
    assert [p.name for p in list_checkpoints(tmp_path / "parts")] == [
        "checkpoint-00000003",
        "checkpoint-00000005",
    ]
    torch.manual_seed(999)  # whatever happened in between
    second = Trainer(NetRecipe(), config(tmp_path / "parts"))
    assert second.step == 5
    assert second.run()
    assert first.module.seen + second.module.seen == whole.module.seen == list(range(16))
    a, meta_a = final_tensors(tmp_path / "whole")
    b, meta_b = final_tensors(tmp_path / "parts")
    assert a.keys() == b.keys()
    assert meta_a == meta_b
    assert len({name.split("/")[0] for name in a}) == 4  # model, ema, two optimizers
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_log_and_pictures_have_no_step_twice_after_a_kill(tmp_path):
    Trainer(NetRecipe(), config(tmp_path, steps=6)).run()
    newest = list_checkpoints(tmp_path)[-1]
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()  # as if killed between steps 3 and 6
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    resumed = Trainer(NetRecipe(), config(tmp_path, steps=6))
    assert resumed.step == 3
    resumed.run()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert {"loss", "twice", "lr", "grad_norm", "steps_per_second"} <= lines[0].keys()
    seconds = sum(2 / line["steps_per_second"] for line in lines)
    assert resumed.journal.minutes() == pytest.approx(seconds / 60)
    assert lines[0]["twice"] == pytest.approx(2 * lines[0]["loss"])
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["00000003.png", "00000006.png"]


def test_time_limit_ends_cleanly_and_old_checkpoints_go(tmp_path):
    assert not Trainer(NetRecipe(), config(tmp_path, minutes=1e-9)).run()
    assert [p.name for p in list_checkpoints(tmp_path)] == ["checkpoint-00000000"]
    assert Trainer(NetRecipe(), config(tmp_path, checkpoint_every=1, keep=2)).run()
    assert [p.name for p in list_checkpoints(tmp_path)] == ["checkpoint-00000007", "checkpoint-00000008"]
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".part")]


def test_a_signal_to_the_whole_group_does_not_take_the_data_processes(tmp_path):
    def terminate(step, losses):
        if step == 2:
            children = multiprocessing.active_children()
            assert len(children) == 1
            for process in (*(child.pid for child in children), os.getpid()):
                os.kill(process, signal.SIGTERM)

    # More steps than the worker prefetches: the trainer needs it alive after the signal.
    trainer = Trainer(NetRecipe(), config(tmp_path, steps=20, workers=1, picture_every=0))
    reached = []

    def go_on(step, losses):
        terminate(step, losses)
        trainer.stop.reason = None if step < 12 else trainer.stop.reason or "test"
        reached.append(step)

    assert not trainer.run(on_step=go_on)
    assert reached == list(range(1, 13))
    assert list_checkpoints(tmp_path)[-1].name == "checkpoint-00000012"


def test_a_complete_checkpoint_of_the_same_step_stays(tmp_path):
    first = save_checkpoint(tmp_path, 4, {"model": {"x": torch.ones(2)}}, {"step": 4}, keep=2)
    before = {file.name: file.stat().st_mtime_ns for file in first.iterdir()}
    assert save_checkpoint(tmp_path, 4, {"model": {"x": torch.zeros(2)}}, {"step": 4}, keep=2) == first
    assert {file.name: file.stat().st_mtime_ns for file in first.iterdir()} == before
    (first / "state.json").unlink()  # no longer complete: written anew
    save_checkpoint(tmp_path, 4, {"model": {"x": torch.zeros(2)}}, {"step": 4}, keep=2)
    assert float(load_checkpoint(first)[0]["model"]["x"].sum()) == 0.0
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(InputError, match="cannot write .*checkpoint-00000004"):
        save_checkpoint(blocked, 4, {}, {}, keep=2)


def test_a_failed_export_leaves_the_good_one(tmp_path):
    good = tmp_path / "model"
    (good / "part").mkdir(parents=True)
    (good / "part" / "weights").write_text("good")
    with pytest.raises(RuntimeError), staged(good) as work:
        (work / "part").mkdir()
        raise RuntimeError("killed")
    with pytest.raises(InputError, match="cannot write .*model"), staged(good) as work:
        raise OSError(28, "No space left on device")
    assert (good / "part" / "weights").read_text() == "good"
    (good / "part").rename(good / ".part.old")  # a kill between the two renames
    (good / "other").write_text("stays")
    with staged(good) as work:
        assert (good / "part" / "weights").read_text() == "good"
        (work / "part").mkdir()
        (work / "part" / "new").write_text("better")
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == [
        "model",
        "model/other",
        "model/part",
        "model/part/new",
    ]


def test_signal_handlers_come_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    Trainer(NetRecipe(), config(tmp_path, steps=1)).run()
    assert signal.getsignal(signal.SIGTERM) is before


def test_nan_stops_before_it_reaches_the_weights(tmp_path):
    trainer = Trainer(NetRecipe(), config(tmp_path))
    trainer.module.poison = 5
    with pytest.raises(NumericalError, match="step 3"):
        trainer.run()
    assert all(torch.isfinite(p).all() for p in trainer.module.parameters())


def test_nan_in_the_gradients_alone_stops_as_well(tmp_path):
    """A root at zero: the loss is finite, its slope is not."""
    trainer = Trainer(NetRecipe(), config(tmp_path, checkpoint_every=1, keep=1))
    plain = trainer.module.forward

    def forward(batch, progress):
        result = plain(batch, progress)
        if len(trainer.module.seen) >= 5:
            result["loss"] = result["loss"] + (0.0 * result["loss"]).sqrt()
        return result

    trainer.module.forward = forward
    with pytest.raises(NumericalError, match="gradients are not finite in training step 3"):
        trainer.run()
    kept, meta = final_tensors(tmp_path)
    assert meta["step"] == 2 and all(torch.isfinite(t).all() for t in kept.values())


def test_checkpoint_of_another_recipe_or_seed_is_refused(tmp_path):
    Trainer(NetRecipe(), config(tmp_path, steps=1)).run()
    with pytest.raises(CheckpointError, match="another output folder"):
        Trainer(NetRecipe(), config(tmp_path, steps=2, seed=4))


def test_half_written_checkpoint_is_ignored_and_a_corrupt_one_named(tmp_path):
    Trainer(NetRecipe(), config(tmp_path, steps=3)).run()
    part = tmp_path / ".checkpoint-00000009.part"
    part.mkdir()
    (part / "model.safetensors").write_bytes(b"half")
    (tmp_path / "checkpoint-00000008").mkdir()  # no state.json: never finished
    assert list_checkpoints(tmp_path)[-1].name == "checkpoint-00000003"
    (tmp_path / "checkpoint-00000003" / "ema.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(CheckpointError, match="checkpoint-00000003"):
        Trainer(NetRecipe(), config(tmp_path, steps=4))


def test_init_takes_the_average_and_refuses_other_shapes(tmp_path):
    trainer = Trainer(NetRecipe(), config(tmp_path / "a"))
    trainer.run()
    fresh = Trainer(NetRecipe(), config(tmp_path / "b", init=tmp_path / "a"))
    assert fresh.step == 0
    for name, average in trainer.ema.shadow.items():
        assert torch.equal(dict(fresh.module.named_parameters())[name], average)
    with pytest.raises(CheckpointError, match=r"(?s)does not fit.*body\.0\.weight.*\[8, 5\].*\[4, 5\]"):
        load_weights(tmp_path / "a", nn.ModuleDict({"body": nn.Sequential(nn.Linear(5, 4))}))
    with pytest.raises(CheckpointError, match="no weights"):
        load_weights(tmp_path / "nothing", nn.Linear(1, 1))


def test_export_gets_the_average_and_training_goes_on_with_its_own_weights(tmp_path):
    trainer = Trainer(NetRecipe(), config(tmp_path))
    trainer.run()
    own = trainer.module.body[0].weight.detach().clone()
    trainer.export(tmp_path / "model")
    written = float((tmp_path / "model" / "sum.txt").read_text())
    assert written == pytest.approx(float(trainer.ema.shadow["body.0.weight"].sum()), abs=1e-6)
    assert torch.equal(trainer.module.body[0].weight, own)
    assert not torch.equal(own, trainer.ema.shadow["body.0.weight"])


def test_bf16_autocast_keeps_float32_weights_and_learns(tmp_path):
    trainer = Trainer(NetRecipe(), config(tmp_path, steps=60, precision="bf16", picture_every=0))
    losses = []
    trainer.run(on_step=lambda step, parts: losses.append(parts["loss"]))
    assert trainer.module.body[0].weight.dtype == torch.float32
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_accumulation_equals_one_large_batch(tmp_path):
    class Quiet(Net):
        def forward(self, batch, progress):
            return {"loss": (self.body[0](batch["x"])).square().mean()}

    class Recipe(NetRecipe):
        def module(self):
            torch.manual_seed(1)
            return Quiet()

    reference = Recipe().module()
    x = torch.cat([Numbers()[i]["x"] for i in range(3)])
    reference.body[0](x).square().mean().backward()
    norm = torch.cat([p.grad.flatten() for p in reference.body[0].parameters()]).norm()
    trainer = Trainer(Recipe(), config(tmp_path, steps=1, grad_accumulation=3, warmup=0, grad_clip=0.0))
    losses, measured = trainer._optimizer_step(iter([Numbers()[i] for i in range(3)]))
    assert measured == pytest.approx(float(norm), rel=1e-5)
    assert losses["loss"] == pytest.approx(reference.body[0](x).square().mean().item(), rel=1e-5)


def test_learning_rate_curve():
    curve = {"steps": 110, "warmup": 10, "final_ratio": 0.1}
    assert lr_factor(0, schedule="cosine", **curve) == pytest.approx(0.1)
    assert lr_factor(9, schedule="cosine", **curve) == 1.0
    assert lr_factor(60, schedule="cosine", **curve) == pytest.approx(0.55)
    assert lr_factor(110, schedule="cosine", **curve) == pytest.approx(0.1)
    assert lr_factor(60, schedule="constant", **curve) == 1.0


def test_average_warms_up_and_is_exact():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 0.0)
    ema = Ema(layer, 0.9)
    expected = 0.0
    for n in range(1, 30):
        nn.init.constant_(layer.weight, float(n))
        ema.update(layer)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert float(ema.shadow["weight"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_orthogonalise_brings_singular_values_near_one(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape) @ torch.diag(torch.logspace(0, -1, shape[1]))
    update = orthogonalise(matrix).float()
    values = torch.linalg.svdvals(update)
    assert update.shape == matrix.shape
    assert float(values.max()) < 1.3
    assert float(values.median()) > 0.6
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    assert float((update * (u @ v)).sum() / (update.norm() * (u @ v).norm())) > 0.9


def test_muon_takes_matrices_and_convolutions_with_adamw_sized_updates():
    torch.manual_seed(0)
    conv, linear = nn.Conv2d(8, 16, 3, bias=False), nn.Linear(32, 24, bias=False)
    optimizer = Muon([conv.weight, linear.weight], lr=0.1)
    before = [p.detach().clone() for p in (conv.weight, linear.weight)]
    for p in (conv.weight, linear.weight):
        p.grad = torch.randn_like(p)
    optimizer.step()
    for p, old in zip((conv.weight, linear.weight), before, strict=True):
        assert float((p - old).square().mean().sqrt()) == pytest.approx(0.02, rel=0.25)
    with pytest.raises(ValueError, match="AdamW"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_config_refuses_nonsense(tmp_path):
    for changes in (
        {"steps": 0},
        {"schedule": "line"},
        {"precision": "fp8"},
        {"ema_decay": 1.0},
        {"keep": 0},
        {"checkpoint_every": 0},
        {"picture_every": -1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"minutes": 0.0},
        {"minutes": float("nan")},
        {"workers": -1},
        {"final_lr_ratio": 1.5},
        {"grad_clip": -1.0},
    ):
        option = "--" + next(iter(changes)).replace("_", "-")
        with pytest.raises(InputError, match=option):
            config(tmp_path, **changes)
    config(tmp_path, picture_every=0, minutes=0.5, workers=0, final_lr_ratio=1.0)


def test_an_exported_model_folder_continues_training(tmp_path):
    from safetensors.torch import save_file

    from panodiff_core.training.checkpoint import EXPORTED, load_weights

    module = torch.nn.Module()
    module.transformer = torch.nn.Linear(3, 2)
    wanted = {"weight": torch.arange(6.0).reshape(2, 3).bfloat16(), "bias": torch.tensor([7.0, 8.0])}
    (tmp_path / "transformer").mkdir()
    save_file(wanted, tmp_path / "transformer" / EXPORTED)
    load_weights(tmp_path, module)
    assert torch.equal(module.transformer.weight, wanted["weight"].float())
    assert (
        torch.equal(module.transformer.bias, wanted["bias"])
        and module.transformer.weight.dtype == torch.float32
    )
