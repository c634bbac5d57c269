"""LoRAs on the transformer, fused into its weights or beside them (dit360 spec, section 3.5).

The effective weight is W + Σ strength · (alpha / r) · B A over all adapters. Fused, it is computed in float32 and
rounded once to the storage type (8-bit weights get new scales), and the originals are kept, so that any strength can be
set afterwards and 0 brings the base model back exactly. As a side branch, y += B (A x) runs beside the layer, which costs a little time, and keeps
what the rounding of 8-bit weights would swallow.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ....runtime.errors import CheckpointError, InputError
from ....runtime.float8 import Float8Linear
from ....runtime.storage import is_compressed

log = logging.getLogger(__name__)

MODES = ("fused", "side")


@dataclass(frozen=True)
class LoraWeights:
    """The matrices of one adapter by module name, and alpha / r."""

    file: Path
    pairs: Mapping[str, tuple[Tensor, Tensor]]
    scale: float


class LoraStack:
    """Adapters on `transformer`, each with a strength, all fused or all as side branches; see the module's text.

    `mode` None fuses, except into 8-bit and quantised weights. Raises CheckpointError when the transformer lacks a
    module, or a shape differs, InputError for a strength out of range.
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
        self._originals = {name: _stored(layer) for name, layer in self._layers.items() if fused}
        self._dtype = transformer.dtype
        self._branches: dict[str, _Branch] = {}
        self.strengths: tuple[float, ...] = (0.0,) * len(self.adapters)
        self.set_strengths([1.0] * len(self.adapters) if strengths is None else strengths)

    @torch.no_grad()
    def set_strengths(self, strengths: Sequence[float]) -> None:
        """One strength per adapter, each within ±10; all 0 restores the base model bit for bit."""
        strengths = tuple(float(check_strength(value)) for value in strengths)
        if len(strengths) != len(self.adapters):
            raise InputError(f"{len(strengths)} strengths for {len(self.adapters)} LoRAs: give one each")
        for branch in self._branches.values():
            branch.remove()
        self._branches = {}
        for name, layer in self._layers.items():
            pairs = self._pairs(name, strengths)
            if self.mode == "fused":
                _fuse(layer, self._originals[name], pairs)
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
    """

    def __init__(self, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("up", up, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        low = torch.nn.functional.linear(x, self.down.to(x.dtype))
        return torch.nn.functional.linear(low, self.up.to(x.dtype))


def _stored(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """A layer's weight and, of 8-bit ones, its scale."""
    return layer.weight.data, getattr(layer, "scale", None)


def _fuse(
    layer: nn.Module,
    original: tuple[Tensor, Tensor | None],
    pairs: Sequence[tuple[Tensor, Tensor, float]],
) -> None:
    weight, scale = original
    device, packed = layer.weight.device, isinstance(layer, Float8Linear)
    layer.weight.data = weight.to(device)
    if packed:
        layer.scale = None if scale is None else scale.to(device)
    if not pairs:
        return
    total = layer.expanded(torch.float32) if packed else layer.weight.data.float()
    for down, up, factor in pairs:
        total = total + factor * (up.to(device, torch.float32) @ down.to(device, torch.float32))
    if packed:
        layer.hold(total)
    else:
        layer.weight.data = total.to(weight.dtype)


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


def check_strength(value: object) -> float:
    """The strength itself. Raises InputError unless it is a number from -10 to 10."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 10.0:
        raise InputError(f"the LoRA's strength must be a number from -10 to 10, got {value!r}")
    return value
