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

    `small_model` is None where this version has none; `files` then says what to give and where from. `verify` compares
    the engine with a folder of golden vectors, group by group. `report` has a loaded engine try a prompt and tells
    (what, value): engine, prompt, on_step.
    """

    name: str
    title: str
    summary: str
    small_model: Path | None
    files: str
    load: Callable[..., Any]
    missing_files: Callable[[Path], list[str]]
    verify: Callable[[Path], Iterator[tuple[str, Outcome]]]
    report: Callable[..., list[tuple[str, str]]]


@dataclass(frozen=True)
class EngineStatus:
    """Whether an engine's own model is installed; `missing` lists files relative to `folder`, which is None where this
    version has no such model. `files` says what other models the engine takes.
    """

    name: str
    title: str
    summary: str
    folder: Path | None
    missing: tuple[str, ...]
    files: str = ""

    @property
    def installed(self) -> bool:
        """There is one, and nothing of it is missing."""
        return self.folder is not None and not self.missing


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


def _load_star(model: Path, **options: Any) -> Any:
    from .star.engine import load as load_engine

    return load_engine(model, **options)


def _missing_star(folder: Path) -> list[str]:
    from .star.checkpoint import missing_files

    return missing_files(folder)


def _verify_star(folder: Path) -> Iterator[tuple[str, Outcome]]:
    from .star.verification import verify

    return verify(folder)


def _report_star(engine: Any, prompt: str, on_step: Callable[..., None]) -> list[tuple[str, str]]:
    from .star.report import report

    return report(engine, prompt, on_step)


ENGINES: Mapping[str, EngineEntry] = MappingProxyType(
    {
        "dit360": EngineEntry(
            name="dit360",
            title="DiT360",
            summary="text to panorama with FLUX.1-dev's topology and a ring of latents",
            small_model=ASSETS / "dit360-small",
            files="a folder of FLUX.1-dev in diffusers' layout, or a weight file (docs/weights.md)",
            load=_load_dit360,
            missing_files=_missing_dit360,
            verify=_verify_dit360,
            report=_report_dit360,
        ),
        "star": EngineEntry(
            name="star",
            title="STAR",
            summary="text to the six faces of a cube with STAR's topology and FaceRay across the edges",
            small_model=ASSETS / "star-small",
            files="a folder with config.json, star.safetensors, vqvae.safetensors, text_encoder/ and tokenizer/, or "
            "STAR's weight file (huggingface.co/taocrayon/STAR) with vae_ch160v4096z32.pth "
            "(huggingface.co/FoundationVision/var) as vqvae and the text encoder of Stable Diffusion 2.1 as text",
            load=_load_star,
            missing_files=_missing_star,
            verify=_verify_star,
            report=_report_star,
        ),
    }
)


def load(name: str = "dit360", model: str | Path | None = None, **options: Any) -> Any:
    """Load an engine with a model folder or weight file, or with the small model that ships with PanoDiff.

    `name` is an engine or, for short, the path of a model of DiT360. `options`: dtype, storage, device, offload,
    attention and those of the engine's own `load`. Raises InputError for an unknown engine, CheckpointError
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
        if entry.small_model is None:
            raise CheckpointError(f"this version has no small model of {entry.title}: give {entry.files}")
        if not entry.small_model.is_dir():
            raise CheckpointError(
                f"the small model of {entry.title} is not installed at {entry.small_model}: "
                "install PanoDiff again, or give the folder of another model"
            )
        model = entry.small_model
    return entry.load(Path(model), **options)


def describe() -> tuple[EngineStatus, ...]:
    """All engines and what their small models lack. Reads no weights."""
    return tuple(_status(entry) for entry in ENGINES.values())


def _status(entry: EngineEntry) -> EngineStatus:
    folder = entry.small_model
    missing = () if folder is None else tuple(entry.missing_files(folder))
    return EngineStatus(entry.name, entry.title, entry.summary, folder, missing, entry.files)
