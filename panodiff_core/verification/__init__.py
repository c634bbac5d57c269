"""An engine against golden vectors of its reference implementation: reading a folder, comparing, and the results.

What is compared belongs to the engines: `engines/NAME/verification` has `verify(folder)`, which yields (title, rows) or
(title, Absent) for each group of its acceptance table.
"""

from __future__ import annotations

from .folder import VectorFolder
from .groups import Group, Outcome, measure
from .results import Results
from .rows import Absent, Row, compare, compare_scaled, failed

__all__ = [
    "Absent",
    "Group",
    "Outcome",
    "Results",
    "Row",
    "VectorFolder",
    "compare",
    "compare_scaled",
    "failed",
    "measure",
]
