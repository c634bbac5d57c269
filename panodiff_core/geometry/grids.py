"""A cache for sampling plans, bounded in bytes, oldest use out first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, NamedTuple, Protocol, TypeVar

from ..runtime.errors import InputError

DEFAULT_LIMIT_BYTES = 384 * 1024**2
"""Holds the plans of a few poses at 1024x2048 and one or two at 4096x8192."""


class Sized(Protocol):
    """What can be cached: it knows how many bytes it keeps alive."""

    @property
    def nbytes(self) -> int: ...


S = TypeVar("S", bound=Sized)


class GridCacheInfo(NamedTuple):
    """State of the cache: plans held, bytes held, the limit, and how often a plan was found or built."""

    entries: int
    nbytes: int
    limit_bytes: int
    hits: int
    misses: int


class GridCache:
    """Least-recently-used cache whose entries together never exceed `limit_bytes`; safe to use from several
    threads.

    An entry larger than the limit is returned to its caller and not kept.
    """

    def __init__(self, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._entries: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = Lock()
        self._limit = self._checked(limit_bytes)
        self._nbytes = self._hits = self._misses = 0

    def get(self, key: Hashable, build: Callable[[], S]) -> S:
        """The entry of `key`; when there is none, what `build()` makes. Building happens outside the lock."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                self._hits += 1
                return self._entries[key]
            self._misses += 1
        made = build()
        with self._lock:
            if key not in self._entries and made.nbytes <= self._limit:
                self._entries[key] = made
                self._nbytes += made.nbytes
                self._shrink()
        return made

    def clear(self) -> None:
        """Forget every entry and the counts."""
        with self._lock:
            self._entries.clear()
            self._nbytes = self._hits = self._misses = 0

    def set_limit(self, limit_bytes: int) -> None:
        """Change the limit and drop the least recently used entries that no longer fit; 0 switches caching
        off.
        """
        with self._lock:
            self._limit = self._checked(limit_bytes)
            self._shrink()

    def info(self) -> GridCacheInfo:
        """How full the cache is."""
        with self._lock:
            return GridCacheInfo(len(self._entries), self._nbytes, self._limit, self._hits, self._misses)

    def _shrink(self) -> None:
        while self._nbytes > self._limit:
            _, dropped = self._entries.popitem(last=False)
            self._nbytes -= dropped.nbytes

    @staticmethod
    def _checked(limit_bytes: int) -> int:
        if limit_bytes < 0:
            raise InputError(f"limit_bytes is {limit_bytes}; pass 0 (no caching) or more")
        return int(limit_bytes)


_PLANS = GridCache()


def plan_cache() -> GridCache:
    """The cache that every reprojection of this process shares."""
    return _PLANS


def clear_grid_cache() -> None:
    """Free the memory (on every device) that cached grids hold."""
    _PLANS.clear()


def set_grid_cache_limit(limit_bytes: int) -> None:
    """Bound the bytes that cached grids may hold together; 0 switches caching off."""
    _PLANS.set_limit(limit_bytes)


def grid_cache_info() -> GridCacheInfo:
    """How full the shared cache is."""
    return _PLANS.info()
