"""What is moved when, seen by recording fakes."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch import nn

import panodiff_core as pano
from panodiff_core.runtime.placement import (
    STAGES,
    Holder,
    PerStage,
    Resident,
    choose_placement,
    parse_device,
    weight_bytes,
)


class Recorder:
    """A host's memory manager: notes who asked for what, and that nothing overlaps."""

    def __init__(self):
        self.uses, self.inside = [], []

    @contextmanager
    def use(self, stage, module, memory_bytes=0):
        assert not self.inside, "two stages at once"
        self.inside.append(stage)
        self.uses.append((stage, module, memory_bytes))
        try:
            yield torch.device("cpu")
        finally:
            self.inside.pop()


class Travelling(nn.Linear):
    """Records where it is sent."""

    def __init__(self, log):
        super().__init__(2, 2)
        self.log = log

    def _apply(self, fn, recurse=True):
        self.log.append("moved")
        return super()._apply(fn, recurse)


def test_stages_in_order(tiny_folder):
    recorder = Recorder()
    engine = pano.load("dit360", tiny_folder, device="cpu", offload=recorder)
    assert engine.placement is recorder and tuple(engine.stages) == STAGES
    condition = engine.encode("a sea")
    engine.decode(engine.sample(condition, steps=2))
    assert [stage for stage, *_ in recorder.uses] == ["text_encoders", "transformer", "vae"]
    assert all(module is engine.stages[stage] for stage, module, _ in recorder.uses)
    assert all(need > 0 for *_, need in recorder.uses)
    assert all(type(module) is Holder for module in engine.stages.values())


def test_previews_move_nothing(tiny_folder):
    """The preview is fitted before the transformer comes in, once."""
    recorder = Recorder()
    engine = pano.load("dit360", tiny_folder, device="cpu", offload=recorder)
    condition = engine.encode("a sea")
    for _ in range(2):
        engine.sample(condition, steps=2, on_step=lambda s: engine.preview(s.denoised))
    stages = [stage for stage, *_ in recorder.uses]
    assert stages == ["text_encoders", "vae", "transformer", "transformer"]


def test_larger_pictures_ask_for_more(tiny_folder):
    recorder = Recorder()
    engine = pano.load("dit360", tiny_folder, device="cpu", offload=recorder)
    condition = engine.encode("a sea", negative="")
    for options in ({}, {"height": 128}, {"batch_size": 2}, {"cfg": 2.0}):
        engine.decode(engine.sample(condition, steps=1, **options))
    need = {stage: [n for s, _, n in recorder.uses if s == stage] for stage in STAGES}
    base, *more = need["transformer"]
    assert all(n > 1.5 * base for n in more)
    assert need["vae"][1] == 4 * need["vae"][0] and need["vae"][2] == need["vae"][0]  # decoded one by one


def test_cancel_releases_the_stage(tiny_folder):
    recorder = Recorder()
    engine = pano.load("dit360", tiny_folder, device="cpu", offload=recorder)

    def cancel(step):
        raise pano.Cancelled

    with pytest.raises(pano.Cancelled):
        engine.sample(engine.encode("a sea"), on_step=cancel)
    assert recorder.inside == []


def test_holder_takes_the_attributes_that_libraries_refuse(tiny_engine):
    for holder in tiny_engine.stages.values():
        holder.device = torch.device("cpu")
        del holder.device
    with pytest.raises(AttributeError):
        tiny_engine.transformer.device = torch.device("cpu")


def test_per_stage_moves_in_and_out():
    log: list[str] = []
    module = Holder(layer=Travelling(log))
    placement = PerStage("cpu", "cpu")
    with placement.use("vae", module) as device:
        assert device == torch.device("cpu") and len(log) == 1
        with placement.use("vae", module):
            pass
        assert len(log) == 2, "the inner use must not send the module away"
    assert len(log) == 3
    with pytest.raises(KeyError), placement.use("vae", module):
        raise KeyError
    assert len(log) == 5


def test_per_stage_uses_both_devices():
    module = Holder(layer=nn.Linear(2, 2))
    placement = PerStage("meta", "meta")
    with placement.use("vae", module):
        assert module.layer.weight.is_meta


def test_out_of_memory_says_what_to_switch():
    module = Holder(layer=nn.Linear(1024, 1024))
    cuda = torch.cuda.OutOfMemoryError("CUDA out of memory")
    cpu = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    text = "stage 'vae', which needs about 2.0 GB.*offload='stage'"
    for error, placement in ((cuda, Resident("cpu")), (cuda, PerStage("cpu")), (cpu, Resident("cpu"))):
        with (
            pytest.raises(pano.MemoryLimitError, match=text),
            placement.use("vae", module, 2 * 2**30),
        ):
            raise error
    with pytest.raises(RuntimeError, match="shapes"), Resident("cpu").use("vae", module):
        raise RuntimeError("shapes do not match")


def test_other_back_ends_say_it_in_words():
    for words in (
        "MPS backend out of memory (MPS allocated: 9 GB)",
        "not enough memory: you tried to allocate",
    ):
        with pytest.raises(pano.MemoryLimitError), Resident("cpu").use("vae", Holder()):
            raise RuntimeError(words)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert parse_device(None) == parse_device("mps") == torch.device("mps")
    assert parse_device("cpu") == torch.device("cpu")
    with pytest.raises(pano.InputError, match="unknown device 'gpu': use cpu, cuda"):
        parse_device("gpu")
    with pytest.raises(pano.InputError, match="'cuda:1' was asked for, and this torch sees no such device"):
        parse_device("cuda:1")


def test_a_device_that_was_not_asked_for_is_left_alone(tiny_folder, monkeypatch):
    """A full GPU beside it must not keep a model from loading on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: pytest.fail("looked at the GPU"))
    assert pano.load("dit360", tiny_folder, device="cpu").placement.device == torch.device("cpu")


def test_choice(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    stages = {"transformer": Holder(a=nn.Linear(512, 512)), "vae": Holder(a=nn.Linear(256, 256))}
    total = sum(weight_bytes(m) for m in stages.values())
    assert weight_bytes(stages["vae"]) == (256 * 256 + 256) * 4
    assert isinstance(choose_placement(stages, "cpu"), Resident)
    assert isinstance(choose_placement(stages, "cpu", "stage"), PerStage)
    assert choose_placement(stages, "cuda", "none").device.type == "cuda"
    with pytest.raises(pano.InputError, match="unknown offload 'disk'"):
        choose_placement(stages, "cpu", "disk")
    for free, kind in ((2 * total, Resident), (total, PerStage)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        assert isinstance(choose_placement(stages, "cuda"), kind)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 1000))
    with pytest.raises(pano.MemoryLimitError, match="stage 'transformer' alone"):
        choose_placement(stages, "cuda")
