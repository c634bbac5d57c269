"""The log of a run, one JSON object per line, and the means that go into it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

from ..data.folders import clear_write_errors
from ..io.atomic import write_text


class Journal:
    """`log.jsonl` in a run folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.jsonl"

    def trim(self, step: int) -> None:
        """Drop lines past `step`, where a run resumes, and lines cut short: no step is logged twice."""
        if not self.path.is_file():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _step_of(line) <= step]
        write_text(self.path, "".join(line + "\n" for line in kept))

    def write(self, record: Mapping[str, float]) -> None:
        """Append one record."""
        with clear_write_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def minutes(self) -> float | None:
        """Minutes of training that the records tell of, pictures and checkpoints left out; None without a record."""
        if not self.path.is_file():
            return None
        seconds, last = 0.0, 0
        for line in self.path.read_text(encoding="utf-8").splitlines():
            if math.isfinite(step := _step_of(line)):
                seconds += (step - last) / json.loads(line)["steps_per_second"]
                last = step
        return seconds / 60.0 if last else None


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf


class Meter:
    """Means of what was measured since the last flush, and the steps per second."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._steps = 0
        self._pause = 0.0
        self._since = time.monotonic()

    def add(self, values: Mapping[str, float]) -> None:
        """Note the values of one step; a step need not have all of them."""
        for key, value in values.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
            self._counts[key] = self._counts.get(key, 0) + 1
        self._steps += 1

    def pause(self, seconds: float) -> None:
        """Leave out time that was not spent on training: pictures, checkpoints."""
        self._pause += seconds

    def flush(self) -> dict[str, float]:
        """The means, with "steps_per_second"; starts anew."""
        seconds = time.monotonic() - self._since - self._pause
        record = {key: self._sums[key] / self._counts[key] for key in self._sums}
        record["steps_per_second"] = self._steps / max(seconds, 1e-9)
        self._clear()
        return record
