"""People whom one look at one frame overlooks: weak, small, cut off, seen well only later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles import FixedNetwork

from posewatch import video
from posewatch.config import MaskConfig, PoseConfig
from posewatch.perception.masking import mask_frames
from posewatch.perception.networks.boxes import BoxSegmenter
from posewatch.perception.skeletons import completed, follow
from posewatch.perception.tracking.matching import area, merged, oks
from posewatch.records import Detections
from posewatch.video import Image


def person(*at: float, score: float = 0.8) -> Detections:
    """Persons of 40 x 80 pixels with their left edges at the given x."""
    boxes = np.array([[x, 20, x + 40, 100] for x in at], np.float32).reshape(-1, 4)
    points = [np.linspace([x, 20, score], [x + 40, 100, score], 17) for x in at]
    return Detections(boxes, np.full(len(at), score, np.float32), np.array(points, np.float32).reshape(-1, 17, 3))


def test_somebody_seen_in_two_looks_is_one_and_surer_than_in_either() -> None:
    found = merged([person(10, score=0.2), person(200, score=0.3), person(12, score=0.4)])
    assert len(found) == 2
    assert found.scores == pytest.approx([1 - 0.8 * 0.6, 0.3])
    assert found.boxes[:, 0] == pytest.approx([12, 200])  # of the look that is surest
    assert found.keypoints is not None
    assert found.keypoints[0, :, 2] == pytest.approx(0.4)


def test_looks_in_which_nobody_is_seen_change_nothing() -> None:
    assert len(merged([Detections.none(17), Detections.none(17)])) == 0
    assert merged([Detections.none(17), person(10), Detections.none(17)]).scores == pytest.approx([0.8])


def test_a_person_is_followed_back_from_where_the_detector_is_sure() -> None:
    scores = (0.1, 0.1, 0.1, 0.6, 0.6, 0.6, 0.1)
    frames = [person(10 + 2 * t, score=s) for t, s in enumerate(scores)]
    assert [len(f) for f in follow(frames, PoseConfig(min_score=0.2))] == [1] * 7
    assert not any(len(f) for f in follow(frames[:3], PoseConfig(min_score=0.2)))


def test_masking_looks_ahead_of_its_shard_for_people_who_come_to_be_seen_well(make) -> None:
    source = make(seconds=5, fps=10)  # 32 frames are a shard
    frames = iter(range(50))

    def found(image: Image) -> Detections:
        t = next(frames)
        return person(30 + t, score=0.9 if t >= 34 else 0.1 if t >= 20 else 0.01)

    masked = list(mask_frames(source, MaskConfig(hold=0), detector=FixedNetwork(found), segmenter=BoxSegmenter()))
    assert [bool(m.visible.any()) for m in masked] == [t >= 20 for t in range(50)]
    assert len({int(i) for m in masked for i in m.persons.ids}) == 1


def test_skeletons_have_the_people_of_masking_whom_the_estimator_misses_on_black() -> None:
    both = completed([Detections.none(17), person(10), person(10)], [person(10), Detections.none(17), person(200)])
    assert [len(found) for found in both] == [1, 1, 2]


def test_more_people_are_seen_than_the_network_reports_in_one_look(real_networks: None, walk: Path) -> None:
    import cv2

    from posewatch.perception.networks.movenet import MoveNet

    network = MoveNet()
    image = next(iter(video.read(walk, 10, 640, start_s=3))).image
    x1, y1, x2, y2 = network.detect([image])[0].boxes[0].round().astype(int)
    margin = (y2 - y1) // 5
    one = cv2.resize(image[max(0, y1 - margin) : y2 + margin, max(0, x1 - margin) : x2 + margin], (100, 180))
    crowd = np.tile(one, (2, 6, 1))  # two rows of six
    found = network.detect([crowd])[0]
    assert (found.scores >= MaskConfig().min_score).sum() > 6


def test_a_frame_without_doubt_is_not_looked_at_more_closely(real_networks: None, walk: Path) -> None:
    from posewatch.perception.networks.movenet import MoveNet

    network = MoveNet()
    clear = next(iter(video.read(walk, 10, 640, start_s=3))).image
    dark = (clear // 12).astype(np.uint8)
    thorough, quick = network.detect([clear, dark]), network.estimate([clear, dark])
    assert quick[0].scores.min() >= 0.4
    assert np.array_equal(thorough[0].scores, quick[0].scores)
    assert not np.array_equal(thorough[1].scores, quick[1].scores)


class Counted:
    """A network that counts how often it was asked."""

    def __init__(self, network: Any) -> None:
        self._network, self.asked = network, 0

    def run(self, image: Image) -> Any:
        self.asked += 1
        return self._network.run(image)


def test_one_small_look_is_enough_while_the_same_people_are_large(real_networks: None, walk: Path) -> None:
    import cv2

    from posewatch.perception.networks.movenet import MoveNet

    network = MoveNet()
    close = network._whole[384] = Counted(network._whole[384])  # type: ignore[assignment]
    wide = [frame.image for frame in video.read(walk, 10, 640)]
    large = [cv2.resize(image[160:, 110:330], (440, 400)) for image in wide[44:46]]  # she fills three quarters of it

    def glanced(image: Image, before: Image) -> bool:
        people = network.estimate([before])[0]
        people = people.pick(np.flatnonzero(people.scores >= 0.3).tolist())
        asked = close.asked
        found = network.glance(image, people)
        if close.asked > asked:
            assert np.array_equal(found.boxes, network.estimate([image])[0].boxes)
            return False
        assert [(found.scores >= 0.15).sum(), found.scores[0] >= 0.4] == [1, True]
        thorough = network.estimate([image])[0]
        assert oks(found.keypoints, thorough.keypoints, area(thorough.boxes)[None])[0, 0] > 0.9
        return True

    assert glanced(large[1], large[0])
    assert not glanced(wide[45], wide[44])  # small
    assert not glanced(large[1], np.zeros_like(large[0]))  # nobody was there
    assert not glanced(np.zeros_like(large[1]), large[0])  # she is gone
    two = np.concatenate([large[1], large[1][:, ::-1]], 1)[:, :620]
    assert not glanced(two, np.pad(large[0], ((0, 0), (0, 180), (0, 0))))  # somebody came
    assert not glanced(cv2.GaussianBlur(large[1], (41, 41), 0), large[0])  # may be her
    assert not glanced(large[1], wide[44])  # she was small
    assert not glanced(wide[45], large[0])  # she is small now


def test_nobody_lies_across_a_tall_box() -> None:
    from posewatch.perception.networks.blazepose import other_crops

    def directions(width: float, height: float) -> list[list[float]]:
        return [crop.up.tolist() for crop in other_crops(np.array([10, 10, 10 + width, 10 + height], np.float32))]

    assert directions(40, 80) == [[0, -1], [0, 1]]
    assert directions(80, 40) == [[0, -1], [-1, 0], [1, 0]]
    assert len(directions(50, 50)) == 4
