"""Folders of cubemap scenes: ROOT/sceneXXXX/faces/{F,R,B,L,U,D}.png and ROOT/sceneXXXX/prompts.json."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..geometry.checks import check_size
from ..geometry.cubemap import FACES
from ..io.images import load_image
from ..runtime.errors import InputError

log = logging.getLogger(__name__)

FACES_FOLDER, PROMPTS_FILE = "faces", "prompts.json"
PROMPT, SOURCE = "scene", "source"
WAY_OUT = "Repair or remove it, or pass skip_bad (--skip-bad) to go on without such scenes"


class CubemapScenes(Dataset):
    """Scenes in the order of their names: {"faces": [6, 3, size, size] in 0..1, "prompt": str, "scene_id": str}.

    Every subfolder of `root` that is not hidden is a scene, named by `scene_id`; other files in it, such as
    dice.png, are ignored. Faces come in the order F R B L U D as they are: nothing is resized or augmented. The prompt
    is the text at "scene" in prompts.json, "" where there is none.

    All faces and prompts are checked when the dataset is opened (headers of pictures, not their pixels). Raises
    InputError naming the first bad scene and what is wrong with it; with `skip_bad` bad scenes are left out with a
    warning in the log, and it is an error only when none is left.
    """

    def __init__(self, root: Path, size: int = 512, skip_bad: bool = False) -> None:
        self.root, self.size = Path(root), check_size("size", size)
        if not self.root.is_dir():
            raise InputError(f"there is no folder {root}: give the folder that holds the scenes")
        folders = sorted(p for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not folders:
            raise InputError(f"{root} holds no scenes; make some with `train cubemap-scenes`")
        self._prompts: dict[str, str] = {}
        bad: list[str] = []
        for folder in folders:
            try:
                # What is to be left out must be known now: hours later the data are addressed by their number.
                self._prompts[folder.name] = self._check(folder, whole=skip_bad)
            except InputError as problem:
                bad.append(str(problem))
        self._report(bad, len(folders), skip_bad)
        self.scene_ids = tuple(self._prompts)

    def __len__(self) -> int:
        return len(self.scene_ids)

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        scene = self.scene_ids[index]
        try:
            faces = torch.cat([load_image(path) for path in self.face_files(scene)])
        except InputError as problem:  # what the headers did not tell
            raise InputError(f"scene {scene}: {problem}. {WAY_OUT}") from problem
        return {"faces": faces, "prompt": self._prompts[scene], "scene_id": scene}

    def face_files(self, scene: str) -> list[Path]:
        """The files of a scene's faces, in the order F R B L U D."""
        return [self.root / scene / FACES_FOLDER / f"{face}.png" for face in FACES]

    def _check(self, folder: Path, whole: bool) -> str:
        """The prompt of a scene whose faces have the right size; `whole` reads them to their end. Raises InputError."""
        for face in FACES:
            path = folder / FACES_FOLDER / f"{face}.png"
            width, height = picture_size(path, f"scene {folder.name}: face {face}")
            if (width, height) != (self.size, self.size):
                raise InputError(
                    f"scene {folder.name}: {path} is {width}x{height} pixels, not {self.size}x{self.size}; faces are "
                    "never resized, so make the scene again at this size, or open the folder with its own size"
                )
            if whole:
                load_image(path)
        return read_prompts(folder).get(PROMPT, "")

    def _report(self, bad: list[str], total: int, skip_bad: bool) -> None:
        if bad and (not skip_bad or len(bad) == total):
            more = f" ({len(bad)} of {total} scenes are bad)" if len(bad) > 1 else ""
            out = "" if skip_bad else f". {WAY_OUT}"
            raise InputError(f"{bad[0]}{more}{out}")
        for problem in bad:
            log.warning("left out: %s", problem)
        silent = sum(not prompt for prompt in self._prompts.values())
        if silent:
            log.warning("%d of %d scenes have no prompt in %s", silent, len(self._prompts), PROMPTS_FILE)


def picture_size(path: Path, what: str) -> tuple[int, int]:
    """Width and height by the file's header. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{what} is missing: there is no {path}")
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError, Image.DecompressionBombError) as problem:
        raise InputError(f"{what}: {path} cannot be read as a picture ({problem})") from problem


def read_prompts(folder: Path) -> dict[str, str]:
    """prompts.json of a scene, {} where it is missing. Raises InputError for anything but texts by name."""
    path = folder / PROMPTS_FILE
    if not path.exists():
        return {}
    try:
        prompts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise InputError(f"scene {folder.name}: {path} cannot be read as JSON ({problem})") from problem
    if not isinstance(prompts, dict):
        raise InputError(f"scene {folder.name}: {path} must hold a JSON object, not {type(prompts).__name__}")
    for name in (PROMPT, SOURCE):
        if not isinstance(prompts.get(name, ""), str):
            raise InputError(
                f'scene {folder.name}: "{name}" in {path} is {type(prompts[name]).__name__}, not a text'
            )
    return prompts
