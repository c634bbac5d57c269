"""Where an engine's modules run inside ComfyUI: ComfyUI decides, this asks it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_patcher
import torch
from comfy import model_management
from torch import nn

from ..panodiff_core.runtime.errors import MemoryLimitError
from ..panodiff_core.runtime.memory import gigabytes, measure, weight_bytes
from ..panodiff_core.runtime.placement import Holder, is_out_of_memory


class ComfyPlacement:
    """A `Placement` whose weights are moved by ComfyUI's `load_models_gpu` alone.

    One patcher per module, kept as long as the engine that owns this object; ComfyUI unloads a stage when another
    model needs its memory, and drops it when the engine goes. Stages are all-in or all-out: diffusers and
    transformers layers cannot compute with part of their weights elsewhere. `instead` ends the error about a GPU that
    is too small: another way to run this model, "" where there is none.
    """

    def __init__(self, instead: str = "") -> None:
        self.instead = instead
        self._patchers: dict[int, comfy.model_patcher.ModelPatcher] = {}

    @contextmanager
    def use(self, stage: str, module: nn.Module, memory_bytes: int = 0) -> Iterator[torch.device]:
        """Puts `module` on its compute device and gives that device.

        `memory_bytes` is what the computation itself needs beside the weights.
        Raises `MemoryLimitError` if the device is too small for the stage, before anything is moved, if ComfyUI leaves
        some of the weights behind, and if memory runs out during the work.
        """
        device, _ = stage_devices(stage)
        self._require_fit(stage, module, memory_bytes, device)
        patcher = self._patcher(stage, module)
        try:
            model_management.load_models_gpu([patcher], memory_required=memory_bytes, force_full_load=True)
            _require_loaded(stage, module, patcher.load_device)
            yield patcher.load_device
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            model_management.unload_all_models()  # as ComfyUI does with an error of this kind that it sees itself
            raise MemoryLimitError(
                f"out of memory: {_needs(stage, module, memory_bytes, device, self.instead)}"
            ) from error

    def room(self, stage: str, module: nn.Module) -> int | None:
        """What ComfyUI could free for work of this stage, its own reserve and the stage's weights taken off; bytes."""
        device, _ = stage_devices(stage)
        free = model_management.get_free_memory(device)
        if device.type != "cpu":  # there ComfyUI counts models as free memory's loss, and never evicts them
            loaded = (m for m in model_management.current_loaded_models if m.device == device)
            free += sum(m.model_loaded_memory() for m in loaded) - weight_bytes(module)
        return max(0, int(free - model_management.minimum_inference_memory()))

    def _require_fit(self, stage: str, module: nn.Module, memory_bytes: int, device: torch.device) -> None:
        """On a GPU the weights come whole, and the work needs its memory beside them."""
        if device.type == "cpu":
            return
        if weight_bytes(module) + memory_bytes > model_management.get_total_memory(device):
            raise MemoryLimitError(_needs(stage, module, memory_bytes, device, self.instead))

    def _patcher(self, stage: str, module: nn.Module) -> comfy.model_patcher.ModelPatcher:
        if id(module) not in self._patchers:
            load_device, offload_device = stage_devices(stage)
            # The dynamic-VRAM patcher where ComfyUI has one (0.16 and later), the classic one otherwise.
            patcher_class = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
            # In a plain holder, because the patcher sets attributes (`device` for one) that library modules keep read-only.
            self._patchers[id(module)] = patcher_class(
                Holder(stage=module), load_device=load_device, offload_device=offload_device
            )
        return self._patchers[id(module)]


def stage_devices(stage: str) -> tuple[torch.device, torch.device]:
    """(compute device, offload device) that the user's ComfyUI settings give to a stage of this name."""
    if stage.startswith("text"):
        return model_management.text_encoder_device(), model_management.text_encoder_offload_device()
    if stage.startswith("vae"):
        return model_management.vae_device(), model_management.vae_offload_device()
    return model_management.get_torch_device(), model_management.unet_offload_device()


def _needs(stage: str, module: nn.Module, memory_bytes: int, device: torch.device, instead: str) -> str:
    """What a stage needs, what there is, and the setting that helps."""
    size = measure(stage, module, memory_bytes)
    total = model_management.get_total_memory(device)
    needs = (
        f"stage {stage!r} needs {gigabytes(size.weights)} for its weights and about {gigabytes(memory_bytes)} to work, "
        f"and {device} has {gigabytes(total)}"
    )
    otherwise = f", or {instead}" if instead else ""
    packed = size.packed
    if packed is not None and packed.weights + memory_bytes <= total:
        return (
            f"{needs}: set storage to float8_e4m3fn in the load node ({gigabytes(packed.weights)}){otherwise}"
        )
    if stage == "vae":
        return f"{needs}: set memory_gb on this node, or make a smaller panorama"
    return f"{needs}: make a smaller panorama or fewer at once{otherwise}"


def _require_loaded(stage: str, module: nn.Module, device: torch.device) -> None:
    behind = sum(p.numel() * p.element_size() for p in module.parameters() if p.device.type != device.type)
    if behind:
        raise MemoryLimitError(
            f"ComfyUI left {behind / 2**20:.0f} MiB of the {stage} weights outside {device}, and this model cannot "
            "run in parts. Start ComfyUI without --novram, choose a smaller dtype in the load node, or run with --cpu."
        )
