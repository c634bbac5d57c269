"""Number types: the names people write, and the type that suits a device."""

from __future__ import annotations

import torch

from .errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parse_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """A torch dtype from a name, a dtype or None.

    None gives float32 on the CPU, bfloat16 on a device that computes in it, else float16.
    Raises InputError for anything that is not float32, bfloat16 or float16.
    """
    if dtype is None:
        if device.type == "cpu":
            return torch.float32
        bfloat16 = (
            device.type != "cuda" or torch.version.hip or torch.cuda.get_device_capability(device) >= (8, 0)
        )
        return torch.bfloat16 if bfloat16 else torch.float16
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found not in DTYPES.values():
        raise InputError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    return found
