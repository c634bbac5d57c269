"""Where a model's parts live, and when they move.

An engine asks for a part with `with placement.use("vae", module) as device:` and never moves anything itself,
so that the same engine runs resident, part by part on a small GPU, or under a host that owns the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import nn

from .errors import InputError, MemoryLimitError

STAGES = ("text_encoders", "transformer", "vae")


class Holder(nn.Module):
    """A plain module around library modules: hosts may set attributes on it that those modules keep
    read-only.
    """

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class Placement(Protocol):
    """Gives a stage's module a device for as long as the context lasts."""

    def use(
        self, stage: str, module: nn.Module, memory_bytes: int = 0
    ) -> AbstractContextManager[torch.device]:
        """Bring `module` to the compute device and yield that device.

        `memory_bytes` is the engine's estimate of what the work needs beside the weights.
        Raises MemoryLimitError when the memory does not suffice.
        """
        ...


class Resident:
    """Everything stays on one device; the first use moves it there."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)

    @contextmanager
    def use(self, stage: str, module: nn.Module, memory_bytes: int = 0) -> Iterator[torch.device]:
        """See `Placement.use`."""
        with explain_memory(stage, self.device, module, memory_bytes):
            module.to(self.device)
            yield self.device


class PerStage:
    """One stage at a time on the compute device, the others wait on `offload_device`; also after an error."""

    def __init__(self, device: torch.device | str, offload_device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.offload_device = torch.device(offload_device)
        self._depth: dict[str, int] = {}

    @contextmanager
    def use(self, stage: str, module: nn.Module, memory_bytes: int = 0) -> Iterator[torch.device]:
        """See `Placement.use`. A stage in use may be asked for again inside; it leaves when the outermost use
        ends.
        """
        self._depth[stage] = self._depth.get(stage, 0) + 1
        try:
            with explain_memory(stage, self.device, module, memory_bytes):
                module.to(self.device)
                yield self.device
        finally:
            self._depth[stage] -= 1
            if not self._depth[stage]:
                module.to(self.offload_device)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()


def weight_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()])


@contextmanager
def explain_memory(stage: str, device: torch.device, module: nn.Module, memory_bytes: int) -> Iterator[None]:
    """Turn the back end's out-of-memory error into a MemoryLimitError that says what was needed and what to
    switch.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        need = (weight_bytes(module) + memory_bytes) / 2**30
        raise MemoryLimitError(
            f"out of memory on {device} in stage {stage!r}, which needs about {need:.1f} GB: load with "
            "offload='stage', use a 16-bit dtype, make smaller or fewer pictures, or free the device"
        ) from error


def _is_out_of_memory(error: RuntimeError) -> bool:
    # CUDA has a type of its own; MPS, the CPU and the CPU on Windows say it in these words.
    words = ("MPS backend out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(w in str(error) for w in words)


def choose_placement(
    modules: dict[str, nn.Module],
    device: torch.device | str | None = None,
    offload: str | Placement | None = None,
) -> Placement:
    """The placement for a set of stages.

    `device` None takes CUDA, then MPS, then the CPU. `offload`: "none" keeps all on the device, "stage"
    brings one stage at a time, None decides by the free memory of a CUDA device; a `Placement` object is used
    as it is. Raises InputError for another word or device, MemoryLimitError when not even one stage fits.
    """
    if offload is not None and not isinstance(offload, str):
        return offload
    device = parse_device(device)
    if offload not in (None, "none", "stage"):
        raise InputError(f"unknown offload {offload!r}: choose 'none', 'stage', or leave it out")
    if offload is None:
        offload = "stage" if _needs_offload(modules, device) else "none"
    return PerStage(device) if offload == "stage" else Resident(device)


def parse_device(device: torch.device | str | None) -> torch.device:
    """The device of that name; None takes CUDA where present, else Apple's MPS, else the CPU.

    Raises InputError for an unknown name, and for CUDA or MPS where this torch sees none.
    """
    present = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device is None:
        return torch.device(next((name for name, there in present.items() if there()), "cpu"))
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"unknown device {device!r}: use cpu, cuda, cuda:1 or mps") from error
    if found.type in present and not present[found.type]():
        raise InputError(
            f"device {str(found)!r} was asked for, and this torch sees no such device: leave it out, or use cpu"
        )
    return found


def _needs_offload(modules: dict[str, nn.Module], device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    sizes = {stage: weight_bytes(module) for stage, module in modules.items()}
    largest = max(sizes, key=sizes.__getitem__)
    if sizes[largest] > free:
        raise MemoryLimitError(
            f"stage {largest!r} alone has {sizes[largest] / 2**30:.1f} GB of weights and {device} has "
            f"{free / 2**30:.1f} GB free: use a 16-bit dtype, free the device, or load with device='cpu'"
        )
    # A fifth stays for activations: pictures of the trained size need less on any card that fits the rest.
    return sum(sizes.values()) > 0.8 * free
