"""A video with a pause goes through ingest, masking, splitting, skeletons and predictions on the player's clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from doubles import FixedNetwork
from numbered import restamped
from perception import networks
from pictures import square

from posewatch import video
from posewatch.artifact import members
from posewatch.config import MaskConfig, PoseConfig, SplitConfig, load
from posewatch.inference.files import read
from posewatch.perception import masking
from posewatch.perception.flow import Meter
from posewatch.perception.networks.boxes import BoxSegmenter
from posewatch.perception.pictures import Grey
from posewatch.perception.steady import steadied
from posewatch.report.pictures import frame_at
from posewatch.stages.contents import (
    clips_of,
    mask_report,
    masked_file,
    masked_frame,
    masked_of,
    masked_parts,
    skeletons_of,
)
from posewatch.stages.ingest import ingest
from posewatch.stages.mask import mask
from posewatch.stages.pose import pose
from posewatch.stages.split import split
from posewatch.store import open_store

PAUSE_S = 600.5
STARTS = [0.0, 1.0, 1.5, 603.0, 604.0, 604.5]
"""Of clips of a second: 2.5 s, ten minutes without a picture, 2.5 s."""


@pytest.fixture
def rtmo(tmp_path: Path) -> str:
    return str(networks.rtmo(tmp_path / "rtmo.onnx"))


@pytest.fixture
def paused(make: Callable[..., Path], tmp_path: Path) -> Path:
    """The square of ``pictures`` moves for 5 s, with a pause in the middle."""
    whole = make("whole.mkv", seconds=5, fps=10, codec="mpeg4", size=(240, 120))
    (tmp_path / "in").mkdir()
    return restamped(whole, tmp_path / "in" / "pause.mkv", lambda k, at: at + (round(1000 * PAUSE_S) if k > 24 else 0))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masking finds the square without a network."""
    monkeypatch.setenv("POSEWATCH_WORKERS", "1")
    monkeypatch.setattr(masking, "build_detector", lambda config: FixedNetwork(square))
    monkeypatch.setattr(masking, "build_segmenter", lambda config, detector: BoxSegmenter())
    monkeypatch.setattr("posewatch.perception.networks.weights_of", lambda config: {})


def left_edge(image: np.ndarray) -> int:
    return int(np.nonzero(image[68].min(-1) > 180)[0][0])


@pytest.mark.usefixtures("seen")
def test_clips_lie_where_a_player_shows_them(
    paused: Path, rtmo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(str(tmp_path / "store"))
    raw = ingest(store, str(paused))
    assert "no picture for 600.5 s from 2.5 s on" in capsys.readouterr().err
    about = members(raw)[0][1].json("video.json")
    assert (about["gaps"], about["duration_s"], about["frames"]) == ([[2.5, PAUSE_S]], PAUSE_S + 5, 50)
    masked = mask(store, raw, MaskConfig())
    report = mask_report(members(masked)[0][1])
    assert (report["frames"], report["gaps"]) == (50, [[25, PAUSE_S]])
    assert masked_parts(report) == [(0, 25, 0.0), (25, 25, PAUSE_S)]
    clips = split(store, masked, SplitConfig(length_s=1.0))
    of_video = members(clips)[0][1]
    found = sorted(clips_of(of_video), key=lambda clip: clip.start_s)
    assert [clip.start_s for clip in found] == STARTS
    assert [masked_frame(report, clip.start_s) for clip in found] == [0, 10, 15, 25, 35, 40]
    skeletons = skeletons_of(members(pose(store, clips, PoseConfig(estimator="rtmo", weights=rtmo)))[0][1])
    whole = masked_file(masked_of(of_video), tmp_path)
    for clip in found:
        assert (clip.frames, clip.people) == (10, 1)
        at = left_edge(next(video.read(paused, 10, start_s=clip.start_s)).image)
        assert at == pytest.approx(10 + 40 * (clip.start_s - PAUSE_S * (clip.start_s > 3)), abs=2)
        assert skeletons[clip.id].keypoints[0, 0, :, 0].min() == pytest.approx(at, abs=3)
        assert left_edge(frame_at(whole, 10, masked_frame(report, clip.start_s))) == pytest.approx(at, abs=2)
        assert left_edge(next(video.read(of_video.fetch(f"{clip.id}.mp4", tmp_path))).image) == pytest.approx(at, abs=2)


def test_predicted_windows_do_not_reach_over_a_gap(paused: Path, rtmo: str, caplog: pytest.LogCaptureFixture) -> None:
    experiment = replace(load("default"), pose=PoseConfig(estimator="rtmo", weights=rtmo))
    items = list(read(paused, experiment, 1.0, 1.0))
    assert [(item.start_s, item.end_s) for item in items] == [(s, s + 1) for s in STARTS]
    assert caplog.messages == ["pause.mkv: no picture for 600.5 s from 2.5 s on"]
    followed = list(read(paused, replace(experiment, pose=replace(experiment.pose, steady=True)), 1.0, 1.0))
    for plain, steady in zip(items, followed, strict=True):
        pictures = [Grey.of(f.image) for f in video.read(paused, 10, 640, plain.start_s, plain.end_s)]
        joints = steadied(plain.keypoints[:, :, :17], pictures)
        np.testing.assert_array_equal(steady.keypoints[:, :, :17], joints)
        np.testing.assert_array_equal(steady.keypoints[:, :, 17:], Meter(10).measure(0, joints, pictures))
        assert steady.layout == "coco17+flow"
        assert steady.keypoints.shape[1] == len(pictures) == 10
    assert any(not np.array_equal(a.keypoints, b.keypoints) for a, b in zip(items, followed, strict=True))


@pytest.mark.usefixtures("seen")
def test_a_video_without_a_gap_is_stored_as_ever(make: Callable[..., Path], tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    raw = ingest(store, str(make(seconds=1, fps=10)))
    assert "gaps" not in members(raw)[0][1].json("video.json")
    assert "gaps" not in mask_report(members(mask(store, raw, MaskConfig()))[0][1])


def test_a_raw_video_is_split_between_its_gaps(paused: Path, tmp_path: Path) -> None:
    spans = video.split(paused, tmp_path / "clips", 1.0)
    assert [round(span.start_s, 3) for span in spans] == STARTS
    assert {video.probe(span.path).frames for span in spans} == {10}
