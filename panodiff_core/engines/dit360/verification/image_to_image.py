"""derived_img2img_inpaint.safetensors: image to image by strength, and inpainting on the ring."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ....layers.ring import pack
from ....schedulers.flow_matching import FlowMatchScheduler
from ....verification import Results, Row
from ..model import FluxNetwork, RingGrid
from ..sampling import read_source, sample_ring
from .folder import DiT360Vectors, padding_by_shift

NAME = "derived_img2img_inpaint"
BOUND, LEVELS = 2e-4, 2e-7
IMAGE, INPAINT = "derived.img2img.strength", "derived.inpaint"
FINAL, SIGMAS = ".final_packed", ".sigmas"


def check(vectors: DiT360Vectors) -> Iterator[Row]:
    """The final latents and the noise levels of every strength in the file, and of the inpainting."""
    t = Results(NAME, vectors.tensors(NAME))
    names = sorted({key.rpartition(".")[0] for key in t if key.endswith((FINAL, SIGMAS))})
    runs = [name for name in names if name == INPAINT or name.startswith(IMAGE)]
    if not runs:
        raise KeyError(f"{IMAGE}*")
    sampler = _Sampler(vectors, t)
    for name in runs:
        if name == INPAINT:
            yield from sampler.rows(name, 1.0, t["in.inpaint_mask"])
        else:
            yield from sampler.rows(name, float(name.removeprefix(IMAGE)), None)
    yield from t.left()


class _Sampler:
    def __init__(self, vectors: DiT360Vectors, t: Results) -> None:
        self.t, about = t, vectors.metadata(NAME)
        self.noise = t["in.noise"]
        self.scheduler = FlowMatchScheduler(vectors.scheduler(NAME))
        self.grid = self._padded_grid(vectors, about.get("mu"))
        self.scheduler.set_timesteps(int(about["steps"]), self.scheduler.mu(self.grid.tokens))
        count, guidance = len(self.noise), float(about["guidance"])
        text, pooled = (t[key].expand(count, *t[key].shape[1:]) for key in ("in.prompt_embeds", "in.pooled"))
        self.network = FluxNetwork(vectors.transformer(), self.grid.ids, text.shape[1])
        self.condition = (text, pooled, torch.full((count,), guidance))

    def _padded_grid(self, vectors: DiT360Vectors, mu: str | None) -> RingGrid:
        """The file holds no padded tokens: its padding is what its shift exponent says. Without one, or where the
        shift does not depend on the tokens, it is that of the folder's trajectories.
        """
        size, config = self.noise.shape[2:], self.scheduler.config
        if mu is None or not config.use_dynamic_shifting:
            return RingGrid(*size, vectors.padding())
        return RingGrid(*size, padding_by_shift(config, float(mu), *size))

    @torch.no_grad()
    def rows(self, name: str, strength: float, mask: Tensor | None) -> Iterator[Row]:
        source = read_source(self.t["in.z0"], strength, mask, self.noise.shape, self.scheduler.steps)
        levels = self.scheduler.sigmas[source.first_step(self.scheduler.steps) :]
        yield from self.t.rows(name + SIGMAS, levels, LEVELS)
        latents = sample_ring(self.scheduler, self._predict, self.grid, self.noise, source=source)
        yield self.t.row(name + FINAL, pack(latents), BOUND)

    def _predict(self, tokens: Tensor, sigma: float) -> Tensor:
        return self.network(tokens, sigma, self.condition)
