"""How the weights of a transformer's blocks are stored, apart from the type in which they compute.

"float8_e4m3fn" keeps one byte per number and converts each layer for its call (diffusers' layerwise casting); "int8" and
"int4" are torchao's weight-only types. Linear layers inside the blocks are stored so, 99 % of FLUX's weights,
modulation included, as in the fp8 files that people own; embedders, norms and the last layers stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .errors import InputError

EIGHT_BIT = "float8_e4m3fn"
STORAGES = (EIGHT_BIT, "int8", "int4")
GROUP_SIZE = 128
"""Numbers that share a scale in int4."""


def parse_storage(
    storage: str | torch.dtype | None, dtype: torch.dtype, device: torch.device, offload: object = None
) -> str | None:
    """The name of a storage type, None for that of the computation.

    Raises InputError for an unknown one, for one that cannot compute in `dtype` on `device` or be placed by
    `offload`, and, with the command that installs it, when torchao is missing.
    """
    name = EIGHT_BIT if storage is torch.float8_e4m3fn else storage
    if name is None:
        return None
    if name not in STORAGES:
        raise InputError(f"unknown storage {storage!r}: choose one of {', '.join(STORAGES)}, or leave it out")
    if name == EIGHT_BIT:
        return name
    _require_torchao(name)
    if offload == "sequential":
        raise InputError(f"storage={name!r} does not go with offload='sequential': use offload='group'")
    if name == "int4" and (device.type != "cuda" or dtype != torch.bfloat16):
        raise InputError(
            f"storage='int4' computes in bfloat16 on a CUDA device, not in {dtype} on {device}: use 'int8'"
        )
    return name


def _require_torchao(name: str) -> None:
    try:
        import torchao  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"storage={name!r} needs torchao, which is not installed: pip install torchao, "
            f"or use storage={EIGHT_BIT!r}"
        ) from error


def block_layers(module: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of the blocks in a module's own lists, by name: what `store` changes."""
    lists = [name for name, child in module.named_children() if isinstance(child, nn.ModuleList)]
    return {
        f"{name}.{inner}": layer
        for name in lists
        for inner, layer in module.get_submodule(name).named_modules()
        if isinstance(layer, nn.Linear)
    }


def store(transformer: nn.Module, storage: str, dtype: torch.dtype, device: torch.device) -> None:
    """Keep the blocks' weights in `storage` (see `parse_storage`) and compute in `dtype`.

    Weights that are in float8_e4m3fn already stay bit for bit. int4 is packed on `device`, where its layout belongs;
    the model is on the CPU afterwards.
    """
    if storage == EIGHT_BIT:
        from diffusers.hooks import apply_layerwise_casting

        # Not `transformer.enable_layerwise_casting`, which would leave out the modulation, 27 % of FLUX's weights,
        # because "norm" is in its name.
        lists = [name for name, child in transformer.named_children() if isinstance(child, nn.ModuleList)]
        for name in lists:
            apply_layerwise_casting(
                transformer.get_submodule(name), torch.float8_e4m3fn, dtype, skip_modules_pattern=()
            )
        return
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    layers = block_layers(transformer).keys()
    config = Int8WeightOnlyConfig()
    if storage == "int4":
        config = Int4WeightOnlyConfig(group_size=GROUP_SIZE, int4_packing_format="tile_packed_to_4d")
    quantize_(
        transformer,
        config,
        filter_fn=lambda module, name: name in layers,
        device=device if storage == "int4" else None,
    )
    transformer.to("cpu")


def is_compressed(weight: Tensor) -> bool:
    """Whether a weight is stored in fewer bits than it computes with: 8-bit floats, or a quantised tensor."""
    return weight.dtype.itemsize == 1 or hasattr(weight, "__tensor_flatten__")
