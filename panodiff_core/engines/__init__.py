"""The engines that are installed, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..runtime.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from ..verification import Outcome

ASSETS = Path(__file__).resolve().parent.parent / "assets"


@dataclass(frozen=True)
class EngineEntry:
    """One engine: what it is called, where its small model lies, how it loads and how it is checked.

    `verify` compares it with a folder of golden vectors, group by group. `report` has a loaded engine try a prompt and
    tells (what, value): engine, prompt, on_step.
    """

    name: str
    title: str
    summary: str
    small_model: Path
    load: Callable[..., Any]
    missing_files: Callable[[Path], list[str]]
    verify: Callable[[Path], Iterator[tuple[str, Outcome]]]
    report: Callable[..., list[tuple[str, str]]]


@dataclass(frozen=True)
class EngineStatus:
    """Whether an engine's own model is installed; `missing` lists files relative to `folder`."""

    name: str
    title: str
    summary: str
    folder: Path
    missing: tuple[str, ...]

    @property
    def installed(self) -> bool:
        """Nothing is missing."""
        return not self.missing


def _load_dit360(model: Path, **options: Any) -> Any:
    from .dit360.engine import load as load_engine

    return load_engine(model, **options)


def _missing_dit360(folder: Path) -> list[str]:
    from .dit360.checkpoint import missing_files

    return missing_files(folder)


def _verify_dit360(folder: Path) -> Iterator[tuple[str, Outcome]]:
    from .dit360.verification import verify

    return verify(folder)


def _report_dit360(engine: Any, prompt: str, on_step: Callable[..., None]) -> list[tuple[str, str]]:
    from .dit360.report import report

    return report(engine, prompt, on_step)


ENGINES: Mapping[str, EngineEntry] = MappingProxyType(
    {
        "dit360": EngineEntry(
            name="dit360",
            title="DiT360",
            summary="text to panorama with FLUX.1-dev's topology and a ring of latents",
            small_model=ASSETS / "dit360-small",
            load=_load_dit360,
            missing_files=_missing_dit360,
            verify=_verify_dit360,
            report=_report_dit360,
        )
    }
)


def load(name: str = "dit360", model: str | Path | None = None, **options: Any) -> Any:
    """Load an engine with a model folder or weight file, or with the small model that ships with PanoDiff.

    `name` is an engine or, for short, the path of a model. `options`: parts, dtype, storage, device,
    offload, attention, lora; see the engine's own `load`. Raises InputError for an unknown engine, CheckpointError
    when the model is not there.
    """
    if name not in ENGINES:
        if model is None and Path(name).expanduser().exists():
            name, model = "dit360", name
        else:
            raise InputError(
                f"unknown engine {name!r}: there are {', '.join(ENGINES)}; or give a model that exists"
            )
    entry = ENGINES[name]
    if model is None:
        if not entry.small_model.is_dir():
            raise CheckpointError(
                f"the small model of {entry.title} is not installed at {entry.small_model}: "
                "install PanoDiff again, or give the folder of another model"
            )
        model = entry.small_model
    return entry.load(Path(model), **options)


def describe() -> tuple[EngineStatus, ...]:
    """All engines and what their small models lack. Reads no weights."""
    return tuple(
        EngineStatus(e.name, e.title, e.summary, e.small_model, tuple(e.missing_files(e.small_model)))
        for e in ENGINES.values()
    )
