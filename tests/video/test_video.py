from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from pictures import picture

from posewatch import video
from posewatch.errors import ConfigError, VideoError


def left_edge(image: np.ndarray) -> int:
    """Where the moving square begins, in pixels."""
    return int(np.nonzero(image[image.shape[0] // 2 + 8].min(-1) > 180)[0][0])


def error_of(path: Path) -> str:
    with pytest.raises(VideoError) as caught:
        video.probe(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_probe_tells_size_rate_and_length(make) -> None:
    info = video.probe(make(seconds=2, fps=20))
    assert (info.width, info.height, info.frames, info.codec) == (160, 120, 40, "h264")
    assert info.fps == pytest.approx(20, rel=0.01)
    assert info.duration_s == pytest.approx(2, abs=0.05)
    assert not info.truncated


def test_bad_files_end_in_one_clear_line(tmp_path: Path, audio_only: Path) -> None:
    assert "no such video" in error_of(tmp_path / "missing.mp4")
    (tmp_path / "empty.mp4").touch()
    assert "empty file" in error_of(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("not a video at all\n" * 50)
    assert "not a video" in error_of(tmp_path / "text.mp4")
    assert "audio only" in error_of(audio_only)


def test_a_file_cut_before_its_index_is_called_broken(make, tmp_path: Path) -> None:
    whole = make(seconds=4).read_bytes()  # the index comes last
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    assert "breaks off" in error_of(tmp_path / "cut.mp4")
    with pytest.raises(VideoError):
        next(video.read(tmp_path / "cut.mp4"))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_truncated_tail_is_read_up_to_the_break(make, tmp_path: Path, suffix: str) -> None:
    options = {"movflags": "faststart"} if suffix == "mp4" else {}
    whole = make(f"whole.{suffix}", seconds=6, options=options)
    data = whole.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(data[: int(len(data) * 0.6)])
    info = video.probe(cut)
    assert info.truncated
    assert 1 < info.duration_s < 5
    frames = list(video.read(cut, 10))
    assert abs(len(frames) - 10 * info.duration_s) <= 2
    assert left_edge(frames[10].image) == pytest.approx(50, abs=4)
    assert not video.probe(whole).truncated


def test_a_segment_of_a_recorder_need_not_begin_at_zero(make, tmp_path: Path) -> None:
    """Its Matroska says when it ends, an hour later, not how long it is."""
    whole = make("late.mkv", [3600 + i / 20 for i in range(120)])
    info = video.probe(whole)
    assert (info.truncated, info.frames, info.duration_s) == (False, 120, 6.0)
    data = whole.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: int(len(data) * 0.6)])
    assert video.probe(tmp_path / "cut.mkv").truncated


def test_nothing_but_a_header_has_no_picture(make, tmp_path: Path) -> None:
    data = make("whole.mp4", seconds=6, options={"movflags": "faststart"}).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: data.index(b"mdat") + 12])
    assert "no frame" in error_of(cut)


@pytest.mark.parametrize("fps", [5.0, 10.0, 12.5, 40.0])
def test_resampling_shows_what_was_on_screen_at_that_time(make, fps: float) -> None:
    frames = list(video.read(make(seconds=2, fps=20), fps))
    assert len(frames) == round(2 * fps)
    for frame in frames:
        assert frame.time_s == pytest.approx(frame.index / fps)
        shown = np.floor(frame.time_s * 20 + 0.05) / 20
        assert left_edge(frame.image) == pytest.approx(10 + 40 * shown, abs=2)


def test_a_variable_rate_comes_out_even(make) -> None:
    times = [0, 0.05, 0.1, 0.9, 0.95, 1.4, 1.45, 1.5, 1.8]
    frames = list(video.read(make(times=times), 10))
    assert len(frames) >= 18
    for frame in frames[:18]:
        shown = max(t for t in times if t <= frame.time_s + 0.002)
        assert left_edge(frame.image) == pytest.approx(10 + 40 * shown, abs=2)


def test_a_stretch_begins_and_ends_where_asked(make) -> None:
    path = make(seconds=4, fps=20, size=(240, 120))
    part = list(video.read(path, 10, start_s=1.5, end_s=3.0))
    whole = list(video.read(path, 10))
    assert [f.index for f in part] == list(range(15))
    assert part[0].time_s == 1.5
    assert all(np.array_equal(a.image, b.image) for a, b in zip(part, whole[15:30], strict=True))
    assert list(video.read(path, 10, start_s=99)) == []


TURNS = [(90, (120, 160), "left"), (180, (160, 120), "right"), (270, (120, 160), "right")]


@pytest.mark.parametrize(("turn", "size", "corner"), TURNS)
def test_rotation_metadata_turns_the_picture_upright(
    make, tmp_path: Path, turn: int, size: tuple[int, int], corner: str
) -> None:
    upright = make(seconds=1)
    turned = tmp_path / "turned.mp4"
    _set_rotation(upright, turned, turn)
    info = video.probe(turned)
    assert (info.width, info.height) == size
    image = next(video.read(turned, 5)).image
    assert image.shape == (size[1], size[0], 3)
    red = (image[..., 0] > 150) & (image[..., 1] < 90)
    ys, xs = np.nonzero(red)
    # the corner that was at the top left: turned counter-clockwise it goes to the bottom left, then round
    assert (xs.mean() < 20) == (corner == "left")
    assert (ys.mean() < 20) == (turn == 270)


def _set_rotation(source: Path, target: Path, counter_clockwise: int) -> None:
    """Patch the display matrix of an mp4's track header."""
    a, b = {90: (0, -1), 180: (-1, 0), 270: (0, 1)}[counter_clockwise]
    matrix = [a, b, 0, -b, a, 0, 0, 0]
    raw = b"".join((v << 16).to_bytes(4, "big", signed=True) for v in matrix) + (1 << 30).to_bytes(4, "big")
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = raw
    target.write_bytes(bytes(data))


def test_sizes_are_even_and_never_enlarged(make) -> None:
    path = make("odd.mkv", size=(161, 121), codec="ffv1", pix_fmt="yuv444p", seconds=0.5)
    assert video.probe(path).width == 161
    assert next(video.read(path)).image.shape == (120, 160, 3)
    assert next(video.read(path, max_side=100)).image.shape == (74, 100, 3)
    assert next(video.read(path, max_side=4000)).image.shape == (120, 160, 3)


def test_written_files_suit_browsers_and_are_equal_byte_for_byte(make, tmp_path: Path) -> None:
    frames = list(video.read(make(seconds=1), 10))
    for name in ("a1.mp4", "a2.mp4"):
        with video.Writer(tmp_path / name, 10, (160, 120)) as writer:
            for frame in frames:
                writer.write(frame.image)
    data = (tmp_path / "a1.mp4").read_bytes()
    assert data == (tmp_path / "a2.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"x264" not in data
    assert b"Lav" not in data
    with av.open(str(tmp_path / "a1.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.frames, stream.average_rate) == (10, 10)
    back = list(video.read(tmp_path / "a1.mp4"))
    assert len(back) == 10
    assert all(abs(a.image.astype(int) - b.image).mean() < 4 for a, b in zip(frames, back, strict=True))


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    image = np.zeros((120, 160, 3), np.uint8)

    def fail() -> None:
        with video.Writer(tmp_path / "x.mp4", 10, (160, 120)) as writer:
            writer.write(image)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    with pytest.raises(VideoError, match="no frames"), video.Writer(tmp_path / "x.mp4", 10, (160, 120)):
        pass
    with pytest.raises(ConfigError), video.Writer(tmp_path / "x.mp4", 10, (160, 120)) as writer:
        writer.write(image[:60])
    with pytest.raises(ConfigError, match="even"):
        video.Writer(tmp_path / "x.mp4", 10, (161, 120))
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from posewatch import video

writer = video.Writer(Path(sys.argv[1]), 10, (160, 120)).__enter__()
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for _ in range(100):
    try:
        writer.write(np.zeros((120, 160, 3), np.uint8))
    except OSError:
        print("failed")
try:
    writer.__exit__(None, None, None)
except OSError as error:
    print(error.filename)
"""


def test_a_writer_outlives_a_full_disk(tmp_path: Path) -> None:
    """FFmpeg crashes when it gets more packets after one that it could not write."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "x.mp4"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 2
    assert done.stdout.splitlines()[-1] == str(tmp_path / "x.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("total", "length", "overlap", "expected"),
    [
        (90, 30, 0, [(0, 30), (30, 30), (60, 30)]),
        (95, 30, 0, [(0, 30), (30, 30), (60, 30)]),  # 5 of 30 frames are left out
        (96, 30, 0, [(0, 30), (30, 30), (60, 30), (66, 30)]),  # 6 of 30 are covered by a clip shifted back
        (12, 30, 0, [(0, 12)]),
        (30, 30, 0, [(0, 30)]),
        (60, 30, 15, [(0, 30), (15, 30), (30, 30)]),
    ],
)
def test_the_rule_for_clips(total: int, length: int, overlap: int, expected: list[tuple[int, int]]) -> None:
    assert video.spans(total, length, overlap) == expected


def test_split_writes_clips_that_show_their_stretch(make, tmp_path: Path) -> None:
    source = make(seconds=3.5, fps=10, size=(240, 120))
    clips = video.split(source, tmp_path / "clips", 1.0, 0.0)
    assert [c.start_s for c in clips] == pytest.approx([0, 1, 2, 2.5], abs=0.02)
    for clip in clips:
        info = video.probe(clip.path)
        assert (info.frames, clip.frames) == (10, 10)
        assert clip.length_s == pytest.approx(1.0, abs=0.01)
        first = next(video.read(clip.path)).image
        assert left_edge(first) == pytest.approx(10 + 40 * clip.start_s, abs=2)
        with av.open(str(clip.path)) as container:
            assert next(container.demux(video=0)).is_keyframe
    assert len(list((tmp_path / "clips").iterdir())) == 4
    again = video.split(source, tmp_path / "again", 1.0, 0.0)
    assert [a.path.read_bytes() for a in clips] == [b.path.read_bytes() for b in again]


def test_a_short_video_is_one_clip_and_a_bad_overlap_is_refused(make, tmp_path: Path) -> None:
    source = make(seconds=0.8, fps=10)
    (clip,) = video.split(source, tmp_path / "clips", 3.0)
    assert (clip.start_s, clip.frames) == (0, 8)
    assert clip.length_s == pytest.approx(0.8, abs=0.01)
    with pytest.raises(ConfigError, match="overlap"):
        video.split(source, tmp_path / "clips", 1.0, 1.0)


def test_contact_sheet_and_poster(make, tmp_path: Path) -> None:
    images = [np.full((40, 60, 3), v, np.uint8) for v in (10, 20, 30)] + [np.full((80, 60, 3), 40, np.uint8)]
    sheet = video.contact_sheet(images, 2)
    assert sheet.shape == (2 * 44 + 4, 2 * 64 + 4, 3)
    assert tuple(sheet[20, 20]) == (10, 10, 10)
    assert tuple(sheet[20, 90]) == (20, 20, 20)
    assert left_edge(video.poster(make(seconds=2))) == pytest.approx(50, abs=3)
    video.save_image(tmp_path / "s.png", sheet)
    with av.open(str(tmp_path / "s.png")) as container:
        frame = next(container.decode(video=0))
        assert np.array_equal(frame.to_ndarray(format="rgb24"), sheet)
    with pytest.raises(ConfigError):
        video.contact_sheet([], 2)


CAMERAS = [
    ("hevc.mp4", "libx265", "yuv420p", "log-level=none"),
    ("ten-bit.mkv", "libx265", "yuv422p10le", "log-level=none"),
    ("wide-chroma.mp4", "libx264", "yuv422p", ""),
    ("motion-jpeg.avi", "mjpeg", "yuvj422p", ""),
    ("part4.avi", "mpeg4", "yuv420p", ""),
    ("bare.h264", "libx264", "yuv420p", ""),
    ("bare.hevc", "libx265", "yuv420p", "log-level=none"),
    ("transport.ts", "libx264", "yuv420p", ""),
]


@pytest.mark.parametrize(("name", "codec", "pix_fmt", "quiet"), CAMERAS, ids=[c[0] for c in CAMERAS])
def test_whatever_a_camera_records_comes_out_in_time(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, quiet: str
) -> None:
    path = camera_file(tmp_path / name, codec, pix_fmt, {"x265-params": quiet} if quiet else {})
    info = video.probe(path)
    assert (info.width, info.height, info.frames, info.fps, info.truncated) == (160, 120, 40, 20, False)
    assert info.duration_s == pytest.approx(2, abs=0.01)  # bare streams and transport streams declare none
    frames = list(video.read(path, 10))
    assert len(frames) == 20
    assert [left_edge(f.image) for f in frames] == pytest.approx([10 + 4 * i for i in range(20)], abs=2)


@pytest.mark.parametrize("name", ["fields.mp4", "fields.ts"])
def test_interlaced_pictures_have_no_comb(tmp_path: Path, name: str) -> None:
    options = {"x264-params": "interlaced=1:tff=1"} if name.endswith("mp4") else {"flags": "+ilme+ildct"}
    codec = "libx264" if name.endswith("mp4") else "mpeg2video"
    path = camera_file(tmp_path / name, codec, "yuv420p", options, fields=True)
    frames = list(video.read(path, 10))
    assert len(frames) == 20
    for t in (4, 10, 16):
        rows = [np.nonzero(row.min(-1) > 150)[0] for row in frames[t].image[62:78]]
        edges = [int(row[0]) for row in rows]
        assert max(edges) - min(edges) <= 1, "the lines of one picture come from two moments"
        assert np.mean(edges) == pytest.approx(10 + 4 * t, abs=3)


@pytest.mark.parametrize(("matrix", "like"), [(8, 2), (10, 9), (14, 2), (17, 2)])
def test_a_colour_matrix_that_ffmpeg_does_not_convert_costs_no_picture(
    tmp_path: Path, matrix: int, like: int, make
) -> None:
    source = make(seconds=1)
    images = []
    for number in (matrix, like):
        path = tmp_path / f"{number}.mp4"
        with av.open(str(source)) as file, av.open(str(path), "w") as out:
            stream = out.add_stream_from_template(file.streams.video[0])
            says = BitStreamFilterContext(f"h264_metadata=matrix_coefficients={number}", file.streams.video[0], stream)
            for packet in file.demux(file.streams.video[0]):
                for changed in says.filter(packet if packet.size else None):
                    changed.stream = stream
                    out.mux(changed)
        images.append([frame.image for frame in video.read(path)])
    assert len(images[0]) == video.probe(source).frames
    assert np.array_equal(images[0], images[1])


def camera_file(path: Path, codec: str, pix_fmt: str, options: dict[str, str], fields: bool = False) -> Path:
    """40 pictures at 20 a second; with ``fields`` the odd lines are a fortieth of a second late."""
    bare = {".h264": "h264", ".hevc": "hevc"}.get(path.suffix)
    with av.open(str(path), "w", format=bare) as out:
        stream = out.add_stream(codec, rate=20, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 120, pix_fmt
        for i in range(40):
            image = picture(i / 20, 160, 120)
            if fields:
                image[1::2] = picture((i + 0.5) / 20, 160, 120)[1::2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 20)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def test_a_camera_that_changes_its_resolution_keeps_the_size_of_the_first_picture(tmp_path: Path) -> None:
    parts = []
    for size in ((160, 120), (320, 240)):
        path = tmp_path / f"{size[0]}.h264"
        with av.open(str(path), "w", format="h264") as out:
            stream = out.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for i in range(10):
                frame = av.VideoFrame.from_ndarray(picture(i / 10, *size), format="rgb24")
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        parts.append(path.read_bytes())
    (tmp_path / "both.h264").write_bytes(b"".join(parts))
    frames = list(video.read(tmp_path / "both.h264", 10))
    assert len(frames) == 20
    assert {f.image.shape for f in frames} == {(120, 160, 3)}


@pytest.mark.parametrize("codec", ["libx265", "libx264"])
def test_a_part_of_a_stream_without_an_index(codec: str, make) -> None:
    """FFmpeg seeks to a packet near the time, from which nothing may be decodable up to a later keyframe."""
    path = make("a.ts", codec=codec, seconds=3.0, fps=25.0)
    whole = {frame.index: frame.image for frame in video.read(path, 10)}
    for tenth in (1, 9, 17, 26, 29):
        parts = list(video.read(path, 10, start_s=tenth / 10, end_s=tenth / 10 + 0.1))
        assert [round(frame.time_s, 3) for frame in parts] == [tenth / 10]
        assert np.array_equal(parts[0].image, whole[tenth])
