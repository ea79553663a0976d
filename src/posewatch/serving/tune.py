"""``posewatch tune serving``: finds the fastest way to serve a model on this machine that keeps its accuracy.

Three rounds, each around the best trial of the round before: file, runtime and precision; instances and threads; batch
size and queue delay. Then the best few are measured again, in turns, so that a moment in which the machine was busy
decides nothing; of those that are as fast as the fastest the one with the smallest batches wins. Every trial is a real
Triton under a closed loop. ``tune.jsonl`` records the trials, and an interrupted run goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.cores import usable
from posewatch.digests import canonical, digest
from posewatch.errors import InputError, PosewatchError, ServingError
from posewatch.export.precision import Judge
from posewatch.inference import triton_admin
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.inference.triton import TritonPredictor
from posewatch.serving.benchmark import load
from posewatch.serving.repository import write_repository
from posewatch.stack.triton import TritonServer

RUNTIMES = {"onnxruntime": ("fp32",), "openvino": ("fp32", "bf16")}
"""The precisions that each runtime can compute an fp32 file in, on a CPU."""
FINALISTS, REPEATS = 3, 2
NOISE = 0.05
"""Rates that differ by this share are alike; of them the smallest batch wins."""


@dataclass(frozen=True)
class Trial:
    """One way to serve: ``file`` is the name of an ONNX file, the rest as in ``ServeOptions``."""

    file: str
    runtime: str
    precision: str
    instances: int
    threads: int = 1
    max_batch: int = 4
    delay_us: int = 0

    def options(self) -> dict[str, Any]:
        """The options of ``write_repository``."""
        accelerator = "openvino" if self.runtime == "openvino" else ""
        return {
            "instances": self.instances,
            "threads": self.threads,
            "max_batch": self.max_batch,
            "queue_delay_us": self.delay_us,
            "device": "cpu",
            "accelerator": accelerator,
            "precision": self.precision if accelerator else "fp32",
        }


@dataclass(frozen=True)
class TuneInput:
    """What all trials share: ``files`` by name, the clips of ``judge``, number of clients, seconds of a trial."""

    files: dict[str, Path]
    judge: Judge
    concurrency: int = 8
    seconds: float = 4.0


def first_round(files: dict[str, Path], runtimes: Iterable[str], cores: int) -> list[Trial]:
    """Every file in every runtime and every precision that the runtime supports."""
    trials = []
    for name, path in files.items():
        own = OnnxPredictor(path).metadata.get("precision", "fp32")
        for runtime in runtimes:
            precisions = RUNTIMES[runtime] if own in ("fp32", "bf16") else ("fp32",)
            trials += [Trial(name, runtime, precision, cores) for precision in precisions]
    return trials


def second_round(best: Trial, cores: int) -> list[Trial]:
    """Instances and threads; at most twice as many threads as cores run at a time."""
    pairs = [(n, t) for n in sorted({1, cores, 2 * cores}) for t in sorted({1, cores}) if n * t <= 2 * cores]
    return [replace(best, instances=n, threads=t) for n, t in pairs]


def third_round(best: Trial) -> list[Trial]:
    """Batches and delays."""
    return [replace(best, max_batch=1), *(replace(best, max_batch=b, delay_us=d) for b in (2, 4, 8) for d in (0, 2000))]


def tune(
    inputs: TuneInput,
    out: Path,
    *,
    runtimes: Sequence[str] = ("onnxruntime",),
    cores: int | None = None,
    baseline: Callable[[], float] | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure, and return the rows of all trials, the winner first.

    A row has the trial's fields, ``throughput_ips``, ``p50_ms``, ``p95_ms``, ``mean_batch``, the cost in accuracy
    (``points_lost``, ``agreement``), and ``refused``: why it cannot win, or "". The finalists are measured in turns,
    ``repeats`` are all their rates; ``baseline`` measures the clips per second of something else in between. Raises
    InputError for an unknown runtime, ServingError if no trial is accurate enough.
    """
    unknown = [name for name in runtimes if name not in RUNTIMES]
    if unknown or not runtimes or not inputs.files:
        raise InputError(f"runtimes are some of {', '.join(RUNTIMES)}, not {unknown or 'none'}")
    cores = cores or usable()
    exact = OnnxPredictor(next(iter(inputs.files.values()))).predict(inputs.judge.keypoints).probabilities
    journal = _Journal(out / "tune.jsonl", inputs)
    done: dict[Trial, dict[str, Any]] = {}
    with _Server(out) as server:

        def row_of(trial: Trial, repeat: int) -> dict[str, Any]:
            row = journal.get(trial, repeat)
            if row is None:
                row = _measure(server, trial, inputs, exact)
                if baseline and repeat:
                    row["baseline_ips"] = round(baseline(), 2)
                # a trial that failed for another reason than its accuracy may succeed the next time
                if "throughput_ips" in row or row.get("points_lost", 0.0) > inputs.judge.limit:
                    journal.add(trial, repeat, row)
            if progress:
                progress(_line(row))
            return row

        def measure(trials: Iterable[Trial]) -> None:
            for trial in trials:
                if trial not in done:
                    done[trial] = row_of(trial, 0)

        measure(first_round(inputs.files, runtimes, cores))
        measure(second_round(_best(done), cores))
        measure(third_round(_best(done)))
        finals = _finalists(done)
        again = {trial: [done[trial]] for trial in finals}
        for repeat in range(1, REPEATS + 1):
            for trial in finals:
                again[trial].append(row_of(trial, repeat))
    for trial, rows in again.items():
        done[trial] = _median(rows)
    return [done[t] for t in _ranked({t: done[t] for t in finals})] + sorted(
        (row for trial, row in done.items() if trial not in finals or row["refused"]),
        key=lambda row: (bool(row["refused"]), -row.get("throughput_ips", 0.0)),
    )


