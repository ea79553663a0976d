"""Verdicts on alarms become labelled clips: which windows, what wins, what is taken back, what is left out."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from alarm_records import BEGAN, stored
from label_stores import stale

from posewatch import alarms, lineage, video
from posewatch.artifact import Artifact, Job, produce
from posewatch.config import DatasetConfig, Experiment, load
from posewatch.labels import verdicts as said
from posewatch.labels.db import tables
from posewatch.labels.formats.snapshot import read_parquet
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles
from posewatch.labels.verdict_labels import bring
from posewatch.stages import verdicts as stage
from posewatch.stages.contents import (
    ALARMS,
    CLIPS,
    SNAPSHOT,
    alarms_of,
    by_video,
    clip_entries,
    dataset_part,
    skeletons_of,
    videos_of,
)
from posewatch.stages.dataset import dataset
from posewatch.stages.snapshot import snapshot
from posewatch.stages.verdicts import Collected, ready, verdicts
from posewatch.store import FolderStore

PERSON = load("default", ["mask.unit=person"])


@pytest.fixture
def objects(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "objects")


@pytest.fixture
def labels(tmp_path: Path) -> Iterator[LabelStore]:
    store = LabelStore(f"sqlite:///{tmp_path / 'labels.db'}")
    roles.set_role(store, "op", "operator", "test")
    roles.set_role(store, "rev", "reviewer", "test")
    yield store
    store.close()


class Judge:
    """Records with verdicts, one call each."""

    def __init__(self, objects: FolderStore, labels: LabelStore, work: Path) -> None:
        self.objects, self.labels, self.work, self.acts = objects, labels, work, 0

    def __call__(self, number: str, verdict: str, who: str = "op", **about: object) -> alarms.AlarmRecord:
        try:
            record = alarms.by_id(self.objects, number)
        except alarms.NotFound:
            record = stored(self.objects, self.work, number, **about)  # type: ignore[arg-type]
        self.acts += 1
        said.judge(self.labels, record, verdict, who, f"act{self.acts}")
        return record

    def collect(self, experiment: Experiment = PERSON) -> Collected:
        made = verdicts(self.objects, self.labels, experiment)
        assert self.labels.database.read(stale) == []
        return made


@pytest.fixture
def judge(objects: FolderStore, labels: LabelStore, tmp_path: Path) -> Judge:
    return Judge(objects, labels, tmp_path)


def test_a_verdict_becomes_a_label_on_clips_of_the_alarms_own_windows(judge: Judge, labels: LabelStore) -> None:
    false = judge("a", "false", pictures=True, seed=1)
    judge("b", "true", began=BEGAN + timedelta(hours=1), start_s=3660.0, seed=2)
    judge("c", "not_a_person", began=BEGAN + timedelta(days=1), camera="yard", seed=3)
    judge("d", "unsure", began=BEGAN + timedelta(hours=2), seed=4)
    made = judge.collect()
    assert made.counts | {"given": 0} == {
        "verdicts": 4, "used": 3, "clips": 5, "given": 0, "taken": 0, "labels": {"abnormal": 1, "normal": 4},
        "left_out": {"nobody is sure": 1},
    }  # fmt: skip
    days = {item.names[0]: item for item in videos_of(made.clips)}
    assert set(days) == {"door 2026-03-01", "yard 2026-03-02"}
    told = days["door 2026-03-01"].artifact.json(ALARMS)
    assert [(one["alarm"], one["verdict"], len(one["clips"])) for one in told["alarms"]] == [
        ("a", "false", 2), ("b", "true", 1),
    ]  # fmt: skip
    # watched since the process began, a minute before the first alarm
    assert told["watched"] == [[BEGAN.timestamp() - 60, BEGAN.timestamp() + 3606]]
    # the surest windows, apart in time; the time is that of the day
    entries = {entry.clip.id: entry for entry in labels.clips() if entry.video == "door 2026-03-01"}
    first = [entries[clip].clip for clip in told["alarms"][0]["clips"]]
    assert [(c.start_s, c.length_s, c.person, c.frames) for c in first] == [
        (9 * 3600 - 1.5, 3.0, 2, 30), (9 * 3600 + 1.5, 3.0, 2, 30),
    ]  # fmt: skip
    with np.load(false.artifact.fetch(alarms.WINDOWS, judge.work)) as arrays:
        row = next(r for r in false.about["windows"] if r["start_s"] == 58.5)
        skeletons = skeletons_of(by_video(made.skeletons)[first[0].video_id])
        assert (skeletons[first[0].id].keypoints == arrays[row["keypoints"]]).all()
    event = labels.current()[first[0].id]
    assert (event.new, event.source, event.who, event.model_version) == ("normal", "verdict", "op", "r1")
    assert lineage.find_ancestor(made.skeletons, "alarms") is not None
    # its stretch of the record's masked clip
    clip = days["door 2026-03-01"].artifact.fetch(f"{first[1].id}.mp4", judge.work)
    frames = [frame.image for frame in video.read(clip)]
    assert len(frames) == 30
    assert abs(int(frames[0].mean()) - (65 + 20)) < 6
    again = judge.collect()
    assert (again.clips.uri, again.skeletons.uri) == (made.clips.uri, made.skeletons.uri)
    assert (again.counts["given"], again.counts["taken"]) == (0, 0), "once more changes nothing"


def test_the_flow_of_an_alarm_s_windows_goes_with_its_clips(judge: Judge) -> None:
    whole = judge("a", "false", flow=True)
    plain = judge("b", "false", began=BEGAN + timedelta(hours=1), start_s=3660.0, seed=2)
    assert all(row["keypoints"] for row in whole.about["windows"] + plain.about["windows"])
    made = judge.collect()
    (item,) = videos_of(made.skeletons)
    found = skeletons_of(item.artifact)
    told = {one["alarm"]: one["clips"] for one in alarms_of(item.artifact)["alarms"]}  # type: ignore[index]
    assert {one.keypoints.shape[2] for one in found.values()} == {17}
    assert [found[clip].flow is not None for clip in told["a"]] == [True] * len(told["a"])
    assert [found[clip].flow is None for clip in told["b"]] == [True] * len(told["b"])
    with np.load(whole.artifact.fetch(alarms.WINDOWS, judge.work)) as arrays:
        windows = [array[:, :, 17:] for array in arrays.values()]
    assert all(any(np.array_equal(found[clip].flow, one) for one in windows) for clip in told["a"])


def test_a_verdict_that_is_changed_or_taken_back_changes_the_labels(judge: Judge, labels: LabelStore) -> None:
    judge("a", "false")
    judge.collect()
    assert [e.new for e in labels.current().values()] == ["normal"] * 2
    judge("a", "true", who="rev")
    assert judge.collect().counts["taken"] == 2
    assert [e.new for e in labels.current().values()] == ["abnormal"]
    said.undo(labels, "a", "rev", "undo1")
    judge.collect()
    assert [(e.new, e.who) for e in labels.current().values()] == [("normal", "op")] * 2
    said.undo(labels, "a", "op", "undo2")
    assert judge.collect().counts == {
        "verdicts": 0, "used": 0, "clips": 0, "given": 0, "taken": 2, "labels": {}, "left_out": {},
    }  # fmt: skip
    assert labels.current() == {}
    judge("a", "false")
    judge.collect()
    assert len(labels.current()) == 2


def test_the_label_of_a_person_in_the_grid_wins(judge: Judge, labels: LabelStore) -> None:
    judge("a", "false")
    judge.collect()
    clip, other = sorted(labels.current())
    labels.set_label(clip, "abnormal", "ann", "human")
    judge("a", "not_a_person", who="rev")
    judge.collect()
    assert {c: (e.new, e.source) for c, e in labels.current().items()} == {
        clip: ("abnormal", "human"), other: ("normal", "verdict"),
    }  # fmt: skip
    assert labels.disagreements([clip]) == []
    labels.set_label(other, "abnormal", "file", "import")
    labels.set_label(other, "abnormal", "m", "model", "1")
    assert labels.current([other])[other].new == "normal"
    mine = next(e for e in labels.history(clip) if e.source == "human")
    labels.undo_event(mine, "ann", "back")
    assert labels.current([clip])[clip].source == "verdict", "the verdict counts again"


def test_a_run_that_looked_before_a_verdict_was_changed_does_not_bring_the_old_one_back(
    judge: Judge, labels: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs at once: the slow one has read the verdicts, then one is changed and the fast one ends."""
    judge("a", "false")
    judge("b", "false", began=BEGAN + timedelta(hours=1), seed=2)
    slow = stage.bring

    def late(*given: object) -> tuple[int, int]:
        monkeypatch.undo()
        judge("a", "true", who="rev")
        said.undo(labels, "b", "op", "back")
        judge.collect()
        return slow(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "bring", late)
    judge.collect()
    assert [(event.new, event.who) for event in labels.current().values()] == [("abnormal", "rev")]


