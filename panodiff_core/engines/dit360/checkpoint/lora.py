"""LoRA files in PEFT's format, as DiT360's own (dit360 spec, section 3.5).

Keys: `transformer.<module>.lora_A.weight` [r, in] and `.lora_B.weight` [out, r].
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor

from ....io.checkpoints.safetensors_files import open_file
from ....io.json_file import read_json
from ....runtime.errors import CheckpointError, InputError
from ..model import LoraWeights
from ..model.lora import check_strength
from .sources import where_to_get

FILE, CONFIG = "adapter_model.safetensors", "adapter_config.json"
METADATA = "lora_adapter_metadata"
"""Key of the header in which diffusers keeps the same fields, behind `PREFIX`."""
PREFIX, DOWN, UP, ALPHA = "transformer.", ".lora_A.weight", ".lora_B.weight", ".alpha"
PLAIN = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "lora_bias")
"""Fields of PEFT's configuration that must be absent or false."""
LISTED = 4

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
        return [(lora[0], check_strength(lora[1]))]
    raise InputError(f"lora must be a path, (path, strength), or a list of them, got {lora!r}")


def read_lora(path: str | Path) -> LoraWeights:
    """Read an adapter file, or the folder that holds `adapter_model.safetensors`.

    alpha comes from the file's own header, else from the `adapter_config.json` beside an `adapter_model.safetensors`,
    else from alpha tensors; without any, alpha / r is 1. Raises CheckpointError for a missing or corrupt file, keys of
    another format, halves without their other half, values that are not finite, or a configuration that asks for more
    than plain LoRA (`PLAIN`).
    """
    path = Path(path).expanduser()
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(
            f"there is no LoRA {file}: give a PEFT adapter's folder or its {FILE}.\n{where_to_get('lora')}"
        )
    with open_file(file) as handle:
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - not a dict
        metadata = handle.metadata() or {}
    foreign = [n for n in sorted(tensors) if not (n.startswith(PREFIX) and n.endswith((DOWN, UP, ALPHA)))]
    if foreign or not tensors:
        some = ", ".join(foreign[:LISTED]) or "no tensor at all"
        raise CheckpointError(
            f"{file} is not a LoRA in PEFT's format for the transformer: it has {some}; "
            f"expected {PREFIX}…{DOWN} and {UP}"
        )
    alphas = {name: tensors.pop(name) for name in [*tensors] if name.endswith(ALPHA)}
    pairs = _pairs(file, tensors)
    ranks = {down.shape[0] for down, _ in pairs.values()}
    if METADATA in metadata:
        scale = _configured(_header_fields(file, metadata[METADATA]), f"{file}: {METADATA}", file, ranks)
    elif file.name == FILE and (file.parent / CONFIG).is_file():
        config = file.parent / CONFIG
        scale = _configured(read_json(config), str(config), file, ranks)
    else:
        scale = _scale_of_tensors(file, alphas, pairs)
    return LoraWeights(file, pairs, scale)


def _pairs(file: Path, tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """A [r, in] and B [out, r] by module name."""
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
    return pairs


def _header_fields(file: Path, text: str) -> dict[str, object]:
    """The transformer's fields in the header's JSON, without their prefix."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{file}: {METADATA} in its header cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: {METADATA} in its header is {type(values).__name__}, not an object")
    return {key.removeprefix(PREFIX): value for key, value in values.items() if key.startswith(PREFIX)}


def _configured(values: Mapping[str, object], where: str, file: Path, ranks: set[int]) -> float:
    """alpha / r as PEFT's configuration says it."""
    for key in PLAIN:
        if values.get(key):
            raise CheckpointError(
                f"{where} sets {key} to {values[key]!r}, which changes how the matrices are applied and is not "
                "supported: use a plain LoRA"
            )
    alpha, declared = values.get("lora_alpha"), values.get("r")
    fits = isinstance(declared, int) and {declared} == ranks
    if not fits or isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not isfinite(alpha):
        raise CheckpointError(
            f"{where} says r {declared!r} and lora_alpha {alpha!r}, {file.name} has rank "
            f"{', '.join(map(str, sorted(ranks)))}: they do not belong together"
        )
    return alpha / declared


def _scale_of_tensors(
    file: Path, alphas: Mapping[str, Tensor], pairs: Mapping[str, tuple[Tensor, Tensor]]
) -> float:
    """alpha / r as tensors `<module>.alpha` say it, 1 without any."""
    if not alphas:
        return 1.0
    named = {name.removeprefix(PREFIX).removesuffix(ALPHA): alpha for name, alpha in alphas.items()}
    if named.keys() != pairs.keys() or any(alpha.numel() != 1 for alpha in named.values()):
        raise CheckpointError(
            f"{file} has {len(named)} alpha tensors for {len(pairs)} modules, or some with more than one number: "
            "the file is damaged"
        )
    scales = {named[name].item() / down.shape[0] for name, (down, _) in pairs.items()}
    if len(scales) != 1 or not isfinite(min(scales)):
        raise CheckpointError(
            f"{file}: alpha / rank is {' and '.join(f'{scale:g}' for scale in sorted(scales))}, "
            "one finite value for all modules is supported: use a plain LoRA"
        )
    return scales.pop()
