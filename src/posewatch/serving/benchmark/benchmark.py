"""Measures one exported model four ways in one run, on the same clips: PyTorch, ONNX Runtime, Triton without and with
dynamic batching, and, where they are given, in other ways beside them; ``load`` has the closed and the open loop,
``bench_report`` what is left of it for people.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError, ServingError
from posewatch.inference import triton_admin
from posewatch.inference.asynchronous import open_async
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.inference.open import parse_endpoint
from posewatch.inference.predictor import Predictor
from posewatch.inference.pytorch import TorchPredictor
from posewatch.inference.triton import TritonPredictor
from posewatch.serving.benchmark import load
from posewatch.serving.benchmark.report import caveats, environment, write_markdown, write_plots
from posewatch.serving.benchmark.rows import Row, ServerMeter, row_of
from posewatch.serving.repository import write_repository
from posewatch.stack.triton import TritonServer

TOLERANCE, ROUNDED = 1e-3, 0.05
"""How far a probability may be from the ONNX file's, computed in fp32 and in less."""
FIXED_COST_S = 0.010
FIXED_CLIENTS = 16


Others = Sequence[tuple[str, Predictor, int]]
"""More ways in this process: what the system is called, its predictor, and how many clips at a time."""


def steps(concurrency: Sequence[int], open_loop: Sequence[float], others: int, systems: int = 2) -> int:
    """How many loads ``benchmark`` measures at most, with ``others`` in this process besides ONNX Runtime."""
    return others + 2 + systems * (len(concurrency) + len(open_loop))


