"""Sound beside the picture: when it begins and ends is no reason to refuse a file, and hides none."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numbered import encode, numbered, shown

from posewatch import video

SOUNDS = {"mp2": (32000, 1152, "s16"), "pcm_mulaw": (8000, 640, "s16"), "libmp3lame": (44100, 1152, "s16p")}
"""Codec -> samples a second and a packet, and their format."""
FORMS = {
    "mkv": ("matroska", "mpeg4", "mp2"), "ts": ("mpegts", "mpeg2video", "mp2"), "avi": ("avi", "mpeg4", "pcm_mulaw"),
    "flv": ("flv", "flv", "libmp3lame"), "asf": ("asf", "mpeg4", "libmp3lame"), "mpg": ("vob", "mpeg2video", "mp2"),
}  # fmt: skip


class Pipe:
    """What cannot be gone back in: its header has no length, as that of a recording that was not finished."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, data: bytes) -> int:
        with self._path.open("ab") as file:
            return file.write(data)


def both(
    path: Path,
    sounds: list[tuple[float, float]],
    seconds: float = 4,
    *,
    big: bool = False,
    fps: int = 25,
    piped: bool = False,
) -> Path:
    """``seconds`` of numbered pictures, and sound from second to second; ``big``: a megabyte a second."""
    form, codec, sound_codec = FORMS[path.suffix[1:]]
    rate, step, kind = SOUNDS[sound_codec]
    size = (320, 240) if big else (96, 64)
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (size[1], size[0], 3), np.uint8) for _ in range(4)]
    with av.open(Pipe(path) if piped else str(path), "w", format=form) as out:
        picture, sound = out.add_stream(codec, rate=fps), out.add_stream(sound_codec, rate=rate)
        picture.width, picture.height, picture.pix_fmt, sound.layout = *size, "yuv420p", "mono"
        if big:
            picture.bit_rate = 12_000_000
        every = step / rate
        at = [(j * every, False, j) for a, b in sounds for j in range(round(a / every), round(b / every))]
        for _, of_picture, i in sorted([*at, *((k / fps, True, k) for k in range(round(seconds * fps)))]):
            if of_picture:
                image = noise[i % 4] if big else numbered(i % 256)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = i, Fraction(1, fps)
                out.mux(picture.encode(frame))
                continue
            samples = av.AudioFrame.from_ndarray(np.zeros((1, step), np.int16), format=kind, layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = rate, i * step, Fraction(1, rate)
            out.mux(sound.encode(samples))
        out.mux(picture.encode())
        out.mux(sound.encode())
    return path


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize("sounds", [[(2, 4)], [(0, 1)], [(0, 1), (3, 4)], [(0, 7)], [(4.2, 7)]])
def test_sound_may_begin_late_end_early_have_gaps_or_go_on(
    tmp_path: Path, suffix: str, sounds: list[tuple[float, float]]
) -> None:
    path = both(tmp_path / f"a.{suffix}", sounds)
    info = video.probe(path)
    assert (info.frames, info.truncated, info.gaps) == (100, False, ())
    assert info.duration_s == pytest.approx(4, abs=0.05)
    assert [n for _, n in shown(path)][:90] == list(range(90))


@pytest.mark.parametrize("suffix", ["mpg", "flv", "ts"])
def test_sound_that_is_not_known_when_the_file_is_opened(tmp_path: Path, suffix: str) -> None:
    """FFmpeg looks at the first 5 MB, and in some formats a stream is named by its first packet."""
    path = both(tmp_path / f"a.{suffix}", [(6, 6.5)], 8, big=True)
    info = video.probe(path)
    assert (info.frames, info.truncated) == (200, False)
    assert len(list(video.read(path, 10))) == 80


@pytest.mark.parametrize("suffix", ["mkv", "asf", "flv"])
def test_a_file_whose_header_has_no_length_is_whole(tmp_path: Path, suffix: str) -> None:
    """FFmpeg then guesses one from the sound's bits a second and the file's size."""
    info = video.probe(both(tmp_path / f"a.{suffix}", [(0, 4)], piped=True))
    assert (info.frames, info.truncated) == (100, False)


@pytest.mark.parametrize("suffix", ["mkv", "flv", "avi"])
@pytest.mark.parametrize("sounds", [[(0, 4)], [(0, 1)], [(1, 4)]])
def test_a_file_that_breaks_off_is_told_also_with_sound(
    tmp_path: Path, suffix: str, sounds: list[tuple[float, float]]
) -> None:
    data = both(tmp_path / f"a.{suffix}", sounds).read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(data[: round(0.6 * len(data))])
    info = video.probe(path)
    assert info.truncated
    assert "breaks off after" in info.trouble


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
@pytest.mark.parametrize("early_mb", [0, 8])
def test_another_video_stream_that_follows_is_named(tmp_path: Path, codec: str, early_mb: int) -> None:
    """As a recorder writes that was set up anew: joined with ``cat``. Players show the first stream."""
    first = both(tmp_path / "first.ts", [], early_mb, big=True) if early_mb else encode(
        tmp_path / "first.ts", range(50), form="mpegts"
    )  # fmt: skip
    later = encode(tmp_path / "later.mkv", range(50, 100), codec=codec)
    with (
        av.open(str(later)) as given,
        av.open(str(tmp_path / "later.ts"), "w", format="mpegts", options={"mpegts_start_pid": "600"}) as out,
    ):
        copied = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream = copied
                out.mux(packet)
    path = tmp_path / "both.ts"
    # a file that goes on so long that its end is not looked at when it is opened
    path.write_bytes(first.read_bytes() + (tmp_path / "later.ts").read_bytes() * (1 + early_mb))
    info = video.probe(path)
    assert "changes to another codec or stream after" in info.trouble
    assert not video.probe(first).trouble
