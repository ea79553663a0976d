"""The fused and the published form of ProtoGCN compute what ``network.py`` does, and the benchmark of the two runs."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from posewatch.bench import training as bench_train  # noqa: E402
from posewatch.cli.main import main  # noqa: E402
from posewatch.errors import InputError  # noqa: E402
from posewatch.recognition.models.protogcn import temporal  # noqa: E402
from posewatch.recognition.models.protogcn.activation_cache import POOL  # noqa: E402
from posewatch.recognition.models.protogcn.fused import FusedProtoGCN  # noqa: E402
from posewatch.recognition.models.protogcn.network import ProtoGCN  # noqa: E402

SIZE = bench_train.Size(width=16, batch=3, frames=11, classes=5, prototypes=7)


def network(form, dtype=torch.float64, size=SIZE):
    """Every term far from its initial value, at which the learned graph is switched off."""
    torch.manual_seed(1)
    made = (
        ProtoGCN(17, size.classes, size.width, size.prototypes) if form == "plain" else bench_train.build(form, size)
    ).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    made.prototypes.dropout = 0.0
    return made


def clips(dtype=torch.float64, size=SIZE):
    torch.manual_seed(2)
    x = torch.randn(size.batch, size.people, size.frames, 17, 3, dtype=dtype)
    return x, torch.tensor([[1, 1], [1, 0], [1, 1]], dtype=dtype), torch.tensor([0, 4, 2])


def trained(made):
    x, present, labels = clips()
    x.requires_grad_()
    out = made(x, present)
    loss = F.cross_entropy(out.logits, labels) + 0.3 * made.auxiliary_loss(out, labels)
    loss.backward()
    return {
        "loss": loss.detach(),
        "reconstruction": out.reconstruction.detach(),
        "x": x.grad,
        **{f"grad {k}": v.grad for k, v in made.named_parameters()},
        **{f"buffer {k}": v for k, v in made.named_buffers()},
    }


def assert_equal(got, want, tolerance=1e-9):
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert (got[name] - value).abs().max() <= tolerance * max(1, value.abs().max()), name


@pytest.mark.parametrize("form", bench_train.ARRANGEMENTS)
def test_training_equals_the_plain_network(form):
    made, plain = network(form), network("plain")
    plain.skip_absent = made.skip_absent  # the published form computes everybody
    assert_equal(trained(made), trained(plain))


def test_room_that_is_handed_on_between_layers_and_batches_of_any_size():
    """The same parameters see batches of other sizes before, and the other way round."""
    want = trained(network("ours"))
    made = network("ours")
    x, present, labels = clips()
    for part in (slice(0, 2), slice(0, 3), slice(1, 2)):
        state = {k: v.clone() for k, v in made.state_dict().items()}
        out = made(x[part], present[part])
        (out.logits.square().sum() + made.auxiliary_loss(out, labels[part])).backward(retain_graph=True)
        before = [p.grad.clone() for p in made.parameters()]
        made.zero_grad()
        (out.logits.square().sum() + made.auxiliary_loss(out, labels[part])).backward()
        again = dict(zip(dict(made.named_parameters()), before, strict=True))
        for name, parameter in made.named_parameters():
            if not name.startswith("contrast"):
                assert torch.allclose(parameter.grad, again[name], rtol=1e-9, atol=1e-12), name
        made.zero_grad()
        made.load_state_dict(state)
    assert_equal(trained(made), want)
    assert len(POOL.free) <= POOL.most


def test_forward_equals_the_plain_network():
    x, present, _ = clips(torch.float32)
    fused, plain = network("ours", torch.float32).eval(), network("plain", torch.float32).eval()
    with_gradients = fused(x, present)
    with torch.no_grad():
        got, want = fused(x, present), plain(x, present)
    for name in ("logits", "embedding"):
        assert (getattr(got, name) - getattr(want, name)).abs().max() < 1e-4
        assert (getattr(got, name) - getattr(with_gradients, name)).abs().max() < 1e-4


def test_state_dicts_are_interchangeable():
    fused, plain = network("ours"), network("plain")
    assert list(fused.state_dict()) == list(plain.state_dict())
    assert isinstance(fused, FusedProtoGCN)
    assert not isinstance(plain, FusedProtoGCN)


def test_a_second_backward_pass_adds_the_same_again():
    made = network("ours")
    x, present, labels = clips()
    loss = F.cross_entropy(made(x, present).logits, labels)
    loss.backward(retain_graph=True)
    once = {k: v.grad.clone() for k, v in made.named_parameters() if v.grad is not None}
    loss.backward()
    assert_equal(
        {k: v.grad for k, v in made.named_parameters() if v.grad is not None}, {k: 2 * v for k, v in once.items()}
    )


@pytest.mark.parametrize(("stride", "frames"), [(1, 3), (2, 5), (2, 6)])
def test_gradients_of_the_temporal_branches(stride, frames):
    """Against differences, on fewer frames than the widest kernel spans."""
    torch.manual_seed(0)
    shape, widths = (2, frames, 2), (2, 1)
    convolutions = [
        torch.nn.Conv2d(w, w, (3, 1), (stride, 1), (d, 0), (d, 1)).double() for w, d in zip(widths, (1, 4), strict=True)
    ]
    x = torch.rand(5, 2 * frames * 3, dtype=torch.float64).requires_grad_()
    parameters = [p for c in convolutions for p in c.parameters()]

    def call(x, *_):
        return temporal.temporal(x, shape, convolutions, 1, stride, training=True)

    assert torch.autograd.gradcheck(call, (x, *parameters))
    part = x[:2, : 2 * frames * 2].view(2, 2, frames, 2).transpose(0, 1)
    want = convolutions[0](part).transpose(0, 1).flatten(1)
    assert torch.allclose(call(x)[:2, : want.shape[1]], want)


@pytest.mark.parametrize("stride", [1, 2])
def test_of_equal_frames_the_max_pool_s_gradient_goes_to_the_same_one_as_in_torch(stride):
    x = torch.randint(1, 3, (4, 2, 7, 4), dtype=torch.float64)  # channels, clips, frames, joints
    pixels = torch.cat([x.flatten(1), x[..., 0].flatten(1)], 1).requires_grad_()  # the mean joint's follow
    convolution = torch.nn.Conv2d(1, 1, (3, 1), (stride, 1), (1, 0)).double()
    temporal.temporal(pixels, (2, 7, 4), [convolution], 3, stride, training=True)[1:].sum().backward()
    want = x[1:].transpose(0, 1).clone().requires_grad_()
    torch.nn.functional.max_pool2d(want, (3, 1), (stride, 1), (1, 0)).sum().backward()
    assert torch.equal(pixels.grad[1:, : 2 * 7 * 4], want.grad.transpose(0, 1).flatten(1))


def test_the_fused_form_saves_less_between_the_passes():
    """Bytes counted by autograd's own hooks."""
    saved, size = {}, bench_train.Size(width=24, batch=2, frames=60, prototypes=7)
    for name in bench_train.ARRANGEMENTS:
        made, seen = network(name, torch.float32, size), {}
        x = clips(torch.float32, size)[0]

        def count(tensor, seen=seen):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
            out = made(x)
        saved[name] = sum(seen.values())
        del out
    assert saved["ours"] < 0.9 * saved["published"]


