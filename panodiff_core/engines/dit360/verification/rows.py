"""What a comparison with golden vectors yields, and what it asks of a folder of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Row:
    """One comparison: the group it belongs to, what was compared, the largest absolute error and its bound.

    `error` is infinite where shapes differ. `above` marks a negative control: something wrong on purpose, whose error
    must exceed the bound.
    """

    test: str
    what: str
    error: float
    bound: float
    above: bool = False

    @property
    def met(self) -> bool:
        """Whether the error keeps the bound, or exceeds it in a negative control; NaN never does."""
        return self.error > self.bound if self.above else self.error <= self.bound


class Vectors(Protocol):
    """A folder of golden vectors of any size, read by the names of its files without their extension."""

    def tensors(self, name: str) -> dict[str, Tensor]:
        """All tensors of NAME.safetensors."""
        ...

    def metadata(self, name: str) -> dict[str, str]:
        """The header's metadata of NAME.safetensors."""
        ...

    def transformer(self) -> nn.Module:
        """The transformer with the folder's weights in float32, a fresh copy that may be changed."""
        ...

    def vae(self) -> nn.Module:
        """The autoencoder with the folder's weights in float32."""
        ...


def compare(test: str, what: str, got: Tensor, expected: Tensor, bound: float) -> Row:
    """The row of one tensor against its golden counterpart."""
    if got.shape != expected.shape:
        return Row(test, f"{what}: shape {list(got.shape)}, not {list(expected.shape)}", float("inf"), bound)
    error = (got.detach().cpu().double() - expected.double()).abs().max().item() if got.numel() else 0.0
    return Row(test, what, error, bound)