def benchmark(
    onnx_path: Path,
    clips: NDArray[np.float32],
    out: Path,
    *,
    torch_predictor: Predictor | None = None,
    others: Others = (),
    tuned: dict[str, Any] | None = None,
    concurrency: Sequence[int] = (1, 8, 32),
    open_loop: Sequence[float] = (),
    seconds: float = 4.0,
    max_batch: int = 16,
    queue_delay_us: int = 2000,
    instances: int = 2,
    endpoint: str | None = None,
    mechanism: bool = False,
    perf_analyzer: Path | None = None,
    progress: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Measure and write ``bench.json``, ``bench.md``, ``latency.png``, ``throughput.png`` (``open.png``) to ``out``.

    ``clips`` (N, M, T, V, 3) are sent one at a time; each load lasts ``seconds`` after a warm-up that is not counted.
    ``open_loop`` are rates as shares of the most that the same system answered in a closed loop. ``others`` are
    more models in this process, ``tuned`` options of ``write_repository`` that are measured as well, as
    ``triton+tuned``. A private Triton is started, unless ``endpoint`` (grpc:// or http://host:port/model) names a
    served model to measure instead.
    ``mechanism`` also measures a model whose execution costs 10 ms whatever its batch: what batching can give.
    ``perf_analyzer`` is Triton's own load generator, to cross-check with. ``progress`` is called once per load with 1
    and a remark. Returns what bench.json holds. Raises ServingError when the systems do not agree on the clips.
    """
    if not len(clips):
        raise InputError("no clips to measure with")
    if seconds <= 0 or not concurrency or min(concurrency) < 1:
        raise InputError("seconds must be above 0, and every concurrency at least 1")
    if any(share <= 0 for share in open_loop):
        raise InputError("the rates of the open loop are shares of the peak, above 0, as in 0.5,0.8,1.1")
    given = parse_endpoint(endpoint) if endpoint else None
    onnx = OnnxPredictor(onnx_path)
    sample = clips[:8]
    wanted = onnx.predict(sample).probabilities
    rows: list[Row] = []
    worst = 0.0

    def add(row: Row | None, note: str) -> None:
        if row:
            rows.append(row)
        if progress:
            progress(1, f"{note}: {row.throughput_ips:.0f} clips/s" if row else f"{note}: no answer")

    def agree(system: str, predictor: Predictor, exact: bool = True) -> None:
        nonlocal worst
        if not getattr(predictor, "trained", True):
            return
        difference = float(np.abs(predictor.predict(sample).probabilities - wanted).max())
        if difference > (TOLERANCE if exact else ROUNDED):
            raise ServingError(f"{system} does not agree with the ONNX file: a probability differs by {difference:.4f}")
        if exact:
            worst = max(worst, difference)

    settings: dict[str, Any] = {"max_batch": max_batch, "queue_delay_us": queue_delay_us, "instances": instances}
    threads = 0
    if torch_predictor is not None:
        agree("pytorch", torch_predictor)
        threads = torch_threads(torch_predictor, clips)
        found = load.in_process(torch_predictor.predict, clips, 1, seconds)
        add(row_of("pytorch", "closed", 1, found, own=True), "pytorch")
    rounded = bool(tuned) and (tuned or {}).get("precision", "fp32") != "fp32"
    for system, predictor, workers in others:
        agree(system, predictor, exact=not rounded)
        found = load.in_process(predictor.predict, clips, workers, seconds)
        add(row_of(system, "closed", workers, found, own=True), f"{system}, {workers} at a time")
    for workers in sorted({1, instances}):
        found = load.in_process(onnx.predict, clips, workers, seconds)
        add(row_of("onnxruntime", "closed", workers, found, own=True), f"onnxruntime, {workers} at a time")
    server = ""
    extra: dict[str, Any] = {}
    with _served(onnx_path, given, settings, tuned, mechanism) as (process, places):
        for protocol, url, model in places:
            with _loaded(url, model, protocol, private=given is None):
                with TritonPredictor(url, model, protocol, retries=0) as predictor:
                    system = "triton+batching" if predictor.batching else "triton"
                    if model == "tuned" and given is None:
                        system = "triton+tuned"
                    agree(system, predictor, exact=system != "triton+tuned" or not rounded)
                    server = predictor.server_version
                meter = ServerMeter(url, model, protocol, process)
                for clients in concurrency:
                    found = asyncio.run(_closed(protocol, url, model, clips, clients, seconds, meter))
                    add(row_of(system, "closed", clients, found, meter), f"{system}, {clients} at a time")
                peak = max(row.throughput_ips for row in rows if row.system == system)
                for share in open_loop:
                    rate = share * peak
                    found = asyncio.run(_open(protocol, url, model, clips, rate, seconds, meter))
                    row = row_of(system, "open", 0, found, meter, offered=rate) if found.latencies_ms else None
                    add(row, f"{system}, {rate:.0f} a second")
                if perf_analyzer and protocol == "grpc":
                    from posewatch.serving.benchmark import perf_analyzer as tool

                    most = max(row.concurrency for row in rows if row.system == system and row.load == "closed")
                    extra.setdefault("perf_analyzer", []).append(
                        {"system": system, **tool.run(perf_analyzer, url, model, most, seconds)}
                    )
        if mechanism and given is None:
            extra["mechanism"] = _fixed_cost(places[0][1], seconds)
    result: dict[str, Any] = {
        "rows": [asdict(row) for row in rows],
        "settings": {
            **settings,
            "tuned": tuned,
            "seconds": seconds,
            "clips": len(clips),
            "shape": list(clips.shape[1:]),
        },
        "max_abs_difference": worst,
        "precision": onnx.metadata.get("precision", "fp32"),
        "environment": environment(server, threads),
        **extra,
    }
    result["caveats"] = caveats(result)
    out.mkdir(parents=True, exist_ok=True)
    write_plots(result["rows"], out)
    write_markdown(result, out / "bench.md")
    partial = out / ".bench.json.part"
    partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    partial.replace(out / "bench.json")
    return result


def torch_threads(predictor: Predictor, clips: NDArray[np.float32]) -> int:
    """Let PyTorch have the number of threads, one or all cores, with which it is faster here; returns it."""
    if not isinstance(predictor, TorchPredictor):
        return 0
    import torch

    speeds = {}
    for threads in {1, len(os.sched_getaffinity(0))}:
        torch.set_num_threads(threads)
        speeds[threads] = load.in_process(predictor.predict, clips, 1, 1.0).answers
    best = max(speeds, key=lambda n: speeds[n])
    torch.set_num_threads(best)
    return best


async def _closed(
    protocol: str, url: str, model: str, clips: NDArray[np.float32], clients: int, seconds: float, meter: load.Meter
) -> load.Measured:
    async with await open_async(f"{protocol}://{url}/{model}", retries=0) as predictor:
        return await load.closed(predictor, clips, clients, seconds, meter)


async def _open(
    protocol: str, url: str, model: str, clips: NDArray[np.float32], rate: float, seconds: float, meter: load.Meter
) -> load.Measured:
    async with await open_async(f"{protocol}://{url}/{model}", retries=0) as predictor:
        return await load.opened(predictor, clips, rate, seconds, meter)


Place = tuple[str, str, str]
"""Protocol, host:port and model."""


@contextmanager
def _served(
    onnx_path: Path, given: Place | None, settings: dict[str, Any], tuned: dict[str, Any] | None, mechanism: bool
) -> Iterator[tuple[int | None, list[Place]]]:
    """The process id of the server, and what to measure there: a Triton of our own, unless a place is ``given``."""
    if given:
        yield None, [given]
        return
    with tempfile.TemporaryDirectory(prefix="posewatch-bench-") as temp:
        repository = Path(temp) / "models"
        for name, batching in (("plain", False), ("batching", True)):
            write_repository(onnx_path, repository, name=name, dynamic_batching=batching, **settings)
        names = ["plain", "batching"]
        if tuned:
            write_repository(onnx_path, repository, name="tuned", **tuned)
            names.append("tuned")
        if mechanism:
            from posewatch.serving.benchmark.fixed_cost import write_fixed_cost

            for name, batching in (("fixed", False), ("fixed_batching", True)):
                write_fixed_cost(repository, name, cost_s=FIXED_COST_S, batching=batching, max_batch=FIXED_CLIENTS)
        with TritonServer.start(repository, log=Path(temp) / "triton.log") as server:
            yield server.process.pid, [("grpc", server.grpc, name) for name in names]


@contextmanager
def _loaded(url: str, model: str, protocol: str, *, private: bool) -> Iterator[None]:
    """Of a private server's models one is loaded at a time, so that none costs another memory."""
    if private:
        triton_admin.load_model(url, model, protocol)
    yield
    if private:
        triton_admin.unload_model(url, model, protocol)


def _fixed_cost(url: str, seconds: float) -> dict[str, Any]:
    """Batching where one execution costs the same whatever its batch: without and with it, 16 at a time."""
    clips = np.zeros((1, 1, 1, 1, 3), np.float32)
    rows = {}
    for name, system in (("fixed", "triton"), ("fixed_batching", "triton+batching")):
        with _loaded(url, name, "grpc", private=True):
            meter = ServerMeter(url, name, "grpc", None)
            found = asyncio.run(_closed("grpc", url, name, clips, FIXED_CLIENTS, seconds, meter))
            rows[system] = row_of(system, "closed", FIXED_CLIENTS, found, meter)
    gain = rows["triton+batching"].throughput_ips / rows["triton"].throughput_ips
    return {"cost_ms": FIXED_COST_S * 1000, "rows": [asdict(row) for row in rows.values()], "gain": round(gain, 2)}
