"""The GPU benchmark: its dry run on a CPU, its batching, and batches that are made on the device."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from posewatch.bench.gpu import server, serving  # noqa: E402
from posewatch.bench.gpu.acts import made_up  # noqa: E402
from posewatch.bench.gpu.card import Card, _covered  # noqa: E402
from posewatch.bench.gpu.forms import arranged, eager, recogniser  # noqa: E402
from posewatch.bench.gpu.report import redraw  # noqa: E402
from posewatch.bench.gpu.run import bench_gpu  # noqa: E402
from posewatch.bench.gpu.scale import DRY  # noqa: E402
from posewatch.bench.gpu.server import Batcher  # noqa: E402
from posewatch.config import TrainConfig  # noqa: E402
from posewatch.errors import InputError, ServingError  # noqa: E402
from posewatch.export.onnx import synthetic_clips  # noqa: E402
from posewatch.recognition.training.batches import DeviceBatches, HostBatches  # noqa: E402


def test_a_dry_run_calls_everything(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("ultralytics")
    text = bench_gpu(tmp_path, dry=True)
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert result["failed"] == []
    left_out = [line for part in ("serving", "served", "training", "perception") for line in result[part]["left_out"]]
    assert [line.partition(":")[0] for line in left_out] == ["RTMO"]
    forms = {row["form"] for row in result["serving"]["rows"]}
    assert forms == {"PyTorch, published order", "ours, eager", "ONNX Runtime, CPU"}
    assert {row["loop"] for row in result["served"]["rows"]} == {
        "closed",
        "open, 50% of the peak",
        "open, 80% of the peak",
    }
    assert all(row["errors"] == 0 for row in result["served"]["rows"])
    assert max(row["mean_batch"] for row in result["served"]["rows"] if row.get("mean_batch")) > 1
    assert [row["precision"] for row in result["training"]["epochs"]["accuracy"]] == ["fp32", "bf16"]
    assert {row["part"] for row in result["perception"]["rows"]} == {"detection", "masks"}
    assert "says anything about a GPU" in text
    assert (tmp_path / "throughput.png").stat().st_size > 5000
    assert (tmp_path / "served.png").stat().st_size > 5000
    assert redraw(tmp_path / "gpu.json", tmp_path / "again") == text
    assert (tmp_path / "again" / "served.png").read_bytes() == (tmp_path / "served.png").read_bytes()


def test_another_file_is_not_drawn(tmp_path: Path) -> None:
    (tmp_path / "gpu.json").write_text('{"rows": []}')
    with pytest.raises(InputError, match=r"gpu\.json is not the gpu\.json of"):
        redraw(tmp_path / "gpu.json", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_a_gpu_it_says_how_to_try_it(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(InputError, match="--dry-run"):
        bench_gpu(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_requests_that_wait_are_answered_together_each_with_its_own() -> None:
    sizes: list[int] = []
    hold = threading.Event()

    def run(clips: np.ndarray) -> np.ndarray:
        hold.wait(5)
        sizes.append(len(clips))
        return clips.sum((1, 2, 3, 4), keepdims=True)[:, 0, 0, 0]

    batcher = Batcher(run, max_batch=4, delay_s=0.0)
    asked = [np.full((1 + i % 2, 1, 1, 1, 1), i, np.float32) for i in range(7)]
    answers = [batcher.submit(clips) for clips in asked]
    hold.set()
    for i, answer in enumerate(answers):
        assert answer.result(5).tolist() == [[i]] * (1 + i % 2)
    batcher.close()
    assert sum(sizes) == 10 == batcher.clips
    assert batcher.executions == len(sizes) < 7
    assert max(sizes) <= 5  # up to four, and the rest of a request of two


def test_a_request_that_cannot_be_answered_gets_the_error_and_the_next_one_its_answer() -> None:
    def run(clips: np.ndarray) -> np.ndarray:
        if clips.shape[2] != 3:
            raise ValueError("three frames, please")
        return clips[:, 0, 0, 0]

    batcher = Batcher(run, max_batch=1, delay_s=0.0)
    with pytest.raises(ValueError, match="three frames"):
        batcher.submit(np.zeros((1, 1, 2, 1, 3), np.float32)).result(5)
    assert batcher.submit(np.ones((1, 1, 3, 1, 3), np.float32)).result(5).shape == (1, 3)
    batcher.close()


def test_batches_that_do_not_fit_are_answered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []

    def small(size: int) -> Any:
        if size > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        built.append(size)
        return size

    card, scale = Card("cpu"), replace(DRY, max_batch=8)
    assert list(server.prepared([1, 4, 16], small, card)) == built == [4, 1]
    with pytest.raises(ServingError, match="not even one clip can be answered: CUDA out of memory"):
        server.prepared([16, 8], small, card)

    clips = synthetic_clips(11, (2, 16, 17, 3))
    whole = server.runner(card, scale, "coco17", 2, "fp32")(clips)
    every = server.prepared
    monkeypatch.setattr(server, "prepared", lambda sizes, build, card: every([s for s in sizes if s < 5], build, card))
    parts = server.runner(card, scale, "coco17", 2, "fp32")(clips)
    assert parts.shape == (11, 2)
    assert np.allclose(parts, whole, atol=1e-6)


def test_what_one_batch_or_one_form_cannot_do_leaves_the_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(example: torch.Tensor) -> Any:
        if len(example) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return lambda x: x

    def some(*_: Any) -> Iterator[tuple[str, str, Any]]:
        yield "hungry", "fp32", hungry
        # ONNX Runtime computes on the CPU where it cannot load a provider, and only logs it
        yield "elsewhere", "fp32", serving._onnx(recogniser("coco17", 1, 16, 0.085), "CUDAExecutionProvider", {})
        yield "content", "fp32", lambda _: lambda x: x

    monkeypatch.setattr(serving, "forms", some)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ONNX Runtime's, where it knows no such provider
        found = serving.measure(Card("cpu", 32), replace(DRY, people=(1,)), lambda: 1.0)
    assert [(row["form"], row["batch"]) for row in found["rows"]] == [("hungry", 1), ("content", 1), ("content", 4)]
    assert found["left_out"] == [
        "coco17, 1 persons, hungry, fp32, from batch 4 on: CUDA out of memory",
        "coco17, 1 persons, elsewhere, fp32, from batch 1 on: ONNX Runtime could not load its CUDAExecutionProvider",
    ]


@pytest.mark.parametrize("features", ["body", "raw"])
def test_batches_made_on_the_device_equal_those_of_the_host(features: str) -> None:
    clips = made_up(12, 30)
    config = TrainConfig(features=features, clip_frames=20, people=1)  # fewer than some clips have
    picked = np.array([11, 0, 3, 3, 7])
    seeds = [[5, 2, place] for place in range(len(picked))]
    cpu = torch.device("cpu")
    here, there = (kind(clips, config, cpu).batch(picked, seeds) for kind in (HostBatches, DeviceBatches))
    assert torch.equal(here, there)
    assert here.shape == (5, 1, 20, 17, 3)
    assert not torch.equal(here[2], here[3])  # the same clip, sampled from other seeds


def test_half_precision_answers_alike() -> None:
    source = recogniser("coco17", 2, 16, 0.085)
    clips = torch.from_numpy(synthetic_clips(4, (2, 16, 17, 3)))
    exact, half = (eager(arranged(source, torch.device("cpu"), p))(clips)[0] for p in ("fp32", "bf16"))
    assert half.dtype == torch.float32
    assert torch.allclose(exact, half, atol=0.02)
    assert not torch.equal(exact, half)


def test_busy_time_is_the_union_of_what_runs() -> None:
    assert _covered([(0, 2), (1, 3), (1, 2), (5, 6)]) == 4
    assert Card("cpu", 32).busy(lambda: None) is None
