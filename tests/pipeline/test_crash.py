"""kill -9 in the middle, a store that dies: run again, and everything is as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, run, said

from posewatch import stack
from posewatch.store import FolderStore, ObjectStore

FAST = ["--set", "mask.segmenter=bbox", "--set", "split.length_s=1.5"]


@pytest.fixture(scope="module")
def three_videos(two_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three different videos, the last longer to process than the first."""
    from posewatch.video import Writer, read

    folder = tmp_path_factory.mktemp("three")
    sources = sorted(two_videos.glob("*.mp4"))
    images = [[f.image for f in read(path)][:30] for path in sources]
    parts = dict(zip((path.name for path in sources), images, strict=True))
    for name, part in {**parts, "z_long.mp4": [*images[0], *images[1], *images[0][::-1]]}.items():
        with Writer(folder / name, 10, (320, 240)) as out:
            for image in part:
                out.write(image)
    return folder


def start(arguments: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "posewatch.cli.main", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(store: ObjectStore, prefix: str, name: str, process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if any(o.key.endswith(name) for o in store.list(prefix)):
            return
        assert process.poll() is None, f"ended before {prefix}: {process.communicate()}"
        time.sleep(0.05)
    raise AssertionError(f"no {prefix}…{name} after {seconds} s")


def everything(store: ObjectStore) -> dict[str, bytes]:
    return {o.key: store.get(o.key) for o in store.list()}


@pytest.fixture(scope="module")
def undisturbed(three_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run("prepare", str(three_videos), "--store", str(folder / "s"), *FAST, env=environment(folder))
    assert done.returncode == 0, done.stderr
    return everything(FolderStore(folder / "s"))


def environment(folder: Path, workers: int = 1) -> dict[str, str]:
    return {
        "POSEWATCH_HOME": str(folder),
        "POSEWATCH_LABELS_URL": f"sqlite:///{folder}/labels.db",
        "POSEWATCH_WORKERS": str(workers),
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_in_the_middle_of_prepare(
    workers: int, three_videos: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "s")
    arguments = ["prepare", str(three_videos), "--store", str(tmp_path / "s"), *FAST]
    process = start(arguments, environment(tmp_path, workers))
    wait_for(store, "masked/", "manifest.jsonl", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(0.5)
    finished = {o.key for o in store.list("masked/") if o.key.endswith("manifest.jsonl")}
    assert 0 < len(finished) < 3, "the kill must fall between the first and the last video"
    stamps = {key: (store.root / key).stat().st_mtime_ns for key in finished}
    done = run(*arguments, env=environment(tmp_path, workers))
    assert done.returncode == 0, done.stderr
    assert {key: (store.root / key).stat().st_mtime_ns for key in finished} == stamps, "finished videos were done again"
    now = everything(store)
    assert now.keys() == undisturbed.keys()
    assert [key for key in now if now[key] != undisturbed[key]] == []


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Any]:
    with stack.running(tmp_path / "home") as info:
        yield info


def s3_pid(info: Any) -> int:
    status = next(s for s in stack.status(info.home).servers if s.name == "s3")
    assert status.pid is not None
    return status.pid


def test_the_s3_server_dies_and_comes_back(
    own_stack: Any, three_videos: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from posewatch.store import open_store

    for key, value in stack.env(own_stack).items():
        monkeypatch.setenv(key, value)
    store = open_store("s3://posewatch/back")
    env = {**stack.env(own_stack), **environment(own_stack.home)}
    process = start(["prepare", str(three_videos), "--store", store.uri, *FAST], env)
    wait_for(store, "masked/", "manifest.jsonl", process)
    os.kill(s3_pid(own_stack), signal.SIGKILL)
    time.sleep(1)
    assert stack.up(own_stack.home).s3_endpoint == own_stack.s3_endpoint
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    now = everything(store)
    assert now.keys() == undisturbed.keys()
    assert [key for key in now if now[key] != undisturbed[key]] == []


def test_the_s3_server_dies_for_good(own_stack: Any, three_videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from posewatch.store import open_store

    for key, value in stack.env(own_stack).items():
        monkeypatch.setenv(key, value)
    store = open_store("s3://posewatch/gone")
    env = {**stack.env(own_stack), **environment(own_stack.home)}
    process = start(["prepare", str(three_videos), "--store", store.uri, *FAST], env)
    wait_for(store, "masked/", "manifest.jsonl", process)
    os.kill(s3_pid(own_stack), signal.SIGKILL)
    out, errors = process.communicate(timeout=300)
    done = subprocess.CompletedProcess("prepare", process.returncode, out, errors)
    assert process.returncode == 3
    assert "gave no answer" in said(done)
    assert "; try 2 of" in errors, "a retry is said aloud"
    stack.up(own_stack.home)
    keys = [o.key for o in store.list("masked/")]
    complete = {k.rsplit("/", 1)[0] for k in keys if k.endswith("manifest.jsonl")}
    assert len(complete) < 3
    for prefix in complete:
        from posewatch.artifact import get

        artifact = get(store, prefix)
        for name in artifact.files:
            artifact.read(name)
