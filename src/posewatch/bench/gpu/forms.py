"""The forms in which one ProtoGCN answers: as published, as exported, in half precision, as a CUDA graph."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from posewatch.bench.gpu.card import DTYPES
from posewatch.bench.protogcn_published import published
from posewatch.config import TrainConfig
from posewatch.datasets import layouts
from posewatch.errors import InputError
from posewatch.export.protogcn import arrange
from posewatch.recognition.recogniser import Recogniser

Answer = Callable[[Tensor], Any]
"""Keypoints (N, M, T, V, 3) on the device → (probabilities (N, K), embedding (N, D))."""


def recogniser(layout: str, people: int, frames: int, width: float) -> Recogniser:
    """ProtoGCN at ``width`` times the published channels, with random weights."""
    torch.manual_seed(0)
    config = TrainConfig(
        model="protogcn", width=width, clip_frames=frames, people=people, stream="j", model_options={"prototypes": 100}
    )
    return Recogniser(config, layouts.get(layout), ("normal", "abnormal"), "abnormal", 10.0).eval()


def as_published(source: Recogniser, device: torch.device) -> nn.Module:
    """The order of operations of the published code, fp32."""
    module = published(source)
    if module is None:
        raise InputError(f"the network to measure must be a ProtoGCN, not {source.config.model!r}")
    return module.to(device).eval()


def arranged(source: Recogniser, device: torch.device, precision: str) -> nn.Module:
    """The exported form, in fixed shapes: everybody is computed. With bf16 and fp16 the blocks run in it; features,
    norm of the input and answer in fp32: pixels of a large picture have no exact place in half precision."""
    module = copy.deepcopy(source)
    arrange(module, skip_absent=False)
    module = module.to(device).eval()
    dtype = DTYPES[precision]
    if dtype != torch.float32:
        for network in cast("Any", module.networks):
            network.blocks.to(dtype)
            network.blocks[0].register_forward_pre_hook(_to(dtype))
            network.blocks[-1].register_forward_hook(lambda _module, _inputs, output: output.float())
    return module


def _to(dtype: torch.dtype) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    return lambda _module, inputs: tuple(x.to(dtype) for x in inputs)


class Graph:
    """One batch size of a module as a CUDA graph: all its kernels start with one call.

    Graphs with one ``pool`` (``torch.cuda.graph_pool_handle``) share their memory: read an answer before the next call
    of any of them.
    """

    def __init__(self, module: nn.Module, example: Tensor, pool: Any = None) -> None:
        self._input = example.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), torch.no_grad():
            for _ in range(3):
                module(self._input)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self._graph, pool=pool):
            self._output = module(self._input)

    def __call__(self, keypoints: Tensor) -> Any:
        """The answer to ``keypoints`` of the example's shape, valid until the next call."""
        self._input.copy_(keypoints, non_blocking=True)
        self._graph.replay()
        return self._output


def eager(module: nn.Module) -> Answer:
    """A module without gradients."""

    def answer(keypoints: Tensor) -> Any:
        with torch.no_grad():
            return module(keypoints)

    return answer
