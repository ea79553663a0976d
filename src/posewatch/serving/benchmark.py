"""Measures one exported model four ways in one run, on the same clips: PyTorch, ONNX Runtime, Triton without and with
dynamic batching. Closed loop: each of ``concurrency`` clients sends its next clip when it has the answer to the last.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError, PosewatchError, ServingError
from posewatch.serving import client
from posewatch.serving.bench_report import environment, write_markdown, write_plots
from posewatch.serving.client import OnnxPredictor, Predictor, TritonPredictor
from posewatch.serving.repository import write_repository
from posewatch.stack.triton import TritonServer

TOLERANCE = 1e-3
CAVEATS = (
    "Clients and servers share this machine's cores.",
    "Dynamic batching pays where one execution leaves the processor idle, as on a GPU; on a CPU a model that fills"
    " its cores alone gains nothing from it.",
    "Closed loop: latency at a high concurrency is mostly time in the queue. Short windows: read +-15 %.",
)


@dataclass(frozen=True)
class Row:
    """One load: ``throughput_ips`` clips per second, latencies in milliseconds, ``mean_batch`` clips per execution."""

    system: str
    load: str
    concurrency: int
    throughput_ips: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_batch: float
    errors: int


def benchmark(
    onnx_path: Path,
    clips: NDArray[np.float32],
    out: Path,
    *,
    torch_predictor: Predictor | None = None,
    concurrency: Sequence[int] = (1, 8, 32),
    seconds: float = 4.0,
    max_batch: int = 16,
    queue_delay_us: int = 2000,
    instances: int = 2,
    endpoint: str | None = None,
    progress: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Measure and write ``bench.json``, ``bench.md``, ``latency.png`` and ``throughput.png`` to ``out``.

    ``clips`` (N, M, T, V, 3) are sent one at a time; each load lasts ``seconds`` after a warm-up that is not counted.
    A private Triton is started, unless ``endpoint`` (grpc://host:port/model) names a served model to measure instead.
    ``progress`` is called once per load with 1 and a remark. Returns what bench.json holds. Raises ServingError when
    the systems do not agree on the clips.
    """
    if not len(clips):
        raise InputError("no clips to measure with")
    if seconds <= 0 or not concurrency or min(concurrency) < 1:
        raise InputError("seconds must be above 0, and every concurrency at least 1")
    given = _parse(endpoint) if endpoint else None
    onnx = OnnxPredictor(onnx_path)
    sample = clips[:8]
    wanted = onnx.predict(sample).probabilities
    rows: list[Row] = []

    def measure(system: str, predictor: Predictor, clients: int, counts: Callable[[], dict[str, int]] | None) -> None:
        row = _load(system, predictor, clips, clients, seconds, counts)
        rows.append(row)
        if progress:
            progress(1, f"{system}, {clients} at a time: {row.throughput_ips:.0f} clips/s")

    worst = 0.0

    def agree(system: str, predictor: Predictor) -> None:
        nonlocal worst
        difference = float(np.abs(predictor.predict(sample).probabilities - wanted).max())
        if difference > TOLERANCE:
            raise ServingError(f"{system} does not agree with the ONNX file: a probability differs by {difference:.4f}")
        worst = max(worst, difference)

    if torch_predictor is not None:
        agree("pytorch", torch_predictor)
        measure("pytorch", torch_predictor, 1, None)
    measure("onnxruntime", onnx, 1, None)
    settings = {"max_batch": max_batch, "queue_delay_us": queue_delay_us, "instances": instances}
    served = iter([given]) if given else _private(onnx_path, **settings)
    server = ""
    for url, model in served:
        with TritonPredictor(url, model, retries=0) as predictor:
            system = "triton+batching" if predictor.batching else "triton"
            agree(system, predictor)
            server = predictor.server_version
            for clients in concurrency:
                measure(system, predictor, clients, lambda u=url, m=model: client.statistics(u, m))  # type: ignore[misc]
    result: dict[str, Any] = {
        "rows": [asdict(row) for row in rows],
        "settings": {**settings, "seconds": seconds, "clips": len(clips), "shape": list(clips.shape[1:])},
        "max_abs_difference": worst,
        "environment": environment(server),
        "caveats": list(CAVEATS),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_plots(result["rows"], out)
    write_markdown(result, out / "bench.md")
    (out / "bench.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _parse(endpoint: str) -> tuple[str, str]:
    url, _, model = endpoint.removeprefix("grpc://").partition("/")
    if not endpoint.startswith("grpc://") or not model:
        raise InputError(f"bad endpoint {endpoint!r}: write grpc://host:port/model")
    return url, model


def _private(onnx_path: Path, *, max_batch: int, queue_delay_us: int, instances: int) -> Iterator[tuple[str, str]]:
    """A Triton of our own; its two models are loaded one after the other, so that neither costs the other memory."""
    with tempfile.TemporaryDirectory(prefix="posewatch-bench-") as temp:
        repository = Path(temp) / "models"
        for name, batching in (("plain", False), ("batching", True)):
            write_repository(
                onnx_path,
                repository,
                name=name,
                max_batch=max_batch,
                queue_delay_us=queue_delay_us,
                instances=instances,
                dynamic_batching=batching,
            )
        with TritonServer.start(repository, log=Path(temp) / "triton.log") as server:
            for name in ("plain", "batching"):
                client.load_model(server.grpc, name)
                yield server.grpc, name
                client.unload_model(server.grpc, name)


def _load(
    system: str,
    predictor: Predictor,
    clips: NDArray[np.float32],
    clients: int,
    seconds: float,
    counts: Callable[[], dict[str, int]] | None,
) -> Row:
    """One closed-loop load. An answer counts when it comes within the measured window, whenever it was asked for."""
    start, end = threading.Event(), threading.Event()
    latencies: list[list[float]] = [[] for _ in range(clients)]
    errors = [0] * clients
    crashes: list[BaseException] = []

    def work(number: int) -> None:
        at = number
        while not end.is_set():
            clip = clips[at % len(clips)][None]
            at += clients
            began = time.perf_counter()
            try:
                predictor.predict(clip)
            except PosewatchError:
                errors[number] += start.is_set() and not end.is_set()
                time.sleep(0.005)  # a refusal is quick: do not spin on it
            except BaseException as error:
                crashes.append(error)
                return
            else:
                if start.is_set() and not end.is_set():
                    latencies[number].append((time.perf_counter() - began) * 1000)

    with _threads(work, clients, end):
        time.sleep(min(1.0, max(0.2, seconds / 4)))
        before = counts() if counts else None
        began = time.perf_counter()
        start.set()
        time.sleep(seconds)
        wall = time.perf_counter() - began
        end.set()
        after = counts() if counts else None
    if crashes:
        raise crashes[0]
    times = np.array([t for one in latencies for t in one])
    if not len(times):
        raise ServingError(f"{system} gave no answer within {seconds} s ({sum(errors)} refusals): measure for longer")
    batch = 1.0
    if before and after:
        executions = after["executions"] - before["executions"]
        batch = (after["inferences"] - before["inferences"]) / max(1, executions)
    p50, p95, p99 = (round(float(p), 3) for p in np.percentile(times, (50, 95, 99)))
    return Row(system, "closed", clients, round(len(times) / wall, 2), p50, p95, p99, round(batch, 2), sum(errors))


@contextmanager
def _threads(work: Callable[[int], None], count: int, end: threading.Event) -> Iterator[None]:
    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()
