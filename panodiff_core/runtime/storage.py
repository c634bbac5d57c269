"""How the weights of blocks are stored, apart from the type in which they compute.

Left out, storage follows the file: 8-bit floats stay as they are, with their scales, everything else takes the type of
the computation. "dtype" expands all of it. "float8_e4m3fn" keeps one byte per number (`float8`), with a scale per row
where the file has more bits. "int8" and "int4" are torchao's weight-only types, for the transformer alone.

Stored so are the linear layers inside the blocks of the transformer (99 % of FLUX's weights, modulation included) and of
T5; embedders, norms, biases and the last layers stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .errors import InputError
from .float8 import FLOAT8, Float8Linear, quantised_rows, replace_linear

DTYPE, EIGHT_BIT = "dtype", "float8_e4m3fn"
TORCHAO = ("int8", "int4")
STORAGES = (DTYPE, EIGHT_BIT, *TORCHAO)
GROUP_SIZE = 128
"""Numbers that share a scale in int4."""
T5_BLOCKS = "encoder.block"
CASTS_TO_WEIGHT = "wo"
"""T5's output layers stay in the type of the computation: transformers casts what goes in to the type of their weight,
and float16 needs float32 there."""


def parse_storage(
    storage: str | torch.dtype | None, dtype: torch.dtype, device: torch.device, offload: object = None
) -> str | None:
    """The name of a storage type, one of `STORAGES`; None for as in the file.

    On Apple's GPU, which has no 8-bit floats, None becomes "dtype". Raises InputError for an unknown one, for one that
    cannot compute in `dtype` on `device` or be placed by `offload`, and, with the command that installs it, when
    torchao is missing.
    """
    name = EIGHT_BIT if storage is FLOAT8[0] else storage
    if name is None:
        return DTYPE if device.type == "mps" else None
    if name not in STORAGES:
        raise InputError(
            f"unknown storage {storage!r}: choose one of {', '.join(STORAGES)}, or leave it out, as in the file"
        )
    if name == EIGHT_BIT and device.type == "mps":
        raise InputError(
            f"storage={name!r} does not compute on Apple's GPU (mps), which has no 8-bit floats: "
            "load with dtype='bfloat16' and offload='stage' or 'group'"
        )
    if name not in TORCHAO:
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
    """The linear layers that `storage` is for, by name: those in the lists of blocks that the module itself holds, and
    in T5's.
    """
    lists = [
        name
        for name, child in module.named_modules()
        if isinstance(child, nn.ModuleList) and ("." not in name or name == T5_BLOCKS)
    ]
    return {
        f"{name}.{inner}": layer
        for name in lists
        for inner, layer in module.get_submodule(name).named_modules()
        if isinstance(layer, nn.Linear) and not (name == T5_BLOCKS and inner.endswith(f".{CASTS_TO_WEIGHT}"))
    }


def store(module: nn.Module, storage: str, dtype: torch.dtype, device: torch.device) -> None:
    """Keep the blocks' weights of a filled module in `storage` (see `parse_storage`) and compute in `dtype`.

    Weights that are in 8-bit floats already stay bit for bit. int4 is packed on `device`, where its layout belongs; the
    model is on the CPU afterwards.
    """
    if storage == DTYPE:
        return
    if storage == EIGHT_BIT:
        for name, layer in block_layers(module).items():
            if not isinstance(layer, Float8Linear):
                replace_linear(module, name, *quantised_rows(layer.weight.data))
        return
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    layers = block_layers(module).keys()
    config = Int8WeightOnlyConfig()
    if storage == "int4":
        config = Int4WeightOnlyConfig(group_size=GROUP_SIZE, int4_packing_format="tile_packed_to_4d")
    quantize_(
        module,
        config,
        filter_fn=lambda layer, name: name in layers,
        device=device if storage == "int4" else None,
    )
    module.to("cpu")


def is_compressed(weight: Tensor) -> bool:
    """Whether a weight is stored in fewer bits than it computes with: 8-bit floats, or a quantised tensor."""
    return weight.dtype.itemsize == 1 or hasattr(weight, "__tensor_flatten__")
