"""Alarms as records in the object store: what is in one, a store that is away, kill -9, retention, hostile names."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT
from watch.conftest import Grey, Posture, Several, person

from posewatch import alarms, lineage, video
from posewatch.artifact import Job, produce
from posewatch.cli.main import main
from posewatch.config import PoseConfig
from posewatch.errors import InputError, NotFound, Unreachable
from posewatch.events.alarms import Hysteresis
from posewatch.stack.process import wait_until
from posewatch.store import FolderStore
from posewatch.watch.config import WatchConfig
from posewatch.watch.records import upload
from posewatch.watch.records.rates import Moments, Rate
from posewatch.watch.records.spool import OpenRecord, Spool
from posewatch.watch.records.upload import Records, RecordSettings
from posewatch.watch.sinks.sink import SinkContext
from posewatch.watch.sinks.table import open_sinks
from posewatch.watch.stats import WatchStats
from posewatch.watch.watcher import Watcher

CONFIG = WatchConfig(window_s=2.0, stride_s=0.5, smooth=2, hysteresis=Hysteresis(0.5, 0.4), unit="person")
QUIET = RecordSettings(near_misses=0, samples=0)


def _two(t: int) -> list[np.ndarray]:
    return [person((100 + t % 3, 60), 40 <= t < 70), person((400, 60), False)]


def _watch(
    out: Path, store: FolderStore, script: Callable[[int], list[np.ndarray]] = _two, frames: int = 140,
    settings: RecordSettings = QUIET, name: str = "door", model: Posture | None = None, config: WatchConfig = CONFIG,
    live: bool = True, done: Callable[[Records], bool] = lambda records: not records.waiting,
) -> tuple[WatchStats, list[dict[str, Any]], Records]:  # fmt: skip
    source = Grey(frames, live=live)
    source.name = name
    watcher = Watcher(source, model or Posture(unit=config.unit), Several(script), PoseConfig(), config)
    records, stream = Records(Spool(out / "records"), lambda: store, settings, name), io.StringIO()
    context = SinkContext(
        source, watcher.stats, watcher.label, config, out, video=False, records=records, stream=stream
    )
    try:
        with open_sinks(context) as sinks:
            stats = watcher.run(sinks, threading.Event())
        assert wait_until(lambda: done(records), 20)
    finally:
        records.close()
    return stats, [json.loads(line) for line in stream.getvalue().splitlines()], records


def test_an_alarm_is_a_record(tmp_path: Path) -> None:
    store, model = FolderStore(tmp_path / "store"), Posture(unit="person")
    published = produce(store, Job("models", "abnormal", {}), lambda folder: (folder / "model.onnx").write_text("x"))
    model.metadata["release"] = published.prefix.rsplit("/", 1)[1]
    _, (raised, ended), records = _watch(tmp_path, store, model=model)
    (record,) = alarms.records(store)
    about = record.about
    assert record.prefix == f"alarms/door/2026-03-01/{raised['id']}"
    assert (about["kind"], about["camera"], about["unit"], about["person"]) == ("alarm", "door", "person", 1)
    assert (about["start_s"], about["end_s"], about["probability"]) == (
        raised["start_s"], ended["end_s"], ended["probability"],
    )  # fmt: skip
    assert about["began"] == f"2026-03-01T09:00:0{raised['start_s']:.3f}+00:00"
    assert about["ended"] > about["raised"] if "raised" in about else about["ended"] > about["began"]
    assert about["model"]["uri"] == published.uri
    assert (about["watch"]["on"], about["watch"]["window_s"]) == (0.5, 2.0)
    assert "message" not in about
    # its lineage leads to the version that raised it
    assert [node.artifact.prefix for node in lineage.trace(record.artifact)][1] == published.prefix
    # the curve, and what the model was asked about, which gives the same answer again
    curve = about["windows"]
    assert [row["end_s"] for row in curve] == sorted(row["end_s"] for row in curve)
    assert curve[0]["p"] == 0.0
    assert max(row["smoothed"] for row in curve) == pytest.approx(about["probability"], abs=1e-3)
    with np.load(record.artifact.fetch(alarms.WINDOWS, tmp_path)) as arrays:
        shapes = {arrays[row["keypoints"]].shape for row in curve}
    assert shapes == {(1, 20, 17, 3)}
    # the clip begins before the alarm, and shows this person only, everything else is black
    clip = record.artifact.fetch(alarms.MASKED, tmp_path)
    assert about["clip"]["start_s"] <= about["start_s"]
    frames = [frame.image for frame in video.read(clip)]
    assert len(frames) == about["clip"]["frames"] >= 40
    at = frames[round((about["start_s"] - about["clip"]["start_s"]) * 10)]
    assert at[60, 100].min() > 60 > 20 > at[60, 380:420].max()
    people = record.artifact.lines(alarms.PEOPLE)
    assert {one["id"] for row in people for one in row["people"]} == {1, 2}
    assert len(people[0]["people"][0]["keypoints"]) == 17
    assert alarms.RAW not in record.artifact.files
    assert (records.stored, records.failures, records.waiting) == (1, 0, 0)


def test_the_raw_clip_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    _watch(tmp_path, store, settings=replace(QUIET, raw=True))
    (record,) = alarms.records(store)
    raw = next(iter(video.read(record.artifact.fetch(alarms.RAW, tmp_path)))).image
    assert raw.min() > 60


class Away(FolderStore):
    """A store that gives no answer until ``back``."""

    back = False

    def put(self, key: str, data: bytes) -> None:
        if not self.back:
            raise Unreachable("object store gave no answer")
        super().put(key, data)


def test_records_wait_on_disk_while_the_store_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upload, "FIRST_S", 0.02)
    store = Away(tmp_path / "store")
    _, messages, records = _watch(tmp_path, store, done=lambda records: records.failures > 1)
    assert (records.stored, records.waiting) == (0, 1)
    assert records.failures > 1
    assert [line for line in caplog.messages if "wait" in line] == [
        "records wait, the store does not take them: object store gave no answer"
    ]
    assert list(alarms.records(store)) == []
    store.back = True
    again = Records(Spool(tmp_path / "records"), lambda: store, QUIET, "door")
    assert again.drain(20) == 0
    again.close()
    assert [record.id for record in alarms.records(store)] == [messages[0]["id"]]


def test_a_full_disk_ends_the_record_and_not_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OpenRecord, "frame", full)
    stats, messages, records = _watch(
        tmp_path, FolderStore(tmp_path / "store"), done=lambda records: records.failures == 1
    )
    assert (stats.frames, len(messages)) == (140, 2)
    assert records.failures == 1
    assert "No space left on device; watching on without it" in caplog.text


_KILLED = """
import io, os, random, sys, threading, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import cv2, numpy, av, PIL.Image, scipy.optimize
from watch.conftest import Grey, Posture, Several, person
from watch.test_records import CONFIG, QUIET
from posewatch.config import PoseConfig
from posewatch.store import FolderStore
from posewatch.watch.records.spool import Spool
from posewatch.watch.records.upload import Records
from posewatch.watch.sinks.sink import SinkContext
from posewatch.watch.sinks.table import open_delivery, open_sinks
from posewatch.watch.sources import Frame
from posewatch.watch.watcher import Watcher