def _accepted(done: dict[Trial, dict[str, Any]]) -> list[Trial]:
    """The trials that may win, the fastest first."""
    accepted = [trial for trial, row in done.items() if not row["refused"]]
    return sorted(accepted, key=lambda trial: -_rate(done[trial]))


def _finalists(done: dict[Trial, dict[str, Any]]) -> list[Trial]:
    """The fastest trials, and the fastest without batches, unless it is far behind: one measurement tells no more."""
    accepted = _accepted(done)
    plain = [trial for trial in accepted if trial.max_batch == 1][:1]
    near = [t for t in plain if _rate(done[t]) >= (1 - 2 * NOISE) * _rate(done[accepted[0]])]
    return list(dict.fromkeys([*accepted[:FINALISTS], *near]))


def _ranked(done: dict[Trial, dict[str, Any]]) -> list[Trial]:
    """The trials that may win: those as fast as the fastest by size of batch and delay, then the others by rate."""
    accepted = _accepted(done)
    alike = [t for t in accepted if _rate(done[t]) >= (1 - NOISE) * _rate(done[accepted[0]])]
    return sorted(alike, key=lambda t: (t.max_batch, t.delay_us)) + accepted[len(alike) :]


def _rate(row: dict[str, Any]) -> float:
    return float(row["throughput_ips"])


