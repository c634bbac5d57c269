"""LoRAs for the transformer: adapter files in PEFT's format, as DiT360's own (dit360 spec, section 3.5).

Keys: `transformer.<module>.lora_A.weight` [r, in] and `.lora_B.weight` [out, r]. The effective weight is W + Σ
strength · (alpha / r) · B A over all adapters. Fused, it is computed in float32 and rounded once to the storage type,
and the originals are kept, so that any strength can be set afterwards and 0 brings the base model back exactly. As a
side branch, y += B (A x) runs beside the layer, which costs a little time, and keeps what the rounding of 8-bit weights
would swallow.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...io.checkpoints.safetensors_files import open_file
from ...io.json_file import read_json
from ...runtime.errors import CheckpointError, InputError
from ...runtime.storage import is_compressed
from .sources import where_to_get

log = logging.getLogger(__name__)

FILE, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX, DOWN, UP = "transformer.", ".lora_A.weight", ".lora_B.weight"
PLAIN = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "lora_bias")
"""Fields of `adapter_config.json` that must be absent or false."""
LISTED = 4
MODES = ("fused", "side")


@dataclass(frozen=True)
class LoraWeights:
    """The matrices of one adapter by module name, and alpha / r."""

    file: Path
    pairs: Mapping[str, tuple[Tensor, Tensor]]
    scale: float


def read_lora(path: str | Path) -> LoraWeights:
    """Read an adapter file, or the folder that holds `adapter_model.safetensors`.

    alpha comes from `adapter_config.json` beside the file; without one, alpha / r is 1. Raises
    CheckpointError for a missing or corrupt file, keys of another format, halves without their other half,
    values that are not finite, or a config that asks for more than plain LoRA (`PLAIN`).
    """
    path = Path(path).expanduser()
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(
            f"there is no LoRA {file}: give a PEFT adapter's folder or its {FILE}.\n{where_to_get('lora')}"
        )
    with open_file(file) as handle:
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - not a dict
    foreign = [n for n in sorted(tensors) if not (n.startswith(PREFIX) and n.endswith((DOWN, UP)))]
    if foreign or not tensors:
        some = ", ".join(foreign[:LISTED]) or "no tensor at all"
        raise CheckpointError(
            f"{file} is not a LoRA in PEFT's format for the transformer: it has {some}; "
            f"expected {PREFIX}…{DOWN} and {UP}"
        )
    modules = sorted({name.removeprefix(PREFIX).removesuffix(DOWN).removesuffix(UP) for name in tensors})
    pairs = {}
    for module in modules:
        down, up = tensors.get(PREFIX + module + DOWN), tensors.get(PREFIX + module + UP)
        if down is None or up is None or down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
            raise CheckpointError(
                f"{file}: {module} lacks one half, or its ranks differ: the file is damaged"
            )
        if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
            raise CheckpointError(
                f"{file}: {module} has NaN or infinite values: the file is damaged, fetch it again"
            )
        pairs[module] = (down, up)
    return LoraWeights(file, pairs, _read_scale(file, {down.shape[0] for down, _ in pairs.values()}))


def _read_scale(file: Path, ranks: set[int]) -> float:
    config = file.parent / CONFIG
    if not config.is_file():
        return 1.0
    values = read_json(config)
    for key in PLAIN:
        if values.get(key):
            raise CheckpointError(
                f"{config} sets {key} to {values[key]!r}, which changes how the matrices are applied and is not "
                "supported: use a plain LoRA"
            )
    alpha, declared = values.get("lora_alpha"), values.get("r")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or {declared} != ranks:
        raise CheckpointError(
            f"{config} says r {declared!r} and lora_alpha {alpha!r}, {file.name} has rank "
            f"{', '.join(map(str, sorted(ranks)))}: they do not belong together"
        )
    return alpha / declared


class LoraStack:
    """Adapters on `transformer`, each with a strength, all fused or all as side branches; see the module's text.

    `mode` None fuses, except into 8-bit and quantised weights. Raises CheckpointError when the transformer lacks a module, or a shape
    differs, InputError for a strength out of range.
    """

    def __init__(
        self,
        transformer: nn.Module,
        adapters: Sequence[LoraWeights],
        strengths: Sequence[float] | None = None,
        mode: str | None = None,
    ) -> None:
        if mode not in (None, *MODES):
            raise InputError(f"lora_mode must be one of {', '.join(MODES)} or None, got {mode!r}")
        layers = dict(transformer.named_modules())
        for weights in adapters:
            _check_layers(layers, weights)
        self.adapters = tuple(adapters)
        self._layers = {name: layers[name] for weights in adapters for name in weights.pairs}
        compressed = any(is_compressed(layer.weight) for layer in self._layers.values())
        self.mode = mode or ("side" if compressed else "fused")
        quantised = any(hasattr(layer.weight, "__tensor_flatten__") for layer in self._layers.values())
        if quantised and self.mode == "fused":
            raise InputError("lora_mode 'fused' does not go with int8 or int4 storage: use 'side'")
        # A side branch leaves the weights alone: a second copy would only take memory.
        fused = self.mode == "fused"
        self._originals = {name: layer.weight.data for name, layer in self._layers.items() if fused}
        self._dtype = transformer.dtype
        self._branches: dict[str, _Branch] = {}
        self.strengths: tuple[float, ...] = (0.0,) * len(self.adapters)
        self.set_strengths([1.0] * len(self.adapters) if strengths is None else strengths)

    @torch.no_grad()
    def set_strengths(self, strengths: Sequence[float]) -> None:
        """One strength per adapter, each within ±10; all 0 restores the base model bit for bit."""
        strengths = tuple(float(_strength(value)) for value in strengths)
        if len(strengths) != len(self.adapters):
            raise InputError(f"{len(strengths)} strengths for {len(self.adapters)} LoRAs: give one each")
        for branch in self._branches.values():
            branch.remove()
        self._branches = {}
        for name, layer in self._layers.items():
            pairs = self._pairs(name, strengths)
            if self.mode == "fused":
                original = self._originals[name].to(layer.weight.device)
                layer.weight.data = _fused(original, pairs) if pairs else original
            elif pairs:
                self._branches[name] = _Branch(layer, pairs, self._dtype)
        self.strengths = strengths
        for weights, strength in zip(self.adapters, strengths, strict=True):
            log.info(
                "LoRA %s (%s): %d layers at strength %g × alpha/r %g",
                weights.file.name,
                self.mode,
                len(weights.pairs),
                strength,
                weights.scale,
            )

    def remove(self) -> None:
        """Take all adapters off: the base model's weights, bit for bit, and no branch."""
        self.set_strengths([0.0] * len(self.adapters))

    def _pairs(self, name: str, strengths: Sequence[float]) -> list[tuple[Tensor, Tensor, float]]:
        """(A, B, factor) of every adapter that changes the layer."""
        return [
            (*weights.pairs[name], strength * weights.scale)
            for weights, strength in zip(self.adapters, strengths, strict=True)
            if strength and weights.scale and name in weights.pairs
        ]


