"""The benchmark with its own Triton: every system measured, in agreement, and written down."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles import ConstantPredictor
from tiny_models import LABELS, SHAPE, tiny_model

from posewatch.bench.fixed_cost import add_fixed_cost
from posewatch.bench.serving import FULL_SIZE
from posewatch.cli import main as cli
from posewatch.errors import InputError, ServingError
from posewatch.inference import triton_admin
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.serving.benchmark import load
from posewatch.serving.benchmark.benchmark import benchmark
from posewatch.serving.benchmark.benchmark import steps as count_steps
from posewatch.serving.benchmark.report import p95_beside
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer


def test_four_systems_in_one_run(tmp_path: Path, tiny: Path, clips) -> None:
    steps: list[str] = []
    result = benchmark(
        tiny,
        clips,
        tmp_path,
        torch_predictor=OnnxPredictor(tiny),  # any predictor may stand in the first place
        concurrency=(1, 16),
        open_loop=(0.3,),
        seconds=0.6,
        queue_delay_us=5000,
        progress=lambda count, note: steps.append(note),
    )
    assert json.loads((tmp_path / "bench.json").read_text()) == result
    rows = {(r["system"], r["load"], r["concurrency"]): r for r in result["rows"]}
    closed = [key for key in rows if key[1] == "closed"]
    assert closed == [
        ("pytorch", "closed", 1),
        ("onnxruntime", "closed", 1),
        ("onnxruntime", "closed", 2),
        ("triton", "closed", 1),
        ("triton", "closed", 16),
        ("triton+batching", "closed", 1),
        ("triton+batching", "closed", 16),
    ]
    assert [key[0] for key in rows if key[1] == "open"] == ["pytorch", "onnxruntime", "triton", "triton+batching"]
    assert len(steps) == len(rows) == count_steps((1, 16), (0.3,), others=1)
    served, batched = result["p95_beside_runtime"]  # both beside the model in this process, at the same share
    assert [pair["system"] for pair in (served, batched)] == ["triton", "triton+batching"]
    assert {pair["runtime"] for pair in (served, batched)} == {"onnxruntime"}
    assert served["times"] == pytest.approx(served["p95_ms"] / served["runtime_p95_ms"], rel=0.01, abs=0.001)
    for (system, kind, _), row in rows.items():
        assert row["errors"] == 0
        # an open loop does not wait for a server that stood still all the time
        answered = row["throughput_ips"] > 0
        assert answered or kind == "open"
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["cpu_ms_per_inference"] >= 0
        assert (row["offered_ips"] is None) == (row["peak_share"] is None) == (kind == "closed")
        assert (row["workers"] is None) == (kind == "closed" or system.startswith("triton"))
        if kind == "open":
            peak = max(r["throughput_ips"] for (s, k, _), r in rows.items() if (s, k) == (system, "closed"))
            assert row["offered_ips"] == pytest.approx(0.3 * peak, abs=0.02), "of its own peak"
        if system.startswith("triton") and answered:
            assert 0 < row["queue_share"] + row["compute_share"] <= 1.05
            assert row["client_cpu_ms"] > 0
    assert rows["triton", "closed", 16]["mean_batch"] == 1.0
    assert rows["triton+batching", "closed", 16]["mean_batch"] > 2
    assert result["max_abs_difference"] < 1e-5
    assert result["environment"]["versions"]["triton"] == "2.51.0"
    report = (tmp_path / "bench.md").read_text()
    assert report.count("| triton+batching | closed |") == 2
    assert "The load generator spent" in report
    assert "At 30% of its own peak triton has a p95 of " in report
    for name in ("latency.png", "throughput.png", "open.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_model_of_fixed_cost(tmp_path: Path) -> None:
    """16 clients share an execution that costs the same for all: the gain is the batch."""
    (tmp_path / "bench.json").write_text('{"rows": []}')
    (tmp_path / "bench.md").write_text("- a caveat\n")
    add_fixed_cost(tmp_path, 0.6)
    result = json.loads((tmp_path / "bench.json").read_text())
    plain, batched, fast, limited = result["mechanism"]["rows"]
    assert (plain["mean_batch"], result["rows"]) == (1.0, [])
    assert batched["mean_batch"] > 10
    assert result["mechanism"]["gain"] > 1.5
    assert fast["throughput_ips"] > batched["throughput_ips"]
    assert result["mechanism"]["limited"] == pytest.approx(limited["throughput_ips"] / fast["throughput_ips"], abs=0.01)
    report = (tmp_path / "bench.md").read_text().splitlines()
    assert "whatever its batch, 16 at a time" in report[1]
    assert f"{limited['throughput_ips']:.0f} with `serving.max_queue=512`" in report[2]


@pytest.mark.parametrize("requests", [1, 40])
def test_an_open_loop_does_not_wait(requests: int) -> None:
    """A model that never answers gets as many requests as one that does, and all of them count as errors."""

    asked: list[int] = []
    over = threading.Event()

    def silent(keypoints: np.ndarray) -> None:
        asked.append(len(keypoints))
        over.wait(60)

    seconds = 0.4
    found = load.opened(silent, np.zeros((2, 1, 1, 1, 3), np.float32), requests / seconds, seconds)
    over.set()
    assert found.answers == 0
    assert found.latencies_ms == []
    assert len(asked) >= found.errors
    if requests > 1:
        assert requests * 0.4 < found.errors < requests * 1.8


def test_an_open_loop_counts_from_when_a_request_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one request is under way at a time, and the first holds all others up: they leave late."""
    monkeypatch.setattr(load, "MAX_IN_FLIGHT", 1)
    pauses = iter([0.5])
    clips = np.zeros((1, 1, 1, 1, 3), np.float32)
    found = load.opened(lambda _: time.sleep(next(pauses, 0.0)), clips, 100, 0.8)
    assert max(found.latencies_ms) > 200  # though no answer of a counted request took longer than a moment


