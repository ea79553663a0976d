"""Measures one exported model in several ways in one run, on the same clips: PyTorch and ONNX Runtime in this process,
Triton without and with dynamic batching, and others on request. ``load`` has the loops, ``report`` the output.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.cores import usable
from posewatch.errors import InputError, ServingError
from posewatch.files import write_atomically
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.inference.open import parse_endpoint
from posewatch.inference.predictor import Predictor
from posewatch.inference.pytorch import TorchPredictor
from posewatch.inference.triton import TritonPredictor
from posewatch.inference.triton_admin import load_model, unload_model
from posewatch.serving.benchmark import load, perf_analyzer
from posewatch.serving.benchmark.report import caveats, environment, p95_beside, write_markdown, write_plots
from posewatch.serving.benchmark.rows import Row, ServerMeter, row_of
from posewatch.serving.repository import write_repository
from posewatch.stack.triton import TritonServer

TOLERANCE, ROUNDED = 1e-3, 0.05
"""How far a probability may be from the ONNX file's, computed in fp32 and in a smaller precision."""
InProcess = tuple[str, Predictor, int]
"""A model in this process: name of the system, predictor, and how many clips at a time."""


def steps(concurrency: Sequence[int], open_loop: Sequence[float], others: int, systems: int = 2) -> int:
    """How many loads ``benchmark`` measures at most, with ``others`` in this process besides ONNX Runtime."""
    return others + 2 + (others + 1) * len(open_loop) + systems * (len(concurrency) + len(open_loop))


