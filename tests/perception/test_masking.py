from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from doubles import FixedNetwork
from pictures import square

from posewatch import video
from posewatch.config import MaskConfig, PoseConfig
from posewatch.errors import ConfigError, InputError, VideoError, WeightsError
from posewatch.perception.masking import Networks, Tracked, _segment, mask_video
from posewatch.perception.networks import build_detector, build_segmenter, weights_of
from posewatch.perception.networks.blazepose import crop_of, figure
from posewatch.perception.networks.boxes import BoxSegmenter
from posewatch.perception.networks.litert import Network
from posewatch.perception.repeats import same
from posewatch.perception.skeletons import estimate_video
from posewatch.perception.storage import read_detections, write_detections
from posewatch.perception.tracking.matching import distinct, iou, oks, pair
from posewatch.perception.tracking.tracker import Tracker
from posewatch.records import Detections

SHARED = Path(__file__).resolve().parents[2].parent / "shared"

CONFIG = MaskConfig(fps=10, dilate=2, hold=3)


def person(x: float, score: float = 0.9, size: float = 40) -> Detections:
    joints = np.linspace([x, 20, 0.9], [x + size, 20 + 2 * size, 0.9], 17, dtype=np.float32)
    box = np.array([[x, 20, x + size, 20 + 2 * size]], np.float32)
    return Detections(box, np.array([score], np.float32), joints[None])


def mask(src: Path, out: Path, find=square, config: MaskConfig = CONFIG):
    return mask_video(src, out, config, detector=FixedNetwork(find), segmenter=BoxSegmenter())


def test_only_the_person_stays_visible(make, tmp_path: Path) -> None:
    source = make(seconds=2, fps=20, size=(240, 160))
    report = mask(source, tmp_path / "out" / "masked.mp4")
    assert (report.frames, report.frames_with_people, report.people_mean) == (20, 20, 1.0)
    assert (report.fps, report.width, report.height, report.truncated) == (10, 240, 160, False)
    assert report.duration_s == pytest.approx(2)
    raw = list(video.read(source, 10))
    masked = list(video.read(tmp_path / "out" / "masked.mp4"))
    found = read_detections(tmp_path / "out" / "detections.npz")
    assert len(raw) == len(masked) == len(found) == 20
    for a, b, d in zip(raw, masked, found, strict=True):
        x1, y1, x2, y2 = d.boxes[0].astype(int)
        assert np.abs(a.image[y1:y2, x1:x2].astype(int) - b.image[y1:y2, x1:x2]).mean() < 12
        outside = b.image.copy()
        outside[max(0, y1 - 6) : y2 + 6, max(0, x1 - 6) : x2 + 6] = 0
        assert outside.mean() < 1  # neither the grey background nor the red corner
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["detections.npz", "masked.mp4"]


def test_nobody_gives_black_frames_and_is_reported(make, tmp_path: Path) -> None:
    report = mask(make(seconds=1), tmp_path / "masked.mp4", lambda image: Detections.none(17))
    assert (report.frames, report.frames_with_people, report.people_mean) == (10, 0, 0)
    assert all(f.image.max() < 8 for f in video.read(tmp_path / "masked.mp4"))
    assert [len(d) for d in read_detections(tmp_path / "detections.npz")] == [0] * 10


def test_a_person_who_is_lost_for_some_frames_is_held(make, tmp_path: Path) -> None:
    calls = iter(range(100))

    def blink(image: np.ndarray) -> Detections:
        return square(image) if next(calls) not in (8, 9, 10, 15, 16, 17, 18, 19) else Detections.none(17)

    report = mask(make(seconds=2, fps=10), tmp_path / "masked.mp4", blink)
    frames = list(video.read(tmp_path / "masked.mp4"))
    lit = [bool((f.image > 120).any()) for f in frames]
    assert lit == [True] * 18 + [False] * 2  # three frames are bridged, then it is over
    assert report.frames_with_people == 18
    # the held mask goes on with the square, which moves 4 pixels a frame
    raw = list(video.read(make("b.mp4", seconds=2, fps=10), 10))
    assert (frames[10].image.min(-1) > 190).sum() > 0.7 * (raw[10].image.min(-1) > 190).sum()