@pytest.mark.parametrize("workers", [1, 2])
def test_an_open_loop_of_a_model_in_this_process_queues(workers: int) -> None:
    """Never more at a time than it computes, each thread loaded before the time counts; requests beyond it wait."""
    lock, loaded = threading.Lock(), threading.local()
    busy: list[int] = []
    at_once = 0

    def model(keypoints: np.ndarray) -> None:
        nonlocal at_once
        with lock:
            at_once += 1
            busy.append(at_once)
        time.sleep(0.02 if hasattr(loaded, "yes") else 0.5)
        loaded.yes = True
        with lock:
            at_once -= 1

    found = load.opened(model, np.zeros((1, 1, 1, 1, 3), np.float32), 2 * workers / 0.02, 0.6, workers=workers)
    assert max(busy) == workers
    assert found.errors == 0
    assert max(found.latencies_ms) > 200  # twice what it can do: the queue grew for 0.75 s
    assert min(found.latencies_ms) < 400  # no request waited for a model to load


@pytest.mark.parametrize("loop", [lambda *load_: load.closed(*load_), lambda *load_: load.opened(*load_)])
def test_a_model_that_fails_ends_the_load(loop: Any) -> None:
    def broken(keypoints: np.ndarray) -> None:
        raise InputError("broken")

    with pytest.raises(InputError, match="broken"):
        loop(broken, np.zeros((1, 1, 1, 1, 3), np.float32), 20, 0.1)


def test_refusals_are_counted_and_the_load_goes_on() -> None:
    def refusing(keypoints: np.ndarray) -> None:
        raise ServingError("its queue is full")

    clips = np.zeros((1, 1, 1, 1, 3), np.float32)
    for found in (load.closed(refusing, clips, 2, 0.1), load.opened(refusing, clips, 100, 0.2)):
        assert found.errors > 3
        assert (found.answers, found.latencies_ms) == (0, [])


def test_a_slow_model_is_measured_until_it_answers() -> None:
    found = load.closed(lambda _: time.sleep(0.5), np.zeros((1, 1, 1, 1, 3), np.float32), 1, 0.05)
    assert found.answers == 1
    assert found.latencies_ms


