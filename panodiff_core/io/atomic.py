"""Atomic files: a half-written file never replaces a good one.

The bytes go to a hidden temporary file in the *same* folder (a rename across file systems is a copy), are
flushed to the disk, and only then take the place of the target in one `os.replace`. Every failure removes the
temporary file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..runtime.errors import InputError

_NO_SPACE = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}


def _way_out(path: Path, problem: OSError) -> InputError:
    """The operating system's complaint as one sentence that names the file and what to do."""
    if problem.errno in _NO_SPACE:
        free = ""
        with contextlib.suppress(OSError):
            free = f" ({shutil.disk_usage(path.parent).free / 2**20:.0f} MiB free)"
        return InputError(
            f"cannot write {path}: the disk is full{free}. Free some space or choose another folder; "
            "a file of this name that was there before is untouched."
        )
    reason = problem.strerror or str(problem)
    return InputError(
        f"cannot write {path}: {reason}. Check the folder's permissions or choose another path."
    )


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file for writing that appears at `path`, complete, when the block ends without an error.

    A symbolic link is followed: its target is replaced, not the link. Raises `InputError` where the operating
    system refuses (no such folder, no permission, disk full); any other exception of the block passes
    through. In both cases the file that was at `path` before is still there, byte for byte, and nothing else
    is left behind.
    """
    target = Path(path).resolve()
    part = target.with_name(f".{target.name[:80]}.{secrets.token_hex(6)}.part")
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except OSError as problem:
        raise _way_out(Path(path), problem) from problem
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write `data` to `path` atomically; see `atomic_file` for the errors. Returns the path."""
    with atomic_file(path) as file:
        file.write(data)
    return Path(path)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write `text` as UTF-8 with plain newlines, atomically."""
    return write_bytes(path, text.encode("utf-8"))


def check_writable(path: str | os.PathLike[str], need_bytes: int = 0) -> Path:
    """Make sure, before the expensive part, that a file can be written at `path`.

    A probe file is created in the folder and removed, which is the only answer that counts on network shares
    and under access-control lists; `need_bytes` is compared with the free space. Raises `InputError` for: a
    missing folder, a path that is a folder, a read-only file, a folder without write permission, too little
    space.
    """
    target = Path(path)
    folder = target.resolve().parent
    if not target.name:
        raise InputError(f"{str(path)!r} names no file; give a file name such as pano.png.")
    if target.is_dir():
        raise InputError(f"{target} is a folder; give a file name inside it, such as {target / 'pano.png'}.")
    if not folder.is_dir():
        raise InputError(
            f"the folder {folder} does not exist; create it or choose another path for {target.name}."
        )
    if target.exists() and not os.access(target, os.W_OK):
        raise InputError(f"{target} is read-only; remove it or choose another name.")
    probe = folder / f".{secrets.token_hex(8)}.probe"
    try:
        with open(probe, "xb") as file:
            file.write(b"panodiff")
        probe.unlink()
    except OSError as problem:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        raise _way_out(target, problem) from problem
    free = shutil.disk_usage(folder).free
    if free < need_bytes:
        raise InputError(
            f"cannot write {target}: about {need_bytes / 2**20:.0f} MiB are needed and "
            f"{free / 2**20:.0f} MiB are free. Free some space or choose another folder."
        )
    return target
