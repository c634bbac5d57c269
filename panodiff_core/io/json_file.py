"""JSON objects on disk."""

from __future__ import annotations

import json
from pathlib import Path

from ..runtime.errors import CheckpointError


def read_json(path: Path) -> dict:
    """A JSON object from disk. Raises CheckpointError when it is missing, not JSON, or not an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}): download it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, found {type(value).__name__}")
    return value
