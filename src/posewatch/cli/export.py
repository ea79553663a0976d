"""Export a checkpoint to ONNX, inspect the file, publish it as a version of the model repository."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from posewatch.cli.context import Context, Writes, topic, verb
from posewatch.cli.train import Skeletons, split_of
from posewatch.errors import InputError
from posewatch.rules import Range

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from posewatch.config import ServingConfig
    from posewatch.export.precision import Judge

app = topic()
onnx = topic(help="Exported files: inspect.")
app.add_typer(onnx, name="onnx")


@dataclass(frozen=True)
class ExportedFile:
    """The file that a checkpoint file is exported to, and its precision."""

    PANEL = "A checkpoint file"

    out: Annotated[Path | None, Option(metavar="FILE", help="ONNX file to write."), Writes()] = None
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8"], Option(help="Other than fp32: judged on the clips of --annotations.")
    ] = "fp32"
    split: Annotated[str, Option(help="Split that the precision is judged on.")] = "test"
    train_split: Annotated[str, Option(help="Split that int8 is calibrated on.")] = "train"
    runtime: Annotated[
        Literal["onnxruntime", "openvino", "tensorrt"] | None,
        Option(help="What will compute an int8 file (default: onnxruntime)."),
    ] = None
    max_drop: Annotated[float, Option(metavar="POINTS", help="Largest accepted drop of accuracy."), Range(0, 100)] = 0.5


@verb(app, "export")
def export(
    checkpoint: Annotated[str, Argument(help="URI of a checkpoint, or a file with --out.")],
    clips: Skeletons,
    file: ExportedFile,
    context: Context,
) -> Any:
    """Export to ONNX, checked against PyTorch."""
    if file.out:
        return _export_file(Path(checkpoint), file.out, file, clips, context.experiment.serving)
    if file.precision != "fp32":
        raise InputError("another precision is for files: give the file to write, --out FILE")
    from posewatch.stages.export import export

    return export(context.objects, context.artifact(checkpoint), context.experiment.serving).uri


def _export_file(
    checkpoint: Path, out: Path, file: ExportedFile, skeletons: Skeletons, config: ServingConfig
) -> dict[str, Any]:
    """Export a checkpoint file; returns the report. Raises InputError or ServingError, and writes nothing then."""
    from posewatch.export.onnx import export

    if file.runtime and file.precision != "int8":
        raise InputError("--runtime says what an int8 file is for: give --precision int8 as well")
    options: dict[str, Any] = {"opset": config.opset, "skip_absent": config.skips_absent}
    if file.precision == "fp32":
        return export(checkpoint, out, **options)
    from posewatch.export.precision import convert

    if skeletons.annotations is None:
        raise InputError(f"give the clips that {file.precision} is judged on: --annotations FILE.pkl")
    judge, calibration = _clips(checkpoint, file, skeletons)
    with tempfile.TemporaryDirectory(prefix="posewatch-export-") as temp:
        exact = Path(temp) / "model.onnx"
        report = export(checkpoint, exact, **options)
        computed = _bf16(checkpoint) if file.precision == "bf16" else None
        how: dict[str, Any] = {
            "calibration": calibration,
            "runtime": file.runtime or "onnxruntime",
            "computed": computed,
        }
        cost = convert(exact, out, file.precision, judge, **how)
    return {**report, **cost}


def _clips(checkpoint: Path, file: ExportedFile, skeletons: Skeletons) -> tuple[Judge, NDArray[np.float32]]:
    """The clips to judge on, and the training clips to calibrate on."""
    from posewatch.export.precision import Judge
    from posewatch.recognition.recogniser import load_checkpoint
    from posewatch.recognition.sampling import fitting

    recogniser = load_checkpoint(checkpoint)
    clips, splits, _ = skeletons.read(tuple(recogniser.labels), recogniser.layout)
    judged = clips.subset(split_of(splits, file.split))
    calibration = split_of(splits, file.train_split, "--train-split") if file.precision == "int8" else []
    judge = Judge(fitting(judged.keypoints, recogniser), judged.labels, file.max_drop)
    return judge, fitting(clips.subset(calibration).keypoints, recogniser)


def _bf16(checkpoint: Path) -> Any:
    """Probabilities as PyTorch computes them with its layers in bf16: what a runtime in bf16 makes of the weights."""
    import torch

    from posewatch.recognition.recogniser import load_checkpoint

    recogniser = load_checkpoint(checkpoint)

    def computed(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.autocast("cpu", torch.bfloat16):
            return recogniser.probabilities(keypoints)

    return computed


@verb(onnx, "inspect")
def inspect(
    model: Annotated[Path, Argument(help="An exported .onnx file.")],
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
) -> Any:
    """Inputs, outputs, metadata and operators of an exported file."""
    from posewatch.export.inspect import describe

    found = describe(model)
    if as_json:
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


@verb(app, "publish")
def publish(
    onnx: Annotated[str, Argument(help="URI of an export.")],
    context: Context,
    paper_contract: Annotated[
        str | None, Option(metavar="NAME", help="Also serve it under this name to the paper's clients.")
    ] = None,
) -> str:
    """Write a version of the model repository."""
    from posewatch.stages.publish import publish

    config = context.experiment.serving
    if paper_contract:
        config = dataclasses.replace(config, paper_contract=paper_contract)
    return publish(context.objects, context.artifact(onnx), config, context.experiment.mask.unit).uri
