"""Picture files: metadata as independent readers see it, rounding, atomic writing, limits, error texts."""

from __future__ import annotations

import errno
import json
import struct
import zlib

import numpy
import pytest
import torch
from PIL import Image

from panodiff_core.io import atomic, images
from panodiff_core.io.gpano import gpano_properties, parse_gpano
from panodiff_core.io.images import check_output, load_image, read_gpano, read_text, save_panorama
from panodiff_core.runtime.errors import InputError, NumericalError

TEXT = {
    "prompt": json.dumps({"1": {"class_type": "X"}}),
    "workflow": json.dumps({"nodes": []}),
    "note": "Zürich 海",
}


def picture(height: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 4, 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, 2 * height), mode="bilinear")[0]


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = [], 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
        found.append((kind, body))
        at += 12 + size
    return found


def jpeg_segments(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 2
    while data[at] == 0xFF and data[at + 1] != 0xDA:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((data[at + 1], data[at + 4 : at + 2 + size]))
        at += 2 + size
    return found


def riff_chunks(data: bytes) -> dict[bytes, bytes]:
    assert data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    found, at = {}, 12
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        found[data[at : at + 4]] = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    return found


def exif_texts(block: bytes) -> dict[int, str]:
    """ASCII entries of IFD0, read by the TIFF specification."""
    tiff = block[6:] if block.startswith(b"Exif\x00\x00") else block
    assert tiff[:4] == b"II*\x00"
    (start,) = struct.unpack("<I", tiff[4:8])
    (count,) = struct.unpack("<H", tiff[start : start + 2])
    found = {}
    for index in range(count):
        tag, kind, size, offset = struct.unpack(
            "<HHII", tiff[start + 2 + 12 * index : start + 14 + 12 * index]
        )
        assert kind == 2
        found[tag] = tiff[offset : offset + size].rstrip(b"\x00").decode("utf-8")
    assert list(found) == sorted(found)
    return found


def check_packet(packet: bytes, width: int, height: int) -> None:
    assert b'GPano:ProjectionType="equirectangular"' in packet
    properties = parse_gpano(packet)
    assert properties["UsePanoramaViewer"] is True
    assert properties["FullPanoWidthPixels"] == properties["CroppedAreaImageWidthPixels"] == width
    assert properties["FullPanoHeightPixels"] == properties["CroppedAreaImageHeightPixels"] == height
    assert properties["CroppedAreaLeftPixels"] == properties["CroppedAreaTopPixels"] == 0
    assert properties["PoseHeadingDegrees"] == 270.5


def test_png_carries_gpano_and_texts(tmp_path):
    path = save_panorama(picture(), tmp_path / "a.png", TEXT, heading_deg=-89.5)
    chunks = png_chunks(path.read_bytes())
    itxt = [body for kind, body in chunks if kind == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\x00")]
    assert len(itxt) == 1
    check_packet(itxt[0].split(b"\x00", 5)[5], 32, 16)
    kinds = [kind for kind, _ in chunks]
    assert kinds.index(b"iTXt") < kinds.index(b"IDAT")
    assert (b"tEXt", b"workflow\x00" + TEXT["workflow"].encode()) in chunks
    assert read_text(path) == TEXT


def test_jpeg_carries_gpano_in_app1_and_texts_in_exif(tmp_path):
    path = save_panorama(picture(), tmp_path / "a.jpg", TEXT, heading_deg=270.5)
    app1 = [body for marker, body in jpeg_segments(path.read_bytes()) if marker == 0xE1]
    packets = [body for body in app1 if body.startswith(b"http://ns.adobe.com/xap/1.0/\x00")]
    check_packet(packets[0].split(b"\x00", 1)[1], 32, 16)
    exif = next(body for body in app1 if body.startswith(b"Exif\x00\x00"))
    assert exif_texts(exif) == {
        0x0110: "prompt:" + TEXT["prompt"],
        0x010F: "workflow:" + TEXT["workflow"],
        0x010E: "note:" + TEXT["note"],
    }
    assert read_text(path) == TEXT


def test_webp_carries_gpano_and_texts(tmp_path):
    path = save_panorama(picture(), tmp_path / "a.webp", TEXT, heading_deg=270.5)
    chunks = riff_chunks(path.read_bytes())
    check_packet(chunks[b"XMP "], 32, 16)
    assert exif_texts(chunks[b"EXIF"])[0x0110] == "prompt:" + TEXT["prompt"]
    assert read_text(path) == TEXT
    assert Image.open(path).getexif()[0x010F] == "workflow:" + TEXT["workflow"]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.jpeg", "a.webp", "A.PNG"])
def test_round_trip(tmp_path, name):
    pixels = picture(64)
    path = save_panorama(pixels, tmp_path / name)
    back = load_image(path)
    assert back.shape == (1, 3, 64, 128) and back.dtype == torch.float32
    error = (back[0] - pixels).abs()
    assert error.max() <= (0.5 / 255 + 1e-6 if name.lower().endswith("png") else 0.06) and error.mean() < 0.01
    assert read_gpano(path)["FullPanoWidthPixels"] == 128
    assert read_text(path) == {}


def test_eight_bits_are_rounded_not_cut(tmp_path):
    steps = torch.linspace(-0.2, 1.2, 32).expand(3, 16, 32)
    saved = numpy.asarray(Image.open(save_panorama(steps, tmp_path / "a.png")))
    expected = numpy.rint(numpy.clip(steps.permute(1, 2, 0).numpy(), 0, 1) * 255)
    assert (saved == expected).all()
    half = save_panorama(steps.half(), tmp_path / "half.png")
    assert numpy.abs(numpy.asarray(Image.open(half)).astype(int) - saved).max() <= 1


def test_gpano_as_elements_and_hostile_packets():
    packet = (
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
        "<rdf:Description xmlns:GPano='http://ns.google.com/photos/1.0/panorama/'>"
        "<GPano:ProjectionType>equirectangular</GPano:ProjectionType><GPano:CroppedAreaTopPixels>12"
        "</GPano:CroppedAreaTopPixels></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    assert parse_gpano(packet) == {"ProjectionType": "equirectangular", "CroppedAreaTopPixels": 12}
    assert parse_gpano(b"") == {} and parse_gpano("<a/>") == {}
    with pytest.raises(InputError, match="DOCTYPE"):
        parse_gpano("<!DOCTYPE a [<!ENTITY b 'c'>]>" + packet)
    with pytest.raises(InputError, match="broken"):
        parse_gpano(packet[:-5])
    with pytest.raises(InputError, match="CroppedAreaTopPixels should be a number"):
        parse_gpano(packet.replace(">12<", ">twelve<"))


def test_text_too_long_for_jpeg_is_said_and_the_picture_kept(tmp_path, caplog):
    path = save_panorama(picture(), tmp_path / "a.jpg", {"workflow": "x" * 70000})
    assert "PNG or WebP" in caplog.text and read_text(path) == {}
    assert read_gpano(path)["ProjectionType"] == "equirectangular"
    assert (
        read_text(save_panorama(picture(), tmp_path / "a.webp", {"workflow": "x" * 70000}))["workflow"]
        == "x" * 70000
    )


def test_too_many_texts_for_exif_is_an_error(tmp_path):
    with pytest.raises(InputError, match="15 at most"):
        save_panorama(picture(), tmp_path / "a.webp", {f"k{index}": "v" for index in range(16)})
    assert list(tmp_path.iterdir()) == []


def test_shapes_and_numbers_are_checked(tmp_path):
    with pytest.raises(InputError, match="twice as wide.*Use 32 x 16 or 16 x 8"):
        save_panorama(torch.zeros(3, 16, 16), tmp_path / "a.png")
    with pytest.raises(InputError, match=r"\[2, 3, 4, 8\]"):
        save_panorama(torch.zeros(2, 3, 4, 8), tmp_path / "a.png")
    with pytest.raises(InputError, match="uint8"):
        save_panorama(torch.zeros(3, 4, 8, dtype=torch.uint8), tmp_path / "a.png")
    with pytest.raises(NumericalError, match="NaN"):
        save_panorama(torch.full((3, 4, 8), float("nan")), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_output_is_checked_before_the_work(tmp_path):
    with pytest.raises(InputError, match=r"\.gif.*\.png, \.jpg, \.jpeg or \.webp"):
        check_output(tmp_path / "a.gif", 16, 32)
    with pytest.raises(InputError, match="no extension"):
        check_output(tmp_path / "a", 16, 32)
    with pytest.raises(InputError, match="WEBP holds at most 16383"):
        check_output(tmp_path / "a.webp", 8192, 16384)
    with pytest.raises(InputError, match="larger than the limit"):
        check_output(tmp_path / "a.png", 32768, 65536)
    with pytest.raises(InputError, match="does not exist; create it"):
        check_output(tmp_path / "nowhere" / "a.png", 16, 32)
    (tmp_path / "b.png").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path / "b.png", 16, 32)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="does not exist"):
        check_output(tmp_path / "file" / "a.png", 16, 32)
    assert check_output(tmp_path / "a.png", 16, 32) == tmp_path / "a.png"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["b.png", "file"]


def test_space_is_checked_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(InputError, match="MiB are needed and 0 MiB are free"):
        check_output(tmp_path / "a.png", 512, 1024)


def test_unwritable_folder(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    # Simulated: an administrator may write to every folder, whatever its mode.
    monkeypatch.setattr(atomic, "open", refuse, raising=False)
    with pytest.raises(InputError, match="Permission denied.*permissions or choose another path"):
        check_output(tmp_path / "a.png", 16, 32)


def test_read_only_file(tmp_path, monkeypatch):
    path = save_panorama(picture(), tmp_path / "a.png")
    monkeypatch.setattr(atomic.os, "access", lambda *_: False)
    with pytest.raises(InputError, match="read-only"):
        check_output(path, 16, 32)


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failure_keeps_the_old_file(tmp_path, monkeypatch, step):
    path = save_panorama(picture(), tmp_path / "a.png")
    before = path.read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    targets = {
        "write": (images.Image.Image, "save"),
        "fsync": (atomic.os, "fsync"),
        "replace": (atomic.os, "replace"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*targets[step], full)
        with pytest.raises(InputError, match="disk is full"):
            save_panorama(1 - picture(), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_an_interrupt_while_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"good")
    with pytest.raises(KeyboardInterrupt), atomic.atomic_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"good"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    real = atomic.write_bytes(tmp_path / "real" / "a.bin", b"old")
    link = tmp_path / "link.bin"
    try:
        link.symlink_to(real)
    except OSError:
        pytest.skip("this system has no symbolic links")
    atomic.write_bytes(link, b"new")
    assert link.is_symlink() and real.read_bytes() == b"new"


def test_loading_names_the_file_and_the_problem(tmp_path):
    with pytest.raises(InputError, match="no picture at .*missing.png"):
        load_image(tmp_path / "missing.png")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(InputError, match="text.png is not a picture"):
        load_image(tmp_path / "text.png")
    data = save_panorama(picture(128), tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cut.png cannot be read"):
        load_image(tmp_path / "cut.png")
    with pytest.raises(InputError, match="cannot be read"):
        load_image(tmp_path)


def header_only_png(width: int, height: int) -> bytes:
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + body
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def test_size_limit_allows_16k_and_refuses_bombs(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    (tmp_path / "large.png").write_bytes(header_only_png(32768, 16384) + png_idat_start())
    assert read_gpano(tmp_path / "large.png") == {}
    for width, height in ((40000, 20000), (200000, 100000)):
        (tmp_path / "bomb.png").write_bytes(header_only_png(width, height) + png_idat_start())
        with pytest.raises(InputError, match="at most 32768 x 16384|decompression bomb"):
            load_image(tmp_path / "bomb.png")
    assert before == Image.MAX_IMAGE_PIXELS


def png_idat_start() -> bytes:
    body = zlib.compress(b"\x00" * 10)
    return struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))


def test_other_modes_load_as_rgb(tmp_path):
    Image.fromarray(numpy.full((4, 8, 4), 128, numpy.uint8)).save(tmp_path / "rgba.png")
    Image.fromarray(numpy.full((4, 8), 32768, numpy.uint16)).save(tmp_path / "deep.png")
    assert torch.allclose(load_image(tmp_path / "rgba.png"), torch.full((1, 3, 4, 8), 128 / 255))
    assert torch.allclose(load_image(tmp_path / "deep.png"), torch.full((1, 3, 4, 8), 32768 / 65535))


@pytest.mark.parametrize(
    "heading, written", [(359.99999, "0"), (-1e-9, "0"), (-90.0, "270"), (359.9999, "359.9999")]
)
def test_headings_stay_below_a_full_turn(heading, written):
    assert gpano_properties(8, 4, heading)["PoseHeadingDegrees"] == written