def test_same_input_same_bytes(make, tmp_path: Path) -> None:
    source = make(seconds=1)
    for name in "ab":
        mask(source, tmp_path / name / "masked.mp4")
    for file in ("masked.mp4", "detections.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_networks_look_once_at_a_picture_that_repeats(make, tmp_path: Path) -> None:
    """Of a camera of 5 frames a second masking takes each picture twice; who has a memory is shown all."""
    source, looked, cut = make(seconds=2, fps=5), [], []

    class Counting(BoxSegmenter):
        def segment(self, image: np.ndarray, detections: Detections) -> np.ndarray:
            cut.append(image)
            return super().segment(image, detections)

    class Remembering(Counting):
        def recall(self, track_ids: Sequence[int]) -> dict[int, np.ndarray]:
            return {}

    def find(image: np.ndarray) -> Detections:
        looked.append(image)
        return square(image)

    for segmenter, times in ((Counting(), 10), (Remembering(), 20)):
        looked.clear(), cut.clear()
        out = tmp_path / type(segmenter).__name__ / "masked.mp4"
        assert mask_video(source, out, CONFIG, detector=FixedNetwork(find), segmenter=segmenter).frames == 20
        assert (len(looked), len(cut)) == (10, times)
    for file in ("masked.mp4", "detections.npz"):
        assert (tmp_path / "Counting" / file).read_bytes() == (tmp_path / "Remembering" / file).read_bytes()
    found = [d.boxes[0, 0] for d in read_detections(tmp_path / "Counting" / "detections.npz")]
    assert found[::2] == found[1::2]
    assert len(set(found)) == 10
    looked.clear()
    assert len(estimate_video(source, PoseConfig(source="raw"), estimator=FixedNetwork(find), fps=10)) == 20
    assert len(looked) == 10


def test_other_persons_in_the_same_picture_are_cut_out_anew() -> None:
    image = np.zeros((120, 200, 3), np.uint8)
    at_20, at_90, nobody = person(20), person(90), Detections.none(17)
    networks = Networks(FixedNetwork(), BoxSegmenter(), deque([[image] * 5]))
    shard = [Tracked(persons, {}) for persons in (at_20, at_20, at_90, nobody, at_20)]
    columns = [np.unpackbits(bits, axis=-1).any(axis=(0, 1)) for bits, _ in _segment(networks, shard)]
    assert [int(lit.argmax()) if lit.any() else None for lit in columns] == [20, 20, 90, None, 20]


def test_pictures_are_the_same_when_every_pixel_is() -> None:
    a = np.zeros((4, 6, 3), np.uint8)
    for place in ((0, 0, 0), (3, 5, 2)):
        b = a.copy()
        b[place] = 1
        assert same(a, a.copy())
        assert not same(a, b)
    assert not same(a, a[:3])


def test_a_broken_source_leaves_nothing_and_a_cut_one_is_reported(make, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError):
        mask(tmp_path / "text.mp4", tmp_path / "out" / "masked.mp4")
    assert not (tmp_path / "out").exists()

    def fail(image: np.ndarray) -> Detections:
        raise RuntimeError("stop")

    source = make("whole.mp4", seconds=4, options={"movflags": "faststart"})
    with pytest.raises(RuntimeError):
        mask(source, tmp_path / "out" / "masked.mp4", fail)
    assert list((tmp_path / "out").iterdir()) == []
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(source.read_bytes()[: int(source.stat().st_size * 0.7)])
    assert mask(cut, tmp_path / "out" / "masked.mp4").truncated


def test_bad_settings_and_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="movenet"):
        build_detector(MaskConfig(detector="yolo"))
    with pytest.raises(ConfigError, match="blazepose, bbox"):
        build_segmenter(MaskConfig(segmenter="sam"))
    with pytest.raises(ConfigError):
        weights_of(MaskConfig(detector="yolo"))
    with pytest.raises(ConfigError, match="fps"):
        MaskConfig(fps=0)
    assert set(weights_of(MaskConfig())) == {"movenet", "blazepose"}
    assert weights_of(MaskConfig(segmenter="bbox"))["movenet"]["licence"] == "Apache-2.0"
    (tmp_path / "net.tflite").write_bytes(b"no network")
    with pytest.raises(WeightsError, match=r"net\.tflite"):
        Network(tmp_path / "net.tflite")