def test_kill_9_at_any_moment_and_two_at_once_end_in_the_same_state(
    judge: Judge, objects: FolderStore, labels: LabelStore, tmp_path: Path
) -> None:
    for i in range(6):
        began = BEGAN + timedelta(hours=5 * i)
        judge(f"a{i}", ("false", "true", "not_a_person")[i % 3], began=began, camera="door\n" * 90, seed=i)
    labels.close()
    copy = FolderStore(shutil.copytree(objects.root, tmp_path / "copy"))
    urls = [shutil.copy(tmp_path / "labels.db", tmp_path / name) for name in ("killed.db", "undisturbed.db")]
    killed, undisturbed = (f"sqlite:///{url}" for url in urls)
    fork, chance = multiprocessing.get_context("fork"), random.Random(1)

    def start(store: FolderStore, url: str) -> Any:
        process = fork.Process(target=_collect, args=(store, url))
        process.start()
        return process

    began_s = time.monotonic()
    alone = start(copy, undisturbed)
    alone.join()
    took_s = time.monotonic() - began_s
    for _ in range(5):
        two = [start(objects, killed) for _ in range(2)]
        time.sleep(chance.uniform(0.05, 1.0) * took_s)
        for process in two:
            process.kill()
            process.join()
    two = [start(objects, killed) for _ in range(2)]
    for process in two:
        process.join()
    assert [process.exitcode for process in (alone, *two)] == [0, 0, 0]
    assert {o.key: objects.get(o.key) for o in objects.list()} == {o.key: copy.get(o.key) for o in copy.list()}
    events = [_events(url) for url in (killed, undisturbed)]
    assert events[0] == events[1]
    assert len(events[0]) == 10


