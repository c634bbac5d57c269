"""Folders on disk, filled and replaced so that what was good before stays good."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from ..runtime.errors import InputError


@contextlib.contextmanager
def clear_write_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system (or safetensors for it) says against writing to `path` into an InputError."""
    try:
        yield
    except (OSError, SafetensorError) as problem:
        raise InputError(
            f"cannot write {path}: {problem}. Free some space, check the folder's permissions or choose another "
            "folder; what was complete there before is untouched."
        ) from problem


def make_folder(path: Path) -> Path:
    """Create a folder and those above it. Raises InputError where that is refused."""
    with clear_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Lend an empty hidden folder beside `folder`; its entries replace those of the same name when the block succeeds.

    A failed or killed block leaves `folder` as it was. An entry that is a folder is replaced by two renames, since no
    portable call swaps folders; a kill exactly between them leaves the old one as `.<name>.old`, and the next call puts
    it back. Raises InputError where the operating system refuses to write.
    """
    folder = Path(folder).resolve()
    work = folder.with_name(f".{folder.name}.part")
    with clear_write_errors(folder):
        _recover(folder)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            yield work
            folder.mkdir(exist_ok=True)
            for entry in sorted(work.iterdir()):
                _replace(entry, folder / entry.name)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _replace(entry: Path, target: Path) -> None:
    if not target.is_dir():
        os.replace(entry, target)
        return
    old = _old(target)
    _remove(old)
    os.replace(target, old)
    try:
        os.replace(entry, target)
    except OSError:
        os.replace(old, target)
        raise
    _remove(old)


def _recover(folder: Path) -> None:
    for old in folder.glob(".*.old"):
        target = folder / old.name[1 : -len(".old")]
        if target.exists():
            _remove(old)
        else:
            os.replace(old, target)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
