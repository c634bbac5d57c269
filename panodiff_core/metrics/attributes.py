"""Reading attributes back from pictures: does a panorama show what its prompt said?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..runtime.errors import InputError
from .reader_files import read_reader, write_reader
from .reader_network import ReaderNetwork

SIZE = (256, 512)
LIGHT = "light"
ASSET = Path(__file__).resolve().parent.parent / "assets" / "dit360-reader"
TRAINING = "train dit360-reader --cache PANORAMAS --out RUN"


@dataclass(frozen=True)
class Reading:
    """What one panorama shows.

    `values` has one value for every attribute, the likeliest among those possible at the place that was read, or among
    all where the attribute does not exist at that place. `probabilities` are over all values of an attribute.
    `light_azimuth_deg` is -180..180, 0 ahead and 90 to the right; it means little under an overcast sky. The value of
    "light" is the direction word nearest to it.
    """

    values: dict[str, str]
    probabilities: dict[str, dict[str, float]]
    light_azimuth_deg: float


@dataclass(frozen=True)
class ReaderConfig:
    """`attributes`: name → values. `possible`: place → attribute → values that can occur there."""

    attributes: dict[str, tuple[str, ...]]
    possible: dict[str, dict[str, tuple[str, ...]]]

    def classes(self) -> tuple[int, ...]:
        """Number of values of each attribute that the network classifies ("light" comes from the azimuth)."""
        return tuple(len(values) for name, values in self.attributes.items() if name != LIGHT)


class AttributeReader:
    """Reads panoramas with a trained network."""

    def __init__(self, network: ReaderNetwork, config: ReaderConfig) -> None:
        self.network, self.config = network.train(False), config

    @torch.no_grad()
    def read(self, pixels: Tensor, batch_size: int = 8) -> list[Reading]:
        """One Reading per picture of [B, 3, H, W] in 0..1, any 2:1 size (resized to 256×512).

        Raises InputError for another shape or pixels that are not finite.
        """
        if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.shape[3] != 2 * pixels.shape[2]:
            raise InputError(f"pictures must be [B, 3, H, 2·H], got {list(pixels.shape)}")
        weight = next(self.network.parameters())
        readings = []
        for part in pixels.split(batch_size):
            logits, direction = self.network(fit(part.to(weight)))
            if not torch.isfinite(direction).all():
                raise InputError("pictures must be finite, these have NaN or infinite pixels")
            probabilities = [x.float().softmax(dim=-1).cpu() for x in logits]
            azimuths = torch.rad2deg(torch.atan2(*direction.float().unbind(dim=-1))).cpu()
            readings += [
                self._reading([p[i] for p in probabilities], float(azimuths[i])) for i in range(len(part))
            ]
        return readings

    def _reading(self, probabilities: list[Tensor], azimuth_deg: float) -> Reading:
        attributes = self.config.attributes
        names = [name for name in attributes if name != LIGHT]
        table = {
            name: dict(zip(attributes[name], p.tolist(), strict=True))
            for name, p in zip(names, probabilities, strict=True)
        }
        place = max(table["place"], key=table["place"].get)
        values = {}
        for name in attributes:
            if name == LIGHT:
                values[name] = direction_word(azimuth_deg, attributes[LIGHT])
                continue
            allowed = self.config.possible[place].get(name) or attributes[name]
            values[name] = max(allowed, key=table[name].get)
        values["place"] = place
        return Reading(values, table, azimuth_deg)


def fit(pixels: Tensor, size: tuple[int, int] = SIZE) -> Tensor:
    """Pictures at the reader's size: antialiased when they are larger, bilinear when smaller."""
    if tuple(pixels.shape[-2:]) == size:
        return pixels
    return F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)


def chance_corrected(accuracy: float, chance: float) -> float:
    """(accuracy − chance) ÷ (1 − chance): 0 is a blind guess, 1 is perfect; 1 where a guess cannot miss."""
    return (accuracy - chance) / (1.0 - chance) if chance < 1.0 else 1.0


def direction_word(azimuth_deg: float, words: tuple[str, ...]) -> str:
    """The word whose direction is nearest: `words` go clockwise in equal steps and begin straight ahead."""
    step = 360.0 / len(words)
    return words[round((azimuth_deg % 360.0) / step) % len(words)]


def load_reader(folder: Path | None = None) -> AttributeReader:
    """The reader in `folder`, or the one that ships with PanoDiff.

    Raises CheckpointError when it is absent, unreadable, not finite or does not fit its own configuration.
    """
    folder = ASSET if folder is None else Path(folder)
    network, config = read_reader(
        folder, TRAINING, config_from_json, lambda config: ReaderNetwork(config.classes())
    )
    return AttributeReader(network, config)


def save_reader(network: ReaderNetwork, config: ReaderConfig, folder: Path) -> None:
    """Write reader.safetensors (bf16) and reader.json into `folder`, each whole or not at all. Raises InputError."""
    write_reader(
        folder, network, {"attributes": config.attributes, "possible": config.possible}, torch.bfloat16
    )


def config_from_json(raw: dict) -> ReaderConfig:
    """Inverse of what `save_reader` writes. Raises KeyError for a missing entry, ValueError for a reader of faces."""
    if "scores" in raw:
        raise ValueError("it reads faces of a cube, not panoramas")
    return ReaderConfig(
        attributes={name: tuple(values) for name, values in raw["attributes"].items()},
        possible={
            place: {name: tuple(values) for name, values in table.items()}
            for place, table in raw["possible"].items()
        },
    )
