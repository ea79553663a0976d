"""The benchmark with its own Triton: every system measured, in agreement, and written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posewatch.errors import InputError, ServingError
from posewatch.serving import client
from posewatch.serving.benchmark import benchmark
from posewatch.serving.client import ConstantPredictor, OnnxPredictor
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer

from .conftest import LABELS


def test_four_systems_in_one_run(tmp_path: Path, tiny: Path, clips) -> None:
    steps: list[str] = []
    result = benchmark(
        tiny,
        clips,
        tmp_path,
        torch_predictor=OnnxPredictor(tiny),  # any predictor may stand in the first place
        concurrency=(1, 16),
        seconds=0.6,
        queue_delay_us=5000,
        progress=lambda count, note: steps.append(note),
    )
    assert json.loads((tmp_path / "bench.json").read_text()) == result
    rows = {(r["system"], r["concurrency"]): r for r in result["rows"]}
    assert list(rows) == [
        ("pytorch", 1),
        ("onnxruntime", 1),
        ("triton", 1),
        ("triton", 16),
        ("triton+batching", 1),
        ("triton+batching", 16),
    ]
    assert len(steps) == 6
    for row in rows.values():
        assert row["load"] == "closed"
        assert row["errors"] == 0
        assert row["throughput_ips"] > 0
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert rows["triton", 16]["mean_batch"] == 1.0
    assert rows["triton+batching", 16]["mean_batch"] > 2
    assert result["max_abs_difference"] < 1e-5
    assert result["environment"]["versions"]["triton"] == "2.51.0"
    assert (tmp_path / "bench.md").read_text().count("| triton+batching |") == 2
    for name in ("latency.png", "throughput.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_given_endpoint(tmp_path: Path, server: TritonServer, tiny: Path, clips) -> None:
    write_repository(tiny, server.repository, name="given")
    client.load_model(server.grpc, "given")
    result = benchmark(tiny, clips, tmp_path, concurrency=(2,), seconds=0.3, endpoint=f"grpc://{server.grpc}/given")
    assert [r["system"] for r in result["rows"]] == ["onnxruntime", "triton+batching"]
    client.unload_model(server.grpc, "given")


def test_systems_that_disagree(tmp_path: Path, tiny: Path, clips) -> None:
    with pytest.raises(ServingError, match="pytorch does not agree with the ONNX file"):
        benchmark(tiny, clips, tmp_path, torch_predictor=ConstantPredictor(LABELS, [0.01, 0.99]))
    assert not list(tmp_path.iterdir())


def test_nothing_to_measure_with(tmp_path: Path, tiny: Path, clips) -> None:
    with pytest.raises(InputError, match="no clips"):
        benchmark(tiny, clips[:0], tmp_path)
    with pytest.raises(InputError, match="seconds"):
        benchmark(tiny, clips, tmp_path, seconds=0)
    with pytest.raises(InputError, match="bad endpoint"):
        benchmark(tiny, clips, tmp_path, endpoint="127.0.0.1:1")
