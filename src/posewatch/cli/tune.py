"""``posewatch tune serving``: the fastest way to serve a model on this machine, as a configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from posewatch.cli.context import Context, Writes, topic, verb
from posewatch.cli.train import Skeletons, split_of
from posewatch.errors import InputError
from posewatch.rules import Range

if TYPE_CHECKING:
    from posewatch.datasets.layouts import Layout
    from posewatch.export.precision import Judge
    from posewatch.inference.onnx_runtime import OnnxPredictor
    from posewatch.inference.pytorch import TorchPredictor

app = topic()
tune = topic(help="The fastest settings on this machine: serving.")
app.add_typer(tune, name="tune")


@verb(tune, "serving")
def serving(
    model: Annotated[list[Path], Option(metavar="ONNX...", help="The fp32 export, and other precisions of it.")],
    out: Annotated[
        Path,
        Option(metavar="DIR", help="Folder for tune.md and serving.yaml."),
        Writes("tune.md", "serving.yaml", "models/tuned"),
    ],
    skeletons: Skeletons,
    context: Context,
    checkpoint: Annotated[
        Path | None, Option(metavar="FILE", help="Its checkpoint, for PyTorch's figure (default: built alike).")
    ] = None,
    runtime: Annotated[str, Option(metavar="LIST", help="onnxruntime, openvino, or both.")] = "onnxruntime,openvino",
    split: Annotated[str, Option(help="Split of --annotations that the answers are judged on.")] = "test",
    max_drop: Annotated[
        float, Option(metavar="POINTS", help="Largest accepted drop of accuracy."), Range(0, 100)
    ] = 0.5,
    at_a_time: Annotated[int, Option(metavar="N", help="Clients."), Range(1, 10_000)] = 8,
    seconds: Annotated[
        float, Option(help="Length of each trial, after its warm-up."), Range(0, 86_400, above=True)
    ] = 4.0,
) -> str:
    """Try ways to serve a model, and save the fastest that is accurate."""
    import yaml

    from posewatch.bench.serving import torch_predictor
    from posewatch.files import write_atomically
    from posewatch.inference.onnx_runtime import OnnxPredictor
    from posewatch.progress import Progress
    from posewatch.serving.benchmark import load
    from posewatch.serving.benchmark.benchmark import torch_threads
    from posewatch.serving.repository import write_repository
    from posewatch.serving.tune import TuneInput, lines, tune, winner_of
    from posewatch.stack.triton_install import ensure_openvino

    files = {path.name: path for path in model}
    if len(files) < len(model):
        raise InputError("the files of --model need different names")
    exact = OnnxPredictor(model[0])
    shapes = {name: (OnnxPredictor(path).shape, OnnxPredictor(path).labels) for name, path in files.items()}
    if len(set(shapes.values())) > 1:
        raise InputError(f"the files of --model are not of one model: {shapes}")
    runtimes = [name.strip() for name in runtime.split(",") if name.strip()]
    if "openvino" in runtimes:
        ensure_openvino()
    inputs = TuneInput(files, _judge(exact, skeletons, split, max_drop), at_a_time, seconds)
    torch: TorchPredictor | None = torch_predictor(exact, checkpoint)
    baseline = None
    if torch is not None:
        torch_threads(torch, inputs.judge.keypoints)

        def baseline() -> float:
            measured = load.closed(torch.predict, inputs.judge.keypoints, 1, seconds)
            return measured.answers / measured.wall_s

    with Progress("tune", 20, "trial") as progress:
        rows = tune(inputs, out, runtimes=runtimes, baseline=baseline, progress=lambda note: progress.advance(1, note))
    best = winner_of(rows[0])
    name = context.config
    if name.endswith((".yaml", ".yml")):
        name = str(Path(name).absolute())
    write_repository(files[best.file], out / "models", name="tuned", **best.options())
    settings = {"extends": name, "serving": best.options()}
    write_atomically(out / "serving.yaml", yaml.safe_dump(settings, sort_keys=False).encode())
    speed = rows[0]["throughput_ips"]
    how = f"{best.file} by {best.runtime} in {best.precision}"
    summary = [f"chosen: {how}, {speed:.1f} clips/s, p95 {rows[0]['p95_ms']:.0f} ms"]
    base = rows[0].get("baseline_ips")
    if base:
        summary.append(f"eager PyTorch, batch 1: {base:.1f} clips/s; {speed / base:.1f} times as many")
    summary.append(f"accuracy drop: {rows[0]['points_lost']:.2f} points on {rows[0]['clips']} clips")
    report = "\n".join([*lines(rows), "", *(f"- {line}" for line in summary), ""])
    write_atomically(out / "tune.md", report.encode())
    return f"{report}\n{out / 'serving.yaml'} (give it as --config) and {out / 'models'}"


def _judge(exact: OnnxPredictor, skeletons: Skeletons, split: str, max_drop: float) -> Judge:
    """Labelled clips of a file; without one random walks, for which the exact model's answers are the truth."""
    import numpy as np

    from posewatch.export.onnx import synthetic_clips
    from posewatch.export.precision import Judge
    from posewatch.recognition.sampling import fitting

    if skeletons.annotations is None:
        clips = synthetic_clips(64, exact.shape)[1:-1]
        return Judge(clips, exact.predict(clips).probabilities.argmax(1).astype(np.int64), max_drop)
    read, splits, _ = skeletons.read(tuple(exact.labels), _layout_of(exact))
    part = read.subset(split_of(splits, split))
    found, wanted = part.keypoints[0].shape[2] - part.flow, exact.joints - exact.flow
    if found != wanted:
        raise InputError(f"the clips have {found} joints, the model takes {wanted}")
    return Judge(fitting(part.keypoints, exact), part.labels, max_drop)


def _layout_of(exact: OnnxPredictor) -> Layout | None:
    """The joint layout that a model was trained on; None where its file does not tell."""
    from posewatch.datasets import layouts

    if recipe := exact.metadata.get("recipe"):
        return layouts.Layout.from_dict(json.loads(recipe)["layout"])
    return layouts.get(exact.layout) if exact.layout in layouts.names() else None