def test_several_at_once_on_a_server_give_and_take_each_label_once(
    objects: FolderStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = LabelStore(url)
    roles.set_role(first, "op", "operator", "test")
    judge = Judge(objects, first, tmp_path)
    for i in range(4):
        judge(f"a{i}", ("false", "true")[i % 2], began=BEGAN + timedelta(hours=i), seed=i)
    meet = threading.Barrier(4)

    def together(*given: Any) -> tuple[int, int]:
        meet.wait(60)
        return bring(*given)

    monkeypatch.setattr(stage, "bring", together)

    def collect(_: int) -> Collected:
        store = LabelStore(url)
        try:
            return verdicts(objects, store, PERSON)
        finally:
            store.close()

    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(collect, range(4)))
        assert sum(one.counts["given"] for one in given) == len(_events(url)) == 6
        said.undo(first, "a0", "op", "back")
        taken = list(pool.map(collect, range(4)))
        assert sum(one.counts["taken"] for one in taken) == len(_events(url)) - 6 == 2
    assert Counter(event.new for event in first.current().values()) == {"abnormal": 2, "normal": 2}
    first.close()


def _collect(store: FolderStore, url: str) -> None:
    verdicts(store, LabelStore(url), PERSON)


def _events(url: str) -> list[tuple[object, ...]]:
    store = LabelStore(url)
    events = tables.events.c
    rows = store.database.rows(sa.select(events.clip_id, events.new, events.who, events.batch))
    assert store.database.read(stale) == []
    store.close()
    return sorted((tuple(row) for row in rows), key=str)


def test_a_verdict_changed_after_a_snapshot_changes_the_next_dataset_and_not_the_old_one(
    judge: Judge, labels: LabelStore, tmp_path: Path
) -> None:
    def frozen(made: Collected) -> dict[str, str]:
        file = snapshot(judge.objects, made.clips, labels, PERSON.labels).fetch(SNAPSHOT, tmp_path)
        return {row["clip_id"]: row["label"] for row in read_parquet(file).rows}

    judge("a", "true")
    made = judge.collect()
    old = snapshot(judge.objects, made.clips, labels, PERSON.labels)
    before = old.read(SNAPSHOT)
    (clip,) = frozen(made)
    judge("a", "false")
    new = frozen(judge.collect())
    assert len(new) == 2
    assert new[clip] == "normal"
    assert old.read(SNAPSHOT) == before
    assert frozen(made) == {clip: "normal"}, "the clips as they were cut, with the label that counts now"


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"person": None}, "it is of the other unit"),
        ({"window_s": 2.0}, "its windows are not as long as the clips"),
        ({"label": "fight"}, "its class is none of the experiment's"),
        ({"rule": "long_lie"}, "the rule of its alarm is not learned"),
        ({"p": (0.9,), "start_s": 90.0, "long_s": 1.0, "end_s": 60.0}, "it has no skeletons"),
    ],
)
def test_what_cannot_be_a_label_is_counted_with_its_reason(
    judge: Judge, labels: LabelStore, about: dict[str, object], reason: str
) -> None:
    judge("a", "true", **about)
    made = judge.collect()
    (told,) = made.counts["left_out"]
    assert told.startswith(reason)
    assert labels.current() == {}
    assert list(videos_of(made.clips)) == []


