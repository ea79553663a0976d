"""A model of which one execution costs the same whatever its batch: it shows what dynamic batching itself can give.

Its execution sleeps, as a processor of its own would be busy; so the figure does not depend on this machine's cores.
"""

from __future__ import annotations

from pathlib import Path

from posewatch.serving.model_config import Batching, check_config

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


def write_fixed_cost(repository: Path, name: str, *, cost_s: float, batching: bool, max_batch: int = 16) -> Path:
    """Write ``repository/<name>/`` for Triton's own Python backend: clips (N, 1, 1, 1, 3) in, two even classes out.

    ``cost_s`` seconds is what an execution takes. A batch leaves when it is full; with as many clients as fit into one,
    all of them are in each.
    """
    text = "\n".join(
        [
            f'name: "{name}" backend: "python" max_batch_size: {max_batch}',
            'input { name: "keypoints" data_type: TYPE_FP32 dims: [ 1, 1, 1, 3 ] }',
            'output { name: "probabilities" data_type: TYPE_FP32 dims: [ 2 ] }',
            "instance_group { kind: KIND_CPU count: 1 }",
            Batching(delay_us=DELAY_US).text() if batching else "",
            'parameters { key: "labels" value { string_value: "[\\"a\\", \\"b\\"]" } }',
        ]
    )
    check_config(text)
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(MODEL.format(cost_s=cost_s).lstrip(), encoding="utf-8")
    (folder / "config.pbtxt").write_text(text + "\n", encoding="utf-8")
    return folder
