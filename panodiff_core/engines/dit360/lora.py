"""The DiT360 LoRA: an adapter file in PEFT's format, fused into the transformer (dit360 spec, section 3.5).

Keys: `transformer.<module>.lora_A.weight` [r, in] and `.lora_B.weight` [out, r]. The effective weight is W +
strength · (alpha / r) · B A, computed in float32 and rounded once to the storage type. The originals are
kept, so that any strength can be set afterwards and 0 brings the base model back exactly.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...runtime.errors import CheckpointError, InputError
from ...runtime.weights import open_weights, read_json

log = logging.getLogger(__name__)

FILE, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX, DOWN, UP = "transformer.", ".lora_A.weight", ".lora_B.weight"
PLAIN = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "lora_bias")
"""Fields of `adapter_config.json` that must be absent or false."""
LISTED = 4


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
        raise CheckpointError(f"there is no LoRA {file}: give a PEFT adapter's folder or its {FILE}")
    with open_weights(file) as handle:
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


class FusedLora:
    """An adapter fused into `transformer` at `strength`; see the module's text.

    Raises CheckpointError when the transformer lacks a module, or a shape differs.
    """

    def __init__(self, transformer: nn.Module, weights: LoraWeights, strength: float = 1.0) -> None:
        self.weights = weights
        self.strength = 0.0
        self._layers = dict(transformer.named_modules())
        self._originals: dict[str, Tensor] = {}
        for name, (down, up) in weights.pairs.items():
            weight = getattr(self._layers.get(name), "weight", None)
            shape = (up.shape[0], down.shape[1])
            if weight is None or tuple(weight.shape) != shape:
                found = "no such layer" if weight is None else f"a weight of {list(weight.shape)}"
                raise CheckpointError(
                    f"{weights.file}: {name} changes a weight of {list(shape)}, the transformer has {found}: "
                    "this LoRA belongs to another model"
                )
            self._originals[name] = weight.data
        self.set_strength(strength)

    @torch.no_grad()
    def set_strength(self, strength: float) -> None:
        """Fuse anew from the originals; 0 restores them. Raises InputError unless `strength` lies within ±10."""
        if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not abs(strength) <= 10.0:
            raise InputError(f"the LoRA's strength must be a number from -10 to 10, got {strength!r}")
        factor = strength * self.weights.scale
        for name, (down, up) in self.weights.pairs.items():
            weight, base = self._layers[name].weight, self._originals[name]
            if factor == 0.0:
                weight.data = base.to(weight.device)
                continue
            delta = up.to(weight.device, torch.float32) @ down.to(weight.device, torch.float32)
            weight.data = (base.to(weight.device, torch.float32) + factor * delta).to(base.dtype)
        self.strength = float(strength)
        log.info(
            "LoRA %s: %d layers at strength %g × alpha/r %g",
            self.weights.file.name,
            len(self.weights.pairs),
            strength,
            self.weights.scale,
        )


def parse_lora(lora: str | Path | tuple[str | Path, float]) -> tuple[str | Path, float]:
    """A path, or (path, strength), as the pair. Raises InputError for anything else."""
    if isinstance(lora, (str, Path)):
        return lora, 1.0
    if isinstance(lora, tuple) and len(lora) == 2 and isinstance(lora[0], (str, Path)):
        return lora
    raise InputError(f"lora must be a path or (path, strength), got {lora!r}")
