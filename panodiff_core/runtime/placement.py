"""Where a model's parts live, and when they move.

An engine asks for a part with `with placement.use("vae", module) as device:` and never moves anything itself,
so that the same engine runs resident, part by part on a small GPU, or under a host that owns the memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Protocol

import torch
from torch import nn

from .errors import InputError, MemoryLimitError
from .memory import (
    MODES,
    MemoryEstimate,
    StageMemory,
    advise,
    comes_whole,
    estimate,
    free_bytes,
    gigabytes,
    measure,
    weight_bytes,
)
from .offload import attach, detach, prefetches

log = logging.getLogger(__name__)

STAGES = ("text_encoders", "transformer", "vae")

Mover = Callable[[nn.Module, torch.device], object]
"""Moves a whole module to a device."""


def move(module: nn.Module, device: torch.device) -> None:
    """The `Mover` of torch."""
    module.to(device)


class Holder(nn.Module):
    """A plain module around library modules: hosts may set attributes on it that those modules keep
    read-only. `whole` says that its weights cannot be streamed, because they are used outside of forward calls.
    """

    def __init__(self, *, whole: bool = False, **modules: nn.Module) -> None:
        super().__init__()
        self.whole = whole
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

    def room(self, stage: str, module: nn.Module) -> int | None:
        """Bytes that work of this stage may take beside the weights of `module`; None where nobody can tell."""
        ...


def room_beside(module: nn.Module, device: torch.device) -> int | None:
    """What `device` has left once all weights of `module` are on it, at least 0; None if unknown."""
    free = free_bytes(device)
    if free is None:
        return None
    return max(0, free - weight_bytes(module) + weight_bytes(module, device))


class Resident:
    """Everything stays on one device; the first use moves it there."""

    mode = "none"

    def __init__(self, device: torch.device | str, mover: Mover = move) -> None:
        self.device = torch.device(device)
        self._mover = mover
        self._stages: dict[str, StageMemory] = {}

    @contextmanager
    def use(self, stage: str, module: nn.Module, memory_bytes: int = 0) -> Iterator[torch.device]:
        """See `Placement.use`."""
        others = {
            name: StageMemory(m.weights, m.group, m.layer)
            for name, m in self._stages.items()
            if name != stage
        }
        self._stages[stage] = measure(stage, module, memory_bytes)
        there = sum(memory.weights for memory in others.values()) + weight_bytes(module, self.device)
        with explain_memory({**others, stage: self._stages[stage]}, stage, self.mode, self.device, there):
            self._mover(module, self.device)
            yield self.device

    def room(self, stage: str, module: nn.Module) -> int | None:
        """See `Placement.room`."""
        return room_beside(module, self.device)


class PerStage:
    """One stage at a time on the compute device, the others wait on `offload_device`; also after an error."""

    mode = "stage"

    def __init__(
        self, device: torch.device | str, offload_device: torch.device | str = "cpu", mover: Mover = move
    ) -> None:
        self.device = torch.device(device)
        self.offload_device = torch.device(offload_device)
        self._mover = mover
        self._depth: dict[str, int] = {}

    @contextmanager
    def use(self, stage: str, module: nn.Module, memory_bytes: int = 0) -> Iterator[torch.device]:
        """See `Placement.use`. A stage in use may be asked for again inside; it leaves when the outermost use
        ends.
        """
        depth = self._depth[stage] = self._depth.get(stage, 0) + 1
        try:
            memory = measure(stage, module, memory_bytes, prefetch=prefetches(self.device))
            there = weight_bytes(module, self.device)
            with explain_memory({stage: memory}, stage, self.mode, self.device, there):
                if depth == 1:
                    self._bring(stage, module)
                yield self.device
        finally:
            self._depth[stage] -= 1
            if not self._depth[stage]:
                self._send(stage, module)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()

    def room(self, stage: str, module: nn.Module) -> int | None:
        """See `Placement.room`."""
        return room_beside(module, self.device)

    def _bring(self, stage: str, module: nn.Module) -> None:
        self._mover(module, self.device)

    def _send(self, stage: str, module: nn.Module) -> None:
        self._mover(module, self.offload_device)


class Streamed(PerStage):
    """As `PerStage`, and the large stages come in parts, unless they only come whole (`memory.comes_whole`): `mode` "group" or "sequential" (`offload`)."""

    def __init__(
        self,
        device: torch.device | str,
        mode: str,
        offload_device: torch.device | str = "cpu",
        mover: Mover = move,
    ) -> None:
        super().__init__(device, offload_device, mover)
        self.mode = mode

    def _bring(self, stage: str, module: nn.Module) -> None:
        if comes_whole(stage, module):
            return super()._bring(stage, module)
        for part in module.children():
            attach(part, self.mode, self.device, self.offload_device)
        return None

    def _send(self, stage: str, module: nn.Module) -> None:
        if comes_whole(stage, module):
            return super()._send(stage, module)
        for part in module.children():
            detach(part, self.mode, self.offload_device)
        return None


@contextmanager
def explain_memory(
    stages: Mapping[str, StageMemory], stage: str, mode: str, device: torch.device, there: int = 0
) -> Iterator[None]:
    """Warn before work that the estimate says does not fit, and turn the back end's out-of-memory error into a
    MemoryLimitError; both say what is needed and which setting makes it fit. `there` bytes of the stages' weights are
    on `device` already.
    """
    free = free_bytes(device)
    before = estimate(stages, mode, None if free is None else free + there, device.type)
    needs = f"stage {stage!r}, which needs about {gigabytes(before.needed)}"
    if before.free is not None:
        needs += f" of the {gigabytes(before.free)} that are free"
    if not before.fits:
        log.warning("there may not be enough memory on %s for %s: %s", device, needs, before.advice)
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        advice = before.advice or advise(stages, mode, before.free, device.type)
        raise MemoryLimitError(f"out of memory on {device} in {needs}: {advice}") from error


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a back end says with this error that memory ran out."""
    # CUDA has a type of its own; MPS, the CPU and the CPU on Windows say it in these words.
    words = ("MPS backend out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(w in str(error) for w in words)


def choose_placement(
    modules: Mapping[str, nn.Module],
    device: torch.device | str | None = None,
    offload: str | Placement | None = None,
    activations: Callable[[], Mapping[str, int]] | None = None,
    mover: Mover = move,
) -> Placement:
    """The placement for a set of stages.

    `device` None takes CUDA, then MPS, then the CPU. `offload` is one of `memory.MODES`; None takes the first of them
    that fits into the free memory, and logs why: `activations()` gives what each stage needs beside its weights; a `Placement` object is used
    as it is. Raises InputError for another word or device, MemoryLimitError when not even the most frugal mode leaves
    room for the weights.
    """
    if offload is not None and not isinstance(offload, str):
        return offload
    device = parse_device(device)
    if offload not in (None, *MODES):
        raise InputError(f"unknown offload {offload!r}: choose one of {', '.join(MODES)}, or leave it out")
    mode = offload or _fitting_mode(modules, device, activations or dict)
    if mode == "none":
        return Resident(device, mover)
    return PerStage(device, mover=mover) if mode == "stage" else Streamed(device, mode, mover=mover)


def estimate_modes(
    modules: Mapping[str, nn.Module], device: torch.device | None, activations: Mapping[str, int]
) -> tuple[MemoryEstimate, ...]:
    """What running these stages needs under each mode, in the order of `memory.MODES`.

    Weights on `device` count as free, since the modes may move them; None stands for a device whose memory is not known.
    """
    there = torch.device("cpu") if device is None else device
    stages = measure_stages(modules, there, activations)
    free = None if device is None else free_bytes(device)
    if free is not None:
        free += sum(weight_bytes(module, device) for module in modules.values())
    return tuple(estimate(stages, mode, free, there.type) for mode in MODES)


def measure_stages(
    modules: Mapping[str, nn.Module], device: torch.device, activations: Mapping[str, int]
) -> dict[str, StageMemory]:
    """The memory of each stage on `device`."""
    ahead = prefetches(device)
    return {name: measure(name, m, activations.get(name, 0), prefetch=ahead) for name, m in modules.items()}


def _fitting_mode(
    modules: Mapping[str, nn.Module], device: torch.device, activations: Callable[[], Mapping[str, int]]
) -> str:
    free = None if device.type == "cpu" else free_bytes(device)
    if free is None:
        return "none"
    stages = measure_stages(modules, device, activations())
    bare = {name: replace(memory, activations=0) for name, memory in stages.items()}
    # accelerate's hooks do not carry quantised tensors.
    quantised = any(hasattr(p, "__tensor_flatten__") for m in modules.values() for p in m.parameters())
    modes = [mode for mode in MODES if not (quantised and mode == "sequential")]
    possible = [
        estimate(stages, mode, free, device.type) for mode in modes if estimate(bare, mode, free).fits
    ]
    if not possible:
        least = estimate(bare, modes[-1], free, device.type)
        raise MemoryLimitError(
            f"even with offload={least.mode!r}, stage {least.stage!r} alone has {gigabytes(least.weights)} of weights "
            f"on {device} at once, and {gigabytes(free)} are free: {least.advice}"
        )
    fitting = [each for each in possible if each.fits]
    if not fitting:  # the autoencoder works in bands where it must
        banded = {**stages, **{name: bare[name] for name in stages if name == "vae"}}
        fitting = [each for each in (estimate(banded, mode, free) for mode in modes) if each.fits]
    chosen = fitting[0] if fitting else min(possible, key=lambda each: each.needed)
    needs = ", ".join(f"{each.mode!r} needs {gigabytes(each.needed)}" for each in possible)
    log.info("offload %r: %s are free on %s; %s", chosen.mode, gigabytes(free), device, needs)
    if not chosen.fits:
        log.warning("pictures of the model's own size may not fit on %s: %s", device, chosen.advice)
    return chosen.mode


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
