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

COST_S, FAST_S, CLIENTS = 0.010, 0.002, 16
MAX_QUEUE = 512
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
    plain, batched, fast, limited = (row["throughput_ips"] for row in measured["rows"])
    report = (out / "bench.md").read_text(encoding="utf-8")
    report += (
        f"- A model of {measured['cost_ms']:g} ms per execution, whatever its batch, {CLIENTS} at a time: batching"
        f" answers {measured['gain']:.1f} times as many clips ({plain:.0f} → {batched:.0f} per second,"
        f" {measured['rows'][1]['mean_batch']:.1f} per execution).\n"
        f"- One of {FAST_S * 1000:g} ms: {fast:.0f} clips a second without a limit of the queue, {limited:.0f}"
        f" with `serving.max_queue={MAX_QUEUE}`, whose batcher now and then waits for half a second.\n"
    )
    write_atomically(out / "bench.json", json.dumps(result, indent=1) + "\n")
    write_atomically(out / "bench.md", report)


def measure(seconds: float) -> dict[str, Any]:
    """Clips per second of ``CLIENTS`` clients at a time: the ``gain`` of batching, and ``limited``, the share that is
    left of a fast model's with a limit of the queue.

    ``rows``: without batching, with batching, the fast model, and the fast one with a limit.
    """
    clips = np.zeros((1, 1, 1, 1, 3), np.float32)
    rows = []
    with tempfile.TemporaryDirectory(prefix="posewatch-bench-") as temp:
        repository = Path(temp) / "models"
        write_fixed_cost(repository, "plain", cost_s=COST_S, batching=False, max_batch=CLIENTS)
        write_fixed_cost(repository, "batching", cost_s=COST_S, max_batch=CLIENTS)
        write_fixed_cost(repository, "fast", cost_s=FAST_S, max_batch=CLIENTS)
        write_fixed_cost(repository, "limited", cost_s=FAST_S, max_batch=CLIENTS, max_queue=MAX_QUEUE)
        with TritonServer.start(repository, log=Path(temp) / "triton.log") as server:
            for name in ("plain", "batching", "fast", "limited"):
                load_model(server.grpc, name)
                endpoint = f"grpc://{server.grpc}/{name}"
                meter = ServerMeter(endpoint, None)
                with open_predictor(endpoint, retries=0) as predictor:
                    measured = load.closed(predictor.predict, clips, CLIENTS, seconds, meter)
                system = {"plain": "triton", "limited": "triton+batching+limit"}.get(name, "triton+batching")
                rows.append(row_of(system, "closed", CLIENTS, measured, meter))
    plain, batching, fast, limited = (row.throughput_ips for row in rows)
    return {
        "cost_ms": COST_S * 1000,
        "fast_ms": FAST_S * 1000,
        "rows": [asdict(row) for row in rows],
        "gain": round(batching / plain, 2),
        "limited": round(limited / fast, 2),
    }


def write_fixed_cost(
    repository: Path, name: str, *, cost_s: float, batching: bool = True, max_batch: int = 16, max_queue: int = 0
) -> Path:
    """Write ``repository/<name>/`` for Triton's own Python backend: clips (N, 1, 1, 1, 3) in, two even classes out.

    ``cost_s`` seconds is what an execution takes. A batch leaves when it is full; with as many clients as fit into one,
    all of them are in each: it may wait for longer than an execution, else the clients fall into two halves, one
    waiting while the other is served.
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
        settings["dynamic_batching"] = Batching(min(int(2e6 * cost_s), 20_000), max_queue).settings()
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(MODEL.format(cost_s=cost_s).lstrip(), encoding="utf-8")
    (folder / "config.pbtxt").write_text(config_text(settings), encoding="utf-8")
    return folder
