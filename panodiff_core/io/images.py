"""Panoramas as PNG, JPEG and WebP files with GPano metadata and free texts; pictures back as tensors."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy
import torch
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError, features
from torch import Tensor

from ..runtime.errors import InputError, NumericalError
from .atomic import atomic_file, check_writable
from .exif import exif_block, texts_of_tags
from .gpano import gpano_packet, parse_gpano

log = logging.getLogger(__name__)

MAX_WIDTH, MAX_HEIGHT = 32768, 16384
XMP_KEYWORD = "XML:com.adobe.xmp"
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
# Side limits of the formats themselves: libjpeg's JPEG_MAX_DIMENSION, and 14 bits in WebP.
_MAX_SIDE = {"PNG": 2**31 - 1, "JPEG": 65500, "WEBP": 16383}
_JPEG_SEGMENT_BYTES = 65533
_XMP_SIGNATURE = b"http://ns.adobe.com/xap/1.0/\x00"
_size_limit_lock = threading.Lock()


def format_of(path: str | PathLike[str]) -> str:
    """ "PNG", "JPEG" or "WEBP", by the file name. Raises `InputError` for any other ending."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise InputError(
            f"{Path(path).name!r} ends in {suffix or 'no extension'}; a panorama can be saved as "
            ".png, .jpg, .jpeg or .webp."
        )
    if _FORMATS[suffix] == "WEBP" and not features.check("webp"):
        raise InputError("this installation of Pillow cannot write WebP; save as .png or .jpg.")
    return _FORMATS[suffix]


def check_output(path: str | PathLike[str], height: int, width: int) -> Path:
    """Everything that can be known before the picture exists: shape, format, its limits, permission, disk
    space.

    Raises `InputError`. `height` and `width` are pixels; the space asked for is that of the uncompressed
    picture.
    """
    kind = format_of(path)
    if width != 2 * height:
        raise InputError(
            f"an equirectangular panorama is twice as wide as high; {width} x {height} is not. "
            f"Use {2 * height} x {height} or {width} x {width // 2}."
        )
    if width > MAX_WIDTH or height > MAX_HEIGHT:
        raise InputError(f"{width} x {height} is larger than the limit of {MAX_WIDTH} x {MAX_HEIGHT} pixels.")
    if max(width, height) > _MAX_SIDE[kind]:
        raise InputError(
            f"{kind} holds at most {_MAX_SIDE[kind]} pixels per side, this panorama is {width} wide; "
            "save as .png or .jpg."
        )
    return check_writable(path, need_bytes=3 * width * height)


def to_bytes_image(pixels: Tensor) -> Image.Image:
    """[3,H,W] in 0..1 -> 8-bit RGB image, rounded to nearest (values outside are clipped).

    Raises `InputError` for another shape or an integer dtype and `NumericalError` for NaN or infinity.
    """
    if pixels.ndim == 4 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise InputError(f"one picture [3,H,W] is needed, got a tensor of shape {list(pixels.shape)}.")
    if not pixels.is_floating_point():
        raise InputError(f"pixels must be floats in 0..1, got {pixels.dtype}.")
    values = pixels.detach().to("cpu", torch.float32)
    if not torch.isfinite(values).all():
        raise NumericalError("the picture to be saved contains NaN or infinity; nothing was written.")
    array = values.clamp(0, 1).mul(255).round_().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array)


def save_panorama(
    pixels: Tensor,
    path: str | PathLike[str],
    text: Mapping[str, str] | None = None,
    *,
    heading_deg: float = 0.0,
    quality: int = 95,
) -> Path:
    """Write one equirectangular panorama with GPano metadata, atomically; the file's ending decides the
    format.

    `pixels` is [3,H,W] (or [1,3,H,W]), sRGB floats in 0..1, W = 2H. `text` goes into PNG text chunks under
    its keys, and into EXIF for JPEG and WebP in the layout that ComfyUI reads (see `exif.py`). A JPEG holds
    at most 64 kB of text: more is left out with a warning in the log, since the picture is worth more than
    its notes. `heading_deg` is the compass heading of the picture's centre, `quality` 1..100 (JPEG, WebP).
    Raises `InputError` or `NumericalError`; the file that was there before then stays as it is.
    """
    image = to_bytes_image(pixels)
    width, height = image.size
    check_output(path, height, width)
    packet = gpano_packet(width, height, heading_deg)
    with atomic_file(path) as file:
        _encode(image, file, format_of(path), packet, dict(text or {}), quality)
    return Path(path)