out = Path(sys.argv[2])

class Door(Grey):
    def frames(self, stop):
        began = datetime.now(UTC)
        for frame in super().frames(stop):
            time.sleep(0.002)
            yield Frame(frame.index, frame.time_s, began + timedelta(seconds=frame.time_s), frame.image)

def watch(frames):
    source = Door(frames, live=True)
    falls = lambda t: [person((100 + t % 3, 60), t % 60 >= 30)]  # one alarm every six seconds of the camera
    watcher = Watcher(source, Posture(unit="person"), Several(falls), PoseConfig(), CONFIG)
    store = FolderStore(out / "store")
    records = Records(Spool(out / "records"), lambda: store, QUIET, "door")
    context = SinkContext(source, watcher.stats, "abnormal", CONFIG, out, False, records=records, stream=io.StringIO())
    with open_sinks(context) as sinks:
        watcher.run(sinks, threading.Event())
    print("left", records.drain(60), flush=True)
    records.close()

random.seed(int(sys.argv[3]))
for turn in range(6):
    child = os.fork()
    if not child:
        watch(2000)
        os._exit(0)
    time.sleep(random.uniform(0.1, 0.8))
    os.kill(child, 9)
    os.waitpid(child, 0)
watch(200)
"""


def test_kill_9_at_any_moment_loses_no_alarm_and_stores_none_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _KILLED, str(ROOT / "tests"), str(tmp_path), "1"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240, env={**os.environ})
    assert done.stdout.splitlines()[-1] == "left 0"
    messages = [json.loads(line) for line in (tmp_path / "alarms.jsonl").read_text().splitlines()]
    told = [(m["id"], m["event"]) for m in messages]
    assert len(told) == len(set(told))
    raised = {number for number, event in told if event == "alarm"}
    assert {number for number, event in told if event == "alarm_ended"} == raised
    assert any(m.get("reason") == "interrupted" for m in messages)
    store = FolderStore(tmp_path / "store")
    stored = [record.id for record in alarms.records(store)]
    assert len(stored) == len(set(stored)) >= 4, "three of the last turn, and one that was interrupted"
    assert set(stored) == raised
    for record in alarms.records(store):  # and each is whole
        record.artifact.fetch_all(tmp_path / "check")
        assert record.about["windows"] or record.about["reason"] == "interrupted"


def test_windows_just_below_the_threshold_and_random_ones_are_kept_at_a_bounded_rate(tmp_path: Path) -> None:
    def nearly(t: int) -> list[np.ndarray]:  # lies for 8 of 20 frames, again and again
        return [person((100 + t % 3, 60), t % 40 < 8), person((400, 60), False)]

    store = FolderStore(tmp_path / "store")
    settings = RecordSettings(near_misses=360, samples=360)  # one in ten seconds
    stats, _, _ = _watch(tmp_path, store, nearly, 400, settings)
    found = list(alarms.records(store, kinds=("near_miss", "sample")))
    assert stats.alarms == 0
    near = [r.about for r in found if r.about["kind"] == "near_miss"]
    samples = [r.about for r in found if r.about["kind"] == "sample"]
    assert 2 <= len(near) <= 4
    assert 3 <= len(samples) <= 4
    assert all(0.35 <= one["probability"] < 0.5 and one["person"] == 1 for one in near)
    assert all(one["windows"] and one["clip"] for one in near + samples)
    assert list(alarms.records(store, kinds=["alarm"])) == []


def test_rates() -> None:
    rate = Rate(2)
    assert [t for t in range(0, 7200, 60) if rate.take(t)] == [0, 1800, 3600, 5400]
    assert not Rate(0).take(1e9)
    moments = Moments(2, random.Random(0))
    came = [t for t in range(0, 36000, 10) if moments.come(t)]
    assert [t // 1800 for t in came] == list(range(20))
    assert len({t % 1800 for t in came}) > 10


HOSTILE = ["../../etc/passwd", "a/b\\c", "Tür 3", "입구", "x" * 500, "X", "x\n\x00", ".", "", "door_1", "a" * 64]


def test_cameras_of_any_name_have_safe_keys_of_their_own(tmp_path: Path) -> None:
    keys = [alarms.camera_key(name) for name in [*HOSTILE, "door", "x"]]
    assert len(set(keys)) == len(keys)
    assert all(len(key) <= 63 and set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_") for key in keys)
    assert alarms.camera_key("door") == "door"
    store = FolderStore(tmp_path / "store")
    name = "../../" + "입구" * 200
    _watch(tmp_path / "out", store, name=name)
    (record,) = alarms.records(store, camera=name)
    assert record.about["camera"] == name
    assert {path.name for path in tmp_path.iterdir()} == {"out", "store"}


def _stored(store: FolderStore, day: int, number: str, kind: str = "alarm") -> str:
    began = datetime(2026, 3, day, 9, tzinfo=UTC)
    prefix = alarms.key_of("door", began, number)
    about = {
        "kind": kind, "id": number, "camera": "door", "person": 2, "label": "abnormal", "probability": 0.9,
        "start_s": 1.0, "end_s": 3.0, "model": {"release": "r1"}, "began": began.isoformat(),
    }  # fmt: skip
    job = Job("alarms", "door", {}, fixed_prefix=prefix)
    produce(store, job, lambda folder: (folder / "alarm.json").write_text(json.dumps(about)))
    return prefix


def test_old_records_are_deleted_and_judged_ones_kept(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    old, kept, new = (_stored(store, day, name) for day, name in ((1, "a"), (1, "b"), (9, "c")))
    store.put("alarms/door/2026-03-01/orphan/masked.mp4", b"of a killed upload")
    alarms.judge(store, kept)
    gone = alarms.prune(store, date(2026, 3, 5))
    assert sorted(gone) == sorted([old, "alarms/door/2026-03-01/orphan"])
    assert [r.id for r in alarms.records(store)] == ["c", "b"]
    with pytest.raises(NotFound, match="was deleted by retention"):
        alarms.judge(store, old)
    assert not store.list(old)
    assert alarms.prune(store, date(2026, 3, 5), judged=True) == [kept]
    assert [r.prefix for r in alarms.records(store)] == [new]


def test_the_watcher_deletes_what_is_too_old(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    prefix = _stored(store, 1, "a")
    records = Records(Spool(tmp_path / "records"), lambda: store, RecordSettings(keep_days=1), "door")
    assert wait_until(lambda: not store.list(prefix), 20)
    records.close()


def test_the_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = FolderStore(tmp_path / "store")
    _stored(store, 1, "a")
    _stored(store, 2, "b")
    _stored(store, 3, "near", "near_miss")
    words = ["--store", str(tmp_path / "store")]

    def run(*given: str, code: int = 0) -> str:
        assert main(["alarms", *given, *words]) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    rows = run("list").splitlines()
    assert [row.split()[-1] for row in rows] == ["b", "a"]
    assert "door #2" in rows[0]
    assert "90%" in rows[0]
    assert len(run("list", "--kind", "all").splitlines()) == 3
    assert len(run("list", "--since", "2026-03-02").splitlines()) == 1
    assert "and more" in run("list", "--limit", "1")
    assert run("list", "--camera", "yard") == "no records\n"
    assert json.loads(run("show", "a"))["camera"] == "door"
    for _ in range(2):
        assert (Path(run("pull", "a", "--out", str(tmp_path / "got")).strip()) / "alarm.json").is_file()
    assert "no alarm record z" in run("show", "z", code=3)
    assert "a day looks like" in run("list", "--since", "yesterday", code=2)
    assert "--days N" in run("prune", code=2)
    assert run("prune", "--days", "1").endswith("3 records deleted\n")


def test_recordings_are_recorded_once(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    for _ in range(2):
        _watch(tmp_path, store, live=False)
    (record,) = alarms.records(store)
    assert record.prefix.startswith("alarms/door/undated/")
    assert record.about["began"] is None
    with closing(Spool(tmp_path / "records")), pytest.raises(InputError, match="in use by another watcher"):
        Spool(tmp_path / "records")
