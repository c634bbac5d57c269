"""Checks of single values that every engine takes."""

from __future__ import annotations

from .errors import InputError


def check_least(name: str, value: int, low: int = 1) -> int:
    """`value` if it is a whole number of at least `low`. Raises InputError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(f"{name} must be a whole number of at least {low}, got {value!r}")
    return value


def check_count(name: str, value: int, low: int, high: int) -> None:
    """Raise InputError unless `value` is a whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
