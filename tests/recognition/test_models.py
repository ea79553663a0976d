"""Every model of the zoo, ProtoGCN included: the same interface, any layout, published sizes, equal after export."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from posewatch.bench import model_sizes as macs  # noqa: E402
from posewatch.config import TrainConfig  # noqa: E402
from posewatch.datasets import layouts  # noqa: E402
from posewatch.datasets.layouts import Layout  # noqa: E402
from posewatch.errors import ConfigError  # noqa: E402
from posewatch.recognition.models import ALIASES, NETWORKS, build, graph, hypergcn, layers  # noqa: E402
from posewatch.recognition.models.aagcn import AAGCN, Attention  # noqa: E402
from posewatch.recognition.models.aagcn import GraphConvolution as Adaptive  # noqa: E402
from posewatch.recognition.models.ctrgcn import GraphConvolution as Refined  # noqa: E402
from posewatch.recognition.models.hypergcn import HyperGraphConvolution as Hyper  # noqa: E402
from posewatch.recognition.models.protogcn.network import ProtoGCN  # noqa: E402
from posewatch.recognition.models.stgcn import STGCN, SubsetConvolution  # noqa: E402
from posewatch.recognition.recogniser import FLOW_MODEL, Recogniser, load_checkpoint, save  # noqa: E402

HAND = Layout("hand5", ("wrist", "a", "b", "c", "free"), ((1, 0), (2, 0), (3, 1)), centre=0, pairs=((1, 2),))
LAYOUTS = [*(layouts.get(name) for name in layouts.names()), HAND]
SOME = [HAND, *map(layouts.get, ("coco17", "coco20", "ntu25", "wholebody133"))]
MODELS = list(NETWORKS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(7)


def small(name, layout=HAND, classes=3, in_channels=4):
    return build(
        name, layout=layout, classes=classes, width=0.1, model_options={"prototypes": 5}, in_channels=in_channels
    )


def stir(network, x):
    """Move every weight off its initial value: at some of those, parts of a network are switched off.

    The batch norms then take their statistics from ``x``, as in training; with made-up ones numbers would explode.
    """
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for norm in norms:
            norm.momentum = 1.0
        network.train()(x)
        for norm in norms:
            norm.momentum = 0.1
            # A channel that happens to be silent in x would shout at everything else.
            norm.running_var.clamp_(min=0.05)
    return network


def features(n=2, people=2, frames=10, joints=5, channels=4):
    return torch.randn(n, people, frames, joints, channels)


@pytest.mark.parametrize("name", MODELS)
def test_any_layout_and_number_of_people_and_frames(name):
    for layout in LAYOUTS if name == "stgcn++" else SOME:
        network = small(name, layout).eval()
        joints = len(layout.joints)
        for people, frames in ((1, 7), (3, 12)):
            with torch.no_grad():
                output = network(features(2, people, frames, joints))
            assert output.logits.shape == (2, 3)
            assert output.embedding.shape == (2, network.classify.in_features)
            assert output.reconstruction is None
            assert torch.isfinite(output.logits).all()


@pytest.mark.parametrize("name", [name for name in MODELS if not name.endswith("statistics")])
def test_the_embedding_of_one_person_is_the_mean_of_its_maps(name):
    network = stir(small(name), features(8)).eval()
    x = features(3, people=1)
    with torch.no_grad():
        maps = network.maps(x[:, 0])
        assert maps.shape[0] == 3
        assert torch.allclose(maps.mean((2, 3)), network(x).embedding, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_who_is_not_there_does_not_count(name):
    network = stir(small(name), features(8)).eval()
    x = features(3, people=3)
    present = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 1, 1]])
    with torch.no_grad():
        want = network(x, present)
        changed = torch.where(present[:, :, None, None, None] > 0, x, torch.randn_like(x))
        assert torch.equal(network(changed, present).logits, want.logits)
        alone = network(x[1:2, :1])
        assert torch.allclose(alone.logits[0], want.logits[1], atol=1e-5)
        assert not torch.allclose(network(x).logits[1], want.logits[1], atol=1e-4)
        assert torch.isfinite(network(x, present * 0).logits).all()


@pytest.mark.parametrize("name", [name for name in MODELS if name != "pooled-statistics"])
def test_order_of_people_does_not_count_and_of_frames_does(name):
    network = stir(small(name), features(8)).eval()
    x = features(2, frames=12)
    with torch.no_grad():
        want = network(x).logits
        assert torch.allclose(network(x.flip(1)).logits, want, atol=1e-5)
        assert not torch.allclose(network(x[:, :, torch.randperm(12)]).logits, want, atol=1e-4)
        assert not torch.allclose(network(x.flip(3)).logits, want, atol=1e-4)


BEFORE_NORM = re.compile(
    r"(place|pre\.0|post|down\.0|residual\.0|transform\.2|gather|time\.0|mix\.2\.0|branches\.\d\.[03](\.0)?|branches\.5)\.bias$"
)
"""By design: a batch norm takes away whatever the bias of the convolution before it adds; so does a distance."""


@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_every_parameter(name):
    network = stir(small(name), features(8)).train()
    output = network(features(8), torch.ones(8, 2))
    labels = torch.randint(0, 3, (8,))
    loss = torch.nn.functional.cross_entropy(output.logits, labels) + network.auxiliary_loss(output, labels)
    loss.backward()
    still = [k for k, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert still == []
    zero = [k for k, p in network.named_parameters() if not p.grad.abs().max() > 1e-6]
    assert [k for k in zero if not BEFORE_NORM.search(k)] == []


@pytest.mark.parametrize("name", MODELS)
def test_training_learns_a_toy_task(name):
    """Which joint moves: nothing that the mean of the pose gives away."""
    network = small(name, classes=2).train()
    labels = torch.arange(16) % 2
    x = 0.1 * features(16, people=1)
    swing = torch.sin(torch.arange(10.0) * 1.5)[None, :, None]
    for joint in (1, 3):
        x[labels == joint // 2, 0, :, joint] += swing
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    losses = []
    for _ in range(12):
        output = network(x)
        loss = torch.nn.functional.cross_entropy(output.logits, labels)
        optimiser.zero_grad()
        (loss + network.auxiliary_loss(output, labels)).backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0], losses
    assert (network(x).logits.argmax(1) == labels).float().mean() == 1


def keypoints(n, joints):
    """(N, 2, 8, V, 3): clouds of joints that wander, with holes, an empty person and an empty clip."""
    rng = np.random.default_rng(n)
    x = np.ones((n, 2, 8, joints, 3), np.float32)
    x[..., :2] = rng.uniform(100, 500, (n, 2, 1, 1, 2)) + rng.normal(0, 4, (n, 2, 8, joints, 2)).cumsum(2)
    x[..., :2] += rng.normal(0, 40, (n, 2, 1, joints, 2))
    x[rng.random(x.shape[:-1]) < 0.1] = 0
    x[0, 1] = 0
    if n > 2:
        x[3] = 0
    return x


def check_export(name, layout, folder):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from posewatch.export.onnx import export

    stream = "f" if name == FLOW_MODEL else "j+bm"
    config = TrainConfig(model=name, width=0.1, model_options={"prototypes": 4}, clip_frames=8, people=2, stream=stream)
    made = Recogniser(config, layouts.get(layout), ("normal", "abnormal"), "abnormal", 10.0)
    stir(made, torch.from_numpy(keypoints(8, made.layout.columns)))
    save(folder / "checkpoint.pt", made, made.state_dict())
    # Which itself compares the two at N = 1, 2 and 8.
    report = export(folder / "checkpoint.pt", folder / "model.onnx")
    assert report["max_abs_error"] <= 1e-4
    recogniser = load_checkpoint(folder / "checkpoint.pt")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    answers = []
    for n in (1, 2, 8):
        x = keypoints(n, recogniser.layout.columns)
        got = session.run(["probabilities", "embedding"], {"keypoints": x})
        with torch.no_grad():
            want = recogniser(torch.from_numpy(x))
        for a, b in zip(got, want, strict=True):
            assert np.abs(a - b.numpy()).max() < 1e-4
        answers.append(got[0][:, 0])
    assert np.ptp(np.concatenate(answers)) > 1e-4, "the answers do not depend on the input"


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("stgcn", "kinect15"),
        ("stgcn++", "coco20"),
        ("aagcn", "kinect15"),
        ("ctrgcn", "coco20"),
        ("hypergcn", "kinect15"),
        ("statistics", "coco20"),
        ("pooled-statistics", "coco17"),
        ("flow-statistics", "coco17+flow"),
    ],
)
def test_equal_after_export(name, layout, tmp_path, monkeypatch):
    """One block of each kind, to save time; test_export.py has ProtoGCN, and the slow test below all of all."""
    monkeypatch.setattr(layers, "MULTIPLES", (1, 1, 4))
    monkeypatch.setattr(hypergcn, "MULTIPLES", (1,))
    check_export(name, layout, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["coco20", "kinect15"])
@pytest.mark.parametrize("name", [name for name in MODELS if name != FLOW_MODEL])
def test_full_depth_equal_after_export(name, layout, tmp_path):
    check_export(name, layout, tmp_path)


PUBLISHED = {"stgcn": (3.07, 3.81), "stgcn++": (1.38, 1.93), "aagcn": (3.75, 4.34), "protogcn": (4.21, 5.17)}
"""Million parameters and GMACs, coco17, M = 2, T = 100, as PYSKL's and ProtoGCN's authors count."""


def test_published_sizes():
    coco = layouts.get("coco17")
    for name, (parameters, gmacs) in PUBLISHED.items():
        size = macs.measure(build(name, layout=coco, classes=2), 17)
        assert round(size.parameters / 1e6, 2) == parameters, name
        assert size.published_macs / 1e9 == pytest.approx(gmacs, abs=0.011), name
        assert 0.7 * size.published_macs < size.macs <= size.published_macs, name
    proto = macs.measure(build("protogcn", layout=coco, classes=2), 17)
    assert (proto.parameters, proto.serving_parameters) == (4_209_586, 3_679_538)
    ctrgcn = build("ctrgcn", layout=layouts.get("ntu25"), classes=120)
    assert round(sum(p.numel() for p in ctrgcn.parameters()) / 1e6, 2) == 1.46


def test_hypergcn_has_the_published_size():
    """Trained parameters of the authors' base model on NTU RGB+D 120: 1,057,097, in the paper 1.1 M. Its input norm
    holds weights for two persons, ours for any one: 25 joints of 128 channels, a scale and a shift."""
    network = build("hypergcn", layout=layouts.get("ntu25"), classes=120)
    assert sum(p.numel() for p in network.parameters()) == 1_057_097 - 2 * 25 * 128


def test_counter_counts_what_can_be_counted_by_hand():
    one = macs.measure(build("stgcn", layout=HAND, classes=3, width=0.1), 5, people=1, frames=8)
    two = macs.measure(build("stgcn", layout=HAND, classes=3, width=0.1), 5, people=2, frames=8)
    head = 32 * 3
    bias = 3 * 5 * (8 * 4 + 16 * 3 + 32 * 3)  # their way through the graphs, once for all persons
    assert two.macs - one.macs == one.macs - head - bias
    expected, channels = 0, 3
    for out, frames, stride in [(8, 8, 1)] * 4 + [(16, 8, 2)] + [(16, 4, 1)] * 2 + [(32, 4, 2)] + [(32, 2, 1)] * 2:
        expected += (
            3 * channels * 5 * 5 * frames + 3 * channels * out * 5 * frames + 9 * out * out * 5 * frames // stride
        )
        expected += channels * out * 5 * frames // stride if stride > 1 else 0
        channels = out
    assert one.macs == expected + head + bias


def test_table_of_the_docs_is_the_code_s():
    text = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- sizes -->\n(.*?)\n<!-- /sizes -->", text, re.DOTALL)
    assert found is not None
    assert found[1] == "\n".join(macs.table()), "run posewatch bench model-sizes and put its output there"
    for name in (*MODELS, *ALIASES):
        assert f"`{name}`" in text


def test_names_and_widths():
    assert isinstance(build("2s-agcn", layout=HAND, classes=2, width=0.1), AAGCN)
    narrow, wide = (build("stgcn", layout=HAND, classes=2, width=w) for w in (0.01, 0.5))
    assert narrow.classify.in_features == 32
    assert wide.classify.in_features == 128
    with pytest.raises(ConfigError, match=r"unknown model 'ctrgnc': did you mean 'ctrgcn'\?"):
        build("ctrgnc", layout=HAND, classes=2)


def test_options_of_a_model_are_the_parameters_of_its_class(monkeypatch):
    class Deep(STGCN):
        def __init__(self, layout, classes, width=64, in_channels=3, *, depth=2):
            super().__init__(layout, classes, width, in_channels)
            self.depth = depth

    monkeypatch.setitem(NETWORKS, "deep", Deep)
    given = {"depth": 5, "prototypes": 7}
    assert build("deep", layout=HAND, classes=2, width=0.1, model_options=given).depth == 5
    assert build("deep", layout=HAND, classes=2, width=0.1).depth == 2
    proto = build("protogcn", layout=HAND, classes=2, width=0.1, model_options=given)
    assert proto.prototypes.query.out_features == 7
    for options, message in (
        ({"prototype": 7}, r"unknown option 'prototype' in train.model_options: did you mean 'prototypes'\?"),
        ({"prototypes": "many"}, r"train.model_options.prototypes must be int, not 'many'"),
    ):
        with pytest.raises(ConfigError, match=message):
            build("protogcn", layout=HAND, classes=2, width=0.1, model_options=options)


def test_same_seed_same_network():
    for name in MODELS:
        states = []
        for _ in range(2):
            torch.manual_seed(3)
            states.append(small(name).state_dict())
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_only_protogcn_has_training_only_parts():
    for name in MODELS:
        network = stir(small(name), features(8)).eval()
        x = features()
        with torch.no_grad():
            before = network(x).logits
            parameters = sum(p.numel() for p in network.parameters())
            network.trim()
            assert torch.equal(network(x).logits, before)
        assert (sum(p.numel() for p in network.parameters()) < parameters) == isinstance(network, ProtoGCN)


# The maths of each paper, written down step by step.


def by_subset(convolution, subsets):
    weights = convolution.weight.flatten(1).view(subsets, -1, convolution.weight.shape[1])
    return zip(weights, convolution.bias.view(subsets, -1), strict=True)


def conv(x, weight, bias):
    return torch.einsum("bctv,dc->bdtv", x, weight) + bias[:, None, None]


def test_subset_convolution_is_the_sum_over_subsets():
    layer = SubsetConvolution(3, 6, 2)
    x, a = torch.randn(2, 3, 4, 5), torch.randn(2, 5, 5)
    want = sum(conv(x, w, b) @ a[k] for k, (w, b) in enumerate(by_subset(layer.convolve, 2)))
    assert torch.allclose(layer(x, a), want, atol=1e-5)


def test_adaptive_graph_is_the_papers():
    layer = stir(Adaptive(3, 8, torch.randn(2, 5, 5)), torch.randn(2, 3, 4, 5)).eval()
    x = torch.randn(2, 3, 4, 5)
    z = 0
    parts = zip(*(by_subset(c, 2) for c in (layer.query, layer.key, layer.gather)), strict=True)
    for k, (query, key, mix) in enumerate(parts):
        theta, phi = conv(x, *query), conv(x, *key)
        alike = torch.tanh(torch.einsum("bctv,bctw->bvw", theta, phi) / (theta.shape[1] * 4))
        z = z + conv(torch.einsum("bctv,bvw->bctw", x, layer.graph[k] + layer.alpha * alike), *mix)
    y = torch.relu(layer.norm(z) + layer.down(x))
    assert torch.allclose(layer(x), layer.attend(y), atol=1e-5)


def test_attention_is_joints_then_frames_then_channels():
    layer = stir(Attention(6, 4), torch.randn(2, 6, 7, 4))
    x = torch.randn(2, 6, 7, 4)
    y = x + x * torch.sigmoid(layer.joints(x.mean(2))).unsqueeze(2)
    y = y + y * torch.sigmoid(layer.frames(y.mean(3))).unsqueeze(3)
    channels = torch.sigmoid(layer.excite(torch.relu(layer.squeeze(y.mean((2, 3))))))
    y = y + y * channels[:, :, None, None]
    assert torch.allclose(layer(x), y, atol=1e-5)


def test_refined_graph_is_the_papers():
    layer = stir(Refined(3, 8, torch.randn(2, 5, 5)), torch.randn(2, 3, 4, 5)).eval()
    x = torch.randn(2, 3, 4, 5)
    z = 0
    parts = zip(*(by_subset(c, 2) for c in (layer.query, layer.key, layer.value, layer.refine)), strict=True)
    for k, (query, key, value, refine) in enumerate(parts):
        m = torch.tanh(conv(x, *query).mean(2).unsqueeze(3) - conv(x, *key).mean(2).unsqueeze(2))
        r = layer.graph[k] + layer.alpha * conv(m, *refine)
        z = z + torch.einsum("bctv,bcvw->bctw", conv(x, *value), r)
    assert torch.allclose(layer(x), torch.relu(layer.norm(z) + layer.down(x)), atol=1e-5)


def test_hyper_graph_is_the_papers():
    """Y = D^-1 H W B^-1 H^T X: joints to hyper-edges and back, edges weighed by what the frames show."""
    layer = stir(Hyper(16, 16, torch.ones(12, 12)), torch.randn(2, 16, 4, 9))
    still = torch.randn(1, 16, 12)
    with torch.no_grad():
        found = layer.hyper_graph(still)[0]
        for head, places in enumerate(layer.place(still)[0].view(8, -1, 12)):
            incidence = torch.zeros(12, 12)
            for joint in range(12):
                apart = (places - places[:, joint : joint + 1]).norm(dim=0)
                nearest = apart.argsort()[:9]
                incidence[joint, nearest] = torch.softmax(-apart[nearest], 0)
            edges = layer.weigh(still)[0, head]
            joints = (incidence * edges).abs().sum(1)
            want = (incidence * edges / joints[:, None]) @ torch.diag(edges / incidence.sum(0)) @ incidence.T
            assert torch.allclose(found[head], want, atol=1e-5)


# Graphs


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_adjacency_follows_the_bones(layout):
    v = len(layout.joints)
    distance = graph.hops(layout)
    assert (distance == distance.T).all()
    assert {tuple(sorted(edge)) for edge in layout.edges} == {
        (i, j) for i in range(v) for j in range(i + 1, v) if distance[i, j] == 1
    }
    for a in (graph.spatial(layout), graph.stgcn_spatial(layout)):
        assert a.shape == (3, v, v)
        assert a.dtype == np.float32
        assert ((a > 0).sum(0) <= 1).all(), "an entry stands in two subsets"
        assert ((a.sum(0) > 0) == (distance <= 1)).all()
    itself, parent, children = graph.spatial(layout)
    assert (itself == np.eye(v)).all()
    for child, up in layout.edges:
        assert parent[up, child] > 0
        assert children[child, up] > 0
    for matrix in (parent, children, graph.stgcn_spatial(layout).sum(0)):
        sums = matrix.sum(0)
        assert np.allclose(sums[sums > 0], 1)


def test_partition_by_distance_from_the_centre():
    chain = Layout("chain", ("a", "b", "c", "d"), ((1, 0), (2, 1), (3, 2)), centre=1, pairs=())
    itself, farther, nearer = graph.stgcn_spatial(chain)
    assert np.allclose(np.diag(itself), [1 / 2, 1 / 3, 1 / 3, 1 / 2])
    assert {tuple(e) for e in np.argwhere(farther)} == {(0, 1), (2, 1), (3, 2)}
    assert {tuple(e) for e in np.argwhere(nearer)} == {(1, 0), (1, 2), (2, 3)}


def test_graph_of_a_user_s_layout(tmp_path):
    file = tmp_path / "robot.yaml"
    file.write_text("name: robot\njoints: [base, arm, grip]\nedges: [[arm, base], [grip, arm]]\ncentre: base\n")
    layout = layouts.from_yaml(file)
    _, parent, children = graph.spatial(layout)
    assert parent.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert children.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    network = small("ctrgcn", layout).eval()
    with torch.no_grad():
        assert network(features(joints=3)).logits.shape == (2, 3)


@pytest.mark.parametrize("name", ["protogcn", "stgcn++", "hypergcn"])
def test_persons_who_are_not_there_are_no_part_of_training(name):
    """A clip with an empty place for a second person trains as one without that place: statistics and gradients."""
    torch.manual_seed(0)
    network = build(name, layout=layouts.get("coco17"), classes=2, width=0.1, model_options={"prototypes": 4}).train()
    x = torch.randn(4, 2, 8, 17, 3)
    present = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    alone = x[torch.arange(4), present.argmax(1)][:, None]
    found = []
    for clips, there in ((x * present[..., None, None, None], present), (alone, torch.ones(4, 1))):
        own = copy.deepcopy(network)
        torch.manual_seed(1)
        output = own(clips, there)
        labels = torch.tensor([0, 1, 0, 1])
        loss = torch.nn.functional.cross_entropy(output.logits, labels) + own.auxiliary_loss(output, labels)
        loss.backward()
        statistics = [v for k, v in own.state_dict().items() if k.endswith(("running_mean", "running_var"))]
        found.append([loss, *statistics, *(p.grad for p in own.parameters() if p.grad is not None)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_batch_in_which_nobody_is_seen_can_be_trained_on():
    network = build("stgcn++", layout=layouts.get("coco17"), classes=2, width=0.1, model_options={}).train()
    output = network(torch.zeros(4, 2, 8, 17, 3), torch.zeros(4, 2))
    torch.nn.functional.cross_entropy(output.logits, torch.tensor([0, 1, 0, 1])).backward()
    assert torch.equal(output.embedding, torch.zeros_like(output.embedding))
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())
