"""The command line of exported files: ``posewatch export --out`` with a precision, ``posewatch onnx inspect``."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError
from posewatch.export.inspect import describe
from posewatch.export.precision import PRECISIONS, Judge, convert


def export_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``posewatch export`` on files."""
    from posewatch.cli.train import data_options

    parser.add_argument("--out", type=Path, metavar="FILE", help="the checkpoint is a file: write this one")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="others need --annotations to judge by")
    parser.add_argument("--split", default="test", help="the split that says what a precision costs")
    parser.add_argument("--train-split", default="train", help="the split that int8 measures its ranges on")
    parser.add_argument("--max-drop", type=float, default=0.5, help="largest drop of accuracy accepted, in points")
    data_options(parser)


def export_file(args: argparse.Namespace, opset: int) -> dict[str, Any]:
    """Export a checkpoint file; returns the report. Raises InputError or ServingError, and leaves nothing then."""
    from posewatch.export.onnx import export

    checkpoint = Path(args.checkpoint)
    if args.precision == "fp32":
        return export(checkpoint, args.out, opset=opset)
    if args.annotations is None:
        raise InputError(f"say on which clips {args.precision} is to be judged: --annotations FILE.pkl")
    clips, calibration = _clips(args, checkpoint)
    with tempfile.TemporaryDirectory(prefix="posewatch-export-") as temp:
        exact = Path(temp) / "model.onnx"
        report = export(checkpoint, exact, opset=opset)
        computed = _bf16(checkpoint) if args.precision == "bf16" else None
        cost = convert(exact, args.out, args.precision, clips, calibration=calibration, computed=computed)
    return {**report, **cost}


def _clips(args: argparse.Namespace, checkpoint: Path) -> tuple[Judge, NDArray[np.float32]]:
    """The clips that judge, and those to calibrate on (training clips, never the former)."""
    from posewatch.cli.train import read
    from posewatch.recognition.recogniser import load_checkpoint
    from posewatch.recognition.sampling import resample

    recogniser = load_checkpoint(checkpoint)
    args.classes = args.classes or ",".join(recogniser.labels)
    clips, splits, _ = read(args)
    for name in (args.split, args.train_split) if args.precision == "int8" else (args.split,):
        if name not in splits:
            raise InputError(f"no split is called {name!r}: there are {', '.join(sorted(splits)) or 'none'}")
    judged = clips.subset(splits[args.split])
    training = clips.subset(splits.get(args.train_split, []))
    shape = (recogniser.frames, recogniser.people)
    judge = Judge(resample(judged.keypoints, *shape), judged.labels, args.max_drop)
    return judge, resample(training.keypoints, *shape)


def _bf16(checkpoint: Path) -> Any:
    """Probabilities as PyTorch computes them with its layers in bf16: what a runtime in bf16 makes of the weights."""
    import torch

    from posewatch.recognition.recogniser import load_checkpoint

    recogniser = load_checkpoint(checkpoint)

    def computed(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.autocast("cpu", torch.bfloat16):
            return recogniser.probabilities(keypoints)

    return computed


def inspect_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``posewatch onnx inspect``."""
    parser.add_argument("model", type=Path)
    parser.add_argument("--json", action="store_true")


def inspect(args: argparse.Namespace) -> Any:
    """What is in an exported file, as text or as JSON. Raises InputError for another file."""
    found = describe(args.model)
    if args.json:
        return found
    rows = [f"{'input' if t in found['inputs'] else 'output':<12}{t}" for t in (*found["inputs"], *found["outputs"])]
    rows += [f"{key:<12}{found[key]}" for key in ("precision", "opset", "weights", "bytes", "sha256")]
    rows += [f"{key:<12}{value}" for key, value in found["metadata"].items() if key != "recipe"]
    recipe = found["metadata"].get("recipe")
    if recipe:
        networks = [f"{b['model']} x{b['width']:g} on {b['stream']}" for b in json.loads(recipe)["branches"]]
        rows.append(f"{'networks':<12}{', '.join(networks)}")
    rows.append(f"{'operators':<12}{', '.join(f'{n} {kind}' for kind, n in found['operators'].items())}")
    return "\n".join(rows)