def _encode(
    image: Image.Image, file: BinaryIO, kind: str, packet: bytes, text: dict[str, str], quality: int
) -> None:
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt(XMP_KEYWORD, packet.decode("utf-8"))
        for key, value in text.items():
            info.add_text(key, value)
        image.save(file, "PNG", pnginfo=info, compress_level=4)
        return
    exif = exif_block(text) if text else b""
    if kind == "WEBP":
        image.save(file, "WEBP", quality=quality, method=4, xmp=packet, exif=exif)
        return
    if len(exif) > _JPEG_SEGMENT_BYTES:
        log.warning(
            "the texts for this JPEG (%s) take %d bytes and only %d fit; the picture is saved without them. "
            "Save as PNG or WebP to keep them.",
            ", ".join(text), len(exif), _JPEG_SEGMENT_BYTES,
        )  # fmt: skip
        exif = b""
    body = _XMP_SIGNATURE + packet
    segment = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
    image.save(file, "JPEG", quality=quality, subsampling=0, exif=exif, extra=segment)


@contextlib.contextmanager
def _opened(path: str | PathLike[str]) -> Iterator[Image.Image]:
    """The picture at `path`, up to our own size limit; every failure is an `InputError` with its name."""
    try:
        with contextlib.closing(_open_large(path)) as image:
            width, height = image.size
            if width * height > MAX_WIDTH * MAX_HEIGHT:
                raise InputError(
                    f"{path} has {width} x {height} pixels; at most {MAX_WIDTH} x {MAX_HEIGHT} are read."
                )
            yield image
    except FileNotFoundError as problem:
        raise InputError(f"there is no picture at {path}.") from problem
    except UnidentifiedImageError as problem:
        raise InputError(f"{path} is not a picture that can be read (PNG, JPEG and WebP can).") from problem
    except (Image.DecompressionBombError, OSError, SyntaxError) as problem:
        raise InputError(f"{path} cannot be read: {problem}") from problem


def _open_large(path: str | PathLike[str]) -> Image.Image:
    # Pillow's own limit (89 or 179 megapixels) is too low for 16k; it is looked at only when a file opens.
    with _size_limit_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = MAX_WIDTH * MAX_HEIGHT
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def load_image(path: str | PathLike[str]) -> Tensor:
    """A picture file as [1,3,H,W] float32 in 0..1, turned upright by its EXIF orientation; transparency is
    dropped.

    Any proportions; up to 32768 x 16384 pixels. Raises `InputError` naming the file when it is missing, not a
    picture, damaged or too large.
    """
    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            grey = numpy.asarray(upright, dtype=numpy.float32) / 65535.0
            return torch.from_numpy(grey).clamp_(0, 1).expand(3, -1, -1)[None].contiguous()
        array = numpy.array(upright.convert("RGB"))
    return torch.from_numpy(array).permute(2, 0, 1)[None].to(torch.float32).div_(255.0)


def read_gpano(path: str | PathLike[str]) -> dict[str, str | int | float | bool]:
    """The GPano properties of a PNG, JPEG or WebP file; an empty dict where there are none. Raises
    `InputError`.
    """
    with _opened(path) as image:
        packet = image.info.get("xmp") or image.info.get(XMP_KEYWORD) or b""
    return parse_gpano(packet)


def read_text(path: str | PathLike[str]) -> dict[str, str]:
    """The texts that `save_panorama` wrote into a file (PNG chunks or EXIF). Raises `InputError`."""
    with _opened(path) as image:
        if image.format == "PNG":
            image.load()
            return {key: str(value) for key, value in image.text.items() if key != XMP_KEYWORD}
        return texts_of_tags(image.getexif())
