"""The rows of ``bench.json``, and the server's own counts in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from posewatch.errors import ServingError
from posewatch.inference import triton_admin
from posewatch.inference.open import parse_endpoint
from posewatch.serving.benchmark import load


@dataclass(frozen=True)
class Row:
    """One load. ``throughput_ips`` is clips per second; latencies are in milliseconds; ``mean_batch`` is clips per
    execution by the server's own counts; ``cpu_ms_per_inference`` is the processor time of the process that runs the
    model (None: on another machine), ``client_cpu_ms`` that of the load generator.

    ``concurrency`` is the number of clients that wait at a time; in an open loop, the mean number of requests under
    way, ``offered_ips`` the requests sent per second, ``peak_share`` these as a fraction of the system's own peak, and
    ``workers`` how many of them a model in this process computes at a time. ``queue_share`` and ``compute_share`` are
    of the time between a request's arrival at the server and its answer. ``errors`` requests were refused or late.
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
    peak_share: float | None = None
    workers: int | None = None


class ServerMeter:
    """The server's counts and processor time at both ends of the measured time; ``process`` None: a remote server."""

    def __init__(self, endpoint: str, process: int | None) -> None:
        protocol, url, model = parse_endpoint(endpoint)
        self._model, self._process = (url, model, protocol), process
        self._snapshots: list[tuple[dict[str, int], dict[int, float]]] = []

    def begin(self) -> None:
        self._snapshots = [self._snap()]

    def end(self) -> None:
        self._snapshots.append(self._snap())

    def _snap(self) -> tuple[dict[str, int], dict[int, float]]:
        return triton_admin.statistics(*self._model), load.cpu_seconds(self._process) if self._process else {}

    def figures(self) -> dict[str, float | None]:
        """Mean batch, shares and processor time of the last load."""
        (first, cpu_then), (last, cpu_now) = self._snapshots
        delta = {key: last[key] - first[key] for key in last}
        # only of processes that still run: the others belong to a model that is being unloaded
        cpu = sum(used - cpu_then.get(pid, 0.0) for pid, used in cpu_now.items()) * 1000 if cpu_now else None
        total = max(1, delta["total_ns"])
        return {
            "mean_batch": round(delta["inferences"] / max(1, delta["executions"]), 2),
            "queue_share": round(delta["queue_ns"] / total, 3),
            "compute_share": round(delta["compute_ns"] / total, 3),
            "cpu_ms_per_inference": None if cpu is None else round(cpu / max(1, delta["inferences"]), 3),
        }


def row_of(
    system: str,
    kind: str,
    clients: int,
    measured: load.Measured,
    meter: ServerMeter | None = None,
    *,
    own: bool = False,
    offered: float | None = None,
    share: float | None = None,
) -> Row:
    """The row of a load; ``own``: the model runs in this process, so that its processor time is the model's, with
    ``clients`` at a time. An open loop ``offered`` requests a second, ``share`` of the system's peak.

    Raises ServingError if there was no answer at all.
    """
    if not measured.latencies_ms:
        raise ServingError(
            f"{system} gave no answer within {measured.wall_s:.0f} s ({measured.errors} refusals): measure for longer"
        )
    p50, p95, p99 = (round(float(p), 3) for p in np.percentile(measured.latencies_ms, (50, 95, 99)))
    workers = clients if kind == "open" and own else None
    if kind == "open":
        clients = max(1, round(sum(measured.latencies_ms) / 1000 / measured.wall_s))
    cpu_ms = round(measured.client_cpu_s * 1000 / max(1, measured.answers), 3)
    figures: dict[str, Any] = {"mean_batch": 1.0, "cpu_ms_per_inference": cpu_ms}
    if meter is not None:
        figures = meter.figures()
    if not own:
        figures["client_cpu_ms"] = cpu_ms
    if offered is not None:
        figures["offered_ips"] = round(offered, 2)
    speed = round(measured.answers / measured.wall_s, 2)
    return Row(
        system,
        kind,
        clients,
        speed,
        p50,
        p95,
        p99,
        errors=measured.errors,
        peak_share=share,
        workers=workers,
        **figures,
    )
