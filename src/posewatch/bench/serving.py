"""The serving benchmarks on files: PyTorch, ONNX Runtime and Triton side by side, and a soak test of hours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError

if TYPE_CHECKING:
    from posewatch.inference.onnx_runtime import OnnxPredictor
    from posewatch.inference.predictor import Predictor
    from posewatch.inference.pytorch import TorchPredictor

RANDOM_CLIPS = 64
FULL_SIZE: dict[str, Any] = {"width": 1.0, "clip_frames": 100, "people": 2, "stream": "j"}
"""The published ProtoGCN: what is measured when no model is given."""


def bench_serving(
    out: Path,
    *,
    concurrency: Sequence[int],
    open_loop: Sequence[float],
    instances: int,
    model: Path | None = None,
    people: int | None = None,
    checkpoint: Path | None = None,
    annotations: Path | None = None,
    seconds: float = 4.0,
    max_batch: int = 16,
    queue_delay_us: int = 2000,
    tuned: Path | None = None,
    endpoint: str | None = None,
    mechanism: bool = True,
    perf_analyzer: str | None = None,
) -> Path:
    """Write bench.json, bench.md and plots to ``out``; returns the Markdown file.

    ``model``: an exported file, by default ProtoGCN, untrained, for clips of ``people`` (2). ``perf_analyzer``: the
    path of Triton's load generator for a cross-check, "" to look for it, None for none. Raises InputError, ServingError
    or StackError.
    """
    from posewatch.bench.fixed_cost import add_fixed_cost
    from posewatch.inference.onnx_runtime import OnnxPredictor
    from posewatch.progress import Progress
    from posewatch.serving.benchmark import perf_analyzer as triton_tool
    from posewatch.serving.benchmark.benchmark import benchmark, steps

    if model and people:
        raise InputError("--people is of the model that is built here; one in a file has its own: leave out --people")
    tool = None if perf_analyzer is None else triton_tool.find(perf_analyzer or "auto")
    path = model or full_size(out, people or FULL_SIZE["people"])
    onnx = OnnxPredictor(path)
    torch = torch_predictor(onnx, checkpoint)
    if tuned and endpoint:
        raise InputError("--tuned starts a server of its own: leave out --endpoint")
    settings = tuned_options(tuned) if tuned else None
    tuned_path = tuned_model(tuned, onnx) if tuned else None
    others = in_process(path, torch, settings, tuned_path)
    systems = 1 if endpoint else 2 + bool(settings)
    loads = steps(concurrency, open_loop, len(others) + (torch is not None), systems)
    with Progress("benchmark", loads, "load") as progress:
        benchmark(
            path,
            clips_for(onnx, annotations),
            out,
            torch_predictor=torch,
            others=others,
            tuned=settings,
            tuned_path=tuned_path,
            concurrency=concurrency,
            open_loop=open_loop,
            seconds=seconds,
            max_batch=max_batch,
            queue_delay_us=queue_delay_us,
            instances=instances,
            endpoint=endpoint,
            perf_analyzer_path=tool,
            progress=progress.advance,
        )
    if mechanism and not endpoint:
        add_fixed_cost(out, seconds)
    return out / "bench.md"


def bench_soak(
    out: Path,
    *,
    model: Path | None = None,
    annotations: Path | None = None,
    endpoint: str | None = None,
    minutes: float = 30.0,
    **load: Any,
) -> str:
    """Write soak.json and soak.png to ``out``; returns a summary. ``load``: see ``soak``.

    Raises InputError, ServingError or StackError.
    """
    from posewatch.inference.open import open_predictor
    from posewatch.progress import Progress
    from posewatch.serving.benchmark.soak import soak, summary

    path = None if endpoint else model or full_size(out)
    with open_predictor(endpoint or str(path)) as predictor:
        clips = clips_for(predictor, annotations)
    with Progress("soak", max(1, round(minutes * 60 / load["every_s"])), "stretch") as progress:
        result = soak(path, clips, out, minutes=minutes, endpoint=endpoint, progress=progress.advance, **load)
    return f"{summary(result)}\n{out / 'soak.json'}"


def full_size(folder: Path, people: int = FULL_SIZE["people"]) -> Path:
    """The published ProtoGCN, untrained, exported to ``folder/protogcn.onnx`` unless it is there already; one for
    another number of ``people`` a clip has the number in its name."""
    from posewatch.config import TrainConfig
    from posewatch.datasets import layouts
    from posewatch.export.onnx import export
    from posewatch.recognition.recogniser import Recogniser, save

    name = "protogcn" if people == FULL_SIZE["people"] else f"protogcn-{people}"
    path, checkpoint = folder / f"{name}.onnx", folder / f"{name}.pt"
    if not path.is_file():
        import torch

        torch.manual_seed(0)
        config = TrainConfig(model="protogcn", model_options={"prototypes": 100}, **{**FULL_SIZE, "people": people})
        recogniser = Recogniser(config, layouts.get("coco17"), ("normal", "abnormal"), "abnormal", 10.0)
        save(checkpoint, recogniser, recogniser.state_dict())
        export(checkpoint, path)
    return path


def torch_predictor(onnx: OnnxPredictor, checkpoint: Path | None) -> TorchPredictor | None:
    """PyTorch's side of an exported model: its checkpoint, else a network built alike, which is as fast.

    None for a file whose metadata do not hold what it was built from.
    """
    from posewatch.inference.pytorch import TorchPredictor

    if checkpoint is not None:
        return TorchPredictor.from_checkpoint(checkpoint)
    if "recipe" not in onnx.metadata:
        return None
    from posewatch.recognition.recogniser import from_recipe

    return TorchPredictor(from_recipe(onnx.metadata["recipe"]), onnx.labels, shape=onnx.shape, trained=False)


def tuned_options(path: Path) -> dict[str, Any]:
    """What ``write_repository`` takes, from a configuration's section ``serving``. Raises ConfigError."""
    from posewatch.config import load

    if not path.is_file():
        raise InputError(f"no such file: {path} (`posewatch tune serving --out DIR` writes DIR/serving.yaml)")
    config = load(str(path)).serving
    names = ("max_batch", "queue_delay_us", "instances", "threads", "device", "accelerator", "precision")
    return {name: getattr(config, name) for name in names}


