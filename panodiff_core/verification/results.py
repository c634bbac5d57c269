"""One file of golden results that remembers what was compared, so that nothing in it is passed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from .rows import Row, compare, failed

INPUT = "in."
"""How the names of inputs begin: everything else is a result."""


class Results(Mapping[str, Tensor]):
    """The tensors of a file. A result that it lacks is not compared; one that nobody compares is a failed row."""

    def __init__(self, test: str, tensors: Mapping[str, Tensor]) -> None:
        self.test, self._tensors = test, tensors
        self._compared: set[str] = set()

    def __getitem__(self, key: str) -> Tensor:
        return self._tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def given(self, key: str) -> Tensor:
        """An input that is not called so. Raises KeyError where the file lacks it."""
        self._compared.add(key)
        return self._tensors[key]

    def row(self, key: str, got: Tensor, bound: float, how: str = "") -> Row:
        """The row of one result, `how` it was got after its name. Raises KeyError where the file lacks it."""
        expected = self._tensors[key]
        self._compared.add(key)
        return compare(self.test, key + how, got, expected, bound)

    def rows(self, key: str, got: Tensor, bound: float, how: str = "") -> Iterator[Row]:
        """`row` where the file has such a result, else nothing."""
        if key in self._tensors:
            yield self.row(key, got, bound, how)

    def left(self) -> Iterator[Row]:
        """A failed row for every result that was never compared."""
        for key in sorted(self._tensors.keys() - self._compared):
            if not key.startswith(INPUT):
                yield failed(self.test, f"{key} was not compared: this version does not know it")
