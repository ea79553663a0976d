"""The stages around perception: what is stored is not computed again."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posewatch import video
from posewatch.artifact import Artifact, Job, members
from posewatch.config import MaskConfig, PoseConfig, SplitConfig, load
from posewatch.datasets.layouts import FLOW
from posewatch.inference.files import read
from posewatch.perception.flow import Meter
from posewatch.perception.networks.litert import Network
from posewatch.perception.networks.yolox import YoloxDetector
from posewatch.perception.persons import Person
from posewatch.perception.pictures import Grey, over_clips
from posewatch.perception.steady import steadied as follow_pixels
from posewatch.stages.contents import clips_of, clips_unit, masked_of, masked_unit, persons_of, skeletons_of
from posewatch.stages.ingest import ingest
from posewatch.stages.mask import mask
from posewatch.stages.pose import pose
from posewatch.stages.queue_clips import previews
from posewatch.stages.split import present, split
from posewatch.store import ObjectStore, open_store


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes that the networks were run on, in this process."""
    runs: list[tuple[int, ...]] = []
    plain = Network.run

    def run(self, data):
        runs.append(data.shape)
        return plain(self, data)

    monkeypatch.setattr(Network, "run", run)
    monkeypatch.setenv("POSEWATCH_WORKERS", "1")
    return runs


@pytest.fixture
def store(real_networks: None, walk: Path, tmp_path: Path) -> ObjectStore:
    part = tmp_path / "videos" / "walk.mp4"
    frames = [f.image for f in video.read(walk, 5, 320, start_s=2.0, end_s=5.0)]
    with video.Writer(part, 5, frames[0].shape[1::-1]) as writer:
        for frame in frames:
            writer.write(frame)
    return open_store(str(tmp_path / "store"))


def test_no_network_runs_twice_on_frames_whose_result_is_stored(
    store: ObjectStore, counted: list[tuple[int, ...]], tmp_path: Path
) -> None:
    raw = ingest(store, str(tmp_path / "videos"))
    config = MaskConfig(fps=5, max_side=320)
    masked = mask(store, raw, config)
    clips = split(store, masked, SplitConfig(length_s=1.0))
    first = pose(store, clips, PoseConfig())
    assert counted
    counted.clear()
    # other clips, other people, other thresholds, and one artifact that was lost
    others = split(store, masked, SplitConfig(length_s=1.5))
    second = pose(store, others, PoseConfig())
    third = pose(store, clips, PoseConfig(max_people=4, hold=2, min_score=0.3))
    lost = members(first)[0][1]
    store.delete(f"{lost.prefix}/manifest.jsonl")
    again = pose(store, clips, PoseConfig())
    assert counted == []
    assert again.digest == first.digest
    assert len({a.prefix for a in (first, second, third)}) == 3
    assert {k.keypoints.shape[0] for k in skeletons_of(members(third)[0][1]).values()} == {4}
    # raw frames were seen by the same network while masking
    raw_poses = pose(store, clips, PoseConfig(source="raw"))
    assert counted == []
    assert any(k.persons for k in skeletons_of(members(raw_poses)[0][1]).values())


