"""Workers side by side share the processors: PyTorch takes in each no more threads than its part."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from posewatch import cores
from posewatch.artifact import Artifact, Job
from posewatch.perception.workers import WorkerPool
from posewatch.stages import per_video
from posewatch.stages.contents import VideoArtifact
from posewatch.store import open_store


def threads_of(state: None, item: int) -> tuple[str, int]:
    """What the worker was told, and what PyTorch makes of it (never more than MKL finds cores for)."""
    import torch

    return os.environ.get("OMP_NUM_THREADS", "-"), torch.get_num_threads()


def nothing() -> None:
    """What a worker without a network has."""


def write_threads(job: Job, config: None, folder: Path, workers: int) -> None:
    with WorkerPool(nothing, workers) as pool:
        (folder / "threads.txt").write_text(" ".join(str(n) for _, n in pool.map(threads_of, range(workers))))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One with four processors, of which we may use all, and nobody gave a number of threads."""
    monkeypatch.setattr(cores, "usable", lambda: 4)
    monkeypatch.setattr(cores, "_ours", None)
    monkeypatch.setenv("OMP_NUM_THREADS", "")  # restored in the end, also where it was not there
    monkeypatch.delenv("OMP_NUM_THREADS")
    return monkeypatch


def test_the_workers_of_one_video_divide_the_processors(machine: pytest.MonkeyPatch) -> None:
    with WorkerPool(nothing, 4) as pool:
        assert list(pool.map(threads_of, range(4))) == [("1", 1)] * 4
    with WorkerPool(nothing, 2) as pool:
        assert [told for told, _ in pool.map(threads_of, range(2))] == ["2"] * 2


@pytest.mark.parametrize(("videos", "each"), [(4, 1), (2, 2)])
def test_workers_of_several_videos_divide_them_too(
    machine: pytest.MonkeyPatch, tmp_path: Path, videos: int, each: int
) -> None:
    """Also where the worker of a video has workers of its own."""
    machine.setenv("POSEWATCH_WORKERS", "4")
    store = open_store(str(tmp_path))
    names = [f"v{i}" for i in range(videos)]
    jobs = [Job("mask", name, {}) for name in names]
    raw = [VideoArtifact(name, (name,), Artifact(store, f"raw/{name}", "", {})) for name in names]
    per_video.run(store, "mask", raw, jobs, None, write_threads, share=True)
    found = [(tmp_path / job.prefix / "threads.txt").read_text() for job in jobs]
    assert found == [" ".join(["1"] * each)] * videos


def test_a_containers_limit_is_divided_as_well(machine: pytest.MonkeyPatch) -> None:
    """It is in OMP_NUM_THREADS already, which workers inherit; but nobody gave it for each of them."""
    machine.setattr(os, "sched_getaffinity", lambda pid: set(range(1000)))
    cores.limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "4"
    with WorkerPool(nothing, 4) as pool:
        assert next(pool.map(threads_of, [0])) == ("1", 1)


def test_the_number_that_the_user_gave_stays(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("OMP_NUM_THREADS", "3")
    cores.limit_threads()
    with WorkerPool(nothing, 2) as pool:
        assert [told for told, _ in pool.map(threads_of, range(2))] == ["3", "3"]
