"""What it costs to send a clip: bytes, and processor time of client and server, by how requests are made.

The model does next to nothing, so that only the sending is measured; processor time hardly depends on other work.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.errors import ServingError
from posewatch.export.onnx import synthetic_clips
from posewatch.export.quantised import quantise
from posewatch.files import write_atomically
from posewatch.inference.quantised import WIRE
from posewatch.inference.triton import TritonPredictor
from posewatch.inference.triton_admin import load_model
from posewatch.serving.benchmark.load import cpu_seconds
from posewatch.serving.repository import write_repository
from posewatch.stack.triton import TritonServer

SHAPE = (2, 100, 17, 3)
CLIPS = 32
LABELS = ("normal", "abnormal")


def bench_wire(out: Path, *, clips: int = 2000, batches: Sequence[int] = (1, 8, 32), rounds: int = 3) -> str:
    """Write ``wire.json`` and ``wire.md`` to ``out``; returns the table.

    ``clips`` are sent in each of ``rounds``, all ways in turn, by one client; medians count. ``batches`` are clips per
    request. Raises StackError or ServingError.
    """
    examples = synthetic_clips(CLIPS + 2, SHAPE)[1:-1]
    found: dict[tuple[str, str, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="posewatch-wire-") as temp:
        plain, short = Path(temp) / "float32.onnx", Path(temp) / "uint16.onnx"
        write_mean(plain)
        quantise(plain, short)
        repository = Path(temp) / "models"
        for path in (plain, short):
            write_repository(
                path, repository, name=path.stem, max_batch=CLIPS, model_warmup="none", instances=1, queue_delay_us=0
            )
        with TritonServer.start(repository, log=Path(temp) / "triton.log") as server:
            for name in (plain.stem, short.stem):
                load_model(server.grpc, name)
            for _ in range(rounds):
                for protocol, url in (("grpc", server.grpc), ("http", server.http), ("grpc+shm", server.grpc)):
                    for name in (plain.stem, short.stem):
                        with TritonPredictor(url, name, protocol) as predictor:
                            for batch in batches:
                                cost = _cost(predictor, examples, batch, clips, server.process.pid)
                                found.setdefault((protocol, name, batch), []).append(cost)
    rows = []
    for (protocol, name, batch), costs in found.items():
        client, served = (round(float(v), 4) for v in np.median(np.array(costs), 0))
        size = int(np.prod(SHAPE)) * (2 if name == WIRE else 4)
        rows.append({"protocol": protocol, "keypoints": name, "clips_per_request": batch, "bytes_per_clip": size,
                     "client_ms_per_clip": client, "server_ms_per_clip": served})  # fmt: skip
    write_atomically(out / "wire.json", json.dumps({"rounds": rounds, "clips": clips, "rows": rows}, indent=1) + "\n")
    table = _table(rows)
    write_atomically(out / "wire.md", table)
    return table


def _cost(predictor: TritonPredictor, examples: Any, batch: int, clips: int, pid: int) -> tuple[float, float]:
    """Milliseconds of processor time of a clip, in this process and in the server's."""
    part = np.ascontiguousarray(examples[:batch])
    if len(predictor.predict(part).probabilities) != batch:
        raise ServingError("the server answers for another number of clips")
    requests = max(1, clips // batch)
    began, before = time.process_time(), sum(cpu_seconds(pid).values())
    for _ in range(requests):
        predictor.predict(part)
    client, served = time.process_time() - began, sum(cpu_seconds(pid).values()) - before
    return 1000 * client / (requests * batch), 1000 * served / (requests * batch)


def write_mean(path: Path) -> None:
    """A model with the contract of an export that answers by the mean of a clip's numbers."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.array([[0.001, -0.001], [0, 0], [0, 0]], np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["keypoints", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array([1, 2, 3]), "axes")]
    given = [helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, ["N", *SHAPE])]
    answer = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(LABELS)])]
    graph = helper.make_graph(nodes, "mean", given, answer, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    told = {"labels": json.dumps(LABELS), "layout": "coco17", "positive": LABELS[1]}
    helper.set_model_props(model, told)
    onnx.save(model, str(path))


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| protocol | keypoints | clips per request | bytes a clip | client, CPU ms a clip | server, CPU ms a clip |",
        "|---|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {r['protocol']} | {r['keypoints']} | {r['clips_per_request']} | {r['bytes_per_clip']:,} "
        f"| {r['client_ms_per_clip']:.3f} | {r['server_ms_per_clip']:.3f} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"
