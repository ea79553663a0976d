"""``posewatch bench soak``: hours under a steady load. Does memory grow, do requests fail, does latency rise?"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError
from posewatch.files import write_atomically
from posewatch.inference import triton_admin
from posewatch.inference.open import parse_endpoint
from posewatch.inference.triton import TritonPredictor
from posewatch.recognition.evaluation.plots import BLUE, GREY, ORANGE, styled, write_figure
from posewatch.serving.benchmark import load
from posewatch.serving.repository import write_repository
from posewatch.stack.triton import TritonServer

CLIENTS = 16
"""Clients of the closed loop that finds the peak throughput."""
FLAT = 0.05
"""Growth of memory below this fraction counts as flat, see ``growth``."""


@dataclass(frozen=True)
class Stretch:
    """One stretch of the load, ``at_s`` seconds after the first one: answers per second, latencies in ms, ``errors``
    refused or late, memory in MB of the server's processes (None: a remote server) and of this client."""

    at_s: float
    throughput_ips: float
    p50_ms: float
    p99_ms: float
    errors: int
    server_mb: float | None
    client_mb: float


def soak(
    onnx: Path | None,
    clips: NDArray[np.float32],
    out: Path,
    *,
    minutes: float,
    share: float = 0.8,
    every_s: float = 20.0,
    deadline_s: float = 30.0,
    max_queue: int = 0,
    endpoint: str | None = None,
    progress: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Send ``clips`` (N, M, T, V, 3) one at a time at random moments, at ``share`` of the peak throughput.

    Writes ``soak.json`` after every stretch, and ``soak.png``. ``endpoint`` names a served model; without one, a
    private Triton with dynamic batching serves the file ``onnx``, with at most ``max_queue`` waiting requests (0: no
    limit). Refused and late requests, those without an answer in ``deadline_s`` seconds, are counted, and the load goes
    on.
    """
    with ExitStack() as stack:
        process, address = None, endpoint or ""
        if not endpoint:
            if onnx is None:
                raise InputError("a soak needs a model: an ONNX file or an endpoint")
            temp = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="posewatch-soak-")))
            write_repository(onnx, temp / "models", name="soak", max_queue=max_queue)
            server = stack.enter_context(TritonServer.start(temp / "models", log=temp / "triton.log"))
            triton_admin.load_model(server.grpc, "soak")
            process, address = server.process.pid, f"grpc://{server.grpc}/soak"
        where = endpoint or "private"
        result: dict[str, Any] = {"share": share, "every_s": every_s, "deadline_s": deadline_s, "max_queue": max_queue}
        result |= {"endpoint": where, "stretches": []}

        protocol, url, model = parse_endpoint(address)
        predictor = stack.enter_context(TritonPredictor(url, model, protocol))
        in_time = partial(predictor.predict, timeout_s=deadline_s)
        peak = load.closed(predictor.predict, clips, CLIENTS, min(5.0, every_s))
        result["peak_ips"] = round(max(peak.answers / peak.wall_s, 0.1), 2)
        started = time.monotonic()
        while (at := time.monotonic() - started) < minutes * 60:
            number = len(result["stretches"])
            measured = load.opened(in_time, clips, share * result["peak_ips"], every_s, seed=number)
            result["stretches"].append(asdict(_stretch(at, measured, process)))
            write_atomically(out / "soak.json", json.dumps(result, indent=1) + "\n")
            if progress:
                progress(1, f"{result['stretches'][-1]['throughput_ips']:.0f} clips/s")
    _plot(result, out / "soak.png")
    return result


def _stretch(at: float, measured: load.Measured, process: int | None) -> Stretch:
    p50, p99 = np.percentile(measured.latencies_ms, (50, 99)) if measured.latencies_ms else (np.nan, np.nan)
    server = sum(map(resident_mb, load.cpu_seconds(process))) if process else None
    speed = measured.answers / measured.wall_s
    return Stretch(
        round(at, 1), round(speed, 2), round(float(p50), 2), round(float(p99), 2), measured.errors,
        None if server is None else round(server, 1), round(resident_mb("self"), 1),
    )  # fmt: skip


def resident_mb(pid: int | str) -> float:
    """Memory in MB of a process, with its part of the shared memory; 0 if it has ended.

    Mapped files are left out: the share of a library depends on how many other processes map it.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) / 1024


def growth(values: list[float]) -> float:
    """By which fraction the last quarter's median exceeds that of the second quarter; 0 for fewer than 4 values."""
    n = len(values)
    if n < 4:
        return 0.0
    before, after = np.median(values[n // 4 : n // 2 or 1]), np.median(values[-(n // 4) :])
    return float(after / before - 1)


def summary(result: dict[str, Any]) -> str:
    """A few lines for people."""
    rows = result["stretches"]
    answers = sum(row["throughput_ips"] * result["every_s"] for row in rows)
    lines = [
        f"{rows[-1]['at_s'] / 60 + result['every_s'] / 60:.0f} min at {result['share']:.0%} of {result['peak_ips']:.0f}"
        f" clips/s: {answers:.0f} answers, {sum(row['errors'] for row in rows)} errors",
        f"p99 {np.nanmedian([row['p99_ms'] for row in rows]):.0f} ms in the middle of the stretches,"
        f" {np.nanmax([row['p99_ms'] for row in rows]):.0f} ms in the worst",
    ]
    for side in ("server", "client"):
        values = [row[f"{side}_mb"] for row in rows if row[f"{side}_mb"] is not None]
        if values:
            grown = growth(values)
            verdict = "flat" if grown < FLAT else "GROWS"
            lines.append(f"memory of the {side}: {values[0]:.0f} to {values[-1]:.0f} MB, {verdict} ({grown:+.1%})")
    return "\n".join(lines)


def _plot(result: dict[str, Any], path: Path) -> None:
    rows = result["stretches"]
    at = [row["at_s"] / 60 for row in rows]
    with styled() as plt:
        figure, (speed, latency, memory) = plt.subplots(3, 1, figsize=(9, 6), sharex=True, layout="constrained")
        speed.plot(at, [row["throughput_ips"] for row in rows], color=BLUE)
        speed.bar(at, [row["errors"] for row in rows], width=0.1, color=ORANGE, label="errors")
        for axis, lines in (
            (latency, {"p50_ms": BLUE, "p99_ms": ORANGE}),
            (memory, {"server_mb": BLUE, "client_mb": GREY}),
        ):
            for name, color in lines.items():
                if rows[0][name] is not None:
                    axis.plot(at, [row[name] for row in rows], color=color, label=name[:-3])
        memory.set_ylim(bottom=0)
        memory.set_xlabel("minutes")
        for axis, unit in ((speed, "answers/s"), (latency, "ms"), (memory, "MB")):
            axis.set_ylabel(unit)
            axis.legend(loc="lower right")
            axis.grid(alpha=0.3)
        write_figure(plt, figure, path)