def test_a_tuned_server_stands_beside_the_runtime_that_it_has() -> None:
    def rows(*systems: str) -> list[dict[str, Any]]:
        loads = [("closed", None), ("open", 0.5), ("open", 0.8)]
        figures = {name: {"p95_ms": 10.0 * (n + 1)} for n, name in enumerate(systems)}
        return [{"system": s, "load": k, "peak_share": p, **figures[s]} for s in systems for k, p in loads]

    found = p95_beside(rows("onnxruntime", "openvino", "triton", "triton+tuned"))
    assert [(p["system"], p["runtime"], p["peak_share"], p["times"]) for p in found] == [
        ("triton", "onnxruntime", 0.5, 3.0),
        ("triton", "onnxruntime", 0.8, 3.0),
        ("triton+tuned", "openvino", 0.5, 2.0),
        ("triton+tuned", "openvino", 0.8, 2.0),
    ]
    assert {p["runtime"] for p in p95_beside(rows("onnxruntime", "triton+tuned"))} == {"onnxruntime"}
    assert p95_beside(rows("triton+tuned")) == []


def test_the_command(tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["bench", "serving", "--model", str(tiny), "--out", str(tmp_path / "out"), "--seconds", "0.3"]
    told += ["--concurrency", "2", "--open-loop", "", "--no-mechanism", "--instances", "1"]
    assert cli.main(told) == 0
    assert "| triton+batching | closed | 2 |" in capsys.readouterr().out
    result = json.loads((tmp_path / "out/bench.json").read_text())
    assert [r["system"] for r in result["rows"]] == ["onnxruntime", "triton", "triton+batching"]
    assert cli.main(told[:4]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert cli.main([*told, "--perf-analyzer", str(tmp_path / "none")]) == 6
    assert "no perf_analyzer" in capsys.readouterr().err


def test_beside_the_usual_four(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What tuning found and the network in its published order, in one run, of the default model for one person."""
    for key, small in (("width", 0.125), ("clip_frames", 8)):
        monkeypatch.setitem(FULL_SIZE, key, small)
    tuned = tmp_path / "serving.yaml"
    tuned.write_text("extends: default\nserving: {instances: 1, max_batch: 3, queue_delay_us: 500, device: cpu}\n")
    told = [
        "bench",
        "serving",
        "--people",
        "1",
        "--out",
        str(tmp_path / "out"),
        "--concurrency",
        "2",
        "--open-loop",
        "",
        "--no-mechanism",
    ]
    told += ["--seconds", "0.3", "--instances", "1", "--tuned", str(tuned)]
    assert cli.main(told) == 0
    said = capsys.readouterr().out
    assert "times pytorch-published." in said
    assert "% of the rate of onnxruntime in this process" in said
    assert "triton+tuned: max_batch 3, queue_delay_us 500" in said
    rows = json.loads((tmp_path / "out/bench.json").read_text())["rows"]
    systems = ["pytorch", "pytorch-published", "onnxruntime", "triton", "triton+batching", "triton+tuned"]
    assert [row["system"] for row in rows] == systems
    assert all(row["throughput_ips"] > 0 and not row["errors"] for row in rows)
    result = json.loads((tmp_path / "out/bench.json").read_text())
    assert result["settings"]["shape"] == [1, 8, 17, 3]
    assert cli.main([*told[:-1], str(tmp_path / "none.yaml")]) == 2
    assert "posewatch tune serving" in capsys.readouterr().err
    assert cli.main([*told, "--model", str(tiny)]) == 2
    assert "leave out --people" in capsys.readouterr().err
    assert cli.main([*told, "--endpoint", "grpc://127.0.0.1:9/m"]) == 2
    assert "leave out --endpoint" in capsys.readouterr().err


def test_the_file_that_tuning_chose_is_served(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `tune serving` leaves beside its serving.yaml, beside its own runtime; another model is refused."""
    (tmp_path / "serving.yaml").write_text("extends: default\nserving: {instances: 1, max_batch: 3, device: cpu}\n")
    chosen = tmp_path / "models/tuned/1/model.onnx"
    chosen.parent.mkdir(parents=True)
    told = ["bench", "serving", "--model", str(tiny), "--out", str(tmp_path / "out"), "--seconds", "0.2"]
    told += ["--concurrency", "1", "--open-loop", "0.5", "--no-mechanism", "--tuned", str(tmp_path / "serving.yaml")]
    tiny_model(chosen, seed=6)  # the opposite answers tell which of the two was asked
    assert cli.main(told) == 6
    assert "onnxruntime+tuned does not agree with the ONNX file" in capsys.readouterr().err
    with monkeypatch.context() as alone:
        alone.setattr("posewatch.bench.serving.in_process", lambda *_: [])
        assert cli.main(told) == 6
    assert "triton+tuned does not agree with the ONNX file" in capsys.readouterr().err
    chosen.write_bytes(tiny.read_bytes())
    assert cli.main(told) == 0
    result = json.loads((tmp_path / "out/bench.json").read_text())
    assert {"onnxruntime", "onnxruntime+tuned", "triton+tuned"} <= {row["system"] for row in result["rows"]}
    pairs = {pair["system"]: pair["runtime"] for pair in result["p95_beside_runtime"]}
    assert pairs == {"triton": "onnxruntime", "triton+batching": "onnxruntime", "triton+tuned": "onnxruntime+tuned"}
    tiny_model(chosen, labels=["a", "b"])
    assert cli.main(told) == 2
    assert "was tuned for another model than --model" in capsys.readouterr().err


def test_a_given_endpoint(tmp_path: Path, server: TritonServer, tiny: Path, clips) -> None:
    write_repository(tiny, server.repository, name="given")
    triton_admin.load_model(server.grpc, "given")
    result = benchmark(tiny, clips, tmp_path, concurrency=(2,), seconds=0.3, endpoint=f"grpc://{server.grpc}/given")
    assert [r["system"] for r in result["rows"]] == ["onnxruntime", "onnxruntime", "triton+batching"]
    assert result["rows"][-1]["cpu_ms_per_inference"] is None  # the server may be anywhere
    assert "its ratio to them compares devices" in (tmp_path / "bench.md").read_text()
    triton_admin.unload_model(server.grpc, "given")


def test_pytorch_is_measured_on_a_gpu_beside_a_server_that_may_have_one(
    tmp_path: Path, server: TritonServer, tiny: Path, clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    from posewatch.inference.pytorch import TorchPredictor

    class Mean(torch.nn.Module):
        def forward(self, keypoints):
            seen = keypoints.mean((1, 2, 3, 4))[:, None]
            return torch.cat([seen, 1 - seen], 1), seen

    moves: list[str] = []

    def to(self: TorchPredictor, device: str) -> TorchPredictor:
        moves.append(device)  # as if it had moved: there is no GPU here
        return self

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(TorchPredictor, "to", to)
    write_repository(tiny, server.repository, name="beside")
    triton_admin.load_model(server.grpc, "beside")
    predictor = TorchPredictor(Mean(), LABELS, SHAPE, trained=False)
    told: dict[str, Any] = {"torch_predictor": predictor, "others": [("pytorch-published", predictor, 1)]}
    told |= {"concurrency": (1,), "seconds": 0.2}
    found = benchmark(tiny, clips, tmp_path / "gpu", endpoint=f"grpc://{server.grpc}/beside", **told)
    assert (moves, found["environment"]["torch_device"]) == (["cuda", "cuda"], "cuda")
    assert "on this machine's GPU; onnxruntime on its CPU" in (tmp_path / "gpu/bench.md").read_text()
    found = benchmark(tiny, clips, tmp_path / "cpu", **told)  # the private Triton computes on the CPU
    assert (moves[2:], found["environment"]["torch_device"]) == (["cpu", "cpu"], "cpu")
    triton_admin.unload_model(server.grpc, "beside")


def test_systems_that_disagree(tmp_path: Path, tiny: Path, clips) -> None:
    with pytest.raises(ServingError, match="pytorch does not agree with the ONNX file"):
        benchmark(tiny, clips, tmp_path, torch_predictor=ConstantPredictor(LABELS, [0.01, 0.99], SHAPE))
    assert not list(tmp_path.iterdir())


def test_nothing_to_measure_with(tmp_path: Path, tiny: Path, clips) -> None:
    with pytest.raises(InputError, match="no clips"):
        benchmark(tiny, clips[:0], tmp_path)
    with pytest.raises(InputError, match="no number of clients"):
        benchmark(tiny, clips, tmp_path, concurrency=())
    with pytest.raises(InputError, match="bad endpoint"):
        benchmark(tiny, clips, tmp_path, endpoint="127.0.0.1:1")
