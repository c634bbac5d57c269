"""derived_img2img_inpaint.safetensors: image to image by strength, and inpainting on the ring."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields

import torch
from torch import Tensor

from ....layers.ring import pack
from ....schedulers.flow_matching import FlowMatchConfig, FlowMatchScheduler
from ..image_to_image import SourceImage, read_source
from ..model import FluxNetwork, RingGrid
from ..sampling import sample_ring
from .rows import Row, Vectors, compare

NAME = "derived_img2img_inpaint"
BOUND, SIGMAS = 2e-4, 2e-7
IMAGE = "derived.img2img.strength"


def check(vectors: Vectors) -> Iterator[Row]:
    """The final latents and the noise levels of every strength in the file, and of the inpainting."""
    t = vectors.tensors(NAME)
    strengths = sorted(
        key.removesuffix(".sigmas") for key in t if key.startswith(IMAGE) and key.endswith(".sigmas")
    )
    if not strengths:
        raise KeyError(f"{NAME} has no {IMAGE}*")
    sampler = _Sampler(vectors)
    for prefix in strengths:
        yield from sampler.rows(prefix, float(prefix.removeprefix(IMAGE)), None)
    yield from sampler.rows("derived.inpaint", 1.0, t["in.inpaint_mask"])


class _Sampler:
    def __init__(self, vectors: Vectors) -> None:
        self.t, about = vectors.tensors(NAME), vectors.metadata(NAME)
        self.noise = self.t["in.noise"]
        self.grid = RingGrid(*self.noise.shape[2:], 1)
        self.scheduler = FlowMatchScheduler(scheduler_config(about))
        self.scheduler.set_timesteps(int(about["steps"]), self.scheduler.mu(self.grid.tokens))
        text, guidance = self.t["in.prompt_embeds"], float(about["guidance"])
        self.network = FluxNetwork(vectors.transformer(), self.grid.ids, text.shape[1])
        self.condition = (text, self.t["in.pooled"], torch.full((len(text),), guidance))

    @torch.no_grad()
    def rows(self, prefix: str, strength: float, mask: Tensor | None) -> Iterator[Row]:
        source = read_source(self.t["in.z0"], strength, mask, self.noise.shape, self.scheduler.steps)
        yield self._row(f"{prefix}.sigmas", self._sigmas(source), SIGMAS)
        latents = sample_ring(self.scheduler, self._predict, self.grid, self.noise, source=source)
        yield self._row(f"{prefix}.final_packed", pack(latents), BOUND)

    def _sigmas(self, source: SourceImage) -> Tensor:
        return self.scheduler.sigmas[source.first_step(self.scheduler.steps) :]

    def _predict(self, tokens: Tensor, sigma: float) -> Tensor:
        return self.network(tokens, sigma, self.condition)

    def _row(self, key: str, got: Tensor, bound: float) -> Row:
        return compare(NAME, key, got, self.t[key], bound)


def scheduler_config(metadata: dict[str, str]) -> FlowMatchConfig:
    """The scheduler that a file of vectors was made with."""
    known = {field.name for field in fields(FlowMatchConfig)}
    values = json.loads(metadata["config_scheduler"])
    return FlowMatchConfig(**{name: value for name, value in values.items() if name in known})
