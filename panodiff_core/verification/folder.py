"""A folder of golden vectors of any size, read by the names of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ..io.checkpoints.safetensors_files import open_file
from ..io.json_file import read_json
from ..runtime.errors import InputError


class VectorFolder:
    """Read access to a folder of vectors. Raises InputError when there is no such folder; a file that it lacks raises
    FileNotFoundError when it is asked for.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}: give the folder that holds the vectors")
        self.folder = folder
        self._tensors: dict[str, dict[str, Tensor]] = {}

    def path(self, file: str) -> Path:
        """The file of that name. Raises FileNotFoundError."""
        path = self.folder / file
        if not path.is_file():
            raise FileNotFoundError(file)
        return path

    def files(self, *patterns: str) -> list[Path]:
        """The files that match, sorted. Raises FileNotFoundError naming the first pattern when there is none."""
        found = sorted({path for pattern in patterns for path in self.folder.glob(pattern)})
        if not found:
            raise FileNotFoundError(patterns[0])
        return found

    def tensors(self, name: str) -> dict[str, Tensor]:
        """All tensors of NAME.safetensors."""
        if name not in self._tensors:
            handle = open_file(self.path(f"{name}.safetensors"))
            self._tensors[name] = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
        return self._tensors[name]

    def metadata(self, name: str) -> dict[str, str]:
        """The header's metadata of NAME.safetensors."""
        return dict(open_file(self.path(f"{name}.safetensors")).metadata() or {})

    def json(self, file: str) -> dict[str, Any]:
        """The JSON object in a file."""
        return read_json(self.path(file))
