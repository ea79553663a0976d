"""What is not shown is not decoded, and what is shown is the same as if all were: files of real encoders."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from posewatch import video
from posewatch.errors import VideoError
from posewatch.video import reading
from posewatch.video.opening import opened
from posewatch.video.unreferenced import unreferenced

SIZE = (96, 64)
TEXTURE = np.random.default_rng(0).integers(0, 255, (12, 30, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
X264, X265 = {"preset": "veryfast"}, {"preset": "ultrafast"}


def moving(k: int) -> np.ndarray:
    """A coarse pattern that moves, so that pictures are predicted from others."""
    return np.ascontiguousarray(np.roll(TEXTURE, (k, 3 * k), (0, 1))[: SIZE[1], : SIZE[0]])


def encode(
    path: Path, codec: str, options: dict[str, str], *, frames: int = 60, times: list[int] | None = None,
    form: str | None = None, flags: int = 0,
) -> Path:  # fmt: skip
    """Write so many pictures, at ``times`` in 1 / 30 s (default: one after the other)."""
    with av.open(str(path), "w", format=form) as out:
        stream = out.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.thread_count = 1
        stream.codec_context.gop_size = 15
        stream.codec_context.flags |= flags
        if codec in ("mpeg4", "mpeg2video", "mpeg1video"):
            stream.codec_context.max_b_frames = 2
        for k in range(frames):
            frame = av.VideoFrame.from_ndarray(moving(k), format="rgb24")
            frame.pts, frame.time_base = k if times is None else times[k], Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


class Decoder:
    """Counts the pictures that are decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded = 0
        decode = reading._decoded

        def counted(*arguments: Any, **options: Any) -> Any:
            for frame in decode(*arguments, **options):
                self.decoded += 1
                yield frame

        monkeypatch.setattr(reading, "_decoded", counted)

    def read(self, path: Path, *arguments: Any, skip: bool = True, **options: Any) -> tuple[list[Any], int]:
        """(place, time, picture) of every frame, and how many were decoded for them."""
        self.decoded = 0
        frames: list[Any] = []
        try:
            frames += [
                (f.index, f.time_s, f.image.tobytes()) for f in video.read(path, *arguments, skip=skip, **options)
            ]
        except VideoError as error:
            frames.append(str(error))
        return frames, self.decoded


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Decoder:
    return Decoder(monkeypatch)


def same(decoder: Decoder, path: Path, *arguments: Any, **options: Any) -> tuple[int, int]:
    """(pictures decoded when nothing is skipped, when it is), for frames that are equal."""
    whole, all_decoded = decoder.read(path, *arguments, skip=False, **options)
    frames, decoded = decoder.read(path, *arguments, **options)
    assert whole
    assert frames == whole
    return all_decoded, decoded


SKIPPED = {
    "h264": ("a.mp4", "libx264", X264 | {"x264-params": "bframes=3:b-adapt=0:b-pyramid=none"}),
    "h264-pyramid": ("a.mkv", "libx264", X264 | {"x264-params": "bframes=3:b-adapt=0:b-pyramid=normal:ref=3"}),
    "h264-open-gop": ("a.mp4", "libx264", X264 | {"x264-params": "bframes=3:b-adapt=0:open-gop=1"}),
    "h264-slices": ("a.ts", "libx264", X264 | {"x264-params": "bframes=2:b-adapt=0:slices=3"}),
    "h264-refresh": ("a.mp4", "libx264", X264 | {"x264-params": "bframes=2:b-adapt=0:intra-refresh=1:keyint=15"}),
    "hevc": ("a.mp4", "libx265", X265 | {"x265-params": "log-level=none:bframes=3:b-adapt=0:pools=none"}),
    "hevc-ts": ("a.ts", "libx265", X265 | {"x265-params": "log-level=none:bframes=3:b-adapt=0:open-gop=0:pools=none"}),
    "mpeg4": ("a.mp4", "mpeg4", {}),
    "mpeg2": ("a.mkv", "mpeg2video", {}),
    "mpeg2-ts": ("a.ts", "mpeg2video", {}),
    "mpeg1": ("a.mkv", "mpeg1video", {}),
}


@pytest.mark.parametrize("kind", SKIPPED)
def test_pictures_that_are_not_needed_are_not_decoded_and_the_others_are_the_same(
    tmp_path: Path, decoder: Decoder, kind: str
) -> None:
    name, codec, options = SKIPPED[kind]
    path = encode(tmp_path / name, codec, options)
    for fps in (8.0, 10.0):
        everything, decoded = same(decoder, path, fps)
        assert everything == 60
        assert decoded < 50, "pictures are left out"
    same(decoder, path, 0.5)
    same(decoder, path, 10.0, start_s=0.7, end_s=1.6)
    assert same(decoder, path, 30.0) == (60, 60)


