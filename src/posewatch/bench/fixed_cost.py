"""A model of which one execution costs the same whatever its batch: it shows what dynamic batching itself can give.

An execution sleeps, as a processor of its own would be busy, so the figure does not depend on this machine's cores.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.files import write_atomically
from posewatch.inference.open import open_predictor
from posewatch.inference.triton_admin import load_model
from posewatch.serving.benchmark import load
from posewatch.serving.benchmark.rows import ServerMeter, row_of
from posewatch.serving.model_config import Batching, config_text
from posewatch.stack.triton import TritonServer

COST_S, CLIENTS = 0.010, 16
DELAY_US = 20_000
"""Longer than an execution: else the clients fall into two halves, one waiting while the other is served."""
MODEL = """
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep({cost_s!r})
        counts = [len(pb_utils.get_input_tensor_by_name(r, "keypoints").as_numpy()) for r in requests]
        rows = [np.tile(np.array([[0.5, 0.5]], np.float32), (n, 1)) for n in counts]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("probabilities", row)]) for row in rows]
"""


def add_fixed_cost(out: Path, seconds: float) -> None:
    """Measure the model without and with batching, and add that to ``bench.json`` and ``bench.md`` in ``out``."""
    result = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    result["mechanism"] = measured = measure(seconds)
    plain, batched = measured["rows"]
    report = (out / "bench.md").read_text(encoding="utf-8")
    report += (
        f"- A model of {measured['cost_ms']:g} ms per execution, whatever its batch, {CLIENTS} at a time: batching"
        f" answers {measured['gain']:.1f} times as many clips ({plain['throughput_ips']:.0f} →"
        f" {batched['throughput_ips']:.0f} per second, {batched['mean_batch']:.1f} per execution).\n"
    )
    write_atomically(out / "bench.json", json.dumps(result, indent=1) + "\n")
    write_atomically(out / "bench.md", report)


def measure(seconds: float) -> dict[str, Any]:
    """``rows`` without and with batching, by ``CLIENTS`` clients at a time, and the ``gain`` in clips per second."""
    clips = np.zeros((1, 1, 1, 1, 3), np.float32)
    rows = []
    with tempfile.TemporaryDirectory(prefix="posewatch-bench-") as temp:
        repository = Path(temp) / "models"
        for name, batching in (("plain", False), ("batching", True)):
            write_fixed_cost(repository, name, cost_s=COST_S, batching=batching, max_batch=CLIENTS)
        with TritonServer.start(repository, log=Path(temp) / "triton.log") as server:
            for name, system in (("plain", "triton"), ("batching", "triton+batching")):
                load_model(server.grpc, name)
                endpoint = f"grpc://{server.grpc}/{name}"
                meter = ServerMeter(endpoint, None)
                with open_predictor(endpoint, retries=0) as predictor:
                    measured = load.closed(predictor.predict, clips, CLIENTS, seconds, meter)
                rows.append(row_of(system, "closed", CLIENTS, measured, meter))
    gain = rows[1].throughput_ips / rows[0].throughput_ips
    return {"cost_ms": COST_S * 1000, "rows": [asdict(row) for row in rows], "gain": round(gain, 2)}


def write_fixed_cost(repository: Path, name: str, *, cost_s: float, batching: bool, max_batch: int = 16) -> Path:
    """Write ``repository/<name>/`` for Triton's own Python backend: clips (N, 1, 1, 1, 3) in, two even classes out.

    ``cost_s`` seconds is what an execution takes. A batch leaves when it is full; with as many clients as fit into one,
    all of them are in each.
    """
    settings = {
        "name": name,
        "backend": "python",
        "max_batch_size": max_batch,
        "input": [{"name": "keypoints", "data_type": "TYPE_FP32", "dims": [1, 1, 1, 3]}],
        "output": [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": [2]}],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "parameters": {"labels": {"string_value": '["a", "b"]'}},
    }
    if batching:
        settings["dynamic_batching"] = Batching(delay_us=DELAY_US).settings()
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(MODEL.format(cost_s=cost_s).lstrip(), encoding="utf-8")
    (folder / "config.pbtxt").write_text(config_text(settings), encoding="utf-8")
    return folder
