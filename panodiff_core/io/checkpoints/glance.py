"""Whether numbers in a safetensors file are finite, found without leaving them in this process's memory.

To look at a mapped tensor brings all of it in, page by page, where it stays until the system wants the room. A second,
short-lived mapping is filled by the system at once, which takes half the time, and is gone afterwards.
"""

from __future__ import annotations

import json
import mmap
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from .entries import all_finite

CAN_FILL = hasattr(mmap, "MAP_POPULATE")
"""Linux only; elsewhere a second mapping would bring everything in twice."""


class Glance:
    """A safetensors file whose header has been checked; `finite(name, …)` makes the question for one tensor."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            self._header = json.loads(stream.read(length))
        self._start = 8 + length

    def finite(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Callable[[int, int], bool]:
        """A function that says whether the rows `low` to `high` of the tensor are finite."""
        begin, end = (self._start + offset for offset in self._header[name]["data_offsets"])
        row = (end - begin) // shape[0] if shape and shape[0] else end - begin

        def finite_rows(low: int, high: int) -> bool:
            return self._look(begin + low * row, begin + high * row, dtype)

        return finite_rows

    def _look(self, begin: int, end: int, dtype: torch.dtype) -> bool:
        if begin == end:
            return True
        first = begin - begin % mmap.ALLOCATIONGRANULARITY
        flags = mmap.MAP_PRIVATE | mmap.MAP_POPULATE
        with (
            self.file.open("rb") as stream,
            mmap.mmap(stream.fileno(), end - first, flags=flags, prot=mmap.PROT_READ, offset=first) as pages,
        ):
            with warnings.catch_warnings():  # that nobody may write to it, which nobody does
                warnings.simplefilter("ignore", UserWarning)
                values = torch.frombuffer(
                    pages, dtype=dtype, offset=begin - first, count=(end - begin) // dtype.itemsize
                )
            finite = all_finite(values)
            del values  # a mapping in use cannot be closed
        return finite
