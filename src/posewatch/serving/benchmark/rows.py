"""The rows of ``bench.json``, and the server's own counts that go into them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from posewatch.errors import ServingError
from posewatch.inference import triton_admin
from posewatch.serving.benchmark import load


@dataclass(frozen=True)
class Row:
    """One load. ``throughput_ips`` inferences (clips) per second; latencies in milliseconds; ``mean_batch`` clips per
    execution by the server's own counts; ``cpu_ms_per_inference`` processor time of the process that runs the model
    (None: it is on another machine), ``client_cpu_ms`` that of the load generator.

    ``concurrency`` is how many clients wait at a time; of an open loop, how many requests were under way on average,
    and ``offered_ips`` how many were sent. The shares are of the time between a request's arrival at the server and
    its answer. ``errors`` were refused, or came too late.
    """

    system: str
    load: str
    concurrency: int
    throughput_ips: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_batch: float
    cpu_ms_per_inference: float | None
    errors: int = 0
    offered_ips: float | None = None
    queue_share: float | None = None
    compute_share: float | None = None
    client_cpu_ms: float | None = None


class ServerMeter:
    """Snapshots of the server's counts and processor time at the ends of the measured time."""

    def __init__(self, url: str, model: str, protocol: str, process: int | None) -> None:
        self._place, self._process = (url, model, protocol), process
        self._snapshots: list[tuple[dict[str, int], dict[int, float]]] = []

    def begin(self) -> None:
        self._snapshots = [self._snap()]

    def end(self) -> None:
        self._snapshots.append(self._snap())

    def _snap(self) -> tuple[dict[str, int], dict[int, float]]:
        return triton_admin.statistics(*self._place), load.cpu_seconds(self._process) if self._process else {}

    def told(self) -> dict[str, float | None]:
        """Mean batch, shares and processor time of the load that was measured last."""
        (first, cpu_then), (last, cpu_now) = self._snapshots
        gone = {key: last[key] - first[key] for key in last}
        # of the processes that are still there: those of a model that is being unloaded are not this one's
        cpu = sum(used - cpu_then.get(pid, 0.0) for pid, used in cpu_now.items()) * 1000 if cpu_now else None
        total = max(1, gone["total_ns"])
        return {
            "mean_batch": round(gone["inferences"] / max(1, gone["executions"]), 2),
            "queue_share": round(gone["queue_ns"] / total, 3),
            "compute_share": round(gone["compute_ns"] / total, 3),
            "cpu_ms_per_inference": None if cpu is None else round(cpu / max(1, gone["inferences"]), 3),
        }


def row_of(
    system: str,
    kind: str,
    clients: int,
    found: load.Measured,
    meter: ServerMeter | None = None,
    *,
    own: bool = False,
    offered: float | None = None,
) -> Row:
    """One row from what was measured; ``own``: by this process itself, so that its processor time is the model's.

    Raises ServingError when nothing was answered.
    """
    if not found.latencies_ms:
        raise ServingError(
            f"{system} gave no answer within {found.wall_s:.0f} s ({found.errors} refusals): measure for longer"
        )
    p50, p95, p99 = (round(float(p), 3) for p in np.percentile(found.latencies_ms, (50, 95, 99)))
    if kind == "open":
        clients = max(1, round(sum(found.latencies_ms) / 1000 / found.wall_s))
    cpu_ms = round(found.client_cpu_s * 1000 / max(1, found.answers), 3)
    told: dict[str, Any] = {"mean_batch": 1.0, "cpu_ms_per_inference": cpu_ms}
    if meter is not None:
        told = meter.told()
    if not own:
        told["client_cpu_ms"] = cpu_ms
    if offered is not None:
        told["offered_ips"] = round(offered, 2)
    speed = round(found.answers / found.wall_s, 2)
    return Row(system, kind, clients, speed, p50, p95, p99, errors=found.errors, **told)
