"""Checkpoint → one ONNX file that takes raw keypoints and whose outputs equal PyTorch's.

Input ``keypoints`` (N, M, T, V, 3) float32, N dynamic; outputs ``probabilities`` (N, K), ``embedding`` (N, D) and, of a
checkpoint that holds it, ``novelty`` (N,): above 1 a clip is like nothing that the network knows. The metadata hold
what a client needs: labels, layout, frames, people, fps, positive, threshold, lineage, version, and unit where a clip
shows one person.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError, ServingError
from posewatch.files import write_atomically
from posewatch.inference.predictor import OUTPUTS
from posewatch.units import unit_entry

TOLERANCE = 1e-4
ROUNDING = 16 * float(np.finfo(np.float32).eps)
"""What float32 leaves open through the layers of a network, of the largest number: more than 1e-4 where that is above
50."""
BATCHES = (1, 2, 8)
VERSION = "1"


def export(
    checkpoint: Path, out: Path, *, opset: int = 18, lineage: str = "", skip_absent: bool = True
) -> dict[str, Any]:
    """Write ``out`` and return {"max_abs_error", "bytes", "opset", "batches", "labels", ...}.

    ``skip_absent``: the graph computes nothing for persons who are not there, so shapes inside it depend on the clips;
    TensorRT and CUDA graphs want it off. Raises InputError for a checkpoint or opset that cannot be exported,
    ServingError when the batch size is fixed or an output differs from PyTorch's by more than 1e-4. ``out`` is not
    written then.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 - verify needs it
        import onnxscript  # noqa: F401 - the exporter needs it
        import torch
    except ImportError as error:
        raise InputError(f"export needs {error.name}: pip install 'posewatch[train]'") from None
    from posewatch.export.protogcn import arrange
    from posewatch.recognition.models.base import Network
    from posewatch.recognition.recogniser import load_checkpoint

    recogniser = load_checkpoint(checkpoint)
    arranged = load_checkpoint(checkpoint)
    arrange(arranged, skip_absent=skip_absent)
    shape = (recogniser.people, recogniser.frames, recogniser.layout.columns, 3)
    example = torch.from_numpy(synthetic_clips(2, shape))
    with _quiet():
        program = torch.onnx.export(
            arranged,
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=["keypoints"],
            output_names=list(OUTPUTS if recogniser.novelty is not None else OUTPUTS[:2]),
            dynamic_shapes={"keypoints": {0: torch.export.Dim("N", min=1, max=4096)}},
            verbose=False,
        )
    if program is None:
        raise ServingError("the exporter returned no model")
    model = program.model_proto
    written = next(entry.version for entry in model.opset_import if entry.domain == "")
    if written != opset:  # the exporter keeps its own where it cannot convert
        raise InputError(f"the exporter cannot write opset {opset}, only {written}: set serving.opset={written}")
    _strip(model)
    metadata = {
        "labels": json.dumps(list(recogniser.labels)),
        "layout": recogniser.layout.name,
        "frames": str(recogniser.frames),
        "people": str(recogniser.people),
        "fps": f"{recogniser.fps:g}",
        "positive": recogniser.positive,
        "threshold": f"{recogniser.threshold:g}",
        "lineage": lineage,
        "version": VERSION,
        "recipe": recogniser.recipe(),
        **({"absent": "skipped"} if skip_absent else {}),
        **unit_entry(recogniser.unit),
        **({"people_by": recogniser.people_by} if recogniser.people_by != "presence" else {}),
        **({"features": recogniser.config.features} if recogniser.config.features == "hips" else {}),
    }
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    for network in recogniser.networks:
        cast(Network, network).skip_absent = False  # what it is compared with computes everybody
    difference = verify(model, recogniser)
    data = model.SerializeToString(deterministic=True)
    write_atomically(out, data)
    return {
        "max_abs_error": float(f"{difference:.3g}"),
        "tolerance": TOLERANCE,
        "batches": list(BATCHES),
        "bytes": len(data),
        "opset": written,
        "parameters": sum(p.numel() for p in arranged.parameters()),
        "input": ["N", *shape],
        "lineage": lineage,
        **{k: getattr(recogniser, k) for k in ("positive", "threshold", "fps")},
        **unit_entry(recogniser.unit),
        "labels": list(recogniser.labels),
    }