def test_a_record_that_was_deleted_keeps_its_label_and_stops_nothing(judge: Judge, labels: LabelStore) -> None:
    judge("a", "false")
    judge("b", "false", camera="../../yard\n<script>", began=BEGAN + timedelta(hours=1))
    former = judge.collect()
    assert len(labels.current()) == 4
    assert alarms.prune(judge.objects, (BEGAN + timedelta(days=1)).date(), camera="door", judged=True)
    made = judge.collect()
    assert made.counts["left_out"] == {"its record was deleted": 1}
    assert len(labels.current()) == 4
    assert "  deleted since" in lineage.text(former.skeletons)
    assert lineage.raw_videos(former.skeletons) == []
    # a hostile name stays in names, and out of keys
    (item,) = videos_of(made.clips)
    assert item.names == ("../../yard\n<script> 2026-03-01",)
    assert set(item.artifact.prefix) <= set("clips/v-0123456789abcdef")
    # one that nobody can judge again may still be taken back
    said.undo(labels, "a", "op", "back")
    judge.collect()
    assert len(labels.current()) == 2


def test_near_misses_and_samples_are_the_one_window_that_they_are_about(judge: Judge, labels: LabelStore) -> None:
    judge("a", "true", kind="near_miss", long_s=3.0, p=(0.65, 0.6, 0.1), raised_s=None)
    judge("b", "false", kind="sample", long_s=3.0, p=(0.02,), began=None, camera="hall.mp4", raised_s=None)
    made = judge.collect()
    found = {entry.video: entry.clip for entry in clip_entries(made.clips)}
    assert found["door 2026-03-01"].start_s == 9 * 3600
    assert found["hall.mp4"].start_s == 60.0, "a second of the recording"
    assert {e.new for e in labels.current().values()} == {"normal", "abnormal"}


