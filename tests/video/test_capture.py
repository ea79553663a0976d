"""Recording from a camera, over a real RTSP connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from camera import Camera

from posewatch import video
from posewatch.addresses import name_of, without_secrets
from posewatch.artifact import get, members
from posewatch.cli import main as cli
from posewatch.errors import ConfigError, InputError, VideoError
from posewatch.stages.capture import capture as record
from posewatch.store import open_store
from posewatch.video.capture import capture, is_stream


@pytest.fixture
def camera() -> Iterator[Camera]:
    made = Camera()
    yield made
    made.close()


def test_a_stream_becomes_segments_that_begin_with_a_keyframe(camera: Camera, tmp_path: Path) -> None:
    pieces = list(capture(camera.url, tmp_path, segment_s=3, duration_s=7))
    assert [round(p.seconds, 2) for p in pieces] == [3, 3, 1]
    for piece, frames in zip(pieces, (30, 30, 10), strict=True):
        info = video.probe(piece.path)
        assert (info.frames, info.width, info.truncated) == (frames, 160, False)
        assert info.duration_s == pytest.approx(piece.seconds, abs=0.01)
        assert len(list(video.read(piece.path, 10))) == frames
    assert sorted(p.name for p in tmp_path.iterdir()) == [p.path.name for p in pieces]


def test_a_connection_that_breaks_is_opened_again_and_nothing_is_lost_before_it(tmp_path: Path) -> None:
    camera = Camera(breaks_after=4.5)
    pieces = list(capture(camera.url, tmp_path, segment_s=2, duration_s=8, timeout_s=20))
    camera.close()
    assert camera.connections == 2
    assert sum(p.seconds for p in pieces) == pytest.approx(8, abs=0.01)
    assert all(video.probe(p.path).frames == pytest.approx(10 * p.seconds, abs=1) for p in pieces)


def test_a_silent_camera_is_named_without_its_password(camera: Camera, tmp_path: Path) -> None:
    camera.close()
    with pytest.raises(VideoError, match=r"nothing from rtsp://127.0.0.1:\d+/live") as caught:
        list(capture(camera.url, tmp_path, 1, 1, timeout_s=0.2))
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="lengths above 0"):
        list(capture(camera.url, tmp_path, 0, 1))


def test_a_wrong_password_is_told_at_once(tmp_path: Path) -> None:
    """Cameras lock out an address after a few wrong passwords."""
    camera = Camera(refuses=True)
    with pytest.raises(VideoError, match=r"401 Unauthorized.*check the user and the password") as caught:
        list(capture(camera.url, tmp_path, 1, 1, timeout_s=20))
    camera.close()
    assert camera.refused == 1
    assert "secret" not in str(caught.value)


def test_a_recording_goes_on_where_it_was_interrupted(camera: Camera, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    first = record(store, camera.url, duration_s=4, segment_s=2, name="door")
    assert len(members(first)) == 2
    assert get(store, first.uri).digest == record(store, camera.url, duration_s=4, segment_s=2, name="door").digest
    both = members(record(store, camera.url, duration_s=6, segment_s=2, name="door"))
    assert len(both) == 3
    assert [row["video"] for row, _ in both[:2]] == [row["video"] for row, _ in members(first)]
    assert all(row["names"][0].startswith("door/") for row, _ in both)
    text = b"".join(store.get(o.key) for o in store.list() if o.key.endswith(("json", "jsonl")))
    assert b"secret" not in text
    with pytest.raises(InputError, match="bad camera name"):
        record(store, camera.url, duration_s=1, name="a/b")


def test_the_command_records_from_a_camera(camera: Camera, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["--store", str(tmp_path / "store"), "--segment", "1"]
    assert cli.main(["ingest", camera.url, *told]) == 2
    assert "--duration" in capsys.readouterr().err
    assert cli.main(["ingest", camera.url, *told, "--duration", "2"]) == 0
    uri = capsys.readouterr().out.strip()
    assert len(members(get(open_store(str(tmp_path / "store")), uri))) == 2


def test_addresses() -> None:
    assert all(is_stream(s) for s in ("rtsp://a/b", "RTSP://a"))
    assert not any(is_stream(s) for s in ("s3://a", "a.mp4", "file:///a"))
    assert without_secrets("rtsp://u:p@cam:554/live?token=1") == "rtsp://cam:554/live"
    assert name_of("rtsp://u:p@10.0.0.7:554/Streaming/1") == "10-0-0-7-streaming-1"