def benchmark(
    onnx_path: Path,
    clips: NDArray[np.float32],
    out: Path,
    *,
    torch_predictor: Predictor | None = None,
    others: Sequence[InProcess] = (),
    tuned: dict[str, Any] | None = None,
    tuned_path: Path | None = None,
    concurrency: Sequence[int] = (1, 8, 32),
    open_loop: Sequence[float] = (),
    seconds: float = 4.0,
    max_batch: int = 16,
    queue_delay_us: int = 2000,
    instances: int = 2,
    endpoint: str | None = None,
    perf_analyzer_path: Path | None = None,
    progress: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Measure and write ``bench.json``, ``bench.md``, ``latency.png``, ``throughput.png`` (``open.png``) to ``out``.

    ``clips`` (N, M, T, V, 3) are sent one at a time; each load lasts ``seconds`` after a warm-up that is not counted.
    ``open_loop`` are rates as shares of the peak of the same system in a closed loop. ``others`` are more models in
    this process; ``tuned`` are options of ``write_repository`` that are measured as well, as ``triton+tuned``, with the
    file ``tuned_path`` (default: the same; another is the model in another precision). A private Triton is started,
    unless ``endpoint`` (grpc:// or http://host:port/model) names a served model to measure instead.
    ``perf_analyzer_path`` is Triton's own load generator, for a cross-check. ``progress`` is called once per load with
    1 and a remark. Returns the content of bench.json. Raises ServingError if the systems do not agree on the clips.
    """
    if not len(clips):
        raise InputError("no clips to measure with")
    if not concurrency:
        raise InputError("no number of clients to measure with: give some, as in --concurrency 1,8,32")
    if endpoint:
        parse_endpoint(endpoint)
    onnx = OnnxPredictor(onnx_path)
    run = _Run(onnx, clips, seconds, progress)
    tuned_path = tuned_path or onnx_path
    precisions = {(tuned or {}).get("precision", "fp32"), OnnxPredictor(tuned_path).metadata.get("precision", "fp32")}
    rounded = precisions != {"fp32"}
    threads = 0
    device = torch_device(endpoint)
    for predictor in (torch_predictor, *(predictor for _, predictor, _ in others)):
        if isinstance(predictor, TorchPredictor):
            predictor.to(device)
    if torch_predictor is not None:
        run.check("pytorch", torch_predictor, exact=device == "cpu")  # a GPU may multiply with fewer digits
        threads = torch_threads(torch_predictor, clips) if device == "cpu" else 0
        run.in_process("pytorch", torch_predictor, [1], open_loop)
    for system, predictor, workers in others:
        run.check(system, predictor, exact=not rounded and getattr(predictor, "device", "cpu") == "cpu")
        run.in_process(system, predictor, [workers], open_loop)
    run.in_process("onnxruntime", onnx, sorted({1, instances}), open_loop)
    settings: dict[str, Any] = {"max_batch": max_batch, "queue_delay_us": queue_delay_us, "instances": instances}
    server = ""
    extra: dict[str, Any] = {}
    with _served(onnx_path, endpoint, settings, (tuned_path, tuned) if tuned else None) as (process, endpoints):
        for address in endpoints:
            with _loaded(address, private=endpoint is None):
                protocol, url, model = parse_endpoint(address)
                with TritonPredictor(url, model, protocol, retries=0) as predictor:
                    system = "triton+batching" if predictor.batching else "triton"
                    if model == "tuned" and endpoint is None:
                        system = "triton+tuned"
                    run.check(system, predictor, exact=system != "triton+tuned" or not rounded)
                    server = predictor.server_version
                    run.served(system, predictor, ServerMeter(address, process), concurrency, open_loop)
                if perf_analyzer_path and protocol == "grpc":
                    figures = perf_analyzer.run(perf_analyzer_path, url, model, max(concurrency), seconds)
                    extra.setdefault("perf_analyzer", []).append({"system": system, **figures})
    result: dict[str, Any] = {
        "rows": [asdict(row) for row in run.rows],
        "p95_beside_runtime": p95_beside([asdict(row) for row in run.rows]),
        "settings": {
            **settings,
            "tuned": tuned,
            "seconds": seconds,
            "clips": len(clips),
            "shape": list(clips.shape[1:]),
        },
        "max_abs_difference": run.max_difference,
        "precision": onnx.metadata.get("precision", "fp32"),
        "environment": environment(server, threads, device),
        **extra,
    }
    result["caveats"] = caveats(result)
    write_plots(result["rows"], out)
    write_markdown(result, out / "bench.md")
    write_atomically(out / "bench.json", json.dumps(result, indent=1) + "\n")
    return result


@dataclass
class _Run:
    """The loads of one benchmark, and their rows so far."""

    onnx: OnnxPredictor
    clips: NDArray[np.float32]
    seconds: float
    progress: Callable[..., Any] | None
    rows: list[Row] = field(default_factory=list)
    max_difference: float = 0.0

    def check(self, system: str, predictor: Predictor, exact: bool = True) -> None:
        """Raises ServingError if the predictor does not agree with the ONNX file; not ``exact``: roughly."""
        if isinstance(predictor, TorchPredictor) and not predictor.trained:
            return
        sample = self.clips[:8]
        expected = self.onnx.predict(sample).probabilities
        difference = float(np.abs(predictor.predict(sample).probabilities - expected).max())
        if difference > (TOLERANCE if exact else ROUNDED):
            raise ServingError(f"{system} does not agree with the ONNX file: a probability differs by {difference:.4f}")
        if exact:
            self.max_difference = max(self.max_difference, difference)

    def in_process(self, system: str, predictor: Predictor, workers: Sequence[int], rates: Sequence[float]) -> None:
        """``workers`` are numbers of clips at a time; the open loops have the number that is fastest."""
        for at_a_time in workers:
            measured = load.closed(predictor.predict, self.clips, at_a_time, self.seconds)
            self._add(row_of(system, "closed", at_a_time, measured, own=True), f"{system}, {at_a_time} at a time")
        self._opened(system, predictor, rates)

    def served(
        self, system: str, predictor: Predictor, meter: ServerMeter, concurrency: Sequence[int], rates: Sequence[float]
    ) -> None:
        """``concurrency`` are numbers of clients."""
        for clients in concurrency:
            measured = load.closed(predictor.predict, self.clips, clients, self.seconds, meter)
            self._add(row_of(system, "closed", clients, measured, meter), f"{system}, {clients} at a time")
        self._opened(system, predictor, rates, meter)

    def _opened(
        self, system: str, predictor: Predictor, rates: Sequence[float], meter: ServerMeter | None = None
    ) -> None:
        """``rates`` are shares of the peak in the closed loops; without ``meter`` the model is in this process."""
        best = max((row for row in self.rows if row.system == system), key=lambda row: row.throughput_ips)
        workers = None if meter else best.concurrency
        for share in rates:
            rate, row = share * best.throughput_ips, None
            measured = load.opened(predictor.predict, self.clips, rate, self.seconds, meter, workers=workers)
            if measured.latencies_ms:
                row = row_of(
                    system, "open", workers or 0, measured, meter, own=meter is None, offered=rate, share=share
                )
            self._add(row, f"{system}, {rate:.0f} a second")

    def _add(self, row: Row | None, note: str) -> None:
        if row:
            self.rows.append(row)
        if self.progress:
            self.progress(1, f"{note}: {row.throughput_ips:.0f} clips/s" if row else f"{note}: no answer")


def torch_device(endpoint: str | None) -> str:
    """Where PyTorch is measured: on this machine's GPU beside a server that is given, since that may have one; on the
    CPU beside the private Triton, which computes there."""
    if not endpoint:
        return "cpu"
    try:
        import torch
    except ImportError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def torch_threads(predictor: Predictor, clips: NDArray[np.float32]) -> int:
    """Set PyTorch to one thread or to all cores, whichever is faster here; returns the number (0: not PyTorch)."""
    if not isinstance(predictor, TorchPredictor):
        return 0
    import torch

    speeds = {}
    for threads in {1, usable()}:
        torch.set_num_threads(threads)
        speeds[threads] = load.closed(predictor.predict, clips, 1, 1.0).answers
    best = max(speeds, key=lambda n: speeds[n])
    torch.set_num_threads(best)
    return best


@contextmanager
def _served(
    onnx_path: Path, endpoint: str | None, settings: dict[str, Any], tuned: tuple[Path, dict[str, Any]] | None
) -> Iterator[tuple[int | None, list[str]]]:
    """The process id of the server, and the endpoints to measure: those of a private Triton, unless one is given."""
    if endpoint:
        yield None, [endpoint]
        return
    with tempfile.TemporaryDirectory(prefix="posewatch-bench-") as temp:
        repository = Path(temp) / "models"
        write_repository(onnx_path, repository, name="plain", dynamic_batching=False, **settings)
        write_repository(onnx_path, repository, name="batching", **settings)
        if tuned:
            write_repository(tuned[0], repository, name="tuned", **tuned[1])
        names = ["plain", "batching", *(["tuned"] if tuned else [])]
        with TritonServer.start(repository, log=Path(temp) / "triton.log") as server:
            yield server.process.pid, [f"grpc://{server.grpc}/{name}" for name in names]


@contextmanager
def _loaded(endpoint: str, *, private: bool) -> Iterator[None]:
    """Load one model of a private server at a time, so that the others take no memory."""
    protocol, url, model = parse_endpoint(endpoint)
    if private:
        load_model(url, model, protocol)
    yield
    if private:
        unload_model(url, model, protocol)
