"""Clips per second of each form of ProtoGCN, batch by batch, in this process: what a server could reach at best."""

from __future__ import annotations

import functools
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from posewatch.bench.gpu.card import Card, arithmetic
from posewatch.bench.gpu.forms import Graph, arranged, as_published, eager, recogniser
from posewatch.bench.gpu.scale import Scale
from posewatch.errors import ServingError, first_line
from posewatch.export.onnx import export, synthetic_clips
from posewatch.progress import say
from posewatch.recognition.recogniser import Recogniser, save

PUBLISHED = "PyTorch, published order"


def measure(card: Card, scale: Scale, left: Callable[[], float]) -> dict[str, Any]:
    """Rows of {layout, people, form, precision, batch, clips_per_s, p50_ms, p95_ms, share_of_peak}.

    ``left`` gives the seconds that remain; a form that no longer fits is named under ``left_out``.
    """
    peaks = {
        precision: card.peak(precision) for precision in (("fp32", "tf32", "bf16", "fp16") if card.cuda else ("fp32",))
    }
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    for layout in scale.layouts:
        for people in scale.people:
            source = recogniser(layout, people, scale.frames, scale.width)
            flops = count_flops(arranged(source, torch.device("cpu"), "fp32"), source)
            main = layout == scale.layouts[0] and people == scale.people[-1]
            for form, precision, build in forms(source, card, scale, main):
                label = f"{layout}, {people} persons, {form}, {precision}"
                if left() < 0:
                    left_out.append(f"{label}: no time left")
                    continue
                found: list[dict[str, Any]] = []
                try:
                    with arithmetic(precision):
                        found.extend(_batches(card, scale, source, form, build))
                except Exception as error:  # what a card or version cannot run must not end the rest
                    batch = _sizes(scale, form)[len(found)]
                    left_out.append(f"{label}, from batch {batch} on: {first_line(error)[:160]}")
                card.release()
                if not found:
                    continue
                for row in found:
                    share = row["clips_per_s"] * flops / peaks[precision] if precision in peaks else None
                    rows.append({"layout": layout, "people": people, "form": form, "precision": precision, **row,
                                 "share_of_peak": share})  # fmt: skip
                say(f"{label}: {max(row['clips_per_s'] for row in found):,.0f} clips/s")
    return {"peaks_tflops": {k: round(v / 1e12, 2) for k, v in peaks.items()}, "rows": rows, "left_out": left_out}


Build = Callable[[Tensor], Callable[[Tensor], Any]]
"""An example batch on the device → what answers batches of its size."""


def forms(source: Recogniser, card: Card, scale: Scale, main: bool) -> Iterator[tuple[str, str, Build]]:
    """(form, precision, how to build it). The slow ones to prepare are measured for the ``main`` size only."""
    plain = as_published(source, card.device)
    yield PUBLISHED, "fp32", lambda _: eager(plain)
    for precision in card.precisions:
        module = arranged(source, card.device, precision)
        yield "ours, eager", precision, _always(eager(module))
        if card.cuda:
            yield "ours, CUDA graph", precision, _graph(module)
        if scale.compiled and main and precision in ("tf32", "fp16"):
            yield "ours, torch.compile", precision, _compiled(module)
    if main and importlib.util.find_spec("onnxruntime"):
        for name, (form, precision, options) in _providers(card).items():
            yield form, precision, _onnx(source, name, options)


def _always(answer: Callable[[Tensor], Any]) -> Build:
    return lambda _: answer


def _graph(module: nn.Module) -> Build:
    return lambda example: Graph(module, example)


def _compiled(module: nn.Module) -> Build:
    return lambda _: eager(torch.compile(module, dynamic=False))  # type: ignore[arg-type]


def _providers(card: Card) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Providers of the installed ONNX Runtime that fit the device → form, precision, options."""
    import onnxruntime

    wanted: dict[str, tuple[str, str, dict[str, Any]]] = {"CPUExecutionProvider": ("ONNX Runtime, CPU", "fp32", {})}
    if card.cuda:
        wanted = {
            "CUDAExecutionProvider": ("ONNX Runtime, CUDA", "fp32", {"cudnn_conv_algo_search": "HEURISTIC"}),
            "TensorrtExecutionProvider": ("ONNX Runtime, TensorRT", "fp16", {"trt_fp16_enable": True}),
        }
    return {name: about for name, about in wanted.items() if name in onnxruntime.get_available_providers()}


def _onnx(source: Recogniser, provider: str, options: dict[str, Any]) -> Build:
    """The exported file in ONNX Runtime, loaded once. Raises ServingError where the provider does not load: then
    ONNX Runtime would compute on the CPU, without a word."""

    @functools.cache
    def answer() -> Callable[[Tensor], Any]:
        import onnxruntime

        with tempfile.TemporaryDirectory(prefix="posewatch-gpu-") as temp:
            save(Path(temp) / "model.pt", source, source.state_dict())
            export(Path(temp) / "model.pt", Path(temp) / "model.onnx")
            session = onnxruntime.InferenceSession(str(Path(temp) / "model.onnx"), providers=[(provider, options)])
        if provider not in session.get_providers():
            raise ServingError(f"ONNX Runtime could not load its {provider}")
        return _session(session)

    return lambda _: answer()


def _session(session: Any) -> Callable[[Tensor], Any]:
    """Inputs come from the CPU's memory: its copies count, as a server has them, too."""
    return lambda x: session.run(None, {"keypoints": x.cpu().numpy()})


def _sizes(scale: Scale, form: str) -> tuple[int, ...]:
    """The batches at which a form is measured."""
    return (1,) if form == PUBLISHED else scale.compiled if form.endswith("compile") else scale.batches


def _batches(card: Card, scale: Scale, source: Recogniser, form: str, build: Build) -> Iterator[dict[str, Any]]:
    shape = (source.people, source.frames, source.layout.columns, 3)
    for batch in _sizes(scale, form):
        x = torch.from_numpy(synthetic_clips(max(2, batch), shape)[:batch]).to(card.device)
        begin = time.perf_counter()
        answer = build(x)
        timing = card.timed(lambda: answer(x), scale.seconds)  # noqa: B023 - called at once
        yield {
            "batch": batch,
            "clips_per_s": round(timing.rate(batch), 2),
            "p50_ms": round(timing.ms(50), 3),
            "p95_ms": round(timing.ms(95), 3),
            "prepared_s": round(time.perf_counter() - begin - sum(timing.seconds), 2),
        }


def count_flops(module: nn.Module, source: Recogniser) -> float:
    """Operations of one clip in the exported form: two per multiply-accumulate of products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    x = torch.from_numpy(synthetic_clips(2, (source.people, source.frames, source.layout.columns, 3))[:1])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x)
    return float(counter.get_total_flops())


def answers(
    module: nn.Module, clips: NDArray[np.float32], device: torch.device, batch: int = 64
) -> NDArray[np.float32]:
    """Probabilities (N, K) of clips (N, M, T, V, 3)."""
    parts = [
        eager(module)(torch.from_numpy(clips[i : i + batch]).to(device))[0].float().cpu().numpy()
        for i in range(0, len(clips), batch)
    ]
    return np.concatenate(parts)
