"""The paper's experiment: its splits, its tables, and folders laid out like the paper's."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from skeletons import walk

torch = pytest.importorskip("torch")

from posewatch.bench import paper  # noqa: E402
from posewatch.config import load  # noqa: E402
from posewatch.datasets.clipset import ClipSet  # noqa: E402
from posewatch.datasets.pyskl import write_pyskl  # noqa: E402
from posewatch.errors import InputError, LabelError  # noqa: E402


def of_videos(videos: int = 8, each: int = 4) -> ClipSet:
    """Clips of which ``each`` are from one video, half of the videos abnormal."""
    names = [f"v{v}_0_{i}" for v in range(videos) for i in range(each)]
    labels = np.repeat(np.arange(videos) % 2, each)
    keypoints = tuple(walk(int(10 * v + i), bool(v % 2), frames=20) for v in range(videos) for i in range(each))
    groups = tuple(name.partition("_")[0] for name in names)
    return ClipSet(keypoints, labels, ("normal", "abnormal"), tuple(names), groups, unit="person", certain=True)


def test_only_the_random_split_shares_videos():
    clips = of_videos()
    found = paper.splits(clips, {"train": [0, 4, 8], "test": [1, 5]}, 0.3, 0)
    assert found[paper.VIDEO].shared == 0
    assert found[paper.RANDOM].shared >= 4
    assert found[paper.GIVEN] == paper.Split([0, 4, 8], [1, 5], 2)
    for kind in (paper.VIDEO, paper.RANDOM):
        assert sorted(found[kind].train + found[kind].test) == list(range(len(clips)))
        assert {int(clips.labels[i]) for i in found[kind].test} == {0, 1}
    assert paper.splits(clips, {}, 0.3, 1)[paper.RANDOM] != found[paper.RANDOM]
    few = np.zeros(32, np.int64)
    few[[0, 4]] = 1
    with pytest.raises(LabelError, match="no random split has every class on both sides"):
        paper.splits(replace(clips, labels=few), {}, 0.001, 0)


def test_the_leak_is_the_difference_of_the_means():
    rows = {
        paper.VIDEO: paper.summary([{"f1": 0.7, "auc": 0.8, "n": 10}, {"f1": 0.8, "auc": 0.9, "n": 12}], [0, 0]),
        paper.RANDOM: paper.summary([{"f1": 0.9, "auc": 0.95, "n": 10}, {"f1": 1.0, "auc": 0.95, "n": 12}], [5, 6]),
    }
    assert rows[paper.VIDEO]["f1"] == {"mean": 0.75, "std": 0.05}
    assert rows[paper.RANDOM]["shared_videos"] == 5.5
    assert paper.leak(rows) == {"f1": 0.2, "auc": 0.1}


def test_the_tables_are_written(tmp_path):
    write_pyskl(tmp_path / "clips.pkl", of_videos(6, 3), {"all": range(18)})
    experiment = load("small", ["train.epochs=1", "train.width=0.08", "train.clip_frames=8", "train.folds=0",
                                "train.threads=1", "train.batch=8", "train.refit=false", "train.stream=j"])  # fmt: skip
    text = paper.bench_paper(tmp_path / "clips.pkl", tmp_path / "out", experiment, seeds=1, share=0.34, serving_s=0)
    result = json.loads((tmp_path / "out/paper.json").read_text())
    assert set(result["recognition"]) == {paper.VIDEO, paper.RANDOM}
    assert result["recognition"][paper.VIDEO]["shared_videos"] == 0
    assert (tmp_path / "out/paper.md").read_text() == text
    for part in ("| the paper, its private set |", "0.8988", "by source video (ours)", "is private, not to be had"):
        assert part in text, part
    assert (tmp_path / "out/skeletons.pkl").is_file()


def test_labels_of_a_folder(tmp_path):
    files = {}
    for part, names in (("train", ("a_0_0", "a_0_1", "b_0_0")), ("test", ("c_0_0",))):
        for name in names:
            files[f"{part}/{name}.mp4"] = (part, tmp_path / part / f"{name}.mp4")
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(LabelError, match=r"has no label\.csv, and no folders of classes"):
        paper._labels(tmp_path, files)
    (tmp_path / "label.csv").write_text("a_0_0.mp4, normal\nb_0_0.mp4, selfharm\nc_0_0.mp4, selfharm\n")
    (tmp_path / "label_map.txt").write_text("normal\nselfharm\n")
    said = paper._labels(tmp_path, files)
    assert said.classes == ["normal", "selfharm"]
    assert said.numbers == {"train/a_0_0.mp4": 0, "train/b_0_0.mp4": 1, "test/c_0_0.mp4": 1}
    assert "1 clip unlabelled" in " ".join(said.notes)
    (tmp_path / "label.csv").unlink()
    by_folder = {"train/normal/a.mp4": ("train", tmp_path / "train/normal/a.mp4")}
    assert paper._labels(tmp_path, by_folder).numbers == {"train/normal/a.mp4": 0}


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has none of the folders train, val, test"):
        paper.bench_paper(tmp_path, tmp_path / "out", load("small"))
