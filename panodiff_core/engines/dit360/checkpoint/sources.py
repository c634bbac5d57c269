"""Which file of which repository belongs in which folder: where DiT360's weights come from.

The one table behind the `download` command, the messages about missing files and docs/weights.md. Folders are
below a models folder, such as ComfyUI's own; repositories are named in full, as on huggingface.co.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from types import MappingProxyType

from ....runtime.errors import InputError

SITE = "https://huggingface.co"
FLUX = "black-forest-labs/FLUX.1-dev"
TEXT_ENCODERS = "comfyanonymous/flux_text_encoders"
LORA = "Insta360-Research/DiT360-Panorama-Image-Generation"
FLUX_FOLDER, LORA_FOLDER = "diffusers/FLUX.1-dev", "loras/DiT360"

LAYOUTS = ("diffusers", "comfyui")
T5_PRECISIONS = ("fp16", "fp8")
GATED = frozenset({FLUX})
"""Repositories that ask for their licence to be accepted before a file can be fetched."""
PARTS = MappingProxyType(
    {
        "settings": "FLUX.1-dev's model_index.json and scheduler",
        "transformer": "FLUX.1-dev's transformer",
        "vae": "FLUX.1-dev's VAE",
        "clip": "CLIP-L, the text encoder for the pooled vector",
        "t5": "T5-XXL, the text encoder for the sequence",
        "lora": "DiT360's LoRA, which turns FLUX.1-dev into DiT360",
    }
)
# What a model folder's sub-folders and the usual file names are called here.
_OTHER_NAMES = {
    "model_index.json": "settings",
    "scheduler": "settings",
    "ae.safetensors": "vae",
    "text_encoder": "clip",
    "tokenizer": "clip",
    "clip_l": "clip",
    "text_encoder_2": "t5",
    "tokenizer_2": "t5",
    "t5xxl": "t5",
}

_MODELS = "models is ComfyUI's models folder, or any folder of yours"


@dataclass(frozen=True)
class Source:
    """Files of one repository that make up one part.

    `files` are names or shell patterns, each of which must exist; `optional` ones may be absent. `folder` lies
    below the models folder; `tree` keeps the repository's sub-folders there. `layout` None: the same in all.
    `size_gb` is for people (10^9 bytes, rounded; None where nobody measured it), the exact size comes from the hub.
    """

    part: str
    layout: str | None
    repo: str
    files: tuple[str, ...]
    folder: str
    size_gb: float | None
    optional: tuple[str, ...] = ()
    tree: bool = False
    precision: str | None = None

    @property
    def page(self) -> str:
        """The repository's web page."""
        return f"{SITE}/{self.repo}"

    def place(self, path: str) -> PurePosixPath:
        """Where a file of the repository goes, relative to the models folder. Raises InputError for a path
        that would leave the folder.
        """
        name = PurePosixPath(path)
        if name.is_absolute() or ".." in name.parts or "\\" in path or ":" in path:
            raise InputError(f"{self.repo} lists {path!r}, which is no plain file name; it is not fetched.")
        return PurePosixPath(self.folder) / (name if self.tree else name.name)


def _flux(part: str, files: tuple[str, ...], size_gb: float | None) -> Source:
    return Source(part, "diffusers", FLUX, files, FLUX_FOLDER, size_gb, tree=True)


def _single(
    part: str, repo: str, file: str, folder: str, size_gb: float, precision: str | None = None
) -> Source:
    return Source(part, "comfyui", repo, (file,), folder, size_gb, precision=precision)


SOURCES: tuple[Source, ...] = (
    _flux("settings", ("model_index.json", "scheduler/scheduler_config.json"), None),
    _flux("transformer", ("transformer/*.json", "transformer/*.safetensors"), 23.8),
    _flux("vae", ("vae/*.json", "vae/*.safetensors"), 0.17),
    _flux(
        "clip",
        ("text_encoder/*.json", "text_encoder/*.safetensors", "tokenizer/*.json", "tokenizer/*.txt"),
        0.25,
    ),
    _flux(
        "t5",
        (
            "text_encoder_2/*.json",
            "text_encoder_2/*.safetensors",
            "tokenizer_2/*.json",
            "tokenizer_2/*.model",
        ),
        9.5,
    ),
    _single("transformer", FLUX, "flux1-dev.safetensors", "diffusion_models", 23.8),
    _single("vae", FLUX, "ae.safetensors", "vae", 0.34),
    _single("clip", TEXT_ENCODERS, "clip_l.safetensors", "text_encoders", 0.25),
    _single("t5", TEXT_ENCODERS, "t5xxl_fp16.safetensors", "text_encoders", 9.8, "fp16"),
    _single("t5", TEXT_ENCODERS, "t5xxl_fp8_e4m3fn.safetensors", "text_encoders", 4.9, "fp8"),
    Source(
        "lora",
        None,
        LORA,
        ("adapter_model.safetensors",),
        LORA_FOLDER,
        None,
        optional=("adapter_config.json",),
    ),
)


