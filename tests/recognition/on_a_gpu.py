"""What a GPU would refuse, found without one: torch's fake tensors on a made-up device have shapes and no values.

A tensor that was left on the CPU is an error there as on a GPU, and each operation that reads one from the CPU is
noted: a GPU would wait for that copy in every call, and a CUDA graph cannot record it. ``test_on_a_gpu.py`` runs these
tests.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.utils import _pytree, backend_registration  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from posewatch.bench.gpu.forms import arranged, as_published, recogniser  # noqa: E402
from posewatch.config import TrainConfig, load  # noqa: E402
from posewatch.datasets import layouts  # noqa: E402
from posewatch.recognition.features import FLOW_STREAMS  # noqa: E402
from posewatch.recognition.models.base import Network  # noqa: E402
from posewatch.recognition.recogniser import FLOW_MODEL, Recogniser  # noqa: E402
from posewatch.recognition.training.augment import Augment  # noqa: E402
from posewatch.recognition.training.trainer import Losses, optimiser_of, place_gradients  # noqa: E402
from posewatch.rules import MODELS, STREAMS  # noqa: E402

GPU = "npy"  # the only name that torch gives to a device that Python makes up


@pytest.fixture(scope="module", autouse=True)
def gpu() -> None:
    backend_registration._setup_privateuseone_for_python_backend(GPU)


class FromTheCpu(TorchDispatchMode):
    """``seen``: operations that got or gave a tensor of the CPU, and where."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for leaf in _pytree.tree_leaves((args, kwargs, out)):
            if isinstance(leaf, Tensor) and leaf.device.type != GPU:
                ours = [f"{f.filename}:{f.lineno}" for f in traceback.extract_stack() if "/posewatch/" in f.filename]
                self.seen.append(f"{function} in {''.join(ours[-1:])}")
        return out


def empty(like: Tensor) -> Tensor:
    return torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=GPU)


def moved(module: nn.Module) -> Any:
    """``module.to(GPU)``: fake tensors cannot be moved by torch itself."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = nn.Parameter(empty(value), requires_grad=value.requires_grad)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = empty(value)
    return module


@contextlib.contextmanager
def nothing_from_the_cpu() -> Iterator[None]:
    with FromTheCpu() as watched:
        yield
    assert not watched.seen


def test_the_made_up_gpu_finds_what_was_left_on_the_cpu() -> None:
    here = torch.zeros(3)
    with FakeTensorMode(allow_non_fake_inputs=True):
        there = torch.zeros(3, device=GPU)
        with pytest.raises(RuntimeError, match="same device"):
            there + here
        with pytest.raises(AssertionError, match=r"aten\."), nothing_from_the_cpu():
            there[torch.tensor([0, 2])]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_answers_and_trains_there(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # not of a made-up device
    stream = "f" if model == FLOW_MODEL else "+".join(name for name in STREAMS if name not in FLOW_STREAMS)
    beside = "" if model == FLOW_MODEL else "0.5*flow-statistics:f,flow-statistics:fs"
    config = TrainConfig(model=model, width=0.1, clip_frames=8, people=2, stream=stream, beside=beside)
    with FakeTensorMode():
        layout = layouts.get("coco20+flow")  # with joints that are means of others
        network = moved(Recogniser(config, layout, ("normal", "abnormal"), "abnormal", 10.0))
        x = torch.zeros(4, 2, 8, network.layout.columns, 3, device=GPU)
        for part in network.networks:
            assert isinstance(part, Network)
            part.skip_absent = False  # else the number of persons who are there is read from the clips
        network.eval()
        with torch.no_grad(), nothing_from_the_cpu():
            probabilities, _ = network(x)
        assert probabilities.device.type == GPU
        network.train()
        losses = moved(Losses(network, config, torch.ones(2, device=GPU)))
        place_gradients(network)
        optimiser = optimiser_of(network, config)
        with nothing_from_the_cpu():
            loss = losses(x, torch.zeros(4, dtype=torch.long, device=GPU), torch.ones(4, device=GPU))[0]
            loss.backward()
        optimiser.step()  # its counters of steps lie on the CPU


@pytest.mark.parametrize("layout", ["coco17", "coco20"])
@pytest.mark.parametrize("form", ["as published", "fp32", "bf16", "fp16"])
def test_every_form_that_is_measured_can_be_a_cuda_graph(form: str, layout: str) -> None:
    source = recogniser(layout, 2, 8, 0.1)
    cpu = torch.device("cpu")
    module = as_published(source, cpu) if form == "as published" else arranged(source, cpu, form)
    with FakeTensorMode():
        module = moved(module)
        with torch.no_grad(), nothing_from_the_cpu():
            probabilities = module(torch.zeros(4, 2, 8, source.layout.observed, 3, device=GPU))[0]
        assert probabilities.dtype == torch.float32


def test_clips_are_augmented_there(monkeypatch: pytest.MonkeyPatch) -> None:
    augment = Augment(layouts.get("coco17"), load("default").train.augment)
    with FakeTensorMode():
        augment.mirror, augment.limbs = empty(augment.mirror), empty(augment.limbs)
        for name in ("rand", "randn"):  # a made-up device has no generator
            draw = getattr(torch, name)
            monkeypatch.setattr(torch, name, lambda *shape, draw=draw, **_: draw(*shape, device=GPU))
        x = torch.zeros(4, 2, 8, 17, 3, device=GPU)
        with nothing_from_the_cpu():
            assert augment(x, SimpleNamespace(device=torch.device(GPU))).shape == x.shape
