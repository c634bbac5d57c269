"""A folder of golden vectors: official-format weights, inputs and outputs of the reference implementations.

Nothing about sizes is assumed: token grids, depths, batch and steps come from the files' headers and tensors.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ....io.checkpoints.safetensors_files import open_file
from ....io.json_file import read_json
from ....runtime.errors import InputError
from ....runtime.placement import Resident
from ....schedulers.flow_matching import FlowMatchConfig
from ..checkpoint import Components, load_part
from ..config import DiT360Config, SamplingOptions
from ..engine import DiT360Engine

TRANSFORMER_FILE, VAE_FILE = "transformer_diffusers.safetensors", "vae_diffusers.safetensors"
CONFIGS = {
    "transformer": "transformer_config.json",
    "vae": "vae_config.json",
    "text_encoder": "clip_config.json",
    "text_encoder_2": "t5_config.json",
}


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

    def part(self, file: str, name: str) -> nn.Module:
        """One part of the model out of a weight file, float32, with the configuration that the folder gives."""
        return load_part(self.path(file), name, torch.float32, self.json(CONFIGS[name]))

    def transformer(self) -> nn.Module:
        """The transformer with the folder's weights in float32, a fresh copy that may be changed."""
        return self.part(TRANSFORMER_FILE, "transformer")

    def vae(self) -> nn.Module:
        """The autoencoder with the folder's weights in float32."""
        return self.part(VAE_FILE, "vae")

    def scheduler(self) -> FlowMatchConfig:
        """The noise schedule that the vectors were made with."""
        values = self.json("scheduler_config.json")
        return FlowMatchConfig(
            **{k: v for k, v in values.items() if k in FlowMatchConfig.__dataclass_fields__}
        )

    def engine(self, transformer: nn.Module, vae: nn.Module | None = None) -> DiT360Engine:
        """An engine without text encoders around these modules, with the settings of t2i.safetensors."""
        about = self.metadata("t2i")
        names = ("height", "width", "steps")
        options = {name: int(about[name]) for name in names} | {"guidance": float(about["guidance"])}
        text = SimpleNamespace(clip=nn.Identity(), t5=nn.Identity())
        config = DiT360Config(defaults=SamplingOptions(**options))
        parts = Components(transformer, vae or self.vae(), text, self.scheduler(), config)
        return DiT360Engine(parts, Resident("cpu"))


def grid_of(metadata: dict[str, str]) -> tuple[int, int]:
    """Latent height and width of a file's pictures."""
    return 2 * int(metadata["n_h"]), 2 * int(metadata["n_w"])
