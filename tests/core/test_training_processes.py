"""Two processes, started as `accelerate launch` starts them, train one model together."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import json
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

from panodiff_core.training.config import LoopConfig
from panodiff_core.training.loop import Trainer


class Numbers(Dataset):
    def __len__(self):
        return 2**40

    def __getitem__(self, index):
        return {"x": torch.full((2, 1), float(index)), "index": torch.tensor(index)}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen = []

    def forward(self, batch, progress):
        self.seen.append(int(batch["index"]))
        return {"loss": (self.weight * batch["x"]).mean()}


class Recipe:
    name = "net"

    def module(self):
        return Net()

    def batches(self):
        return Numbers()

    def optimizers(self, module, learning_rate):
        return [torch.optim.SGD(module.parameters(), lr=learning_rate)]

    def pictures(self, module):
        return None

    def export(self, module, folder, run):
        raise AssertionError("not asked for")


out = Path(sys.argv[1])
config = LoopConfig(
    out=out / "run", steps=3, grad_accumulation=2, warmup=0, schedule="constant", learning_rate=0.01,
    grad_clip=0.0, precision="no", log_every=1, checkpoint_every=2,
)
trainer = Trainer(Recipe(), config)
trainer.run()
rank = trainer.accelerator.process_index
result = {"seen": trainer.module.seen, "weight": float(trainer.module.weight.detach())}
(out / f"rank{rank}.json").write_text(json.dumps(result))
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_processes_share_the_batches_and_the_weights(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{SCRIPT}")
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        str(free_port()),
    ]
    done = subprocess.run(
        [*launch, str(script), str(tmp_path)], check=False, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [json.loads((tmp_path / f"rank{i}.json").read_text()) for i in range(2)]
    assert ranks[0]["seen"] == [0, 2, 4, 6, 8, 10]
    assert ranks[1]["seen"] == [1, 3, 5, 7, 9, 11]
    # Gradient of a step: the mean of its four batch numbers, whoever computed them.
    expected = 1.0 - 0.01 * (1.5 + 5.5 + 9.5)
    assert ranks[0]["weight"] == pytest.approx(expected, abs=1e-6)
    assert ranks[1]["weight"] == ranks[0]["weight"]
    assert (tmp_path / "run" / "checkpoint-00000003" / "state.json").is_file()
