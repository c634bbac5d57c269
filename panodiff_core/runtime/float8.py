"""Linear layers whose weight is in 8-bit floats, with a scale or without.

float8_e4m3fn has three bits of mantissa between 2⁻⁶ and 448, and steps of 2⁻⁹ below. Bare, a third of normally distributed
weights of deviation 0.02 lose bits, of 0.005 three quarters. A scale for each row brings them to where all three bits
are. It is a power of two, so that number times scale is exact in every type of computation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
"""What files hold; we quantise to the first."""


class Float8Linear(nn.Linear):
    """y = x (q · scale)ᵀ + bias, computed in the type of x.

    `weight` is q [out, in] in one of `FLOAT8`, `scale` float32 [out, 1] or [1, 1], None for 1. q · scale is taken in
    float32 and rounded once, as if the weight had been expanded when it was read: what is stored in 8 bits gives the
    same results bit for bit.
    """

    def __init__(self, weight: Tensor, scale: Tensor | None = None, bias: nn.Parameter | None = None) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias=False, device="meta")
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = bias
        self.register_buffer("scale", scale)

    @property
    def compute_dtype(self) -> torch.dtype:
        """What PEFT gives to the adapters that it puts beside the layer."""
        return torch.float32 if self.bias is None else self.bias.dtype

    def expanded(self, dtype: torch.dtype) -> Tensor:
        """q · scale [out, in] in `dtype`, a new tensor."""
        weight = self.weight.to(dtype, copy=True)
        return weight if self.scale is None else weight.mul_(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.expanded(x.dtype), self.bias)

    def hold(self, weight: Tensor) -> None:
        """Take other values [out, in], with new scales."""
        self.weight.data, self.scale = quantised_rows(weight)


def quantised_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Finite values [out, in] as float8_e4m3fn, and the scale of each row, float32 [out, 1], a power of two.

    The largest value of a row comes to between 224 and 448, so that each value is off by at most 2⁻⁴ of itself, or by
    2⁻¹⁷ of the row's largest where that is more.
    """
    weight = weight.float()
    low, high = torch.aminmax(weight, dim=1, keepdim=True)
    exponent = torch.frexp(torch.maximum(-low, high) / torch.finfo(FLOAT8[0]).max).exponent
    scale = torch.ldexp(torch.ones_like(low), exponent.clamp(min=-126))
    return (weight / scale).to(FLOAT8[0]), scale


def replace_linear(module: nn.Module, name: str, weight: Tensor, scale: Tensor | None) -> None:
    """Put a `Float8Linear` in the place of the linear layer `name`, whose bias it takes over."""
    parent, _, child = name.rpartition(".")
    holder = module.get_submodule(parent)
    setattr(holder, child, Float8Linear(weight, scale, getattr(holder, child).bias))
