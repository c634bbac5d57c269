"""Writing cubemap scenes: rendered worlds, or panoramas on disk, as the folders that `CubemapScenes` reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..geometry import equirect_to_cubemap
from ..geometry.checks import check_size
from ..geometry.cubemap import FACES
from ..io.atomic import write_text
from ..io.images import load_image, to_bytes_image
from ..runtime.checks import check_least
from ..runtime.errors import InputError
from .cubemap_scenes import (
    FACES_FOLDER,
    PROMPT,
    PROMPTS_FILE,
    SOURCE,
    CubemapScenes,
    picture_size,
    read_prompts,
)
from .cubemap_worlds import render_faces
from .folders import make_folder, staged
from .worlds import caption, sample_scene

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class SourceScene:
    """One scene to be written: faces [6, 3, S, S] in 0..1, its prompt, and where it comes from."""

    faces: Tensor
    prompt: str
    source: str


def write_scene(folder: Path, scene: SourceScene) -> None:
    """Write one scene; the prompts come last, so a folder that holds them is complete. Raises InputError."""
    with staged(folder) as work:
        faces = make_folder(work / FACES_FOLDER)
        for name, pixels in zip(FACES, scene.faces, strict=True):
            to_bytes_image(pixels).save(faces / f"{name}.png", "PNG")
        prompts = {PROMPT: scene.prompt, SOURCE: scene.source}
        write_text(work / PROMPTS_FILE, json.dumps(prompts, ensure_ascii=False, indent=1) + "\n")


def write_world_scenes(
    root: Path,
    count: int,
    size: int = 512,
    *,
    split: str = "train",
    first_seed: int = 0,
    workers: int = 0,
    on_scene: Callable[[int, int], None] | None = None,
) -> None:
    """Make `root` hold the cubemaps of worlds `first_seed` … `first_seed + count − 1`, rendered by `workers` processes.

    Scenes that are complete stay, so an interrupted call continues and a larger `count` only adds. Calls
    `on_scene(done, count)`. Raises InputError for bad sizes and where `root` holds scenes of another origin.
    """
    check_least("workers", workers, 0)
    seeds = range(first_seed, first_seed + check_least("count", count))
    sources = [f"world {seed} {split} {check_size('size', size)}" for seed in seeds]
    missing = _missing(root, sources)
    rendered = DataLoader(
        _Rendered([seeds[i] for i in missing], size, split),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )

    def scenes() -> Iterator[SourceScene]:
        for index, faces in zip(missing, rendered, strict=True):
            text = caption(sample_scene(seeds[index], split=split), seeds[index]).text
            yield SourceScene(faces, text, sources[index])

    _write(root, missing, scenes(), count, on_scene)


def write_panorama_scenes(
    root: Path,
    panoramas: Path,
    size: int = 512,
    *,
    count: int | None = None,
    on_scene: Callable[[int, int], None] | None = None,
) -> None:
    """Make `root` hold the cubemaps of the first `count` (all) pictures in the folder `panoramas`, by name.

    A picture's prompt is the text of the file NAME.txt beside it, "" where there is none. See `write_world_scenes` for
    continuing. Raises InputError, before anything is written, when a picture is not twice as wide as high.
    """
    files = _panorama_files(Path(panoramas), count)
    missing = _missing(root, [f"{file.name} {check_size('size', size)}" for file in files])

    def scenes() -> Iterator[SourceScene]:
        for file in (files[i] for i in missing):
            faces = equirect_to_cubemap(load_image(file), size)[0].clamp(0.0, 1.0)
            yield SourceScene(faces, _prompt_beside(file), f"{file.name} {size}")

    _write(root, missing, scenes(), len(files), on_scene)


def write_round_trips(
    root: Path,
    scenes: CubemapScenes,
    trip: Callable[[Tensor], Tensor],
    count: int,
    on_scene: Callable[[int, int], None] | None = None,
) -> None:
    """Make `root` hold the first `count` scenes of `scenes` as an autoencoder gives them back.

    `trip` takes faces [6, 3, S, S] in 0..1 and gives as many. See `write_world_scenes` for continuing.
    """
    count = min(check_least("count", count), len(scenes))
    before = [read_prompts(scenes.root / scene).get(SOURCE, scene) for scene in scenes.scene_ids[:count]]
    sources = [f"{source} round trip" for source in before]
    missing = _missing(root, sources)

    def made() -> Iterator[SourceScene]:
        for index in missing:
            item = scenes[index]
            yield SourceScene(trip(item["faces"]), item["prompt"], sources[index])

    _write(root, missing, made(), count, on_scene)


class _Rendered(Dataset):
    """Faces of the worlds `seeds`, rendered in the process that asks."""

    def __init__(self, seeds: list[int], size: int, split: str) -> None:
        self.seeds, self.size, self.split = seeds, size, split

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> Tensor:
        return render_faces(sample_scene(self.seeds[index], split=self.split), self.size)


def _scene_folder(root: Path, index: int) -> Path:
    return Path(root) / f"scene{index:04d}"


def _missing(root: Path, sources: list[str]) -> list[int]:
    """Which scenes are not there yet. Raises InputError where one is there that comes from something else."""
    missing = []
    for index, source in enumerate(sources):
        folder = _scene_folder(root, index)
        if not (folder / PROMPTS_FILE).is_file():
            missing.append(index)
            continue
        found = read_prompts(folder).get(SOURCE)
        if found != source:
            raise InputError(f"{folder} holds {found!r}, asked was {source!r}. Choose another folder.")
    return missing


def _write(
    root: Path,
    missing: list[int],
    scenes: Iterable[SourceScene],
    count: int,
    on_scene: Callable[[int, int], None] | None,
) -> None:
    make_folder(Path(root))
    for done, (index, scene) in enumerate(zip(missing, scenes, strict=True), count - len(missing) + 1):
        write_scene(_scene_folder(root, index), scene)
        if on_scene is not None:
            on_scene(done, count)


def _panorama_files(folder: Path, count: int | None) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give the folder that holds the panoramas")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith("."))
    if not files:
        raise InputError(f"{folder} holds no pictures ({', '.join(PICTURES)})")
    if count is not None and check_least("count", count) > len(files):
        raise InputError(f"count is {count}, and {folder} holds {len(files)} pictures")
    files = files[:count]
    for file in files:
        width, height = picture_size(file, "panorama")
        if width != 2 * height:
            raise InputError(
                f"{file} is {width}x{height} pixels; an equirectangular panorama is twice as wide as high"
            )
    return files


def _prompt_beside(picture: Path) -> str:
    text = picture.with_suffix(".txt")
    try:
        return text.read_text(encoding="utf-8").strip() if text.is_file() else ""
    except UnicodeDecodeError as problem:
        raise InputError(
            f"{text} is no text in UTF-8 ({problem.reason}): save it in that encoding"
        ) from problem
