"""Numbers stored with a scale beside them, and files whose kind of quantisation is not read (dit360 spec, section 3.1).

Scaled fp8: `<layer>.weight` in float8_e4m3fn times `<layer>.scale_weight` (older files, with a marker tensor
`scaled_fp8`) or `<layer>.weight_scale` (newer ones, which name the format in the header's `_quantization_metadata` or
in a byte tensor `<layer>.comfy_quant`). Scales of activations (`scale_input`, `input_scale`) serve fp8 matrix products
and do not change the weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ...runtime.errors import CheckpointError
from ...runtime.float8 import FLOAT8
from .entries import Entry

METADATA = "_quantization_metadata"
MARKER = "scaled_fp8"
_SCALES = (".scale_weight", ".weight_scale")
_ACTIVATIONS = (".scale_input", ".input_scale")
_FORMAT = ".comfy_quant"
_READ = ("float8_e4m3fn", "float8_e5m2")
_FOREIGN = {
    "an SVDQuant (nunchaku) file": (".qweight", ".wscales", ".lora_down"),
    "a bitsandbytes 4-bit file": (".absmax", ".quant_map", ".quant_state.bitsandbytes__nf4", ".bnb.4bit"),
    "a GPTQ file": (".qzeros", ".g_idx"),
}


def dequantised(entries: Mapping[str, Entry], metadata: Mapping[str, str], where: str) -> dict[str, Entry]:
    """The entries with every scale worked into its weight and the scales themselves gone.

    Raises CheckpointError for another kind of quantisation, or a scale without its weight.
    """
    _refuse_foreign(entries, where)
    formats = _formats(entries, metadata, where)
    plain = {name: entry for name, entry in entries.items() if not _is_extra(name)}
    for name, scale in entries.items():
        ending = next((s for s in _SCALES if name.endswith(s)), None)
        if ending is None:
            continue
        weight = name.removesuffix(ending) + ".weight"
        if weight not in plain:
            raise CheckpointError(
                f"{where}: {name!r} scales {weight!r}, which is missing: fetch the file again"
            )
        if plain[weight].dtype in FLOAT8:  # older files scale everything, also what they left in 16 bits
            plain[weight] = plain[weight].scaled(scale)
    bare = sorted(name for name in formats if plain[name].dtype in FLOAT8)
    if bare:
        raise CheckpointError(f"{where}: {bare[0]!r} is scaled fp8 without its scale: fetch the file again")
    return plain


def is_scaled(entries: Mapping[str, Entry]) -> bool:
    """Whether weights have scales beside them."""
    return any(name.endswith(_SCALES) for name in entries)


def is_fp8(entries: Mapping[str, Entry]) -> bool:
    """Whether any tensor is stored in 8-bit floats."""
    return any(entry.dtype in FLOAT8 for entry in entries.values())


def _is_extra(name: str) -> bool:
    last = name.rsplit(".", 1)[-1]
    return name.endswith((*_SCALES, *_ACTIVATIONS, _FORMAT)) or last == MARKER


def _refuse_foreign(entries: Mapping[str, Entry], where: str) -> None:
    for kind, endings in _FOREIGN.items():
        found = next((name for name in sorted(entries) if name.endswith(endings)), None)
        if found is not None:
            raise CheckpointError(
                f"{where} is {kind} (it has {found!r}), which is not read: "
                "use bf16, fp8, scaled fp8 or GGUF weights"
            )


def _formats(entries: Mapping[str, Entry], metadata: Mapping[str, str], where: str) -> list[str]:
    """Names of the weights that the file declares as scaled. Raises CheckpointError for a format that is not read."""
    declared: dict[str, object] = {}
    if METADATA in metadata:
        try:
            layers = json.loads(metadata[METADATA])["layers"]
            declared = {layer: facts.get("format") for layer, facts in layers.items()}
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{where}: {METADATA} in its header cannot be read ({error})") from error
    for name, entry in entries.items():
        if name.endswith(_FORMAT):
            try:
                facts = json.loads(bytes(entry.read().tolist()))
                declared[name.removesuffix(_FORMAT)] = facts.get("format")
            except (ValueError, AttributeError) as error:
                raise CheckpointError(f"{where}: {name!r} cannot be read ({error})") from error
    for layer, form in declared.items():
        if form not in _READ:
            raise CheckpointError(
                f"{where}: layer {layer!r} is quantised as {form!r}, which is not read: "
                "use bf16, fp8, scaled fp8 or GGUF weights"
            )
    return [f"{layer}.weight" for layer in declared if f"{layer}.weight" in entries]
