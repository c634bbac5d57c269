"""An engine's acceptance table: groups of comparisons, measured one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..runtime.errors import PanoDiffError
from .rows import Absent, Row, failed

Outcome = list[Row] | Absent


@dataclass(frozen=True)
class Group:
    """One line of the acceptance table: what it is called, and how its rows are measured in a folder of vectors."""

    title: str
    check: Callable[[Any], Iterator[Row]]


def measure(groups: Iterable[Group], vectors: Any) -> Iterator[tuple[str, Outcome]]:
    """Group after group: (title, rows), or (title, Absent) where a file is missing.

    A file that does not load, or lacks a tensor, and whatever else goes wrong, gives a failed row that says so after
    the rows before it.
    """
    for group in groups:
        yield group.title, _rows(group, vectors)


def _rows(group: Group, vectors: Any) -> Outcome:
    rows: list[Row] = []
    try:
        rows.extend(group.check(vectors))
    except FileNotFoundError as missing:
        return Absent(group.title, str(missing))
    except PanoDiffError as error:
        rows.append(failed("error", str(error)))
    except KeyError as missing:
        rows.append(failed("error", f"the vectors lack {missing}"))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:  # the other groups are still measured
        rows.append(failed("error", f"{type(error).__name__}: {error}"))
    return rows
