"""A list of sources to a models folder: what is there, what is missing, whether it fits; then the transfers."""

from __future__ import annotations

import fnmatch
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...engines.dit360.checkpoint.sources import GATED, Source
from ..console import say
from ..engines import table
from .hub import DownloadError, Hub, RemoteFile
from .transfer import fetch, matches, part_file, size_of


@dataclass(frozen=True)
class Item:
    """One file and where it goes."""

    file: RemoteFile
    target: Path

    @property
    def exists(self) -> bool:
        """Something has the target's name."""
        return self.target.exists()

    @property
    def looks_complete(self) -> bool:
        """The target has the size of the hub's file; its content is not read."""
        return self.exists and size_of(self.target) == self.file.size

    @property
    def left(self) -> int:
        """Bytes that are still to come, when the target is to be fetched."""
        return max(0, self.file.size - size_of(part_file(self.target.resolve(), self.file)))


def plan(hub: Hub, sources: Iterable[Source], root: Path) -> list[Item]:
    """Every file that the sources name, with the hub's own sizes and checksums. Raises DownloadError for a file
    that the repository does not have.
    """
    listings: dict[str, dict[str, RemoteFile]] = {}
    items: dict[Path, Item] = {}
    for source in sources:
        if source.repo not in listings:
            listings[source.repo] = hub.files(source.repo)
        for file in _matching(source, listings[source.repo]):
            target = root / source.place(file.path)
            items[target] = Item(file, target)
    return list(items.values())


def _matching(source: Source, listing: dict[str, RemoteFile]) -> list[RemoteFile]:
    found: dict[str, RemoteFile] = {}
    for pattern in (*source.files, *source.optional):
        names = sorted(fnmatch.filter(listing, pattern))
        if not names and pattern in source.files:
            weights = [name for name in sorted(listing) if name.endswith(".safetensors")]
            way_out = (
                "name another with --lora-from OWNER/REPO/FILE"
                if source.part == "lora"
                else "correct panodiff_core/engines/dit360/checkpoint/sources.py"
            )
            raise DownloadError(
                f"{source.repo} has no file {pattern} any more; it has {', '.join(weights) or 'no safetensors'}: "
                f"{way_out}."
            )
        found |= {name: listing[name] for name in names}
    for file in found.values():
        if file.size is None or not file.checksum:
            raise DownloadError(
                f"{source.repo} announces no size or checksum for {file.path}, so it could not be verified; use "
                "huggingface.co itself, or a mirror that passes them on."
            )
    return list(found.values())


