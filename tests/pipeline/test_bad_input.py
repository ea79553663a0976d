"""Whatever is wrong with the input: one clear line that names the thing and the remedy, and a non-zero exit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from support import run, said

from posewatch import stack
from posewatch.artifact import get, members
from posewatch.store import FolderStore


def encode(path: Path, seconds: float = 3.0, people: bool = False) -> Path:
    """A small H.264 video in which a square moves and nobody is seen."""
    from posewatch.video import Writer

    assert not people
    with Writer(path, 10, (160, 120)) as out:
        for i in range(int(seconds * 10)):
            image = np.full((120, 160, 3), 90, np.uint8)
            image[40:60, i % 100 : i % 100 + 20] = 200
            out.write(image)
    return path


def env(tmp_path: Path, **more: str) -> dict[str, str]:
    return {
        "POSEWATCH_HOME": str(tmp_path / "home"),
        "POSEWATCH_LABELS_URL": f"sqlite:///{tmp_path}/labels.db",
        "POSEWATCH_STORE": str(tmp_path / "store"),
        "POSEWATCH_WORKERS": "1",
        **more,
    }


def test_no_such_source(tmp_path: Path) -> None:
    assert "no such file or folder: /no/such/video.mp4" in said(run("ingest", "/no/such/video.mp4", env=env(tmp_path)))


def test_a_folder_without_videos(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert "no videos in" in said(run("ingest", str(tmp_path / "in"), env=env(tmp_path)))


@pytest.mark.parametrize(
    "verb", [["ingest", "s3://no-such-bucket/raw"], ["mask", "sets/ingest/x", "--store", "s3://no-such-bucket"]]
)
def test_no_such_bucket(verb: list[str], servers: Any, tmp_path: Path) -> None:
    line = said(run(*verb, env={**env(tmp_path), **stack.env(servers), "POSEWATCH_STORE": "s3://posewatch/x"}))
    assert "no such bucket: no-such-bucket" in line


def test_wrong_credentials(servers: Any, tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4")
    wrong = {**stack.env(servers), "POSEWATCH_S3_SECRET_KEY": "wrong"}
    line = said(
        run("ingest", str(tmp_path / "a.mp4"), env={**env(tmp_path), **wrong, "POSEWATCH_STORE": "s3://posewatch/x"})
    )
    assert "refused the credentials" in line
    assert "POSEWATCH_S3_SECRET_KEY" in line


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4")
    away = {
        "POSEWATCH_S3_ENDPOINT": "http://127.0.0.1:9",
        "POSEWATCH_S3_ACCESS_KEY": "a",
        "POSEWATCH_S3_SECRET_KEY": "b",
    }
    done = run("ingest", str(tmp_path / "a.mp4"), "--store", "s3://posewatch", env={**env(tmp_path), **away})
    assert "127.0.0.1:9 gave no answer in 6 tries" in said(done)
    assert done.returncode == 3


def audio_only(path: Path) -> Path:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        for _ in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def truncated(path: Path) -> Path:
    data = encode(path, 20).read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


def headless(path: Path) -> Path:
    data = encode(path, 5).read_bytes()
    path.write_bytes(data[:400])
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def text(path: Path) -> Path:
    path.write_text("this is no video")
    return path


@pytest.mark.parametrize("make", [empty, text, headless, truncated, audio_only])
def test_a_video_that_cannot_be_used(make: Any, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    encode(source / "good.mp4")
    make(source / "bad.mp4")
    line = said(run("ingest", str(source), env=env(tmp_path)))
    assert "bad.mp4" in line
    assert "1 of 2 videos cannot be used" in line
    assert FolderStore(tmp_path / "store").list() == [], "nothing is brought in when something is wrong"


def test_a_truncated_video_is_used_up_to_the_break_when_told_so(tmp_path: Path) -> None:
    path = truncated(tmp_path / "t.mp4")
    done = run("ingest", str(path), "--allow-truncated", env=env(tmp_path))
    assert done.returncode == 0, done.stderr
    _, raw = members(get(FolderStore(tmp_path / "store"), done.stdout.strip()))[0]
    assert 1 < raw.json("video.json")["duration_s"] < 20


@pytest.fixture(scope="module")
def nobody(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], subprocess.CompletedProcess[str]]:
    """Two videos without people, prepared."""
    folder = tmp_path_factory.mktemp("nobody")
    (folder / "in").mkdir()
    encode(folder / "in" / "a.mp4", 6)
    encode(folder / "in" / "b.mp4", 6.5)
    told = env(folder)
    return folder, told, run("prepare", str(folder / "in"), env=told)


def test_a_video_without_people_flows_through_and_is_reported(nobody: Any) -> None:
    folder, _, done = nobody
    assert done.returncode == 0, done.stderr
    assert "nobody was seen in 4 clips" in done.stderr
    store = FolderStore(folder / "store")
    assert len([o for o in store.list("clips/") if o.key.endswith(".mp4")]) == 4
    masked = next(o.key for o in store.list("masked/") if o.key.endswith("report.json"))
    assert b'"frames_with_people":0' in store.get(masked)


def clips_uri(nobody: Any) -> str:
    import json

    return str(json.loads(nobody[2].stdout)["clips"])


def test_a_label_for_a_clip_that_does_not_exist(nobody: Any) -> None:
    line = said(run("labels", "set", "c-0000000000000000", "normal", env=nobody[1]))
    assert "no such clip: c-0000000000000000" in line


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("file,begin_of,end_s,label\na.mp4,0,3,normal\n", ["labels.csv", "begin_of"]),
        ("file,start_s,end_s,label\na.mp4,0,3,fall\n", ["fall", "normal, abnormal"]),
        ("file,start_s,end_s,label\nzzz.mp4,0,3,normal\n", ["zzz.mp4"]),
        ("file,start_s,end_s,label\na.mp4,3,1,normal\n", ["row 2"]),
    ],
)
def test_wrong_label_files(table: str, words: list[str], nobody: Any, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(table)
    line = said(run("labels", "import", clips_uri(nobody), str(tmp_path / "labels.csv"), env=nobody[1]))
    assert all(word in line for word in words), line


def test_a_class_with_one_clip(nobody: Any, tmp_path: Path) -> None:
    told = {**nobody[1], "POSEWATCH_LABELS_URL": f"sqlite:///{tmp_path}/labels.db"}
    uri = clips_uri(nobody)
    assert run("labels", "queue", uri, env=told).returncode == 0
    (tmp_path / "labels.csv").write_text(
        "file,start_s,end_s,label\na.mp4,0,3,abnormal\na.mp4,3,6,normal\nb.mp4,0,6.5,normal\n"
    )
    assert run("labels", "import", uri, str(tmp_path / "labels.csv"), env=told).returncode == 0
    line = said(run("labels", "wait", uri, env=told))
    assert "class 'abnormal' has 1 labelled clip, 2 are needed" in line


def test_weights_with_the_wrong_checksum(tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "weights"
    cache.mkdir(parents=True)
    done = run("weights", "fetch", "movenet", env=env(tmp_path))
    assert done.returncode == 0, done.stderr
    good = Path(done.stdout.strip())
    shutil.copy(good, cache / good.name)
    with (cache / good.name).open("r+b") as file:
        file.write(b"tampered")
    source = encode(tmp_path / "a.mp4")
    told = env(tmp_path, POSEWATCH_CACHE=str(tmp_path / "cache"))
    line = said(run("prepare", str(source), env=told))
    assert "sha256" in line
    assert good.name in line


def test_an_unknown_detector_names_the_known_ones(tmp_path: Path) -> None:
    line = said(run("prepare", str(encode(tmp_path / "a.mp4")), "--set", "mask.detector=movenett", env=env(tmp_path)))
    assert "movenett" in line
    assert "movenet" in line.replace("movenett", "")


def test_an_artifact_that_does_not_exist(tmp_path: Path) -> None:
    assert "no such artifact" in said(run("lineage", "models/none/0", env=env(tmp_path)))
