"""Reading attributes back from the faces of a cube, each by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..geometry.cubemap import FACES
from ..runtime.errors import InputError
from .attributes import LIGHT, fit
from .reader_files import read_reader, write_reader
from .reader_network import ReaderNetwork

ASSET = Path(__file__).resolve().parent.parent / "assets" / "star-reader"
TRAINING = "train star-reader --scenes SCENES --check HELD_OUT_SCENES --out RUN"
SIZE = 128
COUNTED_FROM = 0.9
"""An attribute counts on a kind of face where the reader is right so often on true faces, chance-corrected."""
KINDS = ("sides", "U", "D")


def kind_of(face: int) -> str:
    """The kind of a face (its index in F R B L U D): worlds have no forward, so their four sides are of one kind."""
    return FACES[face] if FACES[face] in KINDS else KINDS[0]


@dataclass(frozen=True)
class FaceReaderConfig:
    """`attributes`: name → values, without the light, whose direction a single face does not tell. `scores`: kind of
    face → attribute → chance-corrected accuracy on `checked` true held-out worlds.
    """

    attributes: dict[str, tuple[str, ...]]
    scores: dict[str, dict[str, float]]
    checked: int

    def classes(self) -> tuple[int, ...]:
        """Number of values of each attribute."""
        return tuple(map(len, self.attributes.values()))

    def counts(self, face: int, name: str) -> bool:
        """Whether what is read of an attribute on a face (its index in F R B L U D) says anything."""
        return self.scores[kind_of(face)].get(name, 0.0) >= COUNTED_FROM


class FaceReader:
    """Reads cube faces with a trained network."""

    def __init__(self, network: ReaderNetwork, config: FaceReaderConfig) -> None:
        self.network, self.config = network.train(False), config

    @torch.no_grad()
    def read(self, faces: Tensor) -> list[tuple[Mapping[str, str], ...]]:
        """For every cube of [B, 6, 3, S, S] in 0..1 six readings, F R B L U D: the likeliest value of each attribute.

        Faces are resized to 128×128; none of them knows of the others, nor which it is. Raises InputError for another
        shape or pixels that are not finite.
        """
        if faces.ndim != 5 or faces.shape[1:3] != (len(FACES), 3) or faces.shape[-1] != faces.shape[-2]:
            raise InputError(f"cube faces must be [B, 6, 3, S, S], got {list(faces.shape)}")
        if not torch.isfinite(faces).all():
            raise InputError("cube faces must be finite, these have NaN or infinite pixels")
        weight = next(self.network.parameters())
        return [self._cube(fit(cube.to(weight), (SIZE, SIZE))) for cube in faces]

    def _cube(self, faces: Tensor) -> tuple[Mapping[str, str], ...]:
        logits, _ = self.network(faces)
        best = torch.stack([scores.argmax(dim=-1) for scores in logits], dim=1).tolist()
        attributes = self.config.attributes
        return tuple(
            {name: attributes[name][i] for name, i in zip(attributes, row, strict=True)} for row in best
        )


def new_network(config: FaceReaderConfig) -> ReaderNetwork:
    """An untrained network for faces."""
    return ReaderNetwork(config.classes(), height=SIZE, ring=False)


def load_face_reader(folder: Path | None = None) -> FaceReader:
    """The reader in `folder`, by default the one that ships; `train star-reader` writes others.

    Raises CheckpointError when it is absent, unreadable, not finite or does not fit its own configuration.
    """
    folder = ASSET if folder is None else Path(folder)
    return FaceReader(*read_reader(folder, TRAINING, _config, new_network))


def save_face_reader(network: ReaderNetwork, config: FaceReaderConfig, folder: Path) -> None:
    """Write reader.safetensors (fp16) and reader.json into `folder`, each whole or not at all. Raises InputError."""
    values = {"attributes": config.attributes, "scores": config.scores, "checked": config.checked}
    write_reader(folder, network, values, torch.float16)


def _config(raw: dict) -> FaceReaderConfig:
    if "possible" in raw:
        raise ValueError("it reads panoramas, not faces of a cube")
    missing = [kind for kind in KINDS if kind not in raw["scores"]]
    if missing or LIGHT in raw["attributes"]:
        raise ValueError(
            f"its scores lack {', '.join(missing)}" if missing else "faces do not tell the light"
        )
    attributes = {name: tuple(values) for name, values in raw["attributes"].items()}
    return FaceReaderConfig(attributes, raw["scores"], raw["checked"])