def tuned_model(path: Path, onnx: OnnxPredictor) -> Path | None:
    """The file that won, which ``posewatch tune serving`` leaves beside its serving.yaml ``path``; None without one.

    Raises InputError if it is not of the model ``onnx``.
    """
    from posewatch.inference.onnx_runtime import OnnxPredictor

    found = max((path.parent / "models" / "tuned").glob("*/model.onnx"), default=None)
    if found:
        other = OnnxPredictor(found)
        if (other.shape, other.labels) != (onnx.shape, onnx.labels):
            raise InputError(
                f"{path} was tuned for another model than --model: tune it for this one, or move it elsewhere"
            )
    return found


def in_process(
    path: Path, torch: TorchPredictor | None, tuned: dict[str, Any] | None, tuned_path: Path | None = None
) -> list[tuple[str, Any, int]]:
    """What is measured in this process besides PyTorch and the file in ONNX Runtime: see ``benchmark``'s ``others``.

    With the options ``tuned`` also the runtime of the tuned server, on its file ``tuned_path`` (default ``path``).
    """
    others: list[tuple[str, Any, int]] = []
    if torch is not None:
        from posewatch.bench.protogcn_published import published

        plain = published(torch.module)
        if plain is not None:
            from posewatch.inference.pytorch import TorchPredictor

            others.append(
                ("pytorch-published", TorchPredictor(plain, torch.labels, shape=torch.shape, trained=torch.trained), 1)
            )
    if tuned and tuned["accelerator"] == "openvino":
        from posewatch.inference.openvino import OpenVinoPredictor
        from posewatch.stack.triton_install import ensure_openvino

        runtime = OpenVinoPredictor(tuned_path or path, ensure_openvino(), tuned["precision"], tuned["threads"])
        others.append(("openvino", runtime, tuned["instances"]))
    elif tuned and tuned_path:
        from posewatch.inference.onnx_runtime import OnnxPredictor

        others.append(("onnxruntime+tuned", OnnxPredictor(tuned_path), tuned["instances"]))
    return others


def clips_for(model: Predictor, path: Path | None) -> NDArray[np.float32]:
    """What to send (N, M, T, V, 3): the clips of a file, else made-up ones. Raises InputError."""
    if path is None:
        from posewatch.export.onnx import synthetic_clips

        return synthetic_clips(RANDOM_CLIPS, model.shape)
    from posewatch.config import load
    from posewatch.inference.files import read
    from posewatch.recognition.sampling import fitting

    items = list(read(path, load("default", [f"pose.flow={model.flow > 0}"]), 3.0, 3.0))
    joints, wanted = {item.joints for item in items}, model.joints - model.flow
    if joints != {wanted}:
        raise InputError(f"{path} has clips of {sorted(joints)} joints, the model takes {wanted}")
    return fitting([item.keypoints for item in items], model)
