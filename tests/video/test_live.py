"""The clocks of cameras: recorded and watched over real connections, and thousands of sequences of stamps."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from camera import Camera
from http_camera import HttpCamera, jpegs, sound_only_after, transport, without_keyframe
from numbered import number_of, shown

from posewatch import video
from posewatch.errors import VideoError
from posewatch.video import capture as recording
from posewatch.video.capture import capture
from posewatch.video.clock import GAP_S, Clock, Stamp
from posewatch.watch import sources
from posewatch.watch.sources import CameraSource, Frame

CLOCKS = {
    "steady": (10, 11, 12, 13),
    "back an hour": (7200, 3600, 3601, 3602),
    "ahead an hour": (10, 3610, 3611, 3612),
    "back and ahead": (7200, 60, 9000, 9001),
}


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize("begins_s", CLOCKS.values(), ids=CLOCKS)
def test_a_recording_holds_every_picture_whatever_the_clock(tmp_path: Path, begins_s, bframes: int) -> None:
    with transport(tmp_path, begins_s, bframes=bframes) as camera:
        pieces = list(capture(camera.url, tmp_path / "out", segment_s=2, duration_s=3.6, timeout_s=5))
    assert [round(p.seconds, 1) for p in pieces] == pytest.approx([2, 1.6], abs=0.15)
    numbers = [n for p in pieces for _, n in shown(p.path)]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) >= 88
    for piece in pieces:
        info = video.probe(piece.path)
        assert (info.duration_s, info.fps) == (pytest.approx(piece.seconds, abs=0.1), pytest.approx(25, rel=0.1))


def test_pictures_without_times_are_recorded_when_they_arrive(tmp_path: Path) -> None:
    with jpegs(60, 0.05) as camera:
        began = time.monotonic()
        (piece,) = capture(camera.url, tmp_path, segment_s=5, duration_s=1.2, timeout_s=5)
        took = time.monotonic() - began
    info = video.probe(piece.path)
    assert piece.seconds == pytest.approx(1.2, abs=0.2)
    assert took == pytest.approx(piece.seconds, abs=0.5)
    assert info.duration_s == pytest.approx(piece.seconds, abs=0.1)
    assert 10 <= info.frames <= 26, "20 a second, not the 25 that FFmpeg assumes"


def watched(camera: HttpCamera | Camera, count: int, fps: float = 10, **options: float) -> list[Frame]:
    source, stop = CameraSource(camera.url, fps, 96, **options), threading.Event()
    frames = []
    for frame in source.frames(stop):
        frames.append(frame)
        if len(frames) == count:
            break
    stop.set()
    return frames


@pytest.mark.parametrize("begins_s", CLOCKS.values(), ids=CLOCKS)
def test_a_camera_is_watched_through_a_clock_that_is_set(tmp_path: Path, begins_s, monkeypatch) -> None:
    monkeypatch.setattr(sources, "BUFFER_S", 100)
    with transport(tmp_path, begins_s) as camera:
        frames = watched(camera, 36)
    assert [frame.index for frame in frames] == pytest.approx(list(range(36)), abs=2)
    numbers = [number_of(frame.image) for frame in frames]
    assert numbers == sorted(set(numbers))
    assert all(abs((datetime.now(UTC) - frame.wall).total_seconds()) < 30 for frame in frames if frame.wall)


def test_pictures_without_times_are_watched_when_they_arrive() -> None:
    with jpegs(40, 0.1) as camera:
        began = time.monotonic()
        frames = watched(camera, 12)
        took = time.monotonic() - began
    assert frames[-1].time_s == pytest.approx(took, abs=0.6)
    assert frames[-1].time_s - frames[0].time_s == pytest.approx(
        (frames[-1].wall - frames[0].wall).total_seconds(), abs=0.3
    )


def test_a_camera_without_pictures_is_not_watched(tmp_path: Path, monkeypatch) -> None:
    """Its sound goes on, so that the connection never breaks."""
    monkeypatch.setattr(sources, "BACKOFF_S", (0.05,))
    with sound_only_after(tmp_path, 0.0, 0.008) as camera:
        source = CameraSource(camera.url, 10, 96, timeout_s=0.3)
        with pytest.raises(VideoError, match="no frame from"):
            list(source.frames(threading.Event()))
    assert not source.counters.connected


def test_a_camera_whose_pictures_end_is_connected_again(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(sources, "BACKOFF_S", (0.05,))
    stop = threading.Event()
    with sound_only_after(tmp_path, 1.0) as camera:
        source = CameraSource(camera.url, 10, 96, timeout_s=0.5)
        for _ in source.frames(stop):
            if source.counters.connects > 1:
                break
        stop.set()
    assert "connected, and no picture for 0.5 s; connecting again" in caplog.text


def test_a_password_that_is_refused_is_not_tried_again_and_again(monkeypatch) -> None:
    """Cameras lock out who does that, their own users included."""
    monkeypatch.setattr(sources, "BACKOFF_S", (0.01,))
    monkeypatch.setattr(sources, "REFUSED_S", (60.0,))
    camera = Camera(refuses=True)
    with pytest.raises(VideoError, match="check the user and the password"):
        list(CameraSource(camera.url, 10, 96, timeout_s=1.0).frames(threading.Event()))
    camera.close()
    assert camera.refused <= 2, "at once, and when the time is over"


def test_only_the_picture_of_a_camera_is_asked_for() -> None:
    camera = Camera()
    watched(camera, 3, timeout_s=30)
    camera.close()
    assert camera.tracks == ["track1"], "no sound, no metadata"


def test_a_camera_that_sends_over_udp_only_is_watched() -> None:
    """It refuses TCP, which RFC 2326 leaves to it; others are asked for TCP first, over which nothing is lost."""
    camera = Camera(udp=True)
    frames = watched(camera, 12, timeout_s=30)
    camera.close()
    assert {frame.image.shape for frame in frames} == {(72, 96, 3)}


@pytest.mark.parametrize("headers", [True, False])
def test_a_camera_without_a_keyframe_is_told(tmp_path: Path, monkeypatch, headers: bool) -> None:
    """It is connected again, as many send one then; a recording cannot begin without."""
    monkeypatch.setattr(recording, "KEYFRAME_S", 0.5)
    monkeypatch.setattr(recording, "_FIRST_BACKOFF_S", 0.01)
    (tmp_path / "out").mkdir()
    with (
        without_keyframe(tmp_path, headers=headers) as camera,
        pytest.raises(VideoError, match=r"no keyframe for [0-9.]+ s \(set a shorter interval between keyframes"),
    ):
        list(capture(camera.url, tmp_path / "out", segment_s=2, duration_s=2, timeout_s=1.5))
    assert not list((tmp_path / "out").iterdir())


def test_a_watched_camera_without_a_keyframe_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sources, "BACKOFF_S", (0.05,))
    with (
        without_keyframe(tmp_path) as camera,
        pytest.raises(VideoError, match=r"no keyframe for 0.3 s \(set a shorter interval between keyframes"),
    ):
        list(CameraSource(camera.url, 10, 96, timeout_s=0.3).frames(threading.Event()))


def arrivals(seed: int) -> tuple[list[tuple[float | None, float]], float]:
    """(stamp, seconds since the picture before arrived) of a camera with some faults, and its step."""
    dice = random.Random(seed)
    step = dice.choice([0.04, 0.1, 0.2])
    at, stamp, out = 0.0, dice.choice([0.0, 50000.0]), []
    fault = dice.choice(["none", "still", "set", "set", "slow", "steady"])
    for k in range(dice.randint(5, 200)):
        pause = dice.choice([2.0, 20.0]) if dice.random() < 0.01 else 0.0
        waited = 0.0 if k == 0 else max(0.0, step + pause + dice.uniform(-0.03, 0.03))
        at += waited
        stamp += 0.001 if fault == "slow" else 0.0 if fault == "still" else step + pause
        if fault == "set" and dice.random() < 0.03:
            stamp += dice.choice([-86400.0, -3600.0, -1.0, 2.0, 60.0, 3600.0, -(2**32) / 90000])
        lost = fault == "none" or dice.random() < 0.02
        out.append((None if lost else stamp, waited))
    return out, step


def test_thousands_of_sequences_of_stamps_and_arrivals() -> None:
    for seed in range(1500):
        pictures, step = arrivals(seed)
        clock = Clock(step, counting=True, in_order=True)
        times = [clock(Stamp(stamp, None, step), waited) for stamp, waited in pictures]
        assert all(b > a for a, b in pairwise(times)), seed
        passed = 0.0
        for (a, b), (_, waited) in zip(pairwise(times), pictures[1:], strict=True):
            assert b - a <= waited + GAP_S + 1e-6, "a clock that is set costs a window at most"
            passed += waited
        faults = len(clock.jumps) + sum(1 for (a, b) in pairwise(times) if b - a > 1.5 and b - a <= GAP_S)
        assert times[-1] - times[0] >= passed / 2 - (faults + 2) * GAP_S, "time does not stand still"
        assert times[-1] - times[0] <= passed + (faults + 1) * (GAP_S + step), "nor run away"
