"""Generated pictures, kept on disk and used again as long as the model and the settings are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...io.images import load_image, read_text, save_panorama
from ...runtime.errors import InputError
from ..console import Progress
from .scenes import to_eight_bits

KEY = "panodiff-evaluate"
"""Under which a picture's file tells what made it."""


def fingerprint(engine) -> str:
    """Changes when any weights or settings of an engine's folder, or its LoRA, do: a digest of names, sizes and times
    of change.
    """
    digest = hashlib.sha256(_facts(engine.folder))
    if engine.loras is not None:
        for weights, strength in zip(engine.loras.adapters, engine.loras.strengths, strict=True):
            digest.update(f"{weights.file.name} {_state(weights.file)} {strength}".encode())
    return digest.hexdigest()[:16]


def digest_of(*sources: Path) -> str:
    """The same for any model folders and weight files."""
    return hashlib.sha256(b"".join(map(_facts, sources))).hexdigest()[:16]


def _facts(source: Path) -> bytes:
    if source.is_file():
        return f"{source.name} {_state(source)}\n".encode()
    paths = sorted([*source.rglob("*.safetensors"), *source.rglob("*.json")])
    return "".join(f"{p.relative_to(source).as_posix()} {_state(p)}\n" for p in paths).encode()


def _state(path: Path) -> str:
    facts = path.stat()
    return f"{facts.st_size} {facts.st_mtime_ns}"


@dataclass(frozen=True)
class Request:
    """Pictures to make: one per prompt, with `seeds` of the same length, and options of `engine.sample`.

    `noise_roll` turns the noise by that many latent columns to the right before sampling.
    """

    name: str
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    options: Mapping[str, object]
    noise_roll: int = 0

    def key(self, index: int, model: str) -> str:
        """What has to be equal for a picture on disk to be this one."""
        facts = [model, self.prompts[index], self.seeds[index], dict(self.options), self.noise_roll]
        return json.dumps(facts, sort_keys=True)


class Shelf:
    """PNG files under `folder`, by the name of a request and the index of a picture, each with the key of what made it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str, index: int) -> Path:
        """Where a picture lies, or is to lie."""
        return self.folder / name / f"{index:04}.png"

    def has(self, name: str, index: int, key: str) -> bool:
        """Whether it is there and was made as `key` says; a damaged or foreign file is not there."""
        path = self.path(name, index)
        if not path.is_file():
            return False
        try:
            return read_text(path).get(KEY) == key
        except InputError:
            return False


class Studio:
    """Makes the pictures of requests in batches and keeps them as PNG files under `folder`.

    Every picture has noise of its own seed, so that it does not depend on the batch it is made in.
    `latent_shape` (options) -> (C, h, w) tells the engine's noise shape.
    """

    def __init__(
        self, engine, folder: Path, batch: int, latent_shape: Callable[[Mapping], tuple[int, int, int]]
    ):
        self.engine, self.batch, self._shelf = engine, batch, Shelf(folder)
        self._latent_shape = latent_shape
        self._model = fingerprint(engine)

    def pictures(self, request: Request) -> Tensor:
        """[N,3,H,W] in 0..1 in 8-bit steps, in the order of the prompts."""
        missing = [index for index in range(len(request.prompts)) if not self._kept(request, index)]
        total = -(-len(missing) // self.batch)
        progress = Progress(request.name)
        for number in range(total):
            some = missing[number * self.batch : (number + 1) * self.batch]
            self._make(
                request,
                some,
                lambda step, n=number: progress.update(n * step.total + step.index, total * step.total),
            )
        return torch.cat(
            [
                to_eight_bits(load_image(self._shelf.path(request.name, index)))
                for index in range(len(request.prompts))
            ]
        )

    def _kept(self, request: Request, index: int) -> bool:
        return self._shelf.has(request.name, index, request.key(index, self._model))

    def _make(self, request: Request, indices: Sequence[int], on_step) -> None:
        shape = self._latent_shape(request.options)
        noise = torch.stack([_noise(request.seeds[index], shape) for index in indices]).roll(
            request.noise_roll, -1
        )
        prompts = [request.prompts[index] for index in indices]
        used = self.engine.config.defaults.changed(**request.options)
        condition = self.engine.encode(prompts, "" if used.cfg != 1.0 else None)
        sizeless = {name: value for name, value in request.options.items() if name not in ("height", "width")}
        # The seed only moves random rolls here; one for all keeps a picture independent of its batch.
        latents = self.engine.sample(condition, latents=noise, seed=0, on_step=on_step, **sizeless)
        pixels = self.engine.decode(latents).to_equirect().pixels
        self._shelf.path(request.name, 0).parent.mkdir(parents=True, exist_ok=True)
        for index, picture in zip(indices, pixels, strict=True):
            text = {KEY: request.key(index, self._model), "Description": request.prompts[index]}
            save_panorama(picture, self._shelf.path(request.name, index), text)


def _noise(seed: int, shape: tuple[int, int, int]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
