"""Step caching: where a step's first block hardly changes, the blocks after it are not computed again.

diffusers' first-block cache: every call runs the first block; if what it adds to the picture's tokens differs from
what it added at the last full call by at most a threshold (mean absolute difference, relative), the sum of what all
the other blocks added then is added again. Calls that see something else, another prompt or another turn of the ring,
keep caches of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from ....runtime.errors import InputError
from ....schedulers.true_cfg import Condition, Network
from ..config import MOST_OFFSETS


class StepCache:
    """The caches of one sampling run: one per condition that the network is called with and turn of the ring.

    Without a `transformer` nothing is cached.
    """

    def __init__(self, transformer: nn.Module | None = None) -> None:
        self.transformer = transformer
        self._offset = 0
        self._conditions: list[Condition] = []

    def turn(self, offset: int) -> None:
        """The calls that follow see the ring turned by `offset` token columns."""
        self._offset = offset

    def keyed(self, network: Network) -> Network:
        """`network` with every call told which cache is its own; itself where nothing is cached."""
        if self.transformer is None:
            return network

        def call(latents: Tensor, sigma: float, condition: Condition) -> Tensor:
            with self.transformer.cache_context(f"{self._branch(condition)}, turned by {self._offset}"):
                return network(latents, sigma, condition)

        return call

    def _branch(self, condition: Condition) -> int:
        # By identity: positive, negative and both of them joined are each bound once for a whole run.
        for index, known in enumerate(self._conditions):
            if known is condition:
                return index
        self._conditions.append(condition)
        return len(self._conditions) - 1


@contextmanager
def step_cache(transformer: nn.Module, threshold: float) -> Iterator[StepCache]:
    """Cache steps while the context lasts, beginning with empty caches; at threshold 0 nothing is touched.

    Raises InputError when the transformer caches already.
    """
    if threshold == 0.0:
        yield StepCache()
        return
    from diffusers import FirstBlockCacheConfig

    if transformer.is_cache_enabled:
        raise InputError("the transformer has a cache already: call its disable_cache(), or use step_cache 0")
    transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    try:
        yield StepCache(transformer)
    finally:
        transformer.disable_cache()


def check_cached_roll(threshold: float, offsets: tuple[int, ...] | None) -> None:
    """Raise InputError when steps are to be cached and `offsets` turn the ring more than `MOST_OFFSETS` ways."""
    count = len(set(offsets or ()))
    if threshold and count > MOST_OFFSETS:
        raise InputError(
            f"step_cache needs steps that see the ring turned alike, and this roll turns it {count} ways: "
            'use roll "off", "late" or "alternate", or step_cache 0'
        )