def test_where_it_runs_changes_no_artifact_but_the_weights_do(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEWATCH_WORKERS", "1")
    raw = ingest(store, str(tmp_path / "videos"))
    config = MaskConfig(fps=5, max_side=320, segmenter="bbox")
    here = mask(store, raw, config)
    assert mask(store, raw, replace(config, device="cpu")).digest == here.digest
    lineage = members(here)[0][1].lineage()
    assert set(lineage.weights) == {"movenet"}
    assert lineage.weights["movenet"]["licence"] == "Apache-2.0"
    assert (lineage.config["detector"], lineage.config["segmenter"]) == ("movenet", "bbox")


def test_raw_frames_for_another_network_come_from_the_raw_video(store: ObjectStore, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from perception import networks

    raw = ingest(store, str(tmp_path / "videos"))
    clips = split(store, mask(store, raw, MaskConfig(fps=5, max_side=320, segmenter="bbox")), SplitConfig())
    file = str(networks.rtmo(tmp_path / "rtmo.onnx"))
    made = pose(store, clips, PoseConfig(estimator="rtmo", weights=file, source="raw", min_score=0.5))
    artifact = members(made)[0][1]
    assert set(artifact.lineage().weights) == {"rtmo.onnx"}
    assert all(k.keypoints.shape[1] == 15 for k in skeletons_of(artifact).values())


def test_a_top_down_estimator_takes_the_boxes_of_masking(
    store: ObjectStore, counted: list[tuple[int, ...]], tmp_path: Path
) -> None:
    """Where masking had the same detector; another one looks for people in the frames by itself."""
    pytest.importorskip("onnxruntime")
    from perception import networks

    raw = ingest(store, str(tmp_path / "videos"))
    masked = mask(store, raw, MaskConfig(fps=5, max_side=320, segmenter="bbox"))
    clips = split(store, masked, SplitConfig(length_s=1.0))
    rtmpose, yolox = str(networks.rtmpose(tmp_path / "rtmpose.onnx")), str(networks.yolox(tmp_path / "yolox.onnx"))
    counted.clear()
    for source in ("raw", "masked"):
        config = PoseConfig(estimator="rtmpose", weights=rtmpose, source=source)
        artifact = members(pose(store, clips, config))[0][1]
        assert set(artifact.lineage().weights) == {"movenet", "rtmpose.onnx"}
        joints = [k.keypoints for k in skeletons_of(artifact).values()]
        assert any(k[..., 2].max() > 0.9 for k in joints)
        assert counted == []
    other = replace(config, boxes="yolox", boxes_weights=yolox)
    assert set(members(pose(store, clips, other))[0][1].lineage().weights) == {"yolox.onnx", "rtmpose.onnx"}
    assert counted == []


@pytest.mark.parametrize("view", ["frame", "crop"])
def test_a_top_down_estimator_looks_at_a_person_in_the_boxes_that_masking_tracked(
    store: ObjectStore,
    counted: list[tuple[int, ...]],
    tmp_path: Path,
    view: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever detector it had, and in a crop, too: no detector runs, and nobody else is found."""
    pytest.importorskip("onnxruntime")
    from perception import networks

    raw = ingest(store, str(tmp_path / "videos"))
    masked = mask(store, raw, MaskConfig(unit="person", fps=5, max_side=320, segmenter="bbox", view=view))
    clips = split(store, masked, SplitConfig(length_s=1.0))
    rtmpose, yolox = str(networks.rtmpose(tmp_path / "rtmpose.onnx")), str(networks.yolox(tmp_path / "yolox.onnx"))
    monkeypatch.setattr(YoloxDetector, "detect", lambda *_: pytest.fail("a second detector ran"))
    counted.clear()
    person = persons_of(members(masked)[0][1])[0]
    own = [clip for clip in clips_of(members(clips)[0][1]) if clip.person == person.person]
    for source, boxes in (("masked", {}), ("raw", {}), ("masked", {"boxes": "yolox", "boxes_weights": yolox})):
        config = PoseConfig(estimator="rtmpose", weights=rtmpose, source=source, **boxes)
        ((_, made),) = members(pose(store, clips, config))
        assert counted == []
        found = skeletons_of(made)
        frames = [(clip, t, round(clip.start_s * 5) + t - person.first) for clip in own for t in range(clip.frames)]
        seen = [(clip, t, person.boxes[i]) for clip, t, i in frames if 0 <= i < person.frames and person.boxes[i]]
        assert len(seen) >= 5
        for clip, t, (x1, y1, x2, y2) in seen:
            x, y, score = found[clip.id].keypoints[0, t, 0]
            assert score > 0.9
            assert abs(x - (x1 + x2) / 2) <= 0.63 * max(x2 - x1, 0.75 * (y2 - y1)) + 1
            assert abs(y - (y1 + y2) / 2) <= 0.63 * max(y2 - y1, (x2 - x1) / 0.75) + 1


@pytest.mark.parametrize("view", ["frame", "crop"])
def test_the_clips_of_persons_have_one_skeleton_each(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: str
) -> None:
    """In pixels of the scene, from the masked video and from the raw one alike; only the crop's previews differ."""
    monkeypatch.setenv("POSEWATCH_WORKERS", "1")
    raw = ingest(store, str(tmp_path / "videos"))
    masked = mask(store, raw, MaskConfig(unit="person", fps=5, max_side=320, segmenter="bbox", view=view))
    ((_, one),) = members(masked)
    people = persons_of(one)
    assert masked_unit(one) == "person"
    assert len(people) >= 1
    clips = split(store, masked, SplitConfig(length_s=1.0))
    assert clips_unit(clips) == "person"
    ((_, cut),) = members(clips)
    records = clips_of(cut)
    assert {clip.person for clip in records} == {person.person for person in people}
    assert {(clip.frames, clip.length_s) for clip in records} == {(5, 1.0)}
    assert {clip.start_s for clip in records} <= {0.0, 1.0, 2.0}
    assert {clip.width for clip in records} == {256 if view == "crop" else one.json("report.json")["width"]}
    followed = pose(store, clips, PoseConfig())
    alike = pose(store, clips, PoseConfig(source="raw"))
    found, from_raw = (skeletons_of(members(made)[0][1]) for made in (followed, alike))
    assert set(found) == set(from_raw) == {clip.id for clip in records}
    assert {k.keypoints.shape for k in found.values()} == {(1, 5, 17, 3)}
    assert {k.width for k in found.values()} == {one.json("report.json")["width"]}
    distances = [
        np.abs(a.keypoints[..., :2] - from_raw[i].keypoints[..., :2])[both].mean()
        for i, a in found.items()
        if (both := (a.keypoints[..., 2] > 0.3) & (from_raw[i].keypoints[..., 2] > 0.3)).any()
    ]
    assert np.median(distances) < 8
    small = members(previews(store, clips, followed))[0][1]
    drawn = json.loads(small.read(f"{records[0].id}.json"))
    points = np.array([frame[0] for frame in drawn["frames"] if frame]).reshape(-1, 17, 3)
    certain = points[points[..., 2] > 50]
    assert ((certain[:, :2] >= -5) & (certain[:, :2] <= (drawn["w"] + 5, drawn["h"] + 5))).all()


def test_the_moments_of_a_person_are_those_of_the_scene() -> None:
    person = Person(1, "person-0001.mp4", 12, 25, 25, 1.2, 3.7, (None,) * 25)
    plan = [(0, 10, 0.0), (10, 10, 0.0), (20, 10, 0.0), (30, 10, 0.0), (40, 10, 2.0)]
    assert present(person, plan, 5) == plan[1:4]
    assert present(person, plan, 8) == plan[1:3]
    assert present(replace(person, first=18, frames=4), plan, 5) == [plan[1]], "one clip at least"


def test_a_clip_is_black_while_the_person_is_not_there(tmp_path: Path) -> None:
    with video.Writer(tmp_path / "person.mp4", 10, (64, 48)) as writer:
        for _ in range(12):
            writer.write(np.full((48, 64, 3), 200, np.uint8))
    spans = video.cut(tmp_path / "person.mp4", tmp_path / "clips", [(0, 10), (5, 10), (10, 10)], 7)
    lit = [[f.image.mean() > 100 for f in video.read(span.path)] for span in spans]
    assert [(span.start_s, span.frames, span.first) for span in spans] == [(0.0, 10, 0), (0.5, 10, 5), (1.0, 10, 10)]
    assert lit == [[False] * 7 + [True] * 3, [False] * 2 + [True] * 8, [True] * 9 + [False]]


def prepared(store: ObjectStore, videos: Path, unit: str) -> tuple[Artifact, Artifact]:
    """The raw videos and their clips of one second, at 5 frames a second."""
    raw = ingest(store, str(videos))
    masked = mask(store, raw, MaskConfig(unit=unit, fps=5, max_side=320, segmenter="bbox"))
    return raw, split(store, masked, SplitConfig(length_s=1.0))


@pytest.mark.parametrize("unit", ["scene", "person"])
def test_flow_is_measured_in_the_raw_video(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    monkeypatch.setenv("POSEWATCH_WORKERS", "1")
    raw, clips = prepared(store, tmp_path / "videos", unit)
    asked: list[bool] = []
    measure = Meter.measure

    def told(self: Meter, first: int, keypoints: Any, pictures: Any, alone: bool = False) -> Any:
        asked.append(alone)
        return measure(self, first, keypoints, pictures, alone)

    monkeypatch.setattr(Meter, "measure", told)
    made, without = pose(store, clips, PoseConfig()), pose(store, clips, PoseConfig(flow=False))
    experiment = load("default", [f"mask.unit={unit}", "mask.fps=5", "mask.max_side=320"])
    list(read(tmp_path / "videos" / "walk.mp4", experiment, 1.0, 1.0))
    assert len(asked) > len(clips_of(members(clips)[0][1])), "prepare and predict"
    assert set(asked) == {unit == "person"}
    # flow of before there was that of the scene, stored under revision 2, is not taken for this one
    settings = {k: v for k, v in asdict(PoseConfig()).items() if k != "device"}
    _, of_clips = members(clips)[0]
    _, new = members(made)[0]
    job = Job("skeletons", new.prefix.split("/")[1], settings, (of_clips, masked_of(of_clips)), new.lineage().weights)
    assert replace(job, revision=4).prefix == new.prefix
    assert replace(job, revision=2).prefix != new.prefix
    found, plain = (skeletons_of(members(one)[0][1]) for one in (made, without))
    records = clips_of(members(clips)[0][1])
    images = [frame.image for frame in video.read(tmp_path / "videos" / "walk.mp4", 5, 320)]
    for clip in records:
        one, first = found[clip.id], round(5 * clip.start_s)
        np.testing.assert_array_equal(one.keypoints, plain[clip.id].keypoints)
        assert plain[clip.id].flow is None
        shown = [Grey.of(image) for image in images[first : first + clip.frames]]
        wanted = Meter(5).measure(first, one.keypoints, shown, alone=unit == "person")
        np.testing.assert_allclose(one.flow, wanted, atol=1e-3)
        assert one.columns.shape[2] == 17 + FLOW
    assert any(one.flow is not None and one.flow[..., 2].any() for one in found.values())
    source = members(raw)[0][1]
    store.delete(f"{source.prefix}/{next(name for name in source.files if name.endswith('.mp4'))}")
    again = pose(store, clips, PoseConfig(max_people=3))
    assert all(one.flow is None for one in skeletons_of(members(again)[0][1]).values()), "the raw video was deleted"


@pytest.mark.parametrize("unit", ["scene", "person"])
def test_steady_joints_follow_the_pixels_of_the_raw_video(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    monkeypatch.setenv("POSEWATCH_WORKERS", "1")
    _, clips = prepared(store, tmp_path / "videos", unit)
    plain, steady = pose(store, clips, PoseConfig()), pose(store, clips, PoseConfig(steady=True))
    found, steadied = (skeletons_of(members(made)[0][1]) for made in (plain, steady))
    records = clips_of(members(clips)[0][1])
    assert list(steadied) == list(found)
    frames = ((frame.index, frame.image) for frame in video.read(tmp_path / "videos" / "walk.mp4", 5, 320))
    plain_clips = [(round(5 * clip.start_s), found[clip.id].keypoints) for clip in records]
    wanted = over_clips(frames, plain_clips, lambda _, *clip: follow_pixels(*clip))
    for clip, keypoints in zip(records, wanted, strict=True):
        np.testing.assert_array_equal(steadied[clip.id].keypoints, keypoints)
    assert any(np.abs(steadied[i].keypoints - found[i].keypoints).max() > 0.5 for i in found)
    assert pose(store, clips, PoseConfig(steady=True)).uri == steady.uri
