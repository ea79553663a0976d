"""What cameras show besides one person: nobody, crowds, people who come, go and cross, black and very short videos."""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from doubles import FixedNetwork
from pictures import square

from posewatch import video
from posewatch.config import MaskConfig, PoseConfig, load
from posewatch.errors import ConfigError
from posewatch.perception.compose import Composer
from posewatch.perception.masking import mask_frames, mask_video
from posewatch.perception.networks.boxes import BoxSegmenter
from posewatch.perception.skeletons import estimate_video, skeleton
from posewatch.perception.storage import read_detections
from posewatch.perception.tracking.identities import track
from posewatch.perception.tracking.tracker import Tracker
from posewatch.perception.workers import WorkerPool
from posewatch.records import Detections

CONFIG = MaskConfig(fps=10, dilate=0, hold=3)


def people(places: list[tuple[float, float]], size: float = 20, score: float = 0.9) -> Detections:
    """Persons whose top left corners are given, ``size`` wide and twice as high, with 17 joints on the diagonal."""
    if not places:
        return Detections.none(17)
    boxes = np.array([[x, y, x + size, y + 2 * size] for x, y in places], np.float32)
    joints = [np.linspace([x, y, score], [x + size, y + 2 * size, score], 17) for x, y in places]
    return Detections(boxes, np.full(len(places), score, np.float32), np.array(joints, np.float32))


