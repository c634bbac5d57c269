"""GGUF: every block type against the `gguf` package, and files that are cut off or foreign."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

gguf = pytest.importorskip("gguf", reason="the gguf package is not installed: it is the reference here")

from panodiff_core.io.checkpoints.gguf import is_gguf, open_gguf
from panodiff_core.io.checkpoints.gguf_blocks import BLOCK_TYPES
from panodiff_core.runtime.errors import CheckpointError
from tests.core.dit360_vectors import FOLDER

Q8 = FOLDER / "transformer_q8_0.gguf"


@pytest.mark.parametrize("kind", BLOCK_TYPES, ids=lambda k: BLOCK_TYPES[k].name)
def test_random_blocks(kind):
    """All bit patterns of the integers; the scales are ordinary numbers, as random bits are mostly not."""
    block = BLOCK_TYPES[kind]
    theirs = gguf.GGMLQuantizationType(kind)
    assert theirs.name == block.name and gguf.GGML_QUANT_SIZES[theirs] == (block.elements, block.bytes)
    rng = np.random.default_rng(kind)
    raw = rng.integers(0, 256, (500, block.bytes), dtype=np.uint8)
    if block.elements == 1:
        dtype = {4: np.float32, 2: np.float16}[block.bytes]
        values = rng.standard_normal((500, 1)).astype(dtype)
        raw = values.view(np.uint8) if block.name != "BF16" else raw & np.uint8(0xBF)
    else:
        for start in SCALES[block.name]:
            scale = rng.standard_normal((500, 1)).astype(np.float16)
            raw[:, start : start + 2] = scale.view(np.uint8)
    mine = block.decode(torch.from_numpy(raw.copy()))
    expected = gguf.quants.dequantize(raw, theirs)
    assert mine.shape == (500, block.elements) and np.isfinite(expected).all()
    assert np.array_equal(mine.numpy(), expected.reshape(500, -1))


SCALES = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
}
"""Where the float16 numbers of a block begin."""


def test_a_whole_file():
    opened = open_gguf(Q8)
    reader = gguf.GGUFReader(str(Q8))
    assert is_gguf(Q8) and opened.fields["general.architecture"] == "flux"
    assert opened.entries.keys() == {tensor.name for tensor in reader.tensors}
    for tensor in reader.tensors:
        entry = opened.entries[tensor.name]
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert entry.shape == tuple(int(n) for n in reversed(tensor.shape))
        assert np.array_equal(entry.read().numpy(), expected.reshape(entry.shape))


def test_rows_without_the_rest():
    entry = open_gguf(Q8).entries["double_blocks.0.img_attn.qkv.weight"]
    assert torch.equal(entry.rows(32, 64).read(), entry.read()[32:64])
    assert torch.equal(entry.rows(32, 64).rows(3, 5).read(), entry.read()[35:37])


def test_written_by_the_package(tmp_path):
    """Other value types, an alignment of its own, and one axis or three."""
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(str(path), "flux")
    writer.add_custom_alignment(64)
    writer.add_array("list", ["a", "b"])
    writer.add_bool("yes", True)
    writer.add_float64("half", 0.5)
    cube = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    line = np.arange(7, dtype=np.float16)
    writer.add_tensor("cube", cube)
    writer.add_tensor("line", line)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    opened = open_gguf(path)
    assert opened.fields["list"] == ["a", "b"]
    assert opened.fields["yes"] is True and opened.fields["half"] == 0.5
    assert torch.equal(opened.entries["cube"].read(), torch.from_numpy(cube))
    assert torch.equal(opened.entries["cube"].rows(1, 2).read()[0], torch.from_numpy(cube[1]))
    assert torch.equal(opened.entries["line"].rows(2, 5).read(), torch.from_numpy(line[2:5]).float())


@pytest.mark.parametrize("keep", [3, 10, 200, 4000, -100])
def test_cut_off(tmp_path, keep):
    path = tmp_path / "cut.gguf"
    path.write_bytes(Q8.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="is not a complete GGUF file|is not a GGUF file") as caught:
        open_gguf(path)
    assert str(path) in str(caught.value)


def patched(tmp_path: Path, at: int, value: bytes) -> Path:
    path = Path(shutil.copy(Q8, tmp_path / "patched.gguf"))
    raw = bytearray(path.read_bytes())
    raw[at : at + len(value)] = value
    path.write_bytes(raw)
    return path


def test_other_versions_and_types(tmp_path):
    with pytest.raises(CheckpointError, match="is GGUF version 9, versions 2 and 3 are read"):
        open_gguf(patched(tmp_path, 4, (9).to_bytes(4, "little")))
    raw = Q8.read_bytes()
    name = b"double_blocks.0.img_attn.qkv.weight"
    at = raw.index(name) + len(name)  # axes, two sizes, then the type
    with pytest.raises(
        CheckpointError, match="has ggml type 18, which is not read: get a file with F32, F16"
    ):
        open_gguf(patched(tmp_path, at + 4 + 16, (18).to_bytes(4, "little")))
    with pytest.raises(CheckpointError, match="is not a complete GGUF file"):
        open_gguf(patched(tmp_path, 8, (2**60).to_bytes(8, "little")))


@pytest.mark.parametrize(
    "kind, value, said", [(4, (0).to_bytes(4, "little"), "0"), (8, (1).to_bytes(8, "little") + b"x", "'x'")]
)
def test_an_alignment_that_is_none(tmp_path, kind, value, said):
    name = b"general.alignment"
    pair = len(name).to_bytes(8, "little") + name + kind.to_bytes(4, "little") + value
    path = tmp_path / "x.gguf"
    path.write_bytes(
        b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little") + (1).to_bytes(8, "little") + pair
    )
    with pytest.raises(CheckpointError, match=f"is not a complete GGUF file .general.alignment is {said}"):
        open_gguf(path)


@pytest.mark.parametrize("kind", ["t5", "t5encoder", "clip"])
def test_text_encoders_are_refused_with_what_is_read(tmp_path, kind):
    from panodiff_core.engines.dit360.checkpoint.formats import read_parts

    path = tmp_path / "text.gguf"
    writer = gguf.GGUFWriter(str(path), kind)
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), dtype=np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    with pytest.raises(
        CheckpointError, match=f"text encoder in GGUF .{kind}., .* use t5xxl_fp16.safetensors or t5x"
    ):
        read_parts([path])


def test_another_architecture(tmp_path):
    from panodiff_core.engines.dit360.checkpoint.formats import read_parts

    raw = Q8.read_bytes()
    at = raw.index(b"flux", raw.index(b"general.architecture"))
    with pytest.raises(CheckpointError, match="is a GGUF file for 'wan2', expected 'flux'"):
        read_parts([patched(tmp_path, at, b"wan2")])
