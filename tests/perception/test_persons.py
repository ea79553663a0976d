"""Masking in person mode: a video per tracked person, alone on black, and persons.json that tells of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from doubles import FixedNetwork

from posewatch import video
from posewatch.config import MaskConfig
from posewatch.errors import InputError
from posewatch.perception.compose import Composer
from posewatch.perception.masking import mask_video
from posewatch.perception.networks.boxes import BoxSegmenter
from posewatch.perception.persons import PERSONS, PersonWriter, read_persons
from posewatch.perception.separating import separated
from posewatch.perception.storage import read_detections
from posewatch.records import Detections

COLOURS = ((220, 40, 40), (40, 220, 40), (60, 60, 230))
WIDTH, HEIGHT, FPS = 320, 160, 10
CONFIG = MaskConfig(unit="person", fps=FPS, hold=3, dilate=0)
Where = Callable[[float], tuple[int, int, int, int] | None]


def scene(path: Path, *people: Where, seconds: float = 4.0) -> Path:
    """A grey room; each person is a rectangle (x, y, width, height) of their own colour, the first one in front."""
    with video.Writer(path, FPS, (WIDTH, HEIGHT)) as out:
        for i in range(round(seconds * FPS)):
            image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            for colour, where in reversed([*zip(COLOURS, people, strict=False)]):
                if (place := where(i / FPS)) is not None:
                    x, y, w, h = place
                    image[y : y + h, x : x + w] = colour
            out.write(image)
    return path


def area(image: np.ndarray, colour: int) -> np.ndarray:
    """Where the image has the colour of a person."""
    return np.abs(image.astype(int) - COLOURS[colour]).max(-1) < 60


def find(image: np.ndarray) -> Detections:
    """The rectangle of each colour that can be seen."""
    boxes = []
    for colour in range(3):
        ys, xs = np.nonzero(area(image, colour))
        if len(ys) > 100:
            boxes.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    found = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(found, np.full(len(found), 0.9, np.float32))


class ColourSegmenter(BoxSegmenter):
    """The pixels of the person whose rectangle the box is."""

    def segment(self, image: np.ndarray, detections: Detections) -> np.ndarray:
        masks = super().segment(image, detections)
        extents = [find(np.where(area(image, c)[..., None], image, 0).astype(np.uint8)) for c in range(3)]
        for mask, box in zip(masks, detections.boxes, strict=True):
            colour = next(c for c, e in enumerate(extents) if len(e) and np.array_equal(e.boxes[0], box))
            mask &= area(image, colour)
        return masks


def mask(src: Path, out: Path, config: MaskConfig = CONFIG) -> tuple[dict, list]:
    mask_video(src, out / "masked.mp4", config, detector=FixedNetwork(find), segmenter=ColourSegmenter())
    about = json.loads((out / PERSONS).read_text())
    return about, read_persons(about)


def left(t: float) -> tuple[int, int, int, int]:
    return int(20 + 60 * t), 40, 40, 100


def right(t: float) -> tuple[int, int, int, int]:
    return int(260 - 60 * t), 30, 40, 100


def test_each_person_is_alone_in_a_video_of_their_own_also_where_they_cross(tmp_path: Path) -> None:
    about, persons = mask(scene(tmp_path / "a.mp4", left, right), tmp_path / "out")
    assert [(p.person, p.file, p.first, p.frames) for p in persons] == [
        (1, "person-0001.mp4", 0, 40),
        (2, "person-0002.mp4", 0, 40),
    ]
    assert (about["fps"], about["width"], about["height"], about["too_short"]) == (FPS, WIDTH, HEIGHT, 0)
    for person, colour in ((persons[0], 0), (persons[1], 1)):
        frames = [f.image for f in video.read(tmp_path / "out" / person.file)]
        assert len(frames) == 40
        own = [area(f, colour).sum() for f in frames]
        others = [area(f, 1 - colour).sum() for f in frames]
        assert max(others) < 60, "the other person's pixels"
        assert np.median(own) > 3500
        assert all(abs(f[:20].astype(int)).max() < 30 for f in frames), "the room"
    for person, other in ((persons[0], 2), (persons[1], 1)):
        spans = [(o["person"], o["lost"]) for o in person.overlaps]
        assert spans, "the crossing is told"
        assert set(spans) <= {(other, False), (other, True)}
        assert 1.2 < person.overlaps[0]["begin_s"] < 2.0
    found = read_detections(tmp_path / "out" / "detections.npz")
    assert found[0].ids is not None
    assert found[0].ids.tolist() == [1, 2]
    assert found[-1].boxes[0].tolist() == pytest.approx(persons[0].boxes[-1], abs=0.1)


def test_a_short_presence_gets_no_video_and_changes_no_number(tmp_path: Path) -> None:
    def passing(t: float) -> tuple[int, int, int, int] | None:
        return (200, 20, 40, 80) if 0.5 <= t < 1.2 else None

    source = scene(
        tmp_path / "a.mp4", lambda t: (20, 40, 40, 100), passing, lambda t: (260, 60, 40, 90) if t > 2 else None
    )
    about, persons = mask(source, tmp_path / "one")
    assert [(p.person, p.begin_s, p.end_s) for p in persons] == [(1, 0.0, 4.0), (3, 2.1, 4.0)]
    assert about["too_short"] == 1
    assert not (tmp_path / "one" / "person-0002.mp4").exists()
    _, everybody = mask(source, tmp_path / "all", MaskConfig(unit="person", fps=FPS, hold=3, min_presence_s=0))
    assert [p.person for p in everybody] == [1, 2, 3]
    assert everybody[1].seen == 7
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == [
        "detections.npz", "masked.mp4", "person-0001.mp4", "person-0003.mp4", PERSONS,
    ]  # fmt: skip


def test_who_comes_back_later_than_hold_is_perhaps_the_same_person(tmp_path: Path) -> None:
    def gone(t: float) -> tuple[int, int, int, int] | None:
        return None if 1.5 <= t < 2.4 else (100, 40, 40, 100)

    def blinking(t: float) -> tuple[int, int, int, int] | None:
        return None if 1.5 <= t < 1.7 else (220, 40, 40, 100)

    _, persons = mask(scene(tmp_path / "a.mp4", gone, blinking), tmp_path / "out")
    assert [(p.person, p.begin_s, p.perhaps) for p in persons] == [(1, 0.0, None), (2, 0.0, None), (3, 2.4, 1)]
    assert persons[1].frames == 40
    assert persons[1].boxes[15:17] == (None, None)


def test_somebody_lost_in_another_ones_arms_is_told(tmp_path: Path) -> None:
    """The detector sees one person where there are two: the video of the one may show both."""

    def hidden(t: float) -> tuple[int, int, int, int] | None:
        return (110, 45, 30, 90) if t < 1.5 else None

    _, persons = mask(scene(tmp_path / "a.mp4", lambda t: (100, 40, 60, 100), hidden), tmp_path / "a")
    assert len(persons) == 1, "who is hidden from the beginning is not known"

    def clinch(t: float) -> tuple[int, int, int, int] | None:
        return (max(125, int(220 - 80 * t)), 45, 40, 90) if t < 1.4 else None

    _, (front, behind) = mask(scene(tmp_path / "b.mp4", lambda t: (100, 40, 60, 100), clinch), tmp_path / "b")
    assert behind.end_s < 2
    told = [o for o in front.overlaps if o["lost"]]
    assert [o["person"] for o in told] == [2]
    assert told[0]["end_s"] == 4.0


def test_a_crop_follows_the_person_steadily(tmp_path: Path) -> None:
    _, persons = mask(
        scene(tmp_path / "a.mp4", left), tmp_path / "out", MaskConfig(unit="person", fps=FPS, view="crop")
    )
    frames = [f.image for f in video.read(tmp_path / "out" / persons[0].file)]
    assert frames[0].shape == (256, 256, 3)
    centres = [np.argwhere(area(f, 0)).mean(0) for f in frames]
    assert np.abs(np.array(centres) - 128).max() < 45
    assert len(persons[0].views) == 40
    sides = np.array(persons[0].views)[:, 2]
    assert np.abs(np.diff(sides)).max() < 2


def writer(folder: Path, **options: object) -> PersonWriter:
    given = {"view": "frame", "min_presence_s": 0.0, "hold": 3, **options}
    return PersonWriter(folder, FPS, (64, 48), paint=Composer(0, 0).paint, **given)  # type: ignore[arg-type]


def frame(out: PersonWriter, place: int) -> None:
    mask = np.zeros((48, 64), bool)
    mask[10:40, 10:30] = True
    found = Detections(np.array([[10, 10, 30, 40]], np.float32), np.ones(1, np.float32), None, np.array([7]))
    out.write(np.full((48, 64, 3), 99, np.uint8), place, found, {7: mask}, {})


def test_times_are_those_of_the_source_also_after_a_gap(tmp_path: Path) -> None:
    with writer(tmp_path) as out:
        for place in (5, 6, 7, 48, 49):
            frame(out, place)
    (person,) = read_persons(json.loads((tmp_path / PERSONS).read_text()))
    assert (person.first, person.frames, person.begin_s, person.end_s) == (0, 5, 0.5, 5.0)


def test_nothing_is_left_behind_when_it_fails(tmp_path: Path) -> None:
    out = writer(tmp_path)
    for place in range(5):
        frame(out, place)
    out.__exit__(InputError, InputError("the camera burnt"), None)
    assert list(tmp_path.iterdir()) == []


def test_pixels_that_two_masks_claim_go_to_one() -> None:
    def rectangle(x1: int, x2: int) -> np.ndarray:
        mask = np.zeros((20, 60), bool)
        mask[5:15, x1:x2] = True
        return mask

    shown = separated({1: rectangle(0, 30), 2: rectangle(20, 50)}, {9: rectangle(45, 60)})
    assert not (shown[1] & shown[2]).any()
    assert (shown[1] | shown[2] == rectangle(0, 50)).all()
    assert abs(int(shown[1].sum()) - 250) <= 10, "half of what both claim"
    assert (shown[9] == rectangle(50, 60)).all(), "a memory gives way to who is in sight"
    hidden = separated({1: rectangle(0, 30)}, {9: rectangle(8, 32)})
    assert not hidden[9].any(), "who is lost behind somebody is no rim around them"
    inner = separated({1: rectangle(0, 50), 2: rectangle(20, 30)}, {})
    assert (inner[2] == rectangle(20, 30)).all(), "who is inside another one's mask was taken in by it"
    assert not (inner[1] & inner[2]).any()
    alike = separated({1: rectangle(0, 30), 2: rectangle(0, 30)}, {})
    assert (alike[1] == alike[2]).all(), "this cannot be told"


def test_another_file_is_refused() -> None:
    with pytest.raises(InputError, match="run mask again"):
        read_persons({"people": []})
