"""Pictures with their attributes, disturbed as generated ones are, for training readers; batches of panoramas."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from .panoramas import PanoramaCache
from .worlds import ATTRIBUTES, LIGHT_WORDS, Scene, sample_scene, values_of

NOT_THERE = -100
"""Class of an attribute that a scene does not have; losses leave it out."""

READ = tuple(name for name in ATTRIBUTES if name != "light")
"""Attributes that are classified; the light's direction is read as an angle."""


def options_of(place: str, name: str) -> int:
    """Among how many values an attribute is drawn at a place; a blind guess hits one in so many."""
    if name == "place":
        return len(ATTRIBUTES["place"])
    return len(LIGHT_WORDS) if name == "light" else len(values_of(place, name))


def reading_targets(scene: Scene) -> tuple[list[int], tuple[float, float, float]]:
    """(class per attribute of READ, (sin, cos, 1) of the light's azimuth or three zeros where it has none)."""
    known = scene.attributes()
    classes = [NOT_THERE if known[n] is None else ATTRIBUTES[n].index(known[n]) for n in READ]
    if scene.light_azimuth_deg is None:
        return classes, (0.0, 0.0, 0.0)
    angle = math.radians(scene.light_azimuth_deg)
    return classes, (math.sin(angle), math.cos(angle), 1.0)


class ReadingBatches(Dataset):
    """Batch i depends on (seed, i) alone: {"pixels": [B, 3, H, W] 0..1, "classes": [B, A], "light": [B, 3]}.

    Pictures come from several caches (plain renderings, autoencoder round trips), turned by any number of columns and
    half of them mirrored, with some blur, noise, contrast and colour cast.
    """

    def __init__(
        self, caches: tuple[PanoramaCache, ...], batch_size: int, seed: int, disturb: bool = True
    ) -> None:
        self.caches, self.batch_size, self.seed, self.disturb = caches, batch_size, seed, disturb

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        samples = [self._sample(rng) for _ in range(self.batch_size)]
        return {
            "pixels": torch.stack([s[0] for s in samples]),
            "classes": torch.tensor([s[1] for s in samples]),
            "light": torch.tensor([s[2] for s in samples]),
        }

    def _sample(self, rng: np.random.Generator) -> tuple[Tensor, list[int], tuple[float, float, float]]:
        cache = self.caches[int(rng.integers(len(self.caches)))]
        entry = int(rng.integers(len(cache)))
        pixels = cache[entry].float() / 255.0
        turn = int(rng.integers(pixels.shape[-1]))
        scene = sample_scene(cache.seed(entry), split=cache.split).rotated(360.0 * turn / pixels.shape[-1])
        classes, (sin, cos, there) = reading_targets(scene)
        pixels = torch.roll(pixels, turn, dims=-1)
        if rng.random() < 0.5:
            pixels, sin = pixels.flip(-1), -sin
        return (disturbed(pixels, rng) if self.disturb else pixels), classes, (sin, cos, there)


def disturbed(pixels: Tensor, rng: np.random.Generator, ring: bool = True) -> Tensor:
    """A picture [3, H, W] in 0..1 with some blur (across the wrap on a `ring`), noise, contrast and colour cast."""
    if rng.random() < 0.4:
        wide = F.pad(pixels[None], (1, 1, 0, 0), mode="circular" if ring else "replicate")
        share = float(rng.random())
        blurred = F.avg_pool2d(F.pad(wide, (0, 0, 1, 1), mode="replicate"), 3, stride=1)[0]
        pixels = torch.lerp(pixels, blurred, share)
    gain = 1.0 + 0.06 * torch.tensor(rng.standard_normal((3, 1, 1)), dtype=torch.float32)
    offset = 0.02 * torch.tensor(rng.standard_normal((3, 1, 1)), dtype=torch.float32)
    pixels = pixels * gain + offset
    if rng.random() < 0.5:
        noise = torch.from_numpy(rng.standard_normal(tuple(pixels.shape), dtype=np.float32))
        pixels = pixels + 0.03 * float(rng.random()) * noise
    return pixels.clamp(0.0, 1.0)
