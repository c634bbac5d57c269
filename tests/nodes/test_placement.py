"""Weights move through ComfyUI's model management alone, stage by stage, and leave when the engine goes."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.comfyui


class ReadOnlyDevice(nn.Module):
    """Like a diffusers or transformers module: `device` cannot be set."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(3))  # a weight beside submodules, as in norms of such models

    @property
    def device(self) -> torch.device:
        return self.layer.weight.device


@pytest.fixture
def placement(extension):
    from custom_nodes_PanoDiff_x_1.nodes.load import NATIVE
    from custom_nodes_PanoDiff_x_1.nodes.placement import ComfyPlacement

    return ComfyPlacement(instead=NATIVE)


@pytest.fixture
def calls(comfyui, monkeypatch) -> list:
    """What is asked of `load_models_gpu`, which still does its work."""
    from comfy import model_management

    seen, original = [], model_management.load_models_gpu

    def record(models, *args, **options):
        seen.append((models, options))
        return original(models, *args, **options)

    monkeypatch.setattr(model_management, "load_models_gpu", record)
    return seen


def test_a_stage_is_loaded_whole_with_its_estimate(placement, calls) -> None:
    module = ReadOnlyDevice()
    with placement.use("transformer", module, 12345) as device:
        assert device == torch.device("cpu") and module.layer.weight.device.type == "cpu"
    ((patcher,), options) = calls[0]
    assert options == {"memory_required": 12345, "force_full_load": True}
    assert patcher.model is not module and next(iter(patcher.model.parameters())) is next(module.parameters())


def test_one_patcher_per_module(placement, calls) -> None:
    first, second = ReadOnlyDevice(), ReadOnlyDevice()
    for module in (first, second, first):
        with placement.use("vae", module):
            pass
    patchers = [models[0] for models, _ in calls]
    assert patchers[0] is patchers[2] and patchers[0] is not patchers[1]


def test_stages_follow_the_users_devices(placement, monkeypatch) -> None:
    from comfy import model_management
    from custom_nodes_PanoDiff_x_1.nodes.placement import stage_devices

    names = ("text_encoder_device", "text_encoder_offload_device", "vae_device", "vae_offload_device")
    for index, name in enumerate((*names, "get_torch_device", "unet_offload_device")):
        monkeypatch.setattr(model_management, name, lambda index=index: torch.device("meta", index))
    expected = {"text_encoders": (0, 1), "vae": (2, 3), "transformer": (4, 5)}
    assert {stage: tuple(d.index for d in stage_devices(stage)) for stage in expected} == expected


def test_weights_left_behind_are_an_error(placement, monkeypatch) -> None:
    from comfy import model_management
    from custom_nodes_PanoDiff_x_1.panodiff_core.runtime.errors import MemoryLimitError

    monkeypatch.setattr(model_management, "load_models_gpu", lambda *a, **k: None)
    monkeypatch.setattr(model_management, "get_torch_device", lambda: torch.device("meta"))
    monkeypatch.setattr(model_management, "get_total_memory", lambda device: 2**30)
    with (
        pytest.raises(MemoryLimitError, match="transformer weights outside meta"),
        placement.use("transformer", ReadOnlyDevice()),
    ):
        pass


def test_nothing_keeps_an_engine_alive(extension, calls) -> None:
    from comfy import model_management
    from custom_nodes_PanoDiff_x_1.nodes.placement import ComfyPlacement

    placement, module = ComfyPlacement(), ReadOnlyDevice()
    with placement.use("transformer", module):
        pass
    calls.clear()
    gone = weakref.ref(module)
    del placement, module
    gc.collect()
    model_management.cleanup_models()
    assert gone() is None


def test_attention_is_comfyuis_and_agrees_with_torch(extension, monkeypatch) -> None:
    from comfy.cli_args import args
    from custom_nodes_PanoDiff_x_1.nodes.attention import comfy_attention

    q, k, v = torch.randn(3, 2, 3, 40, 16, generator=torch.Generator().manual_seed(0)).unbind(0)
    expected = nn.functional.scaled_dot_product_attention(q, k, v)
    assert torch.allclose(comfy_attention(q, k, v), expected, atol=1e-5)
    monkeypatch.setattr(args, "use_split_cross_attention", True)
    assert torch.allclose(comfy_attention(q, k, v), expected, atol=1e-5)


