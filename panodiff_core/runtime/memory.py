"""How much memory a model's stages take on a device, told before anything runs.

What is resident depends on the mode of placement (`MODES`, from fast to frugal): "none" keeps every stage on the
device, "stage" the one in use, "group" of a streamed stage the blocks in use and coming next, "sequential" one layer.
Sizes are bytes; messages give GB of 2³⁰.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .storage import EIGHT_BIT, block_layers, is_compressed

MODES = ("none", "stage", "group", "sequential")
STREAMED = ("text_encoders", "transformer")
"""Stages that "group" and "sequential" bring in parts; the VAE, 1 % of the weights, always comes whole, and so does a
module that says so (`comes_whole`)."""

Size = Callable[[Tensor], int]


@dataclass(frozen=True)
class StageMemory:
    """What one stage takes on the device.

    `weights` is all of it; `group` and `layer` are the most that is there at once when blocks or single layers are
    streamed. `activations` is what the work needs beside the weights, one layer converted from its storage type
    included. `packed` is the same stage with `EIGHT_BIT` storage, None where that would save nothing.
    """

    weights: int
    group: int
    layer: int
    activations: int = 0
    packed: StageMemory | None = None

    def resident(self, mode: str) -> int:
        """The most weights that are on the device at once."""
        return {"group": self.group, "sequential": self.layer}.get(mode, self.weights)


@dataclass(frozen=True)
class MemoryEstimate:
    """What a run needs at its peak under one placement mode, in bytes.

    `needed` is `weights` (the most that is resident at once) + `activations`, in the stage that needs most. `free` is
    what the device has left for them, None where it is not known. `advice` names the setting that makes it fit, and is
    empty when it `fits`.
    """

    mode: str
    stage: str
    weights: int
    activations: int
    needed: int
    free: int | None
    fits: bool
    advice: str


def estimate(
    stages: Mapping[str, StageMemory], mode: str, free: int | None = None, device: str = ""
) -> MemoryEstimate:
    """What running these stages one after the other needs under `mode`, `free` bytes being left for it. `device` is the
    type of torch's device, for the advice.
    """
    stage, weights, activations = _peak(stages, mode)
    needed = weights + activations
    fits = free is None or needed <= free
    return MemoryEstimate(
        mode,
        stage,
        weights,
        activations,
        needed,
        free,
        fits,
        "" if fits else advise(stages, mode, free, device),
    )


def advise(stages: Mapping[str, StageMemory], mode: str, free: int | None, device: str = "") -> str:
    """The first setting, from fast to frugal, that needs less than `mode` and no more than `free` bytes.

    On a CPU no mode of placement helps, since what waits, waits in the same memory; MPS has no 8-bit floats.
    """
    stage, *peak = _peak(stages, mode)
    packed = {name: memory.packed or memory for name, memory in stages.items()}
    later = MODES[MODES.index(mode) :] if device != "cpu" else (mode,)
    settings = [(stages, other, f"offload={other!r}") for other in later[1:]]
    settings += [
        (packed, other, f"storage={EIGHT_BIT!r}" + ("" if other == mode else f" and offload={other!r}"))
        for other in later
        if device != "mps"
    ]
    for sizes, other, words in settings:
        need = sum(_peak(sizes, other)[1:])
        if need < sum(peak) and (free is None or need <= free):
            return f"load with {words} (needs {gigabytes(need)})"
    smaller = "make smaller or fewer pictures, free the device"
    smaller = smaller.replace(",", ", or") if device == "cpu" else smaller + ", or load with device='cpu'"
    return f"set memory_gb, which works in bands, or {smaller}" if stage == "vae" else smaller


def _peak(stages: Mapping[str, StageMemory], mode: str) -> tuple[str, int, int]:
    """(stage, resident weights, activations) where the sum is largest."""
    if mode == "none":
        stage = max(stages, key=lambda name: stages[name].activations)
        return stage, sum(memory.weights for memory in stages.values()), stages[stage].activations
    stage = max(stages, key=lambda name: stages[name].resident(mode) + stages[name].activations)
    return stage, stages[stage].resident(mode), stages[stage].activations


def measure(stage: str, module: nn.Module, activations: int = 0, *, prefetch: bool = True) -> StageMemory:
    """The sizes of a stage's holder, from its tensors as they are. With `prefetch` the next group is on its way while
    one computes.
    """
    layers = {
        id(layer.weight): layer.weight
        for child in module.children()
        for layer in block_layers(child).values()
        if not is_compressed(layer.weight)
    }
    now = _measure(stage, module, tensor_bytes, activations + _converted(module), prefetch)
    if not layers:
        return now
    cast = max(tensor_bytes(p) for p in layers.values())

    def size(tensor: Tensor) -> int:
        # A byte for each number, a float32 for each row.
        return tensor.numel() + 4 * len(tensor) if id(tensor) in layers else tensor_bytes(tensor)

    packed = _measure(stage, module, size, activations + cast, prefetch)
    return StageMemory(now.weights, now.group, now.layer, now.activations, packed)


def _measure(stage: str, module: nn.Module, size: Size, activations: int, prefetch: bool) -> StageMemory:
    weights = sum(size(t) for t in _tensors(module))
    if comes_whole(stage, module):
        return StageMemory(weights, weights, weights, activations)
    parts = list(module.children())
    group = max((_group(part, size, 2 if prefetch else 1) for part in parts), default=0)
    return StageMemory(weights, group, max((_layer(part, size) for part in parts), default=0), activations)


def comes_whole(stage: str, module: nn.Module) -> bool:
    """Whether every mode brings this stage's module as one: the stage is none of `STREAMED`, or the module's `whole` is
    true.
    """
    return stage not in STREAMED or bool(getattr(module, "whole", False))


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """The blocks that the module's own lists hold: the groups in which it is streamed."""
    return [
        block
        for child in module.children()
        if isinstance(child, (nn.ModuleList, nn.Sequential))
        for block in child
    ]