class _Branch:
    """y += B (A x) on one layer; the matrices of all adapters stand side by side, so that there are two products."""

    def __init__(
        self, layer: nn.Module, pairs: Sequence[tuple[Tensor, Tensor, float]], dtype: torch.dtype
    ) -> None:
        device = layer.weight.device
        down = torch.cat([down.to(device, torch.float32) for down, _, _ in pairs])
        up = torch.cat([up.to(device, torch.float32) * factor for _, up, factor in pairs], dim=1)
        layer.lora = _Matrices(down.to(dtype), up.to(dtype))
        self._layer, self._hook = layer, layer.register_forward_hook(self._add)

    @staticmethod
    def _add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + layer.lora(inputs[0])

    def remove(self) -> None:
        self._hook.remove()
        del self._layer.lora


class _Matrices(nn.Module):
    """B (A x), as a child of the layer, so that it moves with it; not persistent, so that the state dict stays the base
    model's.

    A cast of the layer leaves it alone: casting hooks turn the whole layer into its 8-bit storage between calls.
    """

    def __init__(self, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("up", up, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        low = torch.nn.functional.linear(x, self.down.to(x.dtype))
        return torch.nn.functional.linear(low, self.up.to(x.dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        device = fn(self.down.new_empty(0)).device
        return super()._apply(lambda tensor: tensor.to(device), recurse)


def _fused(original: Tensor, pairs: Sequence[tuple[Tensor, Tensor, float]]) -> Tensor:
    total = original.float()
    for down, up, factor in pairs:
        delta = up.to(total.device, torch.float32) @ down.to(total.device, torch.float32)
        total = total + factor * delta
    return total.to(original.dtype)


def _check_layers(layers: Mapping[str, nn.Module], weights: LoraWeights) -> None:
    for name, (down, up) in weights.pairs.items():
        weight = getattr(layers.get(name), "weight", None)
        shape = (up.shape[0], down.shape[1])
        if weight is None or tuple(weight.shape) != shape:
            found = "no such layer" if weight is None else f"a weight of {list(weight.shape)}"
            raise CheckpointError(
                f"{weights.file}: {name} changes a weight of {list(shape)}, the transformer has {found}: "
                "this LoRA belongs to another model"
            )


def _strength(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 10.0:
        raise InputError(f"the LoRA's strength must be a number from -10 to 10, got {value!r}")
    return value


LoraChoice = str | Path | tuple[str | Path, float]


def parse_loras(lora: LoraChoice | Sequence[LoraChoice] | None) -> list[tuple[str | Path, float]]:
    """A path, (path, strength), or a list of either, as pairs. Raises InputError for anything else."""
    if lora is None:
        return []
    if isinstance(lora, list):
        return [pair for each in lora for pair in parse_loras(each)]
    if isinstance(lora, (str, Path)):
        return [(lora, 1.0)]
    if isinstance(lora, tuple) and len(lora) == 2 and isinstance(lora[0], (str, Path)):
        return [(lora[0], _strength(lora[1]))]
    raise InputError(f"lora must be a path, (path, strength), or a list of them, got {lora!r}")
