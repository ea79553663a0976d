"""What is done in each clip, finer than its class: in annotation files, and in a csv beside them."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest
from skeletons import clip_set

from posewatch.datasets.pyskl import read_pyskl, write_pyskl
from posewatch.errors import LabelError
from posewatch.recognition.evaluation.acts import acts_of

ACTS = ("sit", "fall", "walk", "fall")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_pyskl(tmp_path / "a.pkl", dataclasses.replace(clip_set(4), acts=ACTS), {})
    return tmp_path / "a.pkl"


def test_acts_are_written_read_and_go_with_their_clips(file: Path) -> None:
    clips, _ = read_pyskl(file)
    assert clips.acts == ACTS
    assert clips.subset([2, 1]).acts == ("walk", "fall")
    assert clips.joined(clips).acts == ACTS * 2
    assert clips.joined(clip_set(4)).acts == ()


def test_a_csv_tells_them_instead(file: Path, tmp_path: Path) -> None:
    names = read_pyskl(file)[0].ids
    table = tmp_path / "acts.csv"
    table.write_text("frame_dir;act\n" + "".join(f"{name};lie {i}\n" for i, name in enumerate(names)), encoding="utf-8")
    assert read_pyskl(file, acts=table)[0].acts == ("lie 0", "lie 1", "lie 2", "lie 3")
    table.write_text(f"clip,act\n{names[0]},sit\n", encoding="utf-8")
    with pytest.raises(LabelError, match="tells no act of 3 of 4 clips"):
        read_pyskl(file, acts=table)


def test_a_clip_without_an_act_is_of_its_class(file: Path) -> None:
    data = pickle.loads(file.read_bytes())
    del data["annotations"][1]["act"]
    file.write_bytes(pickle.dumps(data))
    clips, _ = read_pyskl(file)
    assert clips.acts == ("sit", "", "walk", "fall")
    assert acts_of(clips) == ["sit", "abnormal", "walk", "fall"]
