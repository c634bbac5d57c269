"""Which number type each tensor of a model takes, what stays in 8 bits, and float32 where 16 bits would spoil a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ....io.checkpoints.entries import Entry
from ....runtime.storage import EIGHT_BIT, TORCHAO, block_layers
from .formats import T5, TRANSFORMER, VAE

TIME = "time_text_embed"


def packed_weights(
    part: str, module: nn.Module, entries: Mapping[str, Entry], storage: str | None
) -> frozenset[str]:
    """Names of the weights that are kept in 8-bit floats (see `runtime.storage`), of the transformer and of T5: with
    None those that the file has so. int8 and int4 are for the transformer, after it is read; T5 then stays as in the
    file.
    """
    if storage in TORCHAO and part == T5:
        storage = None
    if part not in (TRANSFORMER, T5) or storage not in (None, EIGHT_BIT):
        return frozenset()
    names = (f"{layer}.weight" for layer in block_layers(module))
    return frozenset(name for name in names if storage == EIGHT_BIT or entries[name].is_float8)


def tensor_types(part: str, dtype: torch.dtype) -> Callable[[str], torch.dtype]:
    """The type in which each tensor of a part computes, by its name.

    In 16 bits the transformer's time embedding is float32 (see `time_in_float32`); in float16 so are the VAE and T5's
    output layers, which overflow. Norms need nothing: the library computes their statistics in float32.
    """
    short = dtype.itemsize == 2

    def type_of(name: str) -> torch.dtype:
        time = part == TRANSFORMER and short and name.startswith(f"{TIME}.")
        overflows = dtype == torch.float16 and (part == VAE or (part == T5 and name.endswith(".wo.weight")))
        return torch.float32 if time or overflows else dtype

    return type_of


def time_in_float32(transformer: nn.Module) -> None:
    """Let a 16-bit transformer embed time, guidance and the pooled prompt in float32, from exact times.

    Left alone it rounds the time first: bfloat16 has steps of 4 at 1000, and the embedding's fastest waves turn by one
    radian per unit. The weights of `time_text_embed` must be float32; the result takes the model's type.
    """
    transformer._keep_in_fp32_modules = [TIME]  # so that `transformer.dtype` is that of the rest
    exact: dict[str, Tensor] = {}

    def note(module: nn.Module, args: tuple, kwargs: dict) -> None:
        exact.clear()
        for name in ("timestep", "guidance"):
            if isinstance(kwargs.get(name), Tensor):
                exact[name] = kwargs[name].float() * 1000

    def enter(module: nn.Module, args: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        time, guidance, pooled = args
        return exact.get("timestep", time).float(), exact.get("guidance", guidance).float(), pooled.float()

    def leave(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return output.to(transformer.dtype)

    transformer.register_forward_pre_hook(note, with_kwargs=True)
    transformer.time_text_embed.register_forward_pre_hook(enter)
    transformer.time_text_embed.register_forward_hook(leave)
