"""Training on two processes (torchrun, gloo) computes what one process with the whole batch does."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("this torch has no gloo", allow_module_level=True)

from posewatch.datasets.pyskl import write_pyskl  # noqa: E402
from posewatch.recognition import distributed as parallel  # noqa: E402

STEP = """
import sys
import torch
import torch.nn.functional as F
from posewatch.recognition import distributed as parallel
from posewatch.recognition.models.protogcn.fused import FusedProtoGCN as ProtoGCN

class Loss(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
    def forward(self, x, labels, present):
        output = self.network(x, present)
        return F.cross_entropy(output.logits, labels), self.network.auxiliary_loss(output, labels)

torch.set_default_dtype(torch.float64)
with parallel.processes():
    torch.manual_seed(0)
    network = ProtoGCN(joints=5, classes=3, width=16, prototypes=6).train()
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith(("alpha", "beta", "mean_joint")):
                value.normal_(0, 0.5)
    x = torch.randn(8, 2, 12, 5, 3)
    # Both right and wrong ones, and on the two halves of the batch not the same number.
    labels = torch.tensor([0, 1, 2, 0, 0, 0, 1, 0])
    # Persons who are not there are left out, and of the two halves not the same number.
    present = torch.ones(8, 2)
    present[[0, 1, 3, 6], [1, 1, 0, 1]] = 0
    x = x * present[:, :, None, None, None]
    n = len(x) // parallel.world()
    mine = slice(parallel.rank() * n, (parallel.rank() + 1) * n)
    losses = parallel.distribute(Loss(network))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    found = {}
    for step in range(2):
        torch.manual_seed(7 + step)
        optimiser.zero_grad()
        cross, contrast = losses(x[mine], labels[mine], present[mine])
        (cross + 0.5 * contrast).backward()
        found[f"{step} cross"], found[f"{step} contrast"] = (parallel.mean(v.detach()) for v in (cross, contrast))
        found |= {f"{step} gradient {k}": p.grad.clone() for k, p in network.named_parameters()}
        optimiser.step()
        found |= {f"{step} state {k}": v.clone() for k, v in network.state_dict().items()}
    torch.save(found, f"{sys.argv[1]}/{parallel.world()}-{parallel.rank()}.pt")
"""


def torchrun(count, *arguments):
    """Run ``python arguments`` as ``count`` processes of one training; what they print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [
        "-m", "torch.distributed.run", f"--nproc-per-node={count}", "--master-addr=127.0.0.1", f"--master-port={port}",
    ] if count > 1 else []  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "MLFLOW_TRACKING_URI")}
    done = subprocess.run(
        [sys.executable, *launcher, *arguments],
        capture_output=True, text=True, timeout=300, env=environment | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_step_equals_that_of_one_process(tmp_path):
    """Losses, gradients, weights, class memory and running statistics, with the prototypes' dropout at work."""
    script = tmp_path / "step.py"
    script.write_text(STEP)
    for count in (1, 2):
        torchrun(count, str(script), str(tmp_path))
    one, *two = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    for name, want in one.items():
        for got in two:
            scale = max(1.0, float(want.abs().max()))
            assert float((got[name] - want).abs().max()) <= 1e-8 * scale, name
    memory = [one[f"{step} state contrast.memory"] for step in (0, 1)]
    assert not torch.equal(*memory), "the class memory must move"
    assert one["0 gradient prototypes.query.weight"].abs().max() > 0


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("dims", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_shares_of_a_dropout_are_the_dropout_of_the_whole(count, dims, monkeypatch):
    """Whatever the order in memory, and for shares of a single clip, too."""
    back = [dims.index(d) for d in range(3)]
    whole = torch.randn([(4, 6, 5)[d] for d in dims]).permute(back)
    assert whole.shape == (4, 6, 5)
    torch.manual_seed(0)
    want = parallel.dropout(whole, 0.5, True)
    n = 4 // count
    monkeypatch.setattr(parallel, "world", lambda: count)
    for rank in range(count):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        # as a process has it that never saw the others: its own clips, laid out alike
        share = whole[rank * n : (rank + 1) * n].permute(dims).contiguous().permute(back)
        torch.manual_seed(0)
        assert torch.equal(parallel.dropout(share, 0.5, True), want[rank * n : (rank + 1) * n])


@pytest.fixture
def annotations(tmp_path, clips):
    """20 clips to train on and 8 to test, of people who are not on both sides."""
    names = tuple(f"s{i // 4:02d}_clip_{i}" for i in range(28))
    made = dataclasses.replace(clips(28), ids=names, groups=tuple(n[:3] for n in names))
    path = tmp_path / "skeletons.pkl"
    write_pyskl(path, made, {"train": range(20), "test": range(20, 28)})
    return path


DOUBLE = """
import sys
import numpy as np
import torch

from_numpy = torch.from_numpy
torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double
torch.from_numpy = lambda x: from_numpy(x.astype(np.float64) if x.dtype == np.float32 else x)

from posewatch.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_posewatch_train_under_torchrun(annotations, tmp_path):
    """The same history, weights and metrics, written and printed once.

    In double precision. In single, a change of a fresh network's weights by 1e-7 moves the loss of its first epoch by
    1 to 5 %, and the order in which two processes sum up is such a change.
    """
    script = tmp_path / "train.py"
    script.write_text(DOUBLE)
    sets = ("model=stgcn++", "width=0.1", "clip_frames=12", "people=1", "batch=8", "epochs=2", "threads=1")
    printed = {}
    for count in (1, 2):
        out = tmp_path / str(count)
        printed[count] = torchrun(
            count, str(script), "train", "--annotations", str(annotations), "--out", str(out),
            *(f"--set=train.{item}" for item in sets),
        )  # fmt: skip
    assert printed[2] == printed[1].replace(str(tmp_path / "1"), str(tmp_path / "2"))
    assert "random forest" in printed[1]
    files = [sorted(str(p.relative_to(tmp_path / n)) for p in (tmp_path / n).rglob("*")) for n in ("1", "2")]
    assert files[0] == files[1]
    for part in (".", "validation"):
        one, two = (
            [json.loads(line) for line in (tmp_path / n / part / "history.jsonl").read_text().splitlines()]
            for n in ("1", "2")
        )
        assert len(one) == len(two) >= 2
        for a, b in zip(one, two, strict=True):
            assert a == pytest.approx(b, abs=2e-6)
    one, two = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("1", "2"))
    assert one.keys() == two.keys()
    for key in ("accuracy", "f1", "auc", "threshold"):
        assert one[key] == pytest.approx(two[key], abs=1e-5), key
    one, two = (torch.load(tmp_path / n / "checkpoint.pt", weights_only=True)["weights"] for n in ("1", "2"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.allclose(two[name], value, rtol=1e-6, atol=1e-6), name