def test_the_benchmark_writes_json_and_a_table(tmp_path, capsys):
    words = ["--width", "8", "--batch", "2", "--frames", "6", "--steps", "1", "--out", str(tmp_path / "bench")]
    assert main(["bench", "training", *words]) == 0
    result = json.loads((tmp_path / "bench/bench_train.json").read_text())
    assert [row["arrangement"] for row in result["rows"]] == list(bench_train.ARRANGEMENTS)
    assert result["rows"][0]["ratios"] == dict.fromkeys(result["rows"][0]["ratios"], 1.0)
    for row in result["rows"]:
        assert row["step"]["cpu_seconds"] > 0 < row["forward"]["cpu_seconds"]
        assert row["peak"] > row["peak_of_step"] > 0
    table = (tmp_path / "bench/bench_train.md").read_text()
    assert table == capsys.readouterr().out
    assert table.count("\n| ") == 1 + len(bench_train.ARRANGEMENTS)
    assert sorted(p.name for p in (tmp_path / "bench").iterdir()) == ["bench_train.json", "bench_train.md"]


def test_refusals(tmp_path, capsys):
    assert main(["bench", "training", "--width", "2", "--out", str(tmp_path / "none")]) == 2
    assert "--width must be from 8 to 10,000, not " in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="measuring 'published' failed"):
        bench_train.measure_apart("published", bench_train.Size(layout="coco17", width=8, frames=0), 1)


def test_a_trimmed_network_trains_without_its_prototypes():
    made = network("ours")
    made.trim()
    x, present, labels = clips()
    out = made(x, present)
    assert out.reconstruction is None
    F.cross_entropy(out.logits, labels).backward()
    assert isinstance(made, ProtoGCN)
    assert made.blocks[0].graph.topology.grad is not None
