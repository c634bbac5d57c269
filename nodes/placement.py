"""Where an engine's modules run inside ComfyUI: ComfyUI decides, this asks it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_patcher
import torch
from comfy import model_management
from torch import nn

from ..panodiff_core.runtime.errors import MemoryLimitError
from ..panodiff_core.runtime.placement import Holder


class ComfyPlacement:
    """A `Placement` whose weights are moved by ComfyUI's `load_models_gpu` alone.

    One patcher per module, kept as long as the engine that owns this object; ComfyUI unloads a stage when another
    model needs its memory, and drops it when the engine goes. Stages are all-in or all-out: diffusers and
    transformers layers cannot compute with part of their weights elsewhere.
    """

    def __init__(self) -> None:
        self._patchers: dict[int, comfy.model_patcher.ModelPatcher] = {}

    @contextmanager
    def use(self, stage: str, module: nn.Module, memory_bytes: int = 0) -> Iterator[torch.device]:
        """Puts `module` on its compute device and gives that device.

        `memory_bytes` is what the computation itself needs beside the weights.
        Raises `MemoryLimitError` if ComfyUI leaves some of the weights behind.
        """
        patcher = self._patcher(stage, module)
        model_management.load_models_gpu([patcher], memory_required=memory_bytes, force_full_load=True)
        _require_loaded(stage, module, patcher.load_device)
        yield patcher.load_device

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


def _require_loaded(stage: str, module: nn.Module, device: torch.device) -> None:
    behind = sum(p.numel() * p.element_size() for p in module.parameters() if p.device.type != device.type)
    if behind:
        raise MemoryLimitError(
            f"ComfyUI left {behind / 2**20:.0f} MiB of the {stage} weights outside {device}, and this model cannot "
            "run in parts. Start ComfyUI without --novram, choose a smaller dtype in the load node, or run with --cpu."
        )
