"""PanoDiff: 360° panoramas that hold up when you turn your head.

    import panodiff_core as pano
    engine = pano.load("dit360")
    picture = engine.decode(engine.sample(engine.encode("a calm sea at sunset"), seed=0))
    report = pano.seam_report(picture)

Names load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_ENGINES = ("load", "describe")
_PICTURES = ("Camera", "CubeFaces", "Panorama", "Sequence", "Views")

__all__ = [
    "Camera",
    "Cancelled",
    "CheckpointError",
    "CubeFaces",
    "InputError",
    "MemoryLimitError",
    "NumericalError",
    "PanoDiffError",
    "Panorama",
    "Sequence",
    "Step",
    "Views",
    "__version__",
    "describe",
    "load",
    "seam_report",
]


def __getattr__(name: str) -> Any:
    """Fetch a public name from where it lives (PEP 562)."""
    if name in _ENGINES:
        from . import engines as home
    elif name in _PICTURES:
        from . import pictures as home
    elif name == "Step":
        from .runtime import progress as home
    elif name == "seam_report":
        from .metrics import seams as home
    elif name in __all__:
        from .runtime import errors as home
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)


def __dir__() -> list[str]:
    return list(__all__)
