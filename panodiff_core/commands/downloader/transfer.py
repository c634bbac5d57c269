"""One file to its place: resumed, checked, and only then moved there.

The bytes go to a hidden `.part` file beside the target, which carries the checksum in its name: what belongs to
another version of the file is never continued. The `.part` stays after a broken connection or Ctrl-C, so that the
next run goes on; nothing takes the target's place before its checksum is right.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ..console import say
from .hub import DownloadError, Hub, Interrupted, RemoteFile

RETRIES = 5
READ_BYTES = 4 * 2**20
FIRST_PAUSE_S = 1.0

OnBytes = Callable[[int], None]
"""Called with the number of bytes of the file that are there."""


def part_file(target: Path, file: RemoteFile) -> Path:
    """Where the unfinished bytes of `file` lie."""
    return target.with_name(f".{target.name[:80]}.{file.checksum[:16]}.part")


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def matches(path: Path, file: RemoteFile, on_bytes: OnBytes = lambda done: None) -> bool:
    """Whether `path` holds exactly the content of `file`; reads all of it only where the size is right."""
    if size_of(path) != file.size:
        return False
    with path.open("rb") as stream:
        digest, _ = _digest(stream, file, on_bytes)
    return digest.hexdigest() == file.checksum


def fetch(hub: Hub, file: RemoteFile, target: Path, on_bytes: OnBytes = lambda done: None) -> None:
    """Bring `file` to `target`, going on from its `.part` if there is one. A target that exists is replaced.

    Raises DownloadError when the hub refuses or cannot be reached after several tries, when the bytes are not
    what the hub announced (they are thrown away), and when the disk refuses. The target is then as it was.
    """
    target = target.resolve()
    part = part_file(target, file)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("a+b") as out:
            checksum = _receive(hub, file, out, on_bytes)
            out.flush()
            os.fsync(out.fileno())
        if checksum != file.checksum:
            part.unlink()
            raise DownloadError(
                f"{file.path} of {file.repo} arrived damaged: its checksum is {checksum}, the hub announced "
                f"{file.checksum}. The bytes were thrown away; run the command again."
            )
        os.replace(part, target)
    except OSError as problem:
        raise DownloadError(
            f"cannot write {target}: {problem.strerror or problem}. Free some space or check the folder's "
            "permissions; the same command continues where it stopped."
        ) from problem


def _digest(stream: BinaryIO, file: RemoteFile, on_bytes: OnBytes = lambda done: None):
    digest, done = file.digest(), 0
    while chunk := stream.read(READ_BYTES):
        digest.update(chunk)
        done += len(chunk)
        on_bytes(done)
    return digest, done


def _receive(hub: Hub, file: RemoteFile, out: BinaryIO, on_bytes: OnBytes) -> str:
    """Fill `out` up to the file's size; returns the checksum of all that is in it."""
    out.seek(0)
    digest, have = _digest(out, file)
    if have > file.size:  # two runs at once have written to it
        out.truncate(0)
        digest, have = file.digest(), 0
    on_bytes(have)
    failures, farthest = 0, have
    while have != file.size:
        try:
            with hub.stream(file, have) as (start, chunks):
                if start != have:
                    out.truncate(0)
                    digest, have = file.digest(), 0
                for chunk in chunks:
                    out.write(chunk)
                    digest.update(chunk)
                    have += len(chunk)
                    if have > file.size:
                        out.truncate(0)
                        raise DownloadError(
                            f"{file.path} of {file.repo} is longer than the {file.size} bytes the hub announced; "
                            "run the command again."
                        )
                    on_bytes(have)
            if have < file.size:
                reason = f"{hub.endpoint} ended {file.path} after {have} of {file.size} bytes."
                raise Interrupted(reason, "Run the command again.")
        except Interrupted as problem:
            failures = 1 if have > farthest else failures + 1
            farthest = max(farthest, have)
            if failures > RETRIES:
                raise
            say(f"{problem.reason} Trying again ({failures} of {RETRIES}).")
            time.sleep(FIRST_PAUSE_S * 2 ** (failures - 1))
    return digest.hexdigest()
