"""Faces of worlds on disk with their attributes, whole cubes or batches to train a reader on."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..geometry.cubemap import FACES
from ..io.images import load_image
from ..runtime.checks import check_least
from ..runtime.errors import InputError
from .cube_tokens import SIDES
from .cubemap_scenes import FACES_FOLDER, SOURCE, CubemapScenes, read_prompts
from .readings import disturbed, reading_targets
from .worlds import Scene, sample_scene


class WorldScenes:
    """The worlds of a folder of scenes, as `train cubemap-scenes` or `train star-round-trips` wrote them.

    Raises InputError where a scene is no world.
    """

    def __init__(self, scenes: CubemapScenes) -> None:
        self.scenes = scenes
        self.held_out = True  # plain renderings of held-out worlds, all of them
        self.worlds: tuple[Scene, ...] = tuple(self._world(scene) for scene in scenes.scene_ids)

    def __len__(self) -> int:
        return len(self.worlds)

    def face(self, index: int, face: int) -> Tensor:
        """One face [3, S, S] in 0..1 of a scene."""
        scenes = self.scenes
        return load_image(scenes.root / scenes.scene_ids[index] / FACES_FOLDER / f"{FACES[face]}.png")[0]

    def cube(self, index: int) -> Tensor:
        """All faces [6, 3, S, S] of a scene."""
        return self.scenes[index]["faces"]

    def _world(self, scene: str) -> Scene:
        source = read_prompts(self.scenes.root / scene).get(SOURCE, "")
        match = re.match(r"world (\d+) (\w+) \d+( round trip)?$", source)
        if match is None:
            raise InputError(
                f"{self.scenes.root / scene} is no rendered world ({SOURCE} {source!r}), so its attributes are not known: "
                "give a folder from `train cubemap-scenes` without --panoramas"
            )
        self.held_out = self.held_out and match[2] == "held_out" and match[3] is None
        return sample_scene(int(match[1]), split=match[2])


class FaceReadings(Dataset):
    """Batch i depends on (seed, i) alone: {"pixels": [B, 3, S, S] in 0..1, "classes": [B, A]}, single faces.

    They come from several folders (plain renderings, autoencoder round trips), half of them mirrored, those above and
    below in any quarter turn, with some blur, noise, contrast and colour cast. Classes are those of `reading_targets`:
    of the whole scene, whether or not they can be told from the face.
    """

    def __init__(self, folders: tuple[WorldScenes, ...], batch_size: int, seed: int) -> None:
        self.folders, self.batch_size, self.seed = folders, check_least("batch_size", batch_size), seed

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        samples = [self._sample(rng) for _ in range(self.batch_size)]
        return {
            "pixels": torch.stack([pixels for pixels, _ in samples]),
            "classes": torch.tensor([classes for _, classes in samples]),
        }

    def _sample(self, rng: np.random.Generator) -> tuple[Tensor, list[int]]:
        folder = self.folders[int(rng.integers(len(self.folders)))]
        scene, face = int(rng.integers(len(folder))), int(rng.integers(len(FACES)))
        pixels = folder.face(scene, face)
        if face >= SIDES:
            pixels = pixels.rot90(int(rng.integers(4)), (-2, -1))
        if rng.random() < 0.5:
            pixels = pixels.flip(-1)
        return disturbed(pixels, rng, ring=False), reading_targets(folder.worlds[scene])[0]
