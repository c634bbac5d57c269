"""What an engine can do, asked of the engine itself, so that the generic nodes need no list of engines."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from ..panodiff_core.engines import ENGINES
from ..panodiff_core.runtime.errors import InputError


def takes(call: Callable, option: str) -> bool:
    """Whether an engine's `encode`, `sample` or `decode` has this option."""
    return option in inspect.signature(call).parameters


def title_of(engine) -> str:
    """The engine's name for people."""
    return ENGINES[engine.name].title


def require_engine(engine, name: str, node: str) -> None:
    """Raises InputError unless `engine` is the one of that name, which the node is made for."""
    if engine.name != name:
        wanted = ENGINES[name].title
        raise InputError(
            f"{node} works with {wanted}, and this engine is {title_of(engine)}: connect Load {wanted}"
        )


def require_condition(condition, kind: type, engine) -> None:
    """Raises InputError unless `condition` is what the engine's `encode` returns."""
    if not isinstance(condition, kind):
        raise InputError(
            f"the condition was made by another engine than {title_of(engine)}: encode the prompt with the engine that "
            "samples"
        )
