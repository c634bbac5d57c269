"""What a host relies on: nothing is left behind, a run repeats, a batch is its parts, odd sizes are refused."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ....layers.ring import PATCH, pack
from ....runtime.errors import Cancelled, InputError
from ....verification import Row, compare
from .folder import DiT360Vectors
from .trajectories import condition

NAME = "host"
BATCH = 1e-5


def check(vectors: DiT360Vectors) -> Iterator[Row]:
    """Uses the noise of t2i.safetensors."""
    transformer = vectors.transformer()
    engine = vectors.engine(transformer)
    before = {name: weight.clone() for name, weight in transformer.state_dict().items()}
    noise = vectors.tensors("t2i")["in.latents_spatial"][:1]
    bound = condition(vectors, 1)
    first = engine.sample(bound, latents=noise)
    yield compare(NAME, "second run equals the first", engine.sample(bound, latents=noise), first, 0.0)

    def stop(step) -> None:
        raise Cancelled("enough")

    stopped = 1.0
    try:
        engine.sample(bound, latents=noise, on_step=stop)
    except Cancelled:
        stopped = 0.0
    yield Row(NAME, "cancel stops the run", stopped, 0.0)
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in transformer.modules())
    yield Row(NAME, "hooks left after it", hooks, 0.0)
    yield compare(NAME, "the run after it", engine.sample(bound, latents=noise), first, 0.0)
    two = torch.cat([noise, noise.roll(PATCH, -1)])
    both = engine.sample(bound, latents=two, batch_size=2)
    alone = engine.sample(bound, latents=two[1:])
    yield compare(NAME, "a batch of two, first", pack(both[:1]), pack(first), BATCH)
    yield compare(NAME, "a batch of two, second", pack(both[1:]), pack(alone), BATCH)
    worst = max((weight - before[n]).abs().max().item() for n, weight in transformer.state_dict().items())
    yield Row(NAME, "weights after all this", worst, 0.0)
    yield Row(NAME, "odd latents refused", _accepts(engine, bound, latents=noise[..., :-1]), 0.0)
    size = engine.size_multiple
    odd = {"height": size, "width": 2 * size + size // 2}
    yield Row(NAME, "odd size refused", _accepts(engine, bound, **odd), 0.0)


def _accepts(engine, bound, **options) -> float:
    try:
        engine.sample(bound, **options)
    except InputError:
        return 0.0
    return 1.0
