"""What is moved when, seen by recording fakes."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch import nn

import panodiff_core as pano
from panodiff_core.runtime import placement as placement_module
from panodiff_core.runtime.memory import weight_bytes
from panodiff_core.runtime.placement import (
    STAGES,
    Holder,
    PerStage,
    Resident,
    Streamed,
    choose_placement,
    parse_device,
)


class Recorder:
    """A host's memory manager: notes who asked for what, and that nothing overlaps."""

    def __init__(self, left: int | None = None):
        self.uses, self.inside, self.left = [], [], left

    def room(self, stage, module):
        return self.left

    @contextmanager
    def use(self, stage, module, memory_bytes=0):
        assert not self.inside, "two stages at once"
        self.inside.append(stage)
        self.uses.append((stage, module, memory_bytes))
        try:
            yield torch.device("cpu")
        finally:
            self.inside.pop()


class Moves:
    """A mover that notes which stage went where, and moves nothing."""

    def __init__(self):
        self.log: list[tuple[str, str]] = []

    def __call__(self, module, device):
        self.log.append((next(name for name, _ in module.named_children()), str(device)))


@pytest.mark.parametrize("task", ["decode", "encode"])
def test_the_vae_works_in_bands_where_the_room_is_short(tiny_folder, task):
    """Nobody set memory_gb: the device's own room decides, and the result is the same."""
    engine = pano.load("dit360", tiny_folder, device="cpu", offload=Recorder())
    shape = (1, engine.latent_channels, 32, 64) if task == "decode" else (1, 3, 256, 512)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(3))

    def run(recorder, **options):
        engine.placement = recorder
        made = engine.decode(x, **options).pixels if task == "decode" else engine.encode_image(x, **options)
        return made, recorder.uses[-1][-1]

    whole, need = run(Recorder())
    assert torch.equal(run(Recorder(need))[0], whole), "it fits exactly, so it is not split"
    banded, less = run(Recorder(need - 1))
    assert less < need and not torch.equal(banded, whole)
    assert (banded - whole).abs().max() < 2e-5
    _, least = run(Recorder(0))
    assert least <= less, "too little room is no error: the least there is is tried"
    assert run(Recorder(0), tiling="off")[1] == need, "whole was asked for"


@pytest.mark.parametrize("make", [Resident, PerStage])
def test_room_is_what_is_left_beside_the_weights(make, monkeypatch):
    module = torch.nn.Linear(100, 100, bias=False)
    monkeypatch.setattr("panodiff_core.runtime.placement.free_bytes", lambda device: 50_000)
    assert make("cpu").room("vae", module) == 50_000, "the weights are there already"
    assert make("meta").room("vae", module) == 10_000, "40,000 bytes of weights are still to come"
    monkeypatch.setattr("panodiff_core.runtime.placement.free_bytes", lambda device: 30_000)
    assert make("meta").room("vae", module) == 0
    monkeypatch.setattr("panodiff_core.runtime.placement.free_bytes", lambda device: None)
    assert make("meta").room("vae", module) is None


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
    for options in ({}, {"height": 128}, {"batch_size": 2}, {"cfg": 2.0, "true_cfg_batched": True}):
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
    moves, module = Moves(), Holder(layer=nn.Linear(2, 2))
    placement = PerStage("meta", "cpu", moves)
    into, out = ("layer", "meta"), ("layer", "cpu")
    with placement.use("vae", module) as device:
        assert device == torch.device("meta") and moves.log == [into]
        with placement.use("vae", module):
            pass
        assert moves.log == [into], "the inner use must not send the module away"
    assert moves.log == [into, out]
    with pytest.raises(KeyError), placement.use("vae", module):
        raise KeyError
    assert moves.log == [into, out] * 2


@pytest.mark.parametrize(
    ("offload", "expected"),
    [
        ("none", ["clip meta", "transformer meta", "vae meta"]),
        ("stage", ["clip meta", "clip cpu", "transformer meta", "transformer cpu", "vae meta", "vae cpu"]),
        ("group", ["vae meta", "vae cpu"]),  # the rest comes by hooks: see test_memory
        ("sequential", ["vae meta", "vae cpu"]),
    ],
)
def test_what_moves_when(tiny_folder, monkeypatch, offload, expected):
    engine = pano.load("dit360", tiny_folder, device="cpu")
    moves = Moves()
    engine.placement = choose_placement(engine.stages, "cpu", offload, mover=moves)
    if offload in ("none", "stage"):
        engine.placement.device = torch.device("meta")
        for stage in STAGES:
            with engine.placement.use(stage, engine.stages[stage]):
                pass
    else:
        engine.decode(engine.sample(engine.encode("a sea"), steps=1))
        moves.log = [(name, "meta" if i % 2 == 0 else device) for i, (name, device) in enumerate(moves.log)]
    assert [f"{name} {device}" for name, device in moves.log] == expected


def test_per_stage_uses_both_devices():
    module = Holder(layer=nn.Linear(2, 2))
    placement = PerStage("meta", "meta")
    with placement.use("vae", module):
        assert module.layer.weight.is_meta


def stay(module, device):
    """A mover that leaves everything where it is."""