def test_fp8_storage_moves_with_comfyui(node_classes, comfyui, tiny_choice, calls) -> None:
    """Weights in 8 bits go through the same patchers, and converting layers for their calls changes nothing there."""
    from custom_nodes_PanoDiff_x_1 import panodiff_core as pano

    node = node_classes["PanoDiff_LoadDiT360"]
    (engine,) = node.execute(tiny_choice, "float32", storage="float8_e4m3fn").result
    weight = engine.transformer.transformer_blocks[0].attn.to_q.weight
    assert weight.dtype == torch.float8_e4m3fn and engine.transformer.dtype == torch.float32
    condition = engine.encode("a sea")
    latents = engine.sample(condition, steps=1)
    patchers = {id(models[0]) for models, _ in calls}
    assert len(patchers) == 2
    folder = comfyui / "models" / "diffusers" / tiny_choice
    headless = pano.load("dit360", folder, device="cpu", dtype="float32", storage="float8_e4m3fn")
    assert torch.allclose(latents, headless.sample(headless.encode("a sea"), steps=1), atol=1e-5)


def test_room_counts_what_comfyui_can_evict(placement, monkeypatch) -> None:
    from types import SimpleNamespace

    from comfy import model_management

    module = nn.Linear(100, 100, bias=False)
    gpu = torch.device("meta")
    loaded = [
        SimpleNamespace(device=gpu, model_loaded_memory=lambda: 70_000),
        SimpleNamespace(device=torch.device("cpu"), model_loaded_memory=lambda: 900_000),
    ]
    monkeypatch.setattr(model_management, "current_loaded_models", loaded)
    monkeypatch.setattr(model_management, "get_free_memory", lambda device: 100_000)
    monkeypatch.setattr(model_management, "minimum_inference_memory", lambda: 20_000)
    monkeypatch.setattr(model_management, "vae_device", lambda: gpu)
    assert placement.room("vae", module) == 100_000 + 70_000 - 40_000 - 20_000
    monkeypatch.setattr(model_management, "vae_device", lambda: torch.device("cpu"))
    assert placement.room("vae", module) == 100_000 - 20_000


@pytest.fixture
def small_gpu(comfyui, monkeypatch):
    """A device of 2 MiB that ComfyUI takes for its GPU; nothing is moved. The calls that were asked for."""
    from comfy import model_management
    from custom_nodes_PanoDiff_x_1.nodes import placement

    device, asked = torch.device("meta"), []
    monkeypatch.setattr(placement, "stage_devices", lambda stage: (device, torch.device("cpu")))
    monkeypatch.setattr(model_management, "get_total_memory", lambda device: 2 * 2**20)
    monkeypatch.setattr(model_management, "load_models_gpu", lambda *args, **more: asked.append("load"))
    monkeypatch.setattr(model_management, "unload_all_models", lambda: asked.append("unload"))
    monkeypatch.setattr(placement, "_require_loaded", lambda *_: None)
    return asked


class Blocks(nn.Module):
    """1 MiB of weights in a block and none outside."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(512, 512, bias=False)])


def test_a_stage_too_large_for_the_gpu_is_refused_before_anything_moves(placement, small_gpu) -> None:
    from custom_nodes_PanoDiff_x_1.panodiff_core.runtime.errors import MemoryLimitError
    from custom_nodes_PanoDiff_x_1.panodiff_core.runtime.placement import Holder

    module = Holder(transformer=Blocks())
    with placement.use("transformer", module, 2**20):
        pass
    assert small_gpu == ["load"], "it fits exactly"
    for need, words in ((2**20 + 1, "storage to float8_e4m3fn"), (2**21, "dit360_flux_native")):
        with pytest.raises(MemoryLimitError, match=words), placement.use("transformer", module, need):
            pytest.fail("it must not begin")
    with (
        pytest.raises(MemoryLimitError, match="'vae' needs [0-9.]+ MB.*memory_gb"),
        placement.use("vae", module, 2**21),
    ):
        pytest.fail("it must not begin")
    assert small_gpu == ["load"]


def test_out_of_memory_names_the_setting_and_frees_the_gpu(placement, small_gpu) -> None:
    from custom_nodes_PanoDiff_x_1.panodiff_core.runtime.errors import MemoryLimitError
    from custom_nodes_PanoDiff_x_1.panodiff_core.runtime.placement import Holder

    module = Holder(transformer=Blocks())
    text = "out of memory: stage 'transformer'.*float8_e4m3fn"
    with pytest.raises(MemoryLimitError, match=text), placement.use("transformer", module, 0):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
    assert small_gpu == ["load", "unload"]
    with pytest.raises(RuntimeError, match="another"), placement.use("transformer", module, 0):
        raise RuntimeError("another")
    assert small_gpu[2:] == ["load"]