def size_text(count: int) -> str:
    """Bytes for people, in powers of ten as shops and the hub count them."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.2f} {name}"
    return f"{count} B"


def show(items: Sequence[Item]) -> str:
    """The files as a table: name, size, state, origin. Sizes are compared, contents are not."""
    rows = [("FILE", "SIZE", "STATE", "FROM")]
    for item in items:
        if item.exists:
            state = "there" if item.looks_complete else "another file"
        else:
            begun = item.file.size - item.left
            state = f"begun, {size_text(begun)}" if begun else "to fetch"
        origin = f"{item.file.repo}/{item.file.path}"
        rows.append((str(item.target), size_text(item.file.size), state, origin))
    to_fetch = sum(item.left for item in items if not item.exists)
    total = sum(item.file.size for item in items)
    return f"{table(rows)}\n{size_text(total)} in all, {size_text(to_fetch)} to fetch"


def show_unasked(sources: Sequence[Source], root: Path) -> str:
    """The files as a table without a hub: names or patterns, the rounded size of each part, and what is there."""
    rows = [("PART", "SIZE", "FILE", "STATE", "FROM")]
    for source in sources:
        part, size = source.part, "not known" if source.size_gb is None else f"about {source.size_gb:g} GB"
        for name in (*source.files, *source.optional):
            target = root / source.place(name)
            state = "if there is one" if name in source.optional else "to fetch"
            if any(target.parent.glob(target.name)):
                state = "some there" if "*" in name else "there"
            rows.append((part, size, str(target), state, f"{source.repo}/{name}"))
            part = size = ""
    total = sum(source.size_gb or 0.0 for source in sources)
    unknown = [source.part for source in sources if source.size_gb is None]
    without = f", without {' and '.join(unknown)}" if unknown else ""
    return f"{table(rows)}\nabout {total:.4g} GB in all{without}"


def download(hub: Hub, items: Sequence[Item], replace: bool = False) -> None:
    """Fetch what is missing, verify what is there. Prints every finished path on stdout.

    `replace` fetches anew what is there with other content; without it that is an error. Raises DownloadError
    before the first transfer where access, space or an existing file is in the way.
    """
    missing = [item for item in items if not item.looks_complete]
    _refuse_others([item for item in missing if item.exists and not replace])
    for repo in dict.fromkeys(item.file.repo for item in missing):
        hub.check_access(next(item.file for item in missing if item.file.repo == repo))
    wrong = [item for item in items if item not in missing and not _verified(item)]
    _refuse_others([item for item in wrong if not replace])
    work = [item for item in items if item in missing or item in wrong]
    check_space(work)
    for number, item in enumerate(work, 1):
        progress = ByteProgress(f"{item.target.name} ({number}/{len(work)})", item.file.size)
        fetch(hub, item.file, item.target, progress)
        print(item.target, flush=True)
    gated = sorted({item.file.repo for item in work} & GATED)
    if gated:
        say(f"The licence of {', '.join(gated)} applies to these weights.")


def _verified(item: Item) -> bool:
    good = matches(item.target, item.file, ByteProgress(f"checking {item.target.name}", item.file.size))
    if good:
        print(f"{item.target} (was there, checksum right)", flush=True)
    return good


def _refuse_others(items: Sequence[Item]) -> None:
    if items:
        names = ", ".join(
            f"{item.target} ({size_of(item.target)} bytes, the hub's has {item.file.size})" for item in items
        )
        raise DownloadError(
            f"there already is {names}, with other content than on the hub: damaged, or a file of yours. Move it "
            "away, or let --replace fetch it anew."
        )


def check_space(items: Iterable[Item]) -> None:
    """Raises DownloadError when what is left to come does not fit on the disk, or on one of the disks."""
    need: Counter[int] = Counter()
    folders: dict[int, Path] = {}
    for item in items:
        folder = next((each for each in item.target.resolve().parents if each.is_dir()), None)
        if folder is None:
            raise DownloadError(f"there is no disk {item.target.resolve().anchor}; choose another --to.")
        disk = folder.stat().st_dev
        folders[disk] = folder
        need[disk] += item.left
    for disk, count in need.items():
        free = shutil.disk_usage(folders[disk]).free
        if free < count:
            raise DownloadError(
                f"{size_text(count)} are still to be fetched and {size_text(free)} are free at {folders[disk]}. "
                "Free some space, choose another --to, or fetch less with --only."
            )


class ByteProgress:
    """Bytes done and speed: one line of a terminal, or a line per tenth in a log file."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._begin: tuple[float, int] | None = None
        self._told = 0.0

    def __call__(self, done: int) -> None:
        """`done` bytes are there."""
        now = time.monotonic()
        # What an earlier run has brought does not count as speed.
        start, first = self._begin = self._begin or (now, done)
        share = done / self._total if self._total else 1.0
        finished = done == self._total
        terminal = sys.stderr.isatty()
        if not finished and (now - self._told < 0.2 if terminal else share - self._told < 0.1):
            return
        self._told = now if terminal else share
        speed = max(0, done - first) / max(now - start, 1e-3)
        text = f"{self._what}: {int(100 * share)}% of {size_text(self._total)}, {size_text(round(speed))} per second"
        if terminal:
            print(f"\r{text:<78}", end="\n" if finished else "", file=sys.stderr, flush=True)
        else:
            say(text)
