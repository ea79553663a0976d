"""What a label file, a snapshot or a set of skeletons holds and nothing comes of it is told, with its number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from posewatch.artifact import Artifact, Job, collect, produce
from posewatch.cli.main import main
from posewatch.config import DatasetConfig, LabelConfig
from posewatch.datasets.intervals import Interval
from posewatch.datasets.layouts import FLOW
from posewatch.digests import canonical
from posewatch.errors import ConfigError, LabelError
from posewatch.labels.formats.importers import assign, import_labels
from posewatch.labels.gate import wait_for_labels
from posewatch.stages.contents import FLOWS, SKELETONS, SKELETONS_ABOUT, dataset_part, skeletons_of, videos_of
from posewatch.stages.dataset import dataset
from posewatch.stages.queue_clips import queue_clips
from posewatch.stages.snapshot import snapshot
from posewatch.store import open_store

CONFIG = LabelConfig()
THREE = LabelConfig(("normal", "fall", "fight"), "fall", min_per_class=1)


def rows(*given: tuple[str, float, float, str]) -> list[Interval]:
    return [Interval(*row, where=f"labels.csv row {number}") for number, row in enumerate(given, 2)]


def test_rows_that_label_no_clip_are_named(sqlite_store, make_clips) -> None:
    clips = make_clips("CAM01.MP4", 2)  # ends at 6 s; up to 3 more may have been dropped
    sqlite_store.register(clips)
    told: list[str] = []
    report = import_labels(
        sqlite_store, clips, rows(("CAM01.MP4", 0, 3, "abnormal"), ("CAM01.MP4", 6.5, 8, "normal")), CONFIG,
        warn=told.append,
    )  # fmt: skip
    assert (report.set, report.without_clip) == (1, 1)
    assert told == ["1 row of the labels without a clip: labels.csv row 3: 'CAM01.MP4' has no clip from 6.5 s on"]
    with pytest.raises(LabelError, match=r"1 row of the labels without a clip: labels\.csv row 2: 'CAM01\.MP4'"):
        import_labels(sqlite_store, clips, rows(("CAM01.MP4", 6.5, 8, "abnormal")), CONFIG)
    with pytest.raises(LabelError, match=r"row 2: starts at 9 s, but the clips of 'CAM01\.MP4' end at 6 s"):
        import_labels(sqlite_store, clips, rows(("CAM01.MP4", 9, 12, "abnormal")), CONFIG)
    with pytest.raises(LabelError, match="1 row of the labels without a clip"):  # ingested, too short for a clip
        import_labels(sqlite_store, clips, rows(("short.mp4", 0, 1, "normal")), CONFIG, videos=["short.mp4"])


def test_one_recording_in_two_classes_is_refused_with_both_names(make_clips) -> None:
    clips = make_clips("normal/a.mp4", names=("normal/a.mp4", "abnormal/b.mp4"))
    folders = [
        Interval("abnormal/b.mp4", 0, float("inf"), "abnormal", "folder abnormal"),
        Interval("normal/a.mp4", 0, float("inf"), "normal", "folder normal"),
    ]
    with pytest.raises(LabelError) as raised:
        assign(clips, folders, CONFIG)
    assert "'abnormal/b.mp4' (folder abnormal) and 'normal/a.mp4' (folder normal) have the same content" in str(
        raised.value
    )
    with pytest.raises(LabelError, match="have the same content"):
        assign(clips, rows(("normal/a.mp4", 0, 5, "normal"), ("abnormal/b.mp4", 4, 9, "abnormal")), CONFIG)
    with pytest.raises(LabelError, match=r"row 2.* and .*row 3.* both label the same part of one video"):
        assign(clips, rows(("normal/a.mp4", 0, 5, "normal"), ("normal/a.mp4", 0, 5, "abnormal")), CONFIG)
    usual = rows(
        ("normal/a.mp4", 0, 12, "normal"), ("normal/a.mp4", 4, 8, "abnormal"), ("abnormal/b.mp4", 4, 5, "abnormal")
    )
    with pytest.raises(LabelError, match="have the same content"):
        assign(clips, usual, CONFIG)
    assert len(assign(clips, usual[:2], CONFIG)) == 4


@pytest.fixture
def sets(tmp_path: Path, make_clips, sqlite_store):
    """(store, clips, skeletons) of six videos of two clips; the last two videos show nobody."""
    store = open_store(str(tmp_path / "objects"))
    members, poses, about = [], [], []
    for number, name in enumerate("abcdef"):
        entries = make_clips(f"{name}.mp4", 2)

        def clips(folder: Path, entries=entries) -> None:
            (folder / "clips.jsonl").write_text("".join(canonical(e.clip.to_dict()) + "\n" for e in entries))

        def skeletons(folder: Path, entries=entries, seen=float(number < 4)) -> None:
            np.savez(folder / SKELETONS, **{e.clip.id: np.full((1, 5, 17, 3), seen, np.float32) for e in entries})
            rate = {"fps": 10.0, "width": 64, "height": 48, "layout": "coco17", "persons": {}}
            (folder / SKELETONS_ABOUT).write_text(json.dumps(rate))

        video = entries[0].clip.video_id
        about.append({"video": video, "names": [f"{name}.mp4"]})
        members.append(produce(store, Job("clips", video, {}), clips))
        poses.append(produce(store, Job("skeletons", video, {}, (members[-1],)), skeletons))
    clips_set = collect(store, "split", about, members)
    queue_clips(clips_set, sqlite_store)
    return store, clips_set, collect(store, "pose", about, poses)


def label(sqlite_store, make_clips, names: str, *labels: str) -> None:
    for name, label in zip(names, labels, strict=True):
        for entry in make_clips(f"{name}.mp4", 2):
            sqlite_store.set_label(entry.clip.id, label, "ann", "human", classes=THREE.classes)


def test_a_class_that_was_taken_out_is_named_with_its_clips(sets, sqlite_store, make_clips) -> None:
    store, clips, skeletons = sets
    label(sqlite_store, make_clips, "abc", "normal", "fall", "fight")
    two = LabelConfig(("normal", "fall"), "fall", min_per_class=1)
    frozen = snapshot(store, clips, sqlite_store, two)
    with pytest.raises(LabelError, match=r"the snapshot labels 2 clips 'fight', .* none of the classes normal, fall"):
        dataset(store, frozen, skeletons, DatasetConfig(), two)

    class Told:
        done, lines = 0, []  # type: ignore[var-annotated]

        def say(self, line: str) -> None:
            self.lines.append(line)

        def advance(self, n: int, *, before: bool) -> None: ...

    wait_for_labels(sqlite_store, two, Told())  # type: ignore[arg-type]
    assert "labelled, but no class of this experiment: fight 2" in Told.lines


def test_nobody_in_any_labelled_clip_is_one_line(sets, sqlite_store, make_clips, capsys) -> None:
    store, clips, skeletons = sets
    label(sqlite_store, make_clips, "ef", "normal", "fall")
    frozen = snapshot(store, clips, sqlite_store, THREE)
    with pytest.raises(LabelError, match="nobody is seen in any of the 4 labelled clips"):
        dataset(store, frozen, skeletons, DatasetConfig(), THREE)
    label(sqlite_store, make_clips, "abcd", "normal", "fall", "normal", "fall")
    two = LabelConfig(("normal", "fall"), "fall")
    made = dataset(store, snapshot(store, clips, sqlite_store, two), skeletons, DatasetConfig(validation=0.0), two)
    assert "nobody is seen in 4 of 12 labelled clips: they are left out" in capsys.readouterr().err
    assert len(made.json("dataset.json")["left_out_nobody_seen"]) == 4
    named = DatasetConfig(validation=0.0, groups={"a.mp4": "one", "e.mp4": "one"})
    made = dataset(store, snapshot(store, clips, sqlite_store, two), skeletons, named, two)
    assert len(made.lines("clips.jsonl")) == 8, "a video of clips that show nobody may be named"


def test_flow_of_some_clips_is_part_of_a_dataset(sets, sqlite_store, make_clips, tmp_path: Path) -> None:
    store, clips, skeletons = sets
    label(sqlite_store, make_clips, "abcd", "normal", "fall", "normal", "fall")
    two = LabelConfig(("normal", "fall"), "fall")
    frozen = snapshot(store, clips, sqlite_store, two)
    plain = dataset(store, frozen, skeletons, DatasetConfig(validation=0.0), two)
    assert dataset_part(plain, "train").layout == "coco17"
    measured = []
    for item in videos_of(skeletons):

        def write(folder: Path, item=item) -> None:
            for name in (SKELETONS, SKELETONS_ABOUT):
                item.artifact.fetch(name, folder)
            if item.names[0] in ("a.mp4", "b.mp4"):
                ids = list(skeletons_of(item.artifact))
                np.savez(folder / FLOWS, **{one: np.full((1, 5, FLOW, 3), 2.0, np.float32) for one in ids})

        measured.append(produce(store, Job("skeletons", item.video, {"flow": True}, (item.artifact,)), write))
    rows = [item.row for item in videos_of(skeletons)]
    data = dataset(store, frozen, collect(store, "pose", rows, measured), DatasetConfig(validation=0.0), two)
    parts = [dataset_part(data, part) for part in ("train", "test")]
    assert {part.layout for part in parts} == {"coco17+flow"}
    found = {name: k for part in parts for name, k in zip(part.ids, part.keypoints, strict=True)}
    told = {row["clip"]: row["names"][0] for row in data.lines("clips.jsonl")}
    assert len(found) == 8
    for name, keypoints in found.items():
        assert keypoints.shape == (1, 5, 17 + FLOW, 3)
        assert (keypoints[:, :, :17] == 1).all()
        assert (keypoints[:, :, 17:] == (2 if told[name] in ("a.mp4", "b.mp4") else 0)).all()


def test_the_command_says_so_too(sets, sqlite_store, tmp_path: Path, capsys, monkeypatch) -> None:
    store, clips, _ = sets
    monkeypatch.setenv("POSEWATCH_HOME", str(tmp_path / "home"))
    (tmp_path / "labels.csv").write_bytes(
        "file;start_s;end_s;label;메모\na.mp4;0;0:06;abnormal;낙상\nb.mp4;7;8;normal;\n".encode("utf-16")
    )
    words = ["labels", "import", clips.uri, str(tmp_path / "labels.csv"), "--store", store.uri]
    assert main([*words, "--labels-url", sqlite_store.url]) == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["set"] == 2
    assert "labels.csv row 3: 'b.mp4' has no clip from 7 s on" in out.err


def test_videos_of_one_group_are_in_one_part_also_in_a_later_dataset(sets, sqlite_store, make_clips) -> None:
    store, clips, skeletons = sets
    two = LabelConfig(("normal", "fall"), "fall", min_per_class=1)

    def made(before=None, seed=0, **groups) -> tuple[Artifact, dict[str, str]]:
        config = DatasetConfig(validation=0.0, test=0.5, seed=seed, **groups)
        data = dataset(store, snapshot(store, clips, sqlite_store, two), skeletons, config, two, before=before)
        return data, {row["names"][0][0]: row["part"] for row in data.lines("clips.jsonl")}

    pairs = {"groups": {"[ab].mp4": "one", "[cd].mp4": "two"}}
    label(sqlite_store, make_clips, "ab", "normal", "fall")
    for entry, name in zip(make_clips("c.mp4", 2), two.classes, strict=True):
        sqlite_store.set_label(entry.clip.id, name, "ann", "human", classes=THREE.classes)
    first = next(one for seed in range(20) if (one := made(seed=seed, **pairs))[1]["c"] == "test")
    assert first[1] == {"a": "train", "b": "train", "c": "test"}
    assert set(dataset_part(first[0], "train").groups) == {"one"}
    assert made(**{**pairs, "group_pattern": "[abc]"})[1].keys() == first[1].keys()
    label(sqlite_store, make_clips, "d", "fall")
    assert made(first[0], **pairs)[1] == first[1] | {"d": "test"}, "it would let training see the test's people"
    assert made(first[0])[1] == first[1] | {"d": "train"}
    together = [made(seed=seed, **pairs)[1] for seed in range(8)]
    assert all(parts["a"] == parts["b"] and parts["c"] == parts["d"] for parts in together)
    assert any(parts["a"] != parts["b"] or parts["c"] != parts["d"] for parts in (made(seed=i)[1] for i in range(8)))
    data, _ = made(group_pattern="([ab])")  # what it does not find in a name is by itself
    assert {row.get("group") for row in data.lines("clips.jsonl")} == {"a", "b", None}
    data, _ = made(groups={"a*": " x+y ", "[ab].mp4": "z", "[cd]*": "w"}, group_pattern="([abcd])")
    # the first that fits, before the pattern; a plus would name two
    assert {row["names"][0][0]: row["group"] for row in data.lines("clips.jsonl")} == {
        "a": "x_y", "b": "z", "c": "w", "d": "w",
    }  # fmt: skip
    data, _ = made(group_pattern=r"([ab])|([bm])(?=p4)")  # all that it finds, in order
    assert {row["names"][0][0]: row["group"] for row in data.lines("clips.jsonl")} == {
        "a": "a+m", "b": "b+m", "c": "m", "d": "m",
    }  # fmt: skip
    for wrong, told in (
        ({"groups": {"x*": "one"}}, r"dataset.groups: 'x\*' matches none of the videos \(a.mp4, b.mp4, c.mp4 "),
        ({"group_pattern": "cam"}, "dataset.group_pattern 'cam' finds nothing in any video's name"),
    ):
        with pytest.raises(LabelError, match=told):
            made(**wrong)
    with pytest.raises(ConfigError, match=r"group_pattern '\(' is not a regular expression"):
        DatasetConfig(group_pattern="(")