def verify(model: Any, recogniser: Any) -> float:
    """The largest difference between the outputs of an ONNX model and of the recogniser, at N = 1, 2 and 8.

    The difference is absolute for values up to 1 and relative above, see ``_difference``. Raises ServingError when the
    batch size is fixed or the difference is above 1e-4.
    """
    import onnxruntime
    import torch

    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    if not first.dim_param:
        raise ServingError(f"the exported batch size is fixed at {first.dim_value}: a part of the model depends on N")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    data = model.SerializeToString(deterministic=True)
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    shape = (recogniser.people, recogniser.frames, recogniser.layout.columns, 3)
    worst = 0.0
    for clips in (np.zeros((1, *shape), np.float32), *(synthetic_clips(n, shape) for n in BATCHES)):
        with torch.no_grad():
            want = [t.numpy() for t in recogniser(torch.from_numpy(clips))]
        got = session.run(None, {"keypoints": clips})
        if [g.shape for g in got] != [w.shape for w in want]:
            raise ServingError(f"the exported model returns the shape {got[0].shape} for {len(clips)} clips")
        difference = max(_difference(a, b) for a, b in zip(got, want, strict=True))
        if not difference <= TOLERANCE:
            raise ServingError(f"the exported model differs from PyTorch by {difference:.2g} at N = {len(clips)}")
        worst = max(worst, difference)
    return worst


def _difference(got: NDArray[np.float32], want: NDArray[np.float32]) -> float:
    """The largest difference of two outputs (N, ...).

    Beside numbers in the thousands of the same clip, as in the embedding of a network without training, a small one is
    the sum of large ones and as inexact as these: ``ROUNDING`` of the largest makes no difference.
    """
    got, want = (x.reshape(len(x), -1) for x in (got, want))
    size = np.abs(want)
    unit = np.maximum(np.maximum(1, size), size.max(1, keepdims=True) * (ROUNDING / TOLERANCE))
    return float((np.abs(got - want) / unit).max())


def synthetic_clips(n: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """N random clips of ``shape`` (M, T, V, 3), the same in every run; a tenth of the joints is missing.

    Each person is a cloud of joints that drifts over the picture. The first clip holds one person, the last (of
    several) none; the second of more holds one in the last place.
    """
    rng = np.random.default_rng(n)
    people, frames, joints, _ = shape
    clips = np.zeros((n, *shape), np.float32)
    start = rng.uniform(100, 500, (n, people, 1, 1, 2))
    drift = rng.normal(0, 4, (n, people, frames, 1, 2)).cumsum(2)
    offsets = rng.normal(0, 40, (n, people, 1, joints, 2))
    clips[..., :2] = start + drift + offsets + rng.normal(0, 2, (*clips.shape[:-1], 2))
    clips[..., 2] = rng.uniform(0.2, 1, clips.shape[:-1])
    clips[rng.random(clips.shape[:-1]) < 0.1] = 0
    clips[0, 1:] = 0
    if n > 2:
        clips[1, :-1] = 0
    if n > 1:
        clips[-1] = 0
    return clips


def _strip(model: Any) -> None:
    """Remove what the exporter records of this machine: source lines with paths, stack traces, name scopes."""
    model.doc_string = ""
    model.producer_version = ""
    del model.metadata_props[:]
    for graph in (model.graph, *model.functions):
        del graph.metadata_props[:]
        graph.doc_string = ""
        for node in graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
    # The shapes of the nodes' outputs stay: ONNX Runtime fuses an addition into a convolution where shapes are equal.
    between = {name for node in model.graph.node for name in node.output}
    shapes = [value for value in model.graph.value_info if value.name in between]
    del model.graph.value_info[:]
    model.graph.value_info.extend(shapes)
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer, *model.graph.value_info):
        value.doc_string = ""
        del value.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Any:
    """Silence the exporter, which writes to stdout, stderr and its loggers."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