def test_detections_come_back_as_they_were(tmp_path: Path) -> None:
    both = Detections(*(np.concatenate([a, b]) for a, b in zip(_arrays(person(10)), _arrays(person(90)), strict=True)))
    frames = [Detections.none(17), both, Detections.none(17), person(30), Detections.none(17)]
    write_detections(tmp_path / "d.npz", frames)
    back = read_detections(tmp_path / "d.npz")
    assert [len(d) for d in back] == [0, 2, 0, 1, 0]
    assert np.array_equal(back[1].keypoints, both.keypoints)
    assert np.array_equal(back[3].boxes, frames[3].boxes)
    (tmp_path / "bad.npz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"bad\.npz"):
        read_detections(tmp_path / "bad.npz")


def _arrays(d: Detections) -> tuple:
    return d.boxes, d.scores, d.keypoints


def test_overlap_and_similarity() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    assert iou(boxes, boxes)[0] == pytest.approx([1, 1 / 3, 0])
    a, far = person(0).keypoints, person(200).keypoints
    areas = np.full((1, 1), 3200, np.float32)
    assert oks(a, a, areas)[0, 0] == pytest.approx(1)
    assert oks(a, far, areas)[0, 0] < 0.01
    assert pair(np.array([[0.9, 0.8], [0.85, 0.1]], np.float32), 0.2) == [(0, 1), (1, 0)]


def test_one_person_reported_twice_is_one_and_two_close_ones_are_two() -> None:
    one, shifted, other = person(50), person(52, 0.5), person(75, 0.6)
    boxes = np.concatenate([one.boxes, shifted.boxes, other.boxes])
    scores = np.concatenate([one.scores, shifted.scores, other.scores])
    points = np.concatenate([one.keypoints, shifted.keypoints, other.keypoints])
    assert distinct(boxes, scores, points) == [0, 2]


def test_weak_detections_go_on_with_a_known_person_but_make_no_new_one() -> None:
    tracker = Tracker(0.2, hold=2)
    assert tracker.update(person(10, 0.1)) == []
    ids = [tracker.update(person(10 + 3 * i, 0.6))[0][0].id for i in range(4)]
    ids += [tracker.update(person(22 + 3 * i, 0.1))[0][0].id for i in range(4)]
    assert set(ids) == {ids[0]}
    assert tracker.update(person(140, 0.1)) == []
    chair = Tracker(0.2, hold=2)
    assert [len(chair.update(person(10, s))) for s in (0.22, 0.23, 0.21, 0.22, 0.1, 0.1)] == [1, 1, 1, 1, 0, 0]


def test_the_crop_turns_a_lying_person_upright() -> None:
    box = np.array([20, 60, 120, 90], np.float32)
    points = np.zeros((17, 3), np.float32)
    x = np.array([30, 28, 28, 32, 32, 45, 45, 55, 55, 65, 65, 80, 80, 98, 98, 115, 115])
    points[:, 0], points[:, 1], points[:, 2] = x, 75, 0.9
    crop = crop_of(box, points)
    assert crop.up == pytest.approx([-1, 0])
    matrix = crop.to_crop()
    head, feet = (matrix @ np.array([px, 75, 1]) for px in (30, 115))
    assert head[0] == pytest.approx(feet[0], abs=1)
    assert 0 < head[1] < feet[1] < 256
    assert figure((120, 160), points)[75, 50] == 1


def _truth(tmp_path: Path):
    pytest.importorskip("pybullet")
    from posewatch.footage import make_footage, read_truth

    (made,) = make_footage(tmp_path / "footage", videos=1, seconds=3.0, workers=1)
    return made.path, read_truth(made.truth)


@pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")
def test_masks_agree_with_exact_truth(real_networks: None, tmp_path: Path) -> None:
    source, truth = _truth(tmp_path)
    config = MaskConfig()
    report = mask_video(source, tmp_path / "masked.mp4", config)
    shown = [f.image.max(-1) > 24 for f in video.read(tmp_path / "masked.mp4")]
    real = truth.masks.any(1)
    assert report.frames == len(real)
    seen = [(s, r) for s, r in zip(shown, real, strict=True) if r.sum() > 400]
    covered = np.mean([(s & r).sum() / r.sum() for s, r in seen])
    wasted = np.mean([(s & ~r).mean() for s, r in seen])
    assert report.frames_with_people >= 0.9 * len(seen)
    assert covered > 0.75
    assert wasted < 0.08


def test_a_real_fall_keeps_the_person_to_the_end(real_networks: None, tmp_path: Path) -> None:
    source = SHARED / "data/video/gmdcsa24/Subject_4_Fall_01.mp4"
    if not source.is_file():
        pytest.skip("the GMDCSA24 sample is not there")
    report = mask_video(source, tmp_path / "masked.mp4", MaskConfig(fps=5, max_side=480))
    assert report.frames_with_people >= 0.95 * report.frames
    last = read_detections(tmp_path / "detections.npz")[-1]
    width, height = last.boxes[0, 2:] - last.boxes[0, :2]
    assert width > 1.5 * height  # lying