def _group(module: nn.Module, size: Size, ahead: int) -> int:
    """Block by block, with all that stands outside of blocks; a module without its own blocks leaf by leaf."""
    sizes = [sum(size(t) for t in _tensors(block)) for block in blocks_of(module)]
    if sizes:
        return sum(size(t) for t in _tensors(module)) - sum(sizes) + ahead * max(sizes)
    leaves, stem = _direct(module, size, Counter())
    return stem + ahead * max(leaves, default=0)


def _layer(module: nn.Module, size: Size) -> int:
    """The largest layer, and what stays: tensors of modules that have children, and all buffers."""
    # accelerate hooks a module once for each place in which it stands, and fetches it as often.
    places = Counter(id(m) for _, m in module.named_modules(remove_duplicate=False))
    leaves, stem = _direct(module, size, places)
    return stem + max(leaves, default=0) + sum(size(buffer) for buffer in module.buffers())


def _direct(module: nn.Module, size: Size, places: Counter) -> tuple[list[int], int]:
    """(bytes of each module without children, of all others together), times the `places` of each, 1 if not given."""
    leaves, stem = [], 0
    for each in module.modules():
        tensors = [*each.parameters(recurse=False), *each.buffers(recurse=False)]
        own = (places[id(each)] or 1) * sum(size(t) for t in tensors)
        if next(each.children(), None) is None:
            leaves.append(own)
        else:
            stem += own
    return leaves, stem


def _converted(module: nn.Module) -> int:
    """Bytes of the largest compressed layer in the type in which its model computes."""
    return max(
        (
            p.numel() * (getattr(child, "dtype", None) or torch.bfloat16).itemsize
            for child in module.children()
            for p in child.parameters()
            if is_compressed(p)
        ),
        default=0,
    )


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor's storage; of a quantised one, those of the tensors it consists of."""
    if hasattr(tensor, "__tensor_flatten__"):
        return sum(tensor_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    return tensor.numel() * tensor.element_size()


def weight_bytes(module: nn.Module, device: torch.device | None = None) -> int:
    """Bytes of a module's parameters and buffers; with `device`, of those that are there."""
    return sum(tensor_bytes(t) for t in _tensors(module) if device is None or t.device.type == device.type)


def free_bytes(device: torch.device) -> int | None:
    """What a new tensor on `device` could take, memory that torch keeps for later included; None if unknown."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    if device.type == "cpu":
        import psutil

        return psutil.virtual_memory().available
    return None


def release_heap() -> None:
    """Give the system back what the C library keeps of freed tensors, where psutil can (from 7.2 on).

    glibc keeps blocks below 32 MiB, and where sizes change from one to the next these add up to hundreds of MiB.
    """
    import psutil

    trim = getattr(psutil, "heap_trim", None)
    if trim is not None:
        trim()


def gigabytes(count: int) -> str:
    """Bytes for people, in MB (2²⁰) below one GB (2³⁰)."""
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.1f} MB"