def blank(path: Path, frames: int, value: int = 0, size: tuple[int, int] = (160, 120)) -> Path:
    with video.Writer(path, 10, size) as writer:
        for t in range(frames):
            image = np.full((size[1], size[0], 3), value, np.uint8)
            image[-16:] += np.uint8(t % 2 * value // 8)  # a picture that repeats is looked at once
            writer.write(image)
    return path


def acted(source: Path, out: Path, script: Callable[[int], Detections], config: MaskConfig = CONFIG):
    """Mask with a detector that finds in frame t what the script says."""
    frames = iter(range(10_000))
    detector = FixedNetwork(lambda image: script(next(frames)))
    return mask_video(source, out, config, detector=detector, segmenter=BoxSegmenter())


def test_a_black_video_and_one_of_a_single_frame_with_the_real_networks(real_networks: None, tmp_path: Path) -> None:
    report = mask_video(blank(tmp_path / "black.mp4", 12), tmp_path / "a" / "m.mp4", MaskConfig())
    assert (report.frames, report.frames_with_people, report.people_mean) == (12, 0, 0)
    report = mask_video(blank(tmp_path / "one.mp4", 1, 90), tmp_path / "b" / "m.mp4", MaskConfig())
    assert (report.frames, report.duration_s) == (1, 0.1)
    found = estimate_video(tmp_path / "b" / "m.mp4", PoseConfig())
    assert skeleton(found, PoseConfig(), 10, 160, 120).keypoints.shape == (2, 1, 17, 3)


def test_thirty_people_keep_their_numbers(tmp_path: Path) -> None:
    def script(t: int) -> Detections:
        order = np.random.default_rng(t).permutation(30)  # a detector has no order of its own
        return people([(10 + 50 * (i % 10) + t, 10 + 80 * (i // 10)) for i in order])

    source = blank(tmp_path / "crowd.mp4", 10, 120, (520, 280))
    report = acted(source, tmp_path / "m.mp4", script)
    assert report.people_mean == 30
    tracker, numbers = Tracker(0.2, 3), []
    for t in range(10):
        found = script(t)
        numbers.append({tuple(np.round(found.boxes[i, :2] - [t, 0])): n.id for n, i in tracker.update(found)})
    assert all(row == numbers[0] for row in numbers)
    k = track([script(t) for t in range(10)], 30, hold=3)
    assert ((k[..., 2] > 0).all(-1).sum(1) == 10).all()
    assert np.allclose(np.diff(k[:, :, 0, 0], axis=1), 1)


def test_two_people_who_cross_stay_who_they_are() -> None:
    frames = [people([(10 + 8 * t, 20), (210 - 8 * t, 24)], size=30) for t in range(26)]
    k = track(frames, 2, hold=5)
    steps = np.sign(np.diff(k[:, :, 0, 0], axis=1))
    assert (steps == steps[:, :1]).all()
    assert sorted(steps[:, 0]) == [-1, 1]


def test_people_who_enter_and_leave_are_shown_while_they_are_there(tmp_path: Path) -> None:
    def script(t: int) -> Detections:
        return people([(x, 30) for x, there in ((20, t < 12), (90, 8 <= t < 20)) if there])

    source = blank(tmp_path / "a.mp4", 30, 120)
    report = acted(source, tmp_path / "m.mp4", script)
    lit = [
        (bool((f.image[:, :60] > 60).any()), bool((f.image[:, 80:] > 60).any())) for f in video.read(tmp_path / "m.mp4")
    ]
    assert [a for a, _ in lit] == [t < 15 for t in range(30)]  # three frames more than the person, by hold
    assert [b for _, b in lit] == [8 <= t < 23 for t in range(30)]
    assert report.frames_with_people == 23
    k = skeleton(read_detections(tmp_path / "detections.npz"), PoseConfig(max_people=2), 10, 160, 120).keypoints
    assert [(k[m, :, 0, 2] > 0).sum() for m in (0, 1)] == [12, 12]


def test_an_edge_may_fade(tmp_path: Path) -> None:
    image = np.full((60, 80, 3), 200, np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[20:40, 20:60] = True
    soft = Composer(0, 4).paint(image, mask)
    assert (soft[mask] == 200).all()
    edge = soft[30, 60:70, 0].astype(int)
    assert (np.diff(edge[:5]) < 0).all()
    assert (edge[5:] == 0).all()
    hard = Composer(0, 0).paint(image, mask)
    assert (hard[~mask] == 0).all()


def test_each_person_alone_in_a_crop(make, tmp_path: Path) -> None:
    config = MaskConfig(fps=10, dilate=0, crops=True)
    source = make(seconds=2, fps=10, size=(240, 120))
    mask_video(source, tmp_path / "m.mp4", config, detector=FixedNetwork(square), segmenter=BoxSegmenter())
    crop = tmp_path / "crops" / "person-0000-000000.mp4"
    frames = [f.image for f in video.read(crop)]
    assert len(frames) == 20
    assert all(f.shape == (256, 256, 3) for f in frames)
    assert all(f[100:156, 100:156].mean() > 200 for f in frames)  # follows the square, which moves
    assert '"person": 0' in (tmp_path / "crops" / "crops.json").read_text()


def test_several_processes_give_the_bytes_of_one(real_networks: None, walk: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.mp4"
    frames = [f.image for f in video.read(walk, 10, 240, start_s=1.0, end_s=5.0)]
    with video.Writer(part, 10, frames[0].shape[1::-1]) as writer:
        for frame in frames:
            writer.write(frame)
    config = MaskConfig(unit="person", max_side=240)
    for workers in (1, 2):
        mask_video(part, tmp_path / str(workers) / "m.mp4", config, workers=workers)
    names = sorted(p.name for p in (tmp_path / "1").iterdir())
    assert {"detections.npz", "m.mp4", "person-0001.mp4", "persons.json"} <= set(names)
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    one, two = (estimate_video(tmp_path / "1" / "m.mp4", PoseConfig(), workers=n) for n in (1, 2))
    assert len(one) == len(two) == 40
    assert all(np.array_equal(a.keypoints, b.keypoints) for a, b in zip(one, two, strict=True))


def test_stopping_early_leaves_no_thread_behind(make) -> None:
    import threading

    before = threading.active_count()
    frames = mask_frames(make(seconds=9, fps=10), CONFIG, detector=FixedNetwork(square), segmenter=BoxSegmenter())
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@pytest.mark.slow
def test_twenty_minutes_take_no_more_memory_than_one(make, tmp_path: Path) -> None:
    short = make(seconds=6, fps=10, size=(320, 240))
    frames = [f.image for f in video.read(short, 10)]
    long = tmp_path / "long.mp4"
    with video.Writer(long, 10, (320, 240)) as writer:
        for i in range(12_000):
            writer.write(frames[i % 60])
    config = MaskConfig(fps=10)
    mask_video(short, tmp_path / "s" / "m.mp4", config, detector=FixedNetwork(square), segmenter=BoxSegmenter())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = mask_video(long, tmp_path / "l" / "m.mp4", config, detector=FixedNetwork(square), segmenter=BoxSegmenter())
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert report.frames == 12_000
    assert grown < 120, f"{grown:.0f} MiB more for 20 minutes; all its frames are 2.7 GB"


@pytest.mark.parametrize("workers", [1, 2])
def test_networks_that_cannot_be_loaded_say_why(workers: int) -> None:
    """In a worker process, too: not that the process was killed."""
    with (
        pytest.raises(ConfigError, match="no-such-experiment"),
        WorkerPool(partial(load, "no-such-experiment"), workers) as pool,
    ):
        list(pool.map(max, [1]))