def run_out(placement, stage, module, memory_bytes, error):
    with placement.use(stage, module, memory_bytes):
        raise error


def test_out_of_memory_says_what_to_switch(monkeypatch):
    """Each mode names the first setting that would have needed less, and what was needed and free."""
    monkeypatch.setattr(placement_module, "free_bytes", lambda device: 7 * 2**30)
    blocks = nn.ModuleList(nn.Sequential(nn.Linear(1024, 1024)) for _ in range(8))
    stages = {
        "text_encoders": Holder(clip=nn.Linear(1024, 1024)),
        "transformer": Holder(net=nn.ModuleDict({"blocks": blocks})),
        "vae": Holder(net=nn.Linear(8, 8)),
    }
    cuda = torch.cuda.OutOfMemoryError("CUDA out of memory")
    cpu = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    resident, host = Resident("meta", stay), Resident("cpu")
    for placement in (resident, host):
        with placement.use("text_encoders", stages["text_encoders"]):
            pass
    cases = (
        (resident, "transformer", cuda, "offload='stage'"),
        (host, "transformer", cpu, "storage='float8_e4m3fn'"),
        (PerStage("meta", mover=stay), "transformer", cuda, "offload='group'"),
        (PerStage("meta", mover=stay), "text_encoders", cuda, "make smaller or fewer pictures"),
        (PerStage("meta", mover=stay), "vae", cuda, "set memory_gb"),
    )
    for placement, stage, error, advice in cases:
        text = f"out of memory on {placement.device} in stage '{stage}', which needs about 2.0 GB of the 7.0 GB that are free: .*{advice}"
        with pytest.raises(pano.MemoryLimitError, match=text):
            run_out(placement, stage, stages[stage], 2 * 2**30, error)
    with pytest.raises(RuntimeError, match="shapes"):
        run_out(Resident("cpu"), "vae", stages["vae"], 0, RuntimeError("shapes do not match"))


def test_a_warning_before_the_run(monkeypatch, caplog):
    monkeypatch.setattr(placement_module, "free_bytes", lambda device: 2**30)
    module = Holder(net=nn.Linear(8, 8))
    with PerStage("cpu").use("vae", module, 2**29):
        pass
    assert not caplog.records
    with PerStage("cpu").use("vae", module, 2 * 2**30):
        pass
    (record,) = caplog.records
    assert (
        "stage 'vae', which needs about 2.0 GB of the 1.0 GB that are free: set memory_gb"
        in record.getMessage()
    )


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


@pytest.fixture
def cuda(monkeypatch):
    """A CUDA device of which only the free bytes are known; `cuda(n)` sets them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)

    def leave(free):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))

    return leave


def test_choice(cuda, caplog):
    """The first mode that fits, weights and activations; sizes in numbers of 1000 bytes or so."""
    caplog.set_level("INFO", logger="panodiff_core")
    blocks = nn.ModuleList(nn.ModuleList([nn.Linear(50, 50), nn.Linear(50, 50)]) for _ in range(5))
    stages = {
        "transformer": Holder(a=nn.ModuleDict({"blocks": blocks})),
        "vae": Holder(a=nn.Linear(10, 10)),
    }
    block, layer, vae = 2 * 50 * 51 * 4, 50 * 51 * 4, 110 * 4
    assert weight_bytes(stages["transformer"]) == 5 * block and weight_bytes(stages["vae"]) == vae
    activations = {"transformer": 1000, "vae": 5000}
    for least, mode in (
        (5 * block + vae + 5000, "none"),
        (5 * block + 1000, "stage"),
        (2 * block + 1000, "group"),
        (layer + 1000, "sequential"),
    ):
        cuda(least)
        assert choose_placement(stages, "cuda", None, lambda: activations).mode == mode
        assert f"offload '{mode}'" in caplog.records[-1].getMessage()
        cuda(least - 1)
        if mode != "sequential":
            assert choose_placement(stages, "cuda", None, lambda: activations).mode != mode
    assert choose_placement(stages, "cuda", None, lambda: activations).mode == "sequential"
    assert "may not fit" in caplog.records[-1].getMessage()  # the weights fit, the picture only perhaps
    cuda(layer - 1)
    with pytest.raises(
        pano.MemoryLimitError, match="even with offload='sequential', stage 'transformer' alone"
    ):
        choose_placement(stages, "cuda", None, lambda: activations)
    # What the VAE needs is the same in every mode: no reason to stream single layers.
    cuda(2 * block + 1000)
    assert choose_placement(stages, "cuda", None, lambda: {"vae": 10**9}).mode == "group"


def test_words(cuda):
    stages = {"vae": Holder(a=nn.Linear(2, 2))}
    kinds = {"none": Resident, "stage": PerStage, "group": Streamed, "sequential": Streamed}
    for mode, kind in kinds.items():
        placement = choose_placement(stages, "cpu", mode)
        assert type(placement) is kind and placement.mode == mode
    assert choose_placement(stages, "cpu").mode == "none"
    assert choose_placement(stages, "cuda", "none").device.type == "cuda"
    with pytest.raises(
        pano.InputError, match="unknown offload 'disk': choose one of none, stage, group, sequential"
    ):
        choose_placement(stages, "cpu", "disk")
