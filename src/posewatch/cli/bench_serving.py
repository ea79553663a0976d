"""The command lines of the serving benchmarks on files: ``posewatch bench serving`` and ``posewatch bench soak``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError

if TYPE_CHECKING:
    from posewatch.inference.onnx_runtime import OnnxPredictor
    from posewatch.inference.pytorch import TorchPredictor

MADE_UP = 64
FULL_SIZE = {"width": 1.0, "clip_frames": 100, "people": 2, "stream": "j"}
"""The published ProtoGCN: what is measured when no model is given."""


def options(parser: argparse.ArgumentParser) -> None:
    """Options of ``posewatch bench serving``."""
    group = parser.add_argument_group("a model in files")
    group.add_argument("--model", type=Path, metavar="ONNX", help="an exported model (default: ProtoGCN, untrained)")
    group.add_argument("--checkpoint", type=Path, help="its checkpoint, for PyTorch (default: one built alike)")
    group.add_argument(
        "--annotations", type=Path, metavar="FILE", help="clips to send, .pkl or .npy (default: made up)"
    )
    group.add_argument("--out", type=Path, metavar="DIR", help="folder for bench.json, bench.md and plots")
    group.add_argument("--concurrency", type=_numbers, default=(1, 2, 4, 8, 16, 32, 64), metavar="N,N,...")
    group.add_argument(
        "--open-loop", type=_shares, default=(0.5, 0.8, 1.1), metavar="X,X,...",
        help="rates as shares of the peak; '' for none",
    )  # fmt: skip
    group.add_argument("--seconds", type=float, default=4.0, help="of each load, after its warm-up")
    group.add_argument("--max-batch", type=int, default=16)
    group.add_argument("--queue-delay-us", type=int, default=2000)
    group.add_argument("--instances", type=int, default=len(os.sched_getaffinity(0)), help="default: the cores")
    group.add_argument(
        "--tuned", type=Path, metavar="YAML", help="also serve as this says: serving.yaml of `posewatch tune serving`"
    )
    group.add_argument("--endpoint", help="measure this served model: grpc://host:port/model or http://...")
    group.add_argument("--no-mechanism", action="store_true", help="leave out the model of fixed cost per execution")
    group.add_argument(
        "--perf-analyzer", nargs="?", const="auto", metavar="PATH", help="cross-check with Triton's own load generator"
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part.strip())


def _shares(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(",") if part.strip())


def bench_files(args: argparse.Namespace) -> str:
    """Measure; returns the Markdown table. Raises InputError, ServingError or StackError."""
    from posewatch.inference.onnx_runtime import OnnxPredictor
    from posewatch.progress import Progress
    from posewatch.serving.benchmark import perf_analyzer
    from posewatch.serving.benchmark.benchmark import benchmark, steps

    if args.out is None:
        raise InputError("say where to write bench.json and the plots: --out DIR")
    tool = perf_analyzer.find(args.perf_analyzer) if args.perf_analyzer else None
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.model or full_size(args.out)
    onnx = OnnxPredictor(path)
    torch = torch_predictor(onnx, args.checkpoint)
    if args.tuned and args.endpoint:
        raise InputError("--tuned starts a server of its own: leave out --endpoint")
    tuned = tuned_options(args.tuned) if args.tuned else None
    others = beside(path, torch, tuned)
    systems = 1 if args.endpoint else 2 + bool(tuned)
    loads = steps(args.concurrency, args.open_loop, len(others) + (torch is not None), systems)
    with Progress("benchmark", loads, "load") as progress:
        benchmark(
            path,
            clips_for(onnx, args.annotations),
            args.out,
            torch_predictor=torch,
            others=others,
            tuned=tuned,
            concurrency=args.concurrency,
            open_loop=args.open_loop,
            seconds=args.seconds,
            max_batch=args.max_batch,
            queue_delay_us=args.queue_delay_us,
            instances=args.instances,
            endpoint=args.endpoint,
            mechanism=not args.no_mechanism and not args.endpoint,
            perf_analyzer=tool,
            progress=progress.advance,
        )
    return (args.out / "bench.md").read_text(encoding="utf-8") + f"\n{args.out / 'bench.json'}"


def soak_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``posewatch bench soak``."""
    parser.add_argument("--model", type=Path, metavar="ONNX", help="an exported model (default: ProtoGCN, untrained)")
    parser.add_argument("--annotations", type=Path, metavar="FILE", help="clips to send (default: made up)")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder for soak.json and soak.png")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--share", type=float, default=0.8, help="of the most that is answered (default 0.8)")
    parser.add_argument("--every", type=float, default=20.0, metavar="S", help="seconds of a stretch")
    parser.add_argument("--endpoint", help="load this served model: grpc://host:port/model or http://...")