def choose(
    layout: str, only: Iterable[str] = (), t5: str | None = None, lora_from: str | None = None
) -> tuple[Source, ...]:
    """The sources of a layout, or of some of its parts.

    `t5`: one of `T5_PRECISIONS`, for the single files (None: fp16). `lora_from`: "OWNER/REPO/FILE", another place
    to take the LoRA from. Raises InputError for an unknown layout or part, and for options that have no effect.
    """
    if layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}: there are {', '.join(LAYOUTS)}.")
    if t5 is not None and (layout == "diffusers" or t5 not in T5_PRECISIONS):
        raise InputError(
            f"--t5 {t5} has no effect: it is one of {', '.join(T5_PRECISIONS)}, and for --layout comfyui."
        )
    wanted = set(only)
    offered = [
        s for s in SOURCES if s.layout in (None, layout) and s.precision in (None, t5 or T5_PRECISIONS[0])
    ]
    strange = sorted(wanted - {source.part for source in offered})
    if strange:
        parts = ", ".join(dict.fromkeys(source.part for source in offered))
        raise InputError(f"the {layout} layout has no part {', '.join(strange)}: there are {parts}.")
    chosen = [source for source in offered if not wanted or source.part in wanted]
    if lora_from is None:
        return tuple(chosen)
    if not any(source.part == "lora" for source in chosen):
        raise InputError(f"--lora-from {lora_from} has no effect without the part lora; leave it out.")
    return tuple(_moved(source, lora_from) if source.part == "lora" else source for source in chosen)


def _moved(source: Source, where: str) -> Source:
    owner, _, rest = where.partition("/")
    name, _, file = rest.partition("/")
    if not (owner and name and file.endswith(".safetensors")):
        raise InputError(
            f"--lora-from is {where!r}; give OWNER/REPO/FILE, such as {LORA}/{source.files[0]}; the file must be "
            "safetensors."
        )
    path = PurePosixPath(file)  # the configuration counts in PEFT's layout only
    configs = (path.with_name("adapter_config.json").as_posix(),) if path.name == source.files[0] else ()
    return replace(source, repo=f"{owner}/{name}", files=(file,), optional=configs)


def command(part: str | None, layout: str | None) -> str:
    """The command line that fetches one part, or all of a layout."""
    choice = (f" --layout {layout}" if layout else "") + (f" --only {part}" if part else "")
    return f"python -m panodiff_core download dit360{choice} --to models"


def by_hand(source: Source) -> str:
    """One line: which files, from where, to which folder below the models folder."""
    size = "" if source.size_gb is None else f" (about {source.size_gb:g} GB)"
    gate = " (accept its licence there first)" if source.repo in GATED else ""
    kept = ", keeping the sub-folders" if source.tree else ""
    names = ", ".join((*source.files, *(f"{name} if there is one" for name in source.optional)))
    return f"{names}{size} from {source.page}{gate} to models/{source.folder}/{kept}"


def where_to_get_all() -> str:
    """`where_to_get` for FLUX.1-dev as a whole, in the diffusers layout."""
    whole = [source for source in SOURCES if source.layout == "diffusers"]
    files = dict.fromkeys(file.split("/")[0] for source in whole for file in source.files)
    size = round(sum(source.size_gb or 0.0 for source in whole), 1)
    lines = [f"FLUX.1-dev as a folder of the diffusers layout; {_MODELS}:"]
    lines += [f"  {by_hand(_flux('all', tuple(files), size))}", f"  or run: {command(None, None)}"]
    return "\n".join(lines)


def where_to_get(part: str, layout: str | None = None) -> str:
    """Which file, from where, to which folder, and the command: text to end a message about a missing file.

    `part` is one of `PARTS`, the name of a model folder's sub-folder, or a path below that
    ("text_encoder_2/config.json"); `layout` is one of `LAYOUTS`, or None for all. Raises InputError for a part
    that does not exist.
    """
    first = part.split("/")[0]
    name = _OTHER_NAMES.get(first, first)
    if name not in PARTS:
        raise InputError(f"no part of DiT360 is called {part!r}: there are {', '.join(PARTS)}.")
    found = [s for s in SOURCES if s.part == name and (layout is None or s.layout in (None, layout))]
    if not found:
        raise InputError(f"the {layout} layout has no part {name}.")
    lines = [f"{PARTS[name]} ({name}); {_MODELS}:"]
    titles = {"diffusers": "diffusers layout: ", "comfyui": "single file: ", None: ""}
    lines += [f"  {titles[source.layout]}{by_hand(source)}" for source in found]
    lines += [f"  or run: {command(name, each)}" for each in dict.fromkeys(source.layout for source in found)]
    return "\n".join(lines)
