"""Cubes that STAR draws, kept on disk and used again, and cubes of worlds to compare them with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ...data.cubemap_worlds import FACE_TEXTS, render_faces
from ...data.worlds import Scene
from ...engines.star.memory import face_bytes
from ...geometry.cubemap import FACES
from ...io.atomic import atomic_file
from ...io.images import load_image, to_bytes_image
from ..console import Progress
from .pictures import KEY, Shelf, digest_of
from .scenes import to_eight_bits


@dataclass(frozen=True)
class CubeRequest:
    """Cubes to draw: one per prompt, cube i with the numbers of `seed` + i, and options of `engine.sample`.

    `strength` is the adapters', 0 for off; `directions` has every face hear its direction before the prompt.
    """

    name: str
    prompts: tuple[str, ...]
    seed: int
    strength: float
    directions: bool
    options: Mapping[str, object]

    def key(self, index: int, model: str) -> str:
        """What has to be equal for a cube on disk to be this one."""
        facts = [model, self.prompts[index], self.seed + index, self.strength, self.directions]
        return json.dumps([*facts, dict(self.options)], sort_keys=True)


class CubeStudio:
    """Draws the cubes of requests in batches and keeps each as one PNG file under `folder`, its faces F R B L U D side
    by side. `sources` are the files that the engine was loaded from.
    """

    def __init__(self, engine, folder: Path, batch: int, sources: Sequence[Path]) -> None:
        self.engine, self.batch, self._shelf = engine, batch, Shelf(folder)
        dtypes = sorted({str(p.dtype) for p in engine.generator.state_dict().values()})
        self._model = " ".join([digest_of(*sources), *dtypes])
        # A model that has such words of its own puts them around these texts by itself.
        self._directions = None if engine.config.face_texts else FACE_TEXTS

    def cubes(self, request: CubeRequest) -> Tensor:
        """Faces [N, 6, 3, S, S] in 0..1 in 8-bit steps, in the order of the prompts."""
        missing = [
            index
            for index in range(len(request.prompts))
            if not self._shelf.has(request.name, index, request.key(index, self._model))
        ]
        runs = consecutive(missing, self.batch)
        progress = Progress(request.name)
        for number, indices in enumerate(runs):
            self._make(
                request,
                indices,
                lambda step, n=number: progress.update(n * step.total + step.index, len(runs) * step.total),
            )
        strips = torch.cat(
            [load_image(self._shelf.path(request.name, index)) for index in range(len(request.prompts))]
        )
        return to_eight_bits(strips).unflatten(-1, (len(FACES), -1)).permute(0, 3, 1, 2, 4).contiguous()

    def _make(self, request: CubeRequest, indices: range, on_step) -> None:
        prompts = list(request.prompts[indices.start : indices.stop])
        condition = self.engine.encode(prompts, faces=self._directions if request.directions else {})
        latents = self.engine.sample(
            condition,
            seed=request.seed + indices.start,
            adapter_strength=request.strength,
            on_step=on_step,
            **request.options,
        )
        cubes = self.engine.decode(latents).pixels
        self._shelf.path(request.name, 0).parent.mkdir(parents=True, exist_ok=True)
        for index, prompt, faces in zip(indices, prompts, cubes, strict=True):
            text = PngInfo()
            text.add_text(KEY, request.key(index, self._model))
            text.add_text("Description", prompt)
            with atomic_file(self._shelf.path(request.name, index)) as file:
                to_bytes_image(torch.cat(list(faces), dim=-1)).save(file, "PNG", pnginfo=text)


def consecutive(indices: Sequence[int], most: int) -> list[range]:
    """Ascending indices as ranges of at most so many: cubes that are drawn together have consecutive seeds."""
    runs: list[range] = []
    for index in indices:
        if runs and index == runs[-1].stop and len(runs[-1]) < most:
            runs[-1] = range(runs[-1].start, index + 1)
        else:
            runs.append(range(index, index + 1))
    return runs


def render_cubes(scenes: Sequence[Scene], size: int) -> Tensor:
    """Cubes [N, 6, 3, size, size] of worlds in 0..1, rounded to 8 bits as every saved picture is."""
    return to_eight_bits(torch.stack([render_faces(scene, size) for scene in scenes]))


@torch.no_grad()
def through_autoencoder(engine, cubes: Tensor) -> Tensor:
    """Cubes [N, 6, 3, S, S] in 0..1 coded by the engine's autoencoder and decoded, in 8-bit steps."""
    vqvae, trips = engine.vqvae, []
    with engine.placement.use("vae", engine.stages["vae"], len(FACES) * face_bytes(vqvae)) as device:
        for faces in cubes:
            trips.append(vqvae.decode_indices(vqvae.encode(faces.to(device))).cpu())
    return to_eight_bits(torch.stack(trips))