def soak_files(args: argparse.Namespace) -> str:
    """Measure; returns a summary. Raises InputError, ServingError or StackError."""
    from posewatch.inference.onnx_runtime import OnnxPredictor
    from posewatch.progress import Progress
    from posewatch.serving.benchmark.soak import soak, summary

    args.out.mkdir(parents=True, exist_ok=True)
    path = args.model or full_size(args.out)
    clips = clips_for(OnnxPredictor(path), args.annotations)
    with Progress("soak", max(1, round(args.minutes * 60 / args.every)), "stretch") as progress:
        found = soak(
            path, clips, args.out, minutes=args.minutes, share=args.share, every_s=args.every, endpoint=args.endpoint,
            progress=progress.advance,
        )  # fmt: skip
    return f"{summary(found)}\n{args.out / 'soak.json'}"


def full_size(folder: Path) -> Path:
    """The published ProtoGCN, untrained, exported to ``folder/protogcn.onnx`` unless it is there already."""
    from posewatch.config import TrainConfig
    from posewatch.datasets import layouts
    from posewatch.export.onnx import export
    from posewatch.recognition.recogniser import Recogniser, save

    path = folder / "protogcn.onnx"
    if not path.is_file():
        import torch

        torch.manual_seed(0)
        config = TrainConfig(model="protogcn", prototypes=100, **FULL_SIZE)  # type: ignore[arg-type]
        made = Recogniser(config, layouts.get("coco17"), ("normal", "abnormal"), "abnormal", 10.0)
        save(folder / "protogcn.pt", made, made.state_dict())
        export(folder / "protogcn.pt", path)
    return path


def torch_predictor(onnx: OnnxPredictor, checkpoint: Path | None) -> TorchPredictor | None:
    """PyTorch's side of an exported model: its checkpoint, else a network built alike, which is as fast.

    None for a file that does not say what it was built from.
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
    found = load(str(path)).serving
    names = ("max_batch", "queue_delay_us", "instances", "threads", "device", "accelerator", "precision")
    return {name: getattr(found, name) for name in names}


def beside(path: Path, torch: TorchPredictor | None, tuned: dict[str, Any] | None) -> list[tuple[str, Any, int]]:
    """What is measured in this process besides PyTorch and ONNX Runtime: see ``benchmark``'s ``others``."""
    found: list[tuple[str, Any, int]] = []
    if torch is not None:
        from posewatch.bench.protogcn_published import published

        plain = published(torch.module)
        if plain is not None:
            from posewatch.inference.pytorch import TorchPredictor

            found.append(
                ("pytorch-published", TorchPredictor(plain, torch.labels, shape=torch.shape, trained=torch.trained), 1)
            )
    if tuned and tuned["accelerator"] == "openvino":
        from posewatch.inference.openvino import OpenVinoPredictor
        from posewatch.stack.triton_install import ensure_openvino

        runtime = OpenVinoPredictor(path, ensure_openvino(), tuned["precision"], tuned["threads"])
        found.append(("openvino", runtime, tuned["instances"]))
    return found


def clips_for(onnx: OnnxPredictor, path: Path | None) -> NDArray[np.float32]:
    """What to send (N, M, T, V, 3): the clips of a file, else made-up ones. Raises InputError."""
    if path is None:
        from posewatch.export.onnx import synthetic_clips

        return synthetic_clips(MADE_UP, onnx.shape)
    from posewatch.config import load
    from posewatch.inference.files import read
    from posewatch.recognition.sampling import resample

    items: list[Any] = list(read(path, load(), 3.0, 3.0))
    joints = {item.keypoints.shape[2] for item in items}
    if joints != {onnx.shape[2]}:
        raise InputError(f"{path} has clips of {sorted(joints)} joints, the model takes {onnx.shape[2]}")
    return resample([item.keypoints for item in items], onnx.frames, onnx.people)