def test_a_camera_and_day_is_on_one_side_of_a_dataset(judge: Judge, labels: LabelStore, tmp_path: Path) -> None:
    for day in range(3):
        for camera in ("door", "yard"):
            for hour, verdict in enumerate(("false", "true")):
                began = BEGAN + timedelta(days=day, hours=hour)
                number = f"{camera}{day}{hour}"
                judge(number, verdict, began=began, camera=camera, waving=verdict == "true", seed=10 * day + hour)
    made = judge.collect()
    frozen = snapshot(judge.objects, made.clips, labels, PERSON.labels)
    assert {row["source"] for row in read_parquet(frozen.fetch(SNAPSHOT, tmp_path)).rows} == {"verdict"}
    data = dataset(judge.objects, frozen, made.skeletons, DatasetConfig(), PERSON.labels)
    parts = {part: dataset_part(data, part) for part in ("train", "validation", "test")}
    groups = [set(part.groups) for part in parts.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 6
    assert set(parts["train"].sources) == {"verdict"}
    assert parts["train"].unit == "person"


def _published(objects: FolderStore, data: Artifact) -> Artifact:
    """A published version that was trained on a dataset."""
    made = data
    for job in (Job("checkpoints", "", {}), Job("onnx", "", {}), Job("models", "abnormal", {})):
        made = produce(objects, replace(job, parents=(made,)), _write(data.prefix))
    return made


def _write(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "file").write_text(text)


def test_a_later_dataset_keeps_the_parts_and_holds_the_newest_alarms_out(judge: Judge, labels: LabelStore) -> None:
    def days(*numbers: int) -> None:
        for day in numbers:
            for minutes, camera in enumerate(("door", "yard")):
                for hour, verdict in enumerate(("false", "true")):
                    began = BEGAN + timedelta(days=day, hours=hour, minutes=minutes)
                    judge(f"{camera}{day}{hour}", verdict, began=began, camera=camera, seed=10 * day + hour)

    def frozen(made: Collected, **more: object) -> Artifact:
        rows = snapshot(judge.objects, made.clips, labels, PERSON.labels)
        return dataset(judge.objects, rows, made.skeletons, DatasetConfig(), PERSON.labels, **more)  # type: ignore[arg-type]

    def parts(data: Artifact) -> dict[str, str]:
        return {row["names"][0]: row["part"] for row in data.lines(CLIPS)}

    days(0, 1, 2)
    first = frozen(judge.collect())
    days(3)
    judge("again", "false", began=BEGAN + timedelta(hours=5), camera="door", seed=99)
    made = judge.collect()
    second = frozen(made, before=first, newest=0.25)
    assert parts(second) == {**parts(first), "door 2026-03-04": "train", "yard 2026-03-04": "newest"}
    assert set(second.json("dataset.json")["counts"]) == {"train", "validation", "test", "newest"}
    # of what was the newest then, nothing is known any more
    assert parts(frozen(made, before=second, newest=0.0))["yard 2026-03-04"] == "train"
    assert ready(judge.objects, made, "v0", PERSON).told.startswith("the served version and its dataset are not in")
    release = _published(judge.objects, first).prefix.rsplit("/", 1)[1]
    few = ready(judge.objects, made, release, PERSON)
    assert (few.enough, few.data) == (False, first)
    assert few.told.startswith("5 judged alarms that the served version has not learned from, of 50")
    assert ready(judge.objects, made, release, load("default", ["labels.min_verdicts=5"])).enough
    assert ready(judge.objects, made, release, PERSON, drifted=True).enough
    # what a person said of the very clip counts, and a clip that no dataset takes is not new for ever
    clips = sorted(made.alarms[-1])
    labels.set_labels(dict.fromkeys(clips, "(bad clip)"), "ann", "human")
    assert ready(judge.objects, judge.collect(), release, PERSON).told.startswith("4 judged alarms")
    known = first.lines(CLIPS)[0]
    other = "normal" if known["label"] == "abnormal" else "abnormal"
    labels.set_label(known["clip"], other, "ann", "human")
    made = judge.collect()
    assert ready(judge.objects, made, release, PERSON).told.startswith("5 judged alarms")
    third = frozen(made, before=first, newest=0.0)
    assert ready(judge.objects, made, _published(judge.objects, third).prefix.rsplit("/", 1)[1], PERSON).told[0] == "0"
    none = replace(made, counts=made.counts | {"used": 0})
    assert ready(judge.objects, none, release, PERSON, drifted=True).told.startswith("no verdict on an alarm")


def test_new_camera_days_go_to_validation_too_and_never_part_from_their_group(judge: Judge, labels: LabelStore) -> None:
    def days(cameras: tuple[str, ...], *numbers: int) -> None:
        for day in numbers:
            for minutes, camera in enumerate(cameras):
                for hour, verdict in enumerate(("false", "true")):
                    began = BEGAN + timedelta(days=day, hours=hour, minutes=minutes)
                    judge(f"{camera}{day}{hour}", verdict, began=began, camera=camera, seed=10 * day + hour)

    def parts(
        made: Collected, config: DatasetConfig, before: Artifact | None = None
    ) -> tuple[Artifact, dict[str, str]]:
        rows = snapshot(judge.objects, made.clips, labels, PERSON.labels)
        data = dataset(judge.objects, rows, made.skeletons, config, PERSON.labels, before, newest=0.25)
        return data, {row["names"][0]: row["part"] for row in data.lines(CLIPS)}

    days(("door", "yard", "gate"), 0)
    first, known = parts(judge.collect(), DatasetConfig())
    days(("roof", "hall", "shed"), 1, 2)
    made = judge.collect()
    _, later = parts(made, DatasetConfig(validation=0.3), first)
    new = Counter(part for name, part in later.items() if name not in known)
    assert new == {"train": 3, "validation": 1, "newest": 2}
    # by camera: both days of the last one are held out together, and both of another one are for validation
    by_camera = DatasetConfig(validation=0.5, group_pattern="^[a-z]+")
    _, together = parts(made, by_camera, first)
    assert {together[f"shed 2026-03-0{day}"] for day in (2, 3)} == {"newest"}
    assert Counter(part for name, part in together.items() if name not in known) == dict.fromkeys(
        ("train", "validation", "newest"), 2
    )
    _, none = parts(made, DatasetConfig(validation=0), first)
    assert Counter(part for name, part in none.items() if name not in known) == {"train": 4, "newest": 2}