LAYERS = "log-level=none:bframes=3:b-adapt=0:pools=none:temporal-layers=3"
WHOLE = {
    "no-b-frames": ("a.mp4", "libx264", X264 | {"x264-params": "bframes=0"}),
    "avi": ("a.avi", "libx264", X264 | {"x264-params": "bframes=2:b-adapt=0"}),
    "bare": ("a.264", "libx264", X264 | {"x264-params": "bframes=2:b-adapt=0"}),
    "hevc-layers": ("a.mp4", "libx265", X265 | {"x265-params": LAYERS}),
    "vp9": ("a.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "mjpeg": ("a.mkv", "mjpeg", {"strict": "-2"}),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_where_it_cannot_be_told_everything_is_decoded(tmp_path: Path, decoder: Decoder, kind: str) -> None:
    name, codec, options = WHOLE[kind]
    form = "h264" if kind == "bare" else None
    path = encode(tmp_path / name, codec, options, form=form)
    everything, decoded = same(decoder, path, 8.0)
    assert decoded == everything >= 59


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_interlaced_pictures_need_their_neighbours(tmp_path: Path, decoder: Decoder, codec: str) -> None:
    interlaced = 1 << 29 | 1 << 18  # of the estimation of motion, and of the transform
    options = X264 | {"x264-params": "bframes=2:b-adapt=0:tff=1"} if codec == "libx264" else {}
    path = encode(tmp_path / "a.mkv", codec, options, flags=interlaced if codec == "mpeg2video" else 0)
    everything, decoded = same(decoder, path, 8.0)
    assert everything <= decoded < everything + 8, "it is found at once, and then all of it is decoded"


@pytest.mark.parametrize("kind", ["h264-pyramid", "hevc", "mpeg4"])
def test_variable_rates_and_gaps_are_as_before(tmp_path: Path, decoder: Decoder, kind: str) -> None:
    name, codec, options = SKIPPED[kind]
    dice = random.Random(3)
    steps = [400 if k == 30 else dice.choice([1, 1, 1, 2, 5, 9]) for k in range(60)]
    times = [sum(steps[:k]) for k in range(60)]
    path = encode(tmp_path / name, codec, options, times=times)
    for fps in (3.0, 7.3, 10.0):
        same(decoder, path, fps)
    everything, decoded = same(decoder, path, 0.05)
    assert decoded < everything


def cut(path: Path, target: Path, begin: int, end: int | None = None) -> Path:
    """Packets ``begin`` to ``end`` of a video, as they are."""
    with av.open(str(path)) as given, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for k, packet in enumerate(p for p in given.demux(video=0) if p.size):
            if begin <= k and (end is None or k < end):
                packet.stream = stream
                out.mux(packet)
    return target


@pytest.mark.parametrize("kind", ["h264", "h264-open-gop", "h264-refresh", "hevc", "mpeg2-ts", "mpeg4"])
@pytest.mark.parametrize("begin", [3, 17])
def test_a_file_that_begins_within_a_group_shows_the_same(
    tmp_path: Path, decoder: Decoder, kind: str, begin: int
) -> None:
    name, codec, options = SKIPPED[kind]
    path = cut(encode(tmp_path / name, codec, options), tmp_path / f"cut-{name}", begin)
    same(decoder, path, 8.0)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    at = len(data) // 3
    return data[:at] + bytes([data[at] ^ 0x50]) + data[at + 1 :]


def without_last_slice(data: bytes) -> bytes:
    return data[: data.rindex(b"\0\0\1")]


DAMAGED = [
    ("h264-pyramid", half), ("h264-pyramid", flipped), ("h264-slices", half), ("h264-slices", without_last_slice),
    ("hevc", half), ("mpeg2", half), ("mpeg2", flipped), ("mpeg4", half), ("mpeg4", flipped),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "damage"), DAMAGED)
def test_where_pictures_are_damaged_the_same_is_shown(
    tmp_path: Path, decoder: Decoder, kind: str, damage: Callable[[bytes], bytes]
) -> None:
    """What a decoder makes up in the place of what was lost may be copied from a picture that nothing refers to."""
    _, codec, options = SKIPPED[kind]
    whole = encode(tmp_path / "whole.ts", codec, options)
    with opened(whole) as (container, stream):
        test = unreferenced(stream)
        assert test is not None
        kept = [k for k, packet in enumerate(p for p in container.demux(stream) if p.size) if not test(bytes(packet))]
    for lost in (kept[2], kept[5], 15, 30):
        with av.open(str(whole)) as given, av.open(str(tmp_path / f"{lost}.mkv"), "w") as out:
            stream = out.add_stream_from_template(given.streams.video[0])
            for k, packet in enumerate(p for p in given.demux(video=0) if p.size):
                written = av.Packet(damage(bytes(packet)) if k == lost else bytes(packet))
                written.pts, written.dts, written.time_base = packet.pts, packet.dts, packet.time_base
                written.is_keyframe, written.stream = packet.is_keyframe, stream
                out.mux(written)
        same(decoder, tmp_path / f"{lost}.mkv", 8.0)


def test_a_picture_too_late_for_the_decoder_is_lost_as_before(tmp_path: Path, decoder: Decoder) -> None:
    """A file whose header says that pictures are not reordered, and whose pictures are."""
    plain = encode(tmp_path / "plain.mp4", "libx264", X264 | {"x264-params": "bframes=0"}, frames=20)
    moved = encode(tmp_path / "moved.mp4", "libx264", X264 | {"x264-params": "bframes=3:b-adapt=0"}, frames=40)
    with av.open(str(tmp_path / "both.mkv"), "w") as out:
        stream = None
        for path in (plain, moved):
            with av.open(str(path)) as given:
                stream = stream or out.add_stream_from_template(given.streams.video[0])
                shift = 23 * given.streams.video[0].time_base.denominator // 30 if path == moved else 0
                for packet in given.demux(video=0):
                    if packet.size:
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = stream
                        out.mux(packet)
    same(decoder, tmp_path / "both.mkv", 8.0)


def test_units_of_one_packet_are_told_apart(tmp_path: Path) -> None:
    """The test of packets against the decoder itself: with NONREF it gives what the test does not name."""
    for name, codec, options in SKIPPED.values():
        path = encode(tmp_path / name, codec, options)
        with opened(path) as (container, stream):
            test = unreferenced(stream)
            assert test is not None
            named = sum(test(bytes(packet)) for packet in container.demux(stream) if packet.size)
        with opened(path) as (container, stream):
            stream.codec_context.skip_frame = "NONREF"
            left = sum(1 for _ in container.decode(stream))
        assert (named > 15, left) == (True, 60 - named), name