def _median(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row with the median rate among several of one trial; ``repeats`` are all rates."""
    answered = sorted((r for r in rows if not r["refused"]), key=lambda r: r["throughput_ips"])
    if len(answered) <= len(rows) // 2:
        return next(r for r in rows if r["refused"])
    row = {**answered[(len(answered) - 1) // 2], "repeats": [r["throughput_ips"] for r in answered]}
    bases = sorted(r["baseline_ips"] for r in rows if "baseline_ips" in r)
    return {**row, "baseline_ips": bases[len(bases) // 2]} if bases else row


def _best(done: dict[Trial, dict[str, Any]]) -> Trial:
    accepted = _accepted(done)
    if not accepted:
        raise ServingError(f"no way to serve is accurate enough: {next(iter(done.values()))['refused']}")
    return accepted[0]


def _line(row: dict[str, Any]) -> str:
    trial = f"{row['file']} {row['runtime']} {row['precision']}, {row['instances']}x{row['threads']}"
    trial += f", batch {row['max_batch']}, {row['delay_us']} us"
    return f"{trial}: {row['refused'] or format(row['throughput_ips'], '.1f') + ' clips/s'}"


class _Journal:
    """The rows measured so far: a line per trial, by a key of the trial and all that its result depends on."""

    def __init__(self, path: Path, inputs: TuneInput) -> None:
        self._path = path
        self._files = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in inputs.files.items()}
        clips = hashlib.sha256(inputs.judge.keypoints.tobytes() + inputs.judge.truth.tobytes()).hexdigest()
        self._fingerprint = [
            clips,
            inputs.judge.limit,
            inputs.concurrency,
            inputs.seconds,
            next(iter(self._files.values())),
        ]
        self._rows: dict[str, dict[str, Any]] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                    self._rows[row.pop("key")] = row
                except (ValueError, KeyError):
                    continue  # an incomplete last line, of a run that was killed

    def _key(self, trial: Trial, repeat: int) -> str:
        return digest([asdict(trial), repeat, self._files[trial.file], *self._fingerprint])[:16]

    def get(self, trial: Trial, repeat: int) -> dict[str, Any] | None:
        return self._rows.get(self._key(trial, repeat))

    def add(self, trial: Trial, repeat: int, row: dict[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(canonical({"key": self._key(trial, repeat), **row}) + "\n")


class _Server:
    """A private Triton, started when it is first needed: a run that finds all trials in its journal needs none."""

    def __init__(self, out: Path) -> None:
        self._folder = out / ".triton"
        self._running: TritonServer | None = None

    def get(self) -> TritonServer:
        if self._running is None:
            self._running = TritonServer.start(self._folder / "models", log=self._folder / "triton.log")
        return self._running

    def drop(self) -> None:
        """Stop it; the next ``get`` starts a new one."""
        if self._running is not None:
            self._running.stop()
        self._running = None

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()
        shutil.rmtree(self._folder, ignore_errors=True)


def _measure(triton: _Server, trial: Trial, inputs: TuneInput, exact: NDArray[np.float32]) -> dict[str, Any]:
    """The row of one trial; if the server dies, the trial is refused and the run goes on."""
    server, name = triton.get(), "trial"
    write_repository(inputs.files[trial.file], server.repository, name=name, model_warmup="powers", **trial.options())
    row: dict[str, Any] = {**asdict(trial), "refused": ""}
    try:
        triton_admin.load_model(server.grpc, name)
        with TritonPredictor(server.grpc, name, timeout_s=120, retries=0) as predictor:
            cost = inputs.judge.cost(exact, predictor.predict(inputs.judge.keypoints).probabilities)
            row |= cost
            inputs.judge.require(cost, f"{trial.runtime} {trial.precision} of {trial.file}")
            before = triton_admin.statistics(server.grpc, name)
            measured = load.closed(predictor.predict, inputs.judge.keypoints, inputs.concurrency, inputs.seconds)
        after = triton_admin.statistics(server.grpc, name)
        triton_admin.unload_model(server.grpc, name)
    except PosewatchError as error:
        triton.drop()
        return {**row, "refused": str(error)}
    if not measured.latencies_ms:
        return {**row, "refused": f"no answer within {inputs.seconds:g} s"}
    p50, p95 = (round(float(p), 2) for p in np.percentile(measured.latencies_ms, (50, 95)))
    counts = {key: after[key] - before[key] for key in ("inferences", "executions")}
    row |= {"throughput_ips": round(measured.answers / measured.wall_s, 2), "p50_ms": p50, "p95_ms": p95}
    return {**row, "mean_batch": round(counts["inferences"] / max(1, counts["executions"]), 2)}


def winner_of(row: dict[str, Any]) -> Trial:
    """The trial of a row."""
    return Trial(**{key: row[key] for key in Trial.__dataclass_fields__})


def lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The rows as a Markdown table."""
    heads = [key.replace("_", " ") for key in Trial.__dataclass_fields__]
    yield f"| {' | '.join([*heads, 'clips/s', 'p50 ms', 'p95 ms', 'mean batch', 'points lost'])} |"
    yield "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for r in rows:
        cells = [str(r[k]) for k in Trial.__dataclass_fields__]
        if "throughput_ips" in r:
            cells += [f"{r[k]:.1f}" for k in ("throughput_ips", "p50_ms", "p95_ms")] + [f"{r['mean_batch']:.2f}"]
            cells.append(f"{r['points_lost']:.2f}")
        else:
            cells += ["", "", "", "", r["refused"].replace("|", "/")]
        yield f"| {' | '.join(cells)} |"
