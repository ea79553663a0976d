"""The command line of ``posewatch tune serving``: how a model is served fastest here, as a configuration."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posewatch.errors import InputError

if TYPE_CHECKING:
    from posewatch.export.precision import Judge
    from posewatch.inference.onnx_runtime import OnnxPredictor
    from posewatch.inference.pytorch import TorchPredictor


def options(parser: argparse.ArgumentParser) -> None:
    """Options of ``posewatch tune serving``."""
    from posewatch.cli.train import data_options

    parser.add_argument(
        "--model",
        type=Path,
        nargs="+",
        required=True,
        metavar="ONNX",
        help="the fp32 export, and other precisions of it",
    )
    parser.add_argument("--checkpoint", type=Path, help="its checkpoint, for PyTorch's figure (default: built alike)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for tune.md and serving.yaml")
    parser.add_argument("--runtime", default="onnxruntime,openvino", help="onnxruntime, openvino, or both")
    parser.add_argument("--split", default="test", help="the split of --annotations that judges the answers")
    parser.add_argument("--max-drop", type=float, default=0.5, help="largest drop of accuracy accepted, in points")
    parser.add_argument("--at-a-time", type=int, default=8, help="clients")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each trial, after its warm-up")
    data_options(parser)


def tune_files(args: argparse.Namespace) -> str:
    """Tune; writes ``tune.md``, ``tune.jsonl``, ``serving.yaml`` and the winner's repository. Returns a summary."""
    import yaml

    from posewatch.cli.bench_serving import torch_predictor
    from posewatch.files import write_atomically
    from posewatch.inference.onnx_runtime import OnnxPredictor
    from posewatch.progress import Progress
    from posewatch.serving.benchmark import load
    from posewatch.serving.benchmark.benchmark import torch_threads
    from posewatch.serving.repository import write_repository
    from posewatch.serving.tune import Asked, lines, tune, winner_of
    from posewatch.stack.triton_install import ensure_openvino

    files = {path.name: path for path in args.model}
    if len(files) < len(args.model):
        raise InputError("the files of --model need different names")
    if args.seconds <= 0 or args.at_a_time < 1:
        raise InputError("--seconds must be above 0, and --at-a-time at least 1")
    exact = OnnxPredictor(args.model[0])
    shapes = {name: (OnnxPredictor(path).shape, OnnxPredictor(path).labels) for name, path in files.items()}
    if len(set(shapes.values())) > 1:
        raise InputError(f"the files of --model are not of one model: {shapes}")
    runtimes = [name.strip() for name in args.runtime.split(",") if name.strip()]
    if "openvino" in runtimes:
        ensure_openvino()
    asked = Asked(files, judge_for(exact, args), args.at_a_time, args.seconds)
    args.out.mkdir(parents=True, exist_ok=True)
    torch: TorchPredictor | None = torch_predictor(exact, args.checkpoint)
    baseline = None
    if torch is not None:
        torch_threads(torch, asked.judge.keypoints)

        def baseline() -> float:
            found = load.in_process(torch.predict, asked.judge.keypoints, 1, args.seconds)
            return found.answers / found.wall_s

    with Progress("tune", 20, "trial") as progress:
        rows = tune(
            asked, args.out, runtimes=runtimes, baseline=baseline, progress=lambda note: progress.advance(1, note)
        )
    best = winner_of(rows[0])
    name = args.config if not args.config.endswith((".yaml", ".yml")) else str(Path(args.config).absolute())
    settings = {"extends": name, "serving": best.options()}
    text = yaml.safe_dump(settings, sort_keys=False)
    write_repository(files[best.file], args.out / "models", name="tuned", **best.options())
    write_atomically(args.out / "serving.yaml", text.encode())
    speed = rows[0]["throughput_ips"]
    how = f"{best.file} by {best.runtime} in {best.precision}"
    summary = [f"fastest: {how}, {speed:.1f} clips/s, p95 {rows[0]['p95_ms']:.0f} ms"]
    base = rows[0].get("baseline_ips")
    if base:
        summary.append(f"eager PyTorch, batch 1: {base:.1f} clips/s; {speed / base:.1f} times as many")
    summary.append(f"answers: {rows[0]['points_lost']:.2f} points lost on {rows[0]['clips']} clips")
    report = "\n".join([*lines(rows), "", *(f"- {line}" for line in summary), ""])
    write_atomically(args.out / "tune.md", report.encode())
    return f"{report}\n{args.out / 'serving.yaml'} (give it as --config) and {args.out / 'models'}"


def judge_for(exact: OnnxPredictor, args: argparse.Namespace) -> Judge:
    """Labelled clips of a file; without one made-up clips, of which the exact answers are the truth."""
    from posewatch.cli.train import read
    from posewatch.export.onnx import synthetic_clips
    from posewatch.export.precision import Judge
    from posewatch.recognition.sampling import resample

    if args.annotations is None:
        clips = synthetic_clips(64, exact.shape)[1:-1]
        return Judge(clips, exact.predict(clips).probabilities.argmax(1).astype(np.int64), args.max_drop)
    args.classes = args.classes or ",".join(exact.labels)
    found, splits, _ = read(args)
    if args.split not in splits:
        raise InputError(f"no split is called {args.split!r}: there are {', '.join(sorted(splits)) or 'none'}")
    part: Any = found.subset(splits[args.split])
    if part.keypoints[0].shape[2] != exact.shape[2]:
        raise InputError(f"the clips have {part.keypoints[0].shape[2]} joints, the model takes {exact.shape[2]}")
    return Judge(resample(part.keypoints, exact.frames, exact.people), part.labels, args.max_drop)
