"""Every network and the augmentation compute on one device, and what a CUDA graph holds asks the CPU for nothing.

Without a GPU: by PyTorch's own rules for one (``fake_gpu``), in a process that may pretend to have it.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_gpu
import pytest
import torch

from posewatch.bench.gpu import forms
from posewatch.config import TrainConfig, load
from posewatch.datasets import layouts
from posewatch.perception.flow import FLOW
from posewatch.recognition.features import FLOW_STREAMS
from posewatch.recognition.recogniser import Recogniser, wants_flow
from posewatch.recognition.training.augment import Augment
from posewatch.recognition.training.trainer import Losses
from posewatch.rules import MODELS

pytestmark = pytest.mark.skipif(fake_gpu.COMPILER is None, reason="no C++ compiler here (apt-get install g++)")


def elsewhere(check: Callable[..., Any], *given: Any) -> Any:
    """What ``check`` answers in a process of its own, from which nothing else is asked."""
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_answer, args=(answers, check, given))
    process.start()
    found, trouble = answers.get()
    process.join(60)
    assert not trouble, trouble
    return found


def _answer(answers: Any, check: Callable[..., Any], given: Any) -> None:
    try:
        answers.put((check(*given), ""))
    except BaseException:
        answers.put((None, traceback.format_exc()))


def settings() -> list[TrainConfig]:
    """The shipped configurations, and each network alone."""
    found = [load(name).train for name in ("default", "quick", "small")]
    for model in MODELS:
        stream = FLOW_STREAMS[-1] if model == "flow-statistics" else "j+bm+p+c"
        found.append(replace(found[1], model=model, stream=stream, beside="", stream_weights=()))
    return found


def recogniser(config: TrainConfig) -> Recogniser:
    layout = layouts.get("coco17")
    layout = layout.with_flow(FLOW) if wants_flow(config) else layout
    made = Recogniser(replace(config, width=min(config.width, 0.25)), layout, ("normal", "fall"), "fall", 10.0)
    for network in made.networks:
        network.skip_absent = False
    return made


def trained(folder: Path) -> int:
    fake_gpu.prepare(folder)
    done = 0
    for config in settings():
        with fake_gpu.computing():
            made = fake_gpu.moved(recogniser(config))
            clips = torch.rand(3, config.people, config.clip_frames, made.layout.columns, 3, device=fake_gpu.GPU)
            batch = Augment(made.layout, config.augment)(clips, torch.Generator().manual_seed(0))
            labels, each = (torch.zeros(3, dtype=kind).to(fake_gpu.GPU) for kind in (torch.long, torch.float32))
            for one in (made.train(), made.eval()):
                losses = Losses(one, config, torch.ones(2).to(fake_gpu.GPU))(batch, labels, each)
                devices = {value.device for value in (*losses, *one(clips))}
                assert devices == {fake_gpu.GPU}, (config.model, config.stream)
        done += 1
    return done


def test_networks_losses_and_augmentation_stay_on_the_device(tmp_path: Path) -> None:
    assert elsewhere(trained, tmp_path) == len(settings()) > 12


def captured(folder: Path) -> list[list[str]]:
    fake_gpu.prepare(folder)
    found = []
    for layout in ("coco17", "coco20"):
        source, cpu = forms.recogniser(layout, 2, 20, 0.25), torch.device("cpu")
        modules = [forms.arranged(source, cpu, precision) for precision in ("fp32", "bf16", "fp16")]
        found += [_asks(module, source) for module in (forms.as_published(source, cpu), *modules)]
    for name in ("default", "quick"):
        found.append(_asks(source := recogniser(load(name).train).eval(), source))
    return found


def _asks(module: torch.nn.Module, source: Recogniser) -> list[str]:
    with fake_gpu.computing(), torch.no_grad():
        module = fake_gpu.moved(module)
        clips = torch.rand(3, source.people, source.frames, source.layout.columns, 3, device=fake_gpu.GPU)
        with fake_gpu.OnCpu() as watch:
            module(clips)
    return watch.found


def test_a_cuda_graph_asks_the_cpu_for_nothing(tmp_path: Path) -> None:
    assert elsewhere(captured, tmp_path) == [[]] * 10


def mixed(folder: Path) -> list[str]:
    fake_gpu.prepare(folder)
    found = []
    with fake_gpu.computing():
        x = torch.rand(3, 4, device=fake_gpu.GPU)
        for wrong in (lambda: x @ torch.rand(4, 3), lambda: bool(x.sum() > 0)):
            with pytest.raises((RuntimeError, torch._subclasses.fake_tensor.DataDependentOutputException)) as error:
                wrong()
            found.append(type(error.value).__name__)
        with fake_gpu.OnCpu() as watch:
            x[torch.tensor([0, 1])]
    return [*found, *watch.found]


def test_these_checks_see_what_a_card_refuses(tmp_path: Path) -> None:
    found = elsewhere(mixed, tmp_path)
    assert found[:2] == ["FakeTensorDeviceMismatchError", "DataDependentOutputException"]
    assert any("index" in operation for operation in found[2:])
