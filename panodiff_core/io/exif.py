"""A minimal EXIF block that carries text: how ComfyUI reads workflows back from WebP and JPEG files.

Fact about the readers (ComfyUI core and frontend): every text is an ASCII-type entry of IFD0 that holds
`key:value`; `prompt` sits in tag 0x0110 (Model), all others from 0x010F (Make) downwards, in the order in
which they come. Written by hand because image libraries replace every non-ASCII letter of such an entry; here
it is UTF-8.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from ..runtime.errors import InputError

_MODEL, _MAKE = 0x0110, 0x010F
_LOWEST = 0x0100 + 1
_ASCII = 2


def text_tags(text: Mapping[str, str]) -> dict[int, bytes]:
    """EXIF tag -> zero-terminated `key:value`; more than 15 texts besides `prompt` raise `InputError`."""
    tags: dict[int, bytes] = {}
    free = _MAKE
    for key, value in text.items():
        tag = _MODEL
        if key != "prompt":
            tag, free = free, free - 1
        if tag < _LOWEST:
            raise InputError(
                "too many texts for the EXIF block of one picture (15 at most); save as PNG instead."
            )
        tags[tag] = f"{key}:{value}".replace("\x00", "").encode("utf-8") + b"\x00"
    return tags


def exif_block(text: Mapping[str, str]) -> bytes:
    """EXIF bytes, from the `Exif` marker on, with the texts of `text_tags` in one little-endian IFD."""
    entries = sorted(text_tags(text).items())
    data_start = 8 + 2 + 12 * len(entries) + 4
    directory, data = struct.pack("<H", len(entries)), b""
    for tag, value in entries:
        # Values of up to four bytes live in the entry itself (TIFF 6.0, section 2).
        inline = value.ljust(4, b"\x00") if len(value) <= 4 else struct.pack("<I", data_start + len(data))
        directory += struct.pack("<HHI", tag, _ASCII, len(value)) + inline
        if len(value) > 4:
            data += value + b"\x00" * (len(value) % 2)
    header = b"Exif\x00\x00" + struct.pack("<2sHI", b"II", 42, 8)
    return header + directory + struct.pack("<I", 0) + data


def texts_of_tags(tags: Mapping[int, object]) -> dict[str, str]:
    """The inverse of `text_tags` on entries as an image library reports them (bytes, or text read as
    Latin-1).
    """
    found: dict[str, str] = {}
    for tag in range(_MODEL, _LOWEST - 1, -1):
        value = tags.get(tag)
        if isinstance(value, str):
            value = value.encode("latin-1", errors="ignore")
        if isinstance(value, bytes) and b":" in value:
            key, _, content = value.rstrip(b"\x00").decode("utf-8", errors="replace").partition(":")
            found[key] = content
    return found
