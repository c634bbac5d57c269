"""Numbers of a file looked at without keeping them: what is found, and what stays in memory."""

from __future__ import annotations

import json

import psutil
import pytest
import torch
from safetensors.torch import save_file

from panodiff_core.io.checkpoints.filling import checked
from panodiff_core.io.checkpoints.glance import CAN_FILL
from panodiff_core.io.checkpoints.safetensors_files import open_safetensors
from panodiff_core.runtime.errors import CheckpointError

pytestmark = pytest.mark.skipif(not CAN_FILL, reason="this system cannot fill a mapping at once")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2)
VALUES = [(dtype, value) for dtype in DTYPES for value in (torch.nan, torch.inf, -torch.inf)]
VALUES.append((torch.float8_e4m3fn, torch.nan))  # this type has no infinity


@pytest.mark.parametrize(("dtype", "value"), VALUES, ids=str)
def test_every_place_and_every_range_of_rows(tmp_path, dtype, value):
    rows, width = 5, 1031
    for place in (0, 2 * width + 7, rows * width - 1):
        tensor = torch.ones(rows, width)
        tensor.view(-1)[place] = value
        save_file({"a": torch.ones(3), "w": tensor.to(dtype), "z": torch.ones(3)}, tmp_path / "f.safetensors")
        entry = open_safetensors([tmp_path / "f.safetensors"])[0]["w"]
        assert entry.finite_rows is not None
        bad = [not entry.rows(row, row + 1).is_finite(torch.empty(0)) for row in range(rows)]
        assert bad == [row == place // width for row in range(rows)]
        assert entry.rows(1, 5).rows(1, 2).is_finite(torch.empty(0)) == (place // width != 2)
        with pytest.raises(CheckpointError, match="'w' has NaN or infinite"):
            checked(entry, dtype)


def test_scalars_empty_tensors_and_integers(tmp_path):
    path = tmp_path / "f.safetensors"
    save_file({"s": torch.tensor(torch.nan), "e": torch.ones(0, 4), "i": torch.arange(4)}, path)
    entries = open_safetensors([path])[0]
    with pytest.raises(CheckpointError, match="'s' has NaN"):
        checked(entries["s"], torch.float32)
    assert checked(entries["e"], torch.float32).shape == (0, 4)
    assert torch.equal(checked(entries["i"], torch.float32), torch.arange(4))


def test_a_header_of_odd_length(tmp_path):
    body = torch.tensor([1.0, 2.0, torch.nan, 4.0]).numpy().tobytes()
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    header += b" " * (8 - len(header) % 8 + 1)
    assert len(header) % 4 == 1
    path = tmp_path / "odd.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + body)
    entry = open_safetensors([path])[0]["w"]
    assert [entry.rows(i, i + 1).is_finite(torch.empty(0)) for i in range(4)] == [True, True, False, True]


def test_what_was_looked_at_is_not_kept(tmp_path):
    path, size = tmp_path / "large.safetensors", 2**26
    save_file({str(i): torch.ones(size // 16) for i in range(4)}, path)  # 4 × 16 MiB
    process = psutil.Process()
    entries = open_safetensors([path])[0]
    before = process.memory_info().rss
    tensors = [checked(entry, torch.float32) for entry in entries.values()]
    grown = process.memory_info().rss - before
    assert grown < size / 4
    assert sum(float(tensor.sum()) for tensor in tensors) == size / 4
    assert process.memory_info().rss - before > size / 2  # now they are: the measure sees it
