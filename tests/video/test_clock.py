"""A picture's time, whatever the container says: real small files with the faults of cameras and recorders, and
thousands of sequences of faulty stamps."""

from __future__ import annotations

import random
import struct
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from numbered import encode, number_of, numbered, restamped, shown

from posewatch import video
from posewatch.video.clock import GAP_S, Stamp, Timeline, timeline

INORDER = list(range(50))


def joined(folder: Path, suffix: str, **options: object) -> Path:
    """Two recordings of 25 pictures, the clock of the second begins again, joined with cat."""
    parts = [encode(folder / f"part{i}.{suffix}", range(25 * i, 25 * i + 25), **options) for i in (0, 1)]  # type: ignore[arg-type]
    path = folder / f"joined.{suffix}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


JOINED = [
    ("ts", {"form": "mpegts"}), ("ts", {"form": "mpegts", "bframes": 2}), ("mpg", {"codec": "mpeg2video"}),
    ("mkv", {}), ("mkv", {"bframes": 2}), ("avi", {}), ("avi", {"bframes": 2}),
    ("avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}), ("h264", {"form": "h264"}),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "options"), JOINED, ids=[f"{s}-{''.join(map(str, o.values()))}" for s, o in JOINED])
def test_recordings_joined_with_cat_follow_on(tmp_path: Path, suffix: str, options: dict[str, object]) -> None:
    path = joined(tmp_path, suffix, **options)
    info = video.probe(path)
    assert (info.frames, info.truncated, info.gaps) == (50, False, ())
    assert info.duration_s == pytest.approx(2, abs=0.05)
    assert info.fps == pytest.approx(25, abs=0.5)
    assert shown(path) == [(i, i) for i in INORDER]


@pytest.mark.parametrize("suffix", ["mp4", "flv"])
def test_recordings_of_which_players_show_the_first_are_named(tmp_path: Path, suffix: str) -> None:
    info = video.probe(joined(tmp_path, suffix))
    assert info.truncated
    assert "holds 2 recordings one after the other, of which players show the first, 1.0 s" in info.trouble
    assert not video.probe(tmp_path / f"part0.{suffix}").truncated


def test_another_codec_under_way_is_named(tmp_path: Path) -> None:
    parts = [
        encode(tmp_path / f"{codec}.ts", range(25 * i, 25 * i + 25), codec=codec, form="mpegts")
        for i, codec in enumerate(("libx264", "libx265"))
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    info = video.probe(path)
    assert "changes to another codec or stream after 1.0 s" in info.trouble
    assert [number for _, number in shown(path)][:23] == list(range(23))  # FFmpeg drops one where they meet


@pytest.mark.parametrize("by_s", [-0.8, -3600.0, 30.0, 3600.0, 86000.0])
@pytest.mark.parametrize("bframes", [0, 2])
def test_a_counting_clock_that_is_set_goes_on(tmp_path: Path, by_s: float, bframes: int) -> None:
    halves = []
    for i, begin_s in enumerate((5000.0, 5001.0 + by_s)):
        half = encode(tmp_path / f"{i}.ts", range(25 * i, 25 * i + 25), form="mpegts", bframes=bframes)
        begin = round(begin_s * 90000)
        halves.append(restamped(half, tmp_path / f"{i}late.ts", lambda k, at, begin=begin: at + begin, "mpegts"))
    path = tmp_path / "set.ts"
    path.write_bytes(b"".join(half.read_bytes() for half in halves))
    info = video.probe(path)
    assert (info.frames, info.gaps, info.truncated) == (50, (), False)
    assert info.duration_s == pytest.approx(2, abs=0.05)
    assert any("its clock is set" in note and "the pictures follow on" in note for note in info.notes)
    assert shown(path) == [(i, i) for i in INORDER]


@pytest.mark.parametrize("wraps_at", [10, 40])
def test_a_transport_stream_whose_clock_wraps(tmp_path: Path, wraps_at: int) -> None:
    begin = 2**33 - wraps_at * 3600
    source = encode(tmp_path / "a.ts", INORDER, form="mpegts", bframes=2)
    path = restamped(source, tmp_path / "wrap.ts", lambda k, at: at + begin, "mpegts")  # the muxer wraps
    info = video.probe(path)
    assert (info.frames, round(info.duration_s, 2), info.gaps, info.truncated) == (50, 2.0, (), False)
    assert shown(path) == [(i, i) for i in INORDER]


def test_a_matroska_clock_that_is_set_back_goes_on(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mkv", INORDER)
    path = restamped(source, tmp_path / "back.mkv", lambda k, at: at, cluster_time_limit="900")
    data = path.read_bytes()
    second = b"\xe7\x82\x03\x98"  # the timestamp of the cluster that begins at 920 ms
    assert data.count(second) == 1
    path.write_bytes(data.replace(second, b"\xe7\x82\x00\x64").replace(b"\xe7\x82\x07\x30", b"\xe7\x82\x03\xfc"))
    info = video.probe(path)
    assert (info.frames, info.duration_s, info.truncated) == (50, 2.0, False)
    assert shown(path) == [(i, i) for i in INORDER]


@pytest.mark.parametrize(("suffix", "bframes"), [("mkv", 0), ("mkv", 2), ("mp4", 0), ("mp4", 2), ("avi", 0)])
def test_a_gap_has_its_length_and_no_pictures(tmp_path: Path, suffix: str, bframes: int) -> None:
    """An hour's pause under way, which a player shows as an hour, is not 90,000 copies of a picture."""
    pause = 3600 if suffix != "avi" else 40
    places = [i + 25 * pause * (i > 24) for i in INORDER]
    path = encode(tmp_path / f"gap.{suffix}", INORDER, places=places, bframes=bframes)
    info = video.probe(path)
    (gap,) = info.gaps
    assert (gap.start_s, gap.length_s) == (pytest.approx(1, abs=0.05), pytest.approx(pause, abs=0.05))
    assert info.duration_s == pytest.approx(pause + 2, abs=0.05)
    assert info.fps == pytest.approx(25, abs=0.5)
    assert any(note.startswith("no picture for") for note in info.notes)
    assert shown(path) == list(zip(places, INORDER, strict=True))
    assert shown(path, start_s=pause + 1.2, end_s=pause + 1.4) == [(i, 30 + i) for i in range(5)]
    assert shown(path, start_s=15.0, end_s=20.0) == []


def test_a_slow_rate_is_no_gap(tmp_path: Path) -> None:
    path = encode(tmp_path / "slow.mkv", range(5), places=[400 * i for i in range(5)])  # one in 16 s, a time lapse
    assert video.probe(path).gaps == ()
    frames = shown(path, 0.5)
    assert [number for _, number in frames] == [n for n in range(4) for _ in range(8)] + [4]


def test_empty_places_of_an_avi_mean_as_before(tmp_path: Path) -> None:
    places = [3 * i for i in range(20)]
    for codec, pix_fmt in (("mjpeg", "yuvj420p"), ("libx264", "yuv420p"), ("mpeg4", "yuv420p")):
        path = encode(tmp_path / f"{codec}.avi", range(20), codec=codec, pix_fmt=pix_fmt, places=places)
        info = video.probe(path)
        assert (info.truncated, info.frames, round(info.duration_s, 2)) == (False, 20, 2.32)
        assert [number for _, number in shown(path)] == [i // 3 for i in range(58)]


@pytest.mark.parametrize("bframes", [0, 1, 2])
def test_an_avi_with_b_frames_loses_no_picture(tmp_path: Path, bframes: int) -> None:
    path = encode(tmp_path / "b.avi", INORDER, bframes=bframes)
    assert (video.probe(path).duration_s, shown(path)) == (2.0, [(i, i) for i in INORDER])


def test_b_frames_stamped_in_the_order_of_decoding(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mp4", INORDER, bframes=2)
    with av.open(str(source)) as given, av.open(str(tmp_path / "wrong.mp4"), "w") as out:
        stream = given.streams.video[0]
        copied = out.add_stream_from_template(stream)
        for k, packet in enumerate(p for p in given.demux(stream) if p.size):
            packet.pts = packet.dts = k * 512
            packet.stream = copied
            out.mux(packet)
    path = tmp_path / "wrong.mp4"
    assert (video.probe(path).frames, shown(path)) == (50, [(i, i) for i in INORDER])


def test_pictures_that_share_a_time_are_all_shown(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mkv", INORDER)
    path = restamped(source, tmp_path / "twins.mkv", lambda k, at: k // 2 * 80)
    info = video.probe(path)
    assert (info.frames, info.duration_s) == (50, pytest.approx(2, abs=0.05))
    assert shown(path) == [(i, i) for i in INORDER]
    assert info.notes == ("pictures without a time of their own, spread evenly: 25",)


def test_a_clock_that_begins_late_begins_at_zero(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mkv", INORDER)
    path = restamped(source, tmp_path / "late.mkv", lambda k, at: at + 7_200_000)
    info = video.probe(path)
    assert (info.duration_s, info.gaps, info.notes) == (pytest.approx(2, abs=0.05), (), ())
    assert [n for _, n in shown(path)][-40:] == INORDER[-40:]


@pytest.mark.parametrize("lead_s", [2.0, 30.0])
def test_a_picture_that_begins_after_the_sound_is_shown_when_a_player_shows_it(tmp_path: Path, lead_s: float) -> None:
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as out:
        picture, sound = out.add_stream("mpeg4", rate=25), out.add_stream("mp2", rate=16000)
        picture.width, picture.height = 96, 64
        sound.layout = "mono"
        for i in range(round(lead_s * 16000 / 1152) + 30):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16", layout="mono")
            samples.sample_rate, samples.pts = 16000, i * 1152
            out.mux(sound.encode(samples))
        for k in range(50):
            frame = av.VideoFrame.from_ndarray(numbered(k), format="rgb24").reformat(format="yuv420p")
            frame.pts = k + round(lead_s * 25)
            out.mux(picture.encode(frame))
        out.mux(picture.encode())
    info = video.probe(path)
    assert info.duration_s == pytest.approx(lead_s + 2, abs=0.1)
    at = [frame.time_s for frame in video.read(path, 25) if number_of(frame.image) == 25]
    assert at == [pytest.approx(lead_s + 1, abs=0.05)]
    assert [(g.start_s, round(g.length_s)) for g in info.gaps] == ([(0, lead_s)] if lead_s > GAP_S else [])


def edits(path: Path, entries: list[tuple[float, float]]) -> Path:
    """Replace an mp4's edit list by (seconds, first second of the media, -1 for nothing shown)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst")
    scale = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)[0]
    tick = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    rows = b"".join(
        struct.pack(">Ii", round(s * scale), -1 if m < 0 else round(m * tick)) + b"\0\1\0\0" for s, m in entries
    )
    box = struct.pack(">I", 16 + len(rows)) + b"elst" + bytes(4) + struct.pack(">I", len(entries)) + rows
    grown = len(box) - struct.unpack_from(">I", data, at - 4)[0]
    data[at - 4 : at - 4 + struct.unpack_from(">I", data, at - 4)[0]] = box
    for name in (b"moov", b"trak", b"edts"):
        where = data.index(name) - 4
        struct.pack_into(">I", data, where, struct.unpack_from(">I", data, where)[0] + grown)
    path.write_bytes(data)
    return path


EDITS = [
    ([(1.2, 0.0)], range(30)),  # a phone's trim hides the end
    ([(0.8, 1.2)], range(30, 50)),  # -ss -c copy hides the beginning
    ([(3.0, -1), (2.0, 0.0)], range(50)),  # nothing at first
    ([(0.4, -1), (0.8, 0.8)], range(20, 40)),
    ([(0.4, 0.0), (0.4, 1.2)], [*range(10), *range(30, 40)]),  # the middle is cut out
]


@pytest.mark.parametrize(("entries", "numbers"), EDITS)
def test_edit_lists_decide_what_is_shown(
    tmp_path: Path, entries: list[tuple[float, float]], numbers: list[int]
) -> None:
    path = edits(encode(tmp_path / "edited.mp4", INORDER, gop=100), entries)
    info = video.probe(path)
    assert (info.frames, info.truncated, info.gaps) == (len(numbers), False, ())
    assert info.duration_s == pytest.approx(len(numbers) / 25, abs=0.01)
    assert [number for _, number in shown(path)] == list(numbers)


def test_a_format_without_times_is_told(tmp_path: Path) -> None:
    path = encode(tmp_path / "raw.mjpeg", range(20), 10, "mjpeg", form="mjpeg", pix_fmt="yuvj420p")
    info = video.probe(path)
    assert info.notes == ("it holds no times: 25 pictures a second are assumed",)
    assert [number for _, number in shown(path)] == list(range(20))


# Sequences of stamps


def faulty(seed: int) -> tuple[list[Stamp], float, bool]:
    """Stamps in the order of decoding with some faults, the usual step, whether the clock only counts."""
    dice = random.Random(seed)
    count, step = dice.randint(2, 80), dice.choice([1 / 25, 1 / 10, 1 / 30, 1.0])
    counting, reorder = dice.random() < 0.5, dice.choice([0, 0, 1, 2])
    begin = dice.choice([0.0, 5.0, 95443.7, -0.5])
    order = list(range(count))  # of showing, per decoded picture
    for k in range(1, count - reorder, reorder + 1):
        if reorder:
            order[k : k + reorder + 1] = [k + reorder, *range(k, k + reorder)]
    stamps = [Stamp(begin + n * step, begin + (k - reorder) * step, step) for k, n in enumerate(order)]
    for _ in range(dice.randint(0, 4)):
        at, kind = dice.randrange(count), dice.choice(["set", "set", "lost", "twin", "spike", "wrap", "none"])
        by = dice.choice([-3600.0, -60.0, -2.5, 0.3, 9.0, 15.0, 900.0, 86400.0])
        for k in range(at, count):
            s = stamps[k]
            if s.pts is None or s.dts is None:
                continue
            if kind in ("set", "wrap"):
                shift = by if kind == "set" else -(2**33 / 90000)
                stamps[k] = Stamp(s.pts + shift, s.dts + shift, s.lasts)
            elif k == at:
                if kind == "twin" and k and stamps[k - 1].pts is not None:
                    stamps[k] = Stamp(stamps[k - 1].pts, s.dts, s.lasts)
                elif kind == "spike":
                    stamps[k] = Stamp(s.pts + by, s.dts + by, s.lasts)
                elif kind == "lost":
                    stamps[k] = Stamp(None, s.dts if dice.random() < 0.5 else None, s.lasts)
                elif kind == "none":
                    stamps[k] = Stamp(None)
    return stamps, step, counting


def check(times: Timeline, stamps: list[Stamp], step: float, counting: bool) -> None:
    count = len(stamps)
    ordered = sorted(times.times)
    assert len(times.times) == count, "no picture is lost"
    assert all(b > a for a, b in pairwise(ordered)), "none shares its time with another"
    assert ordered[0] == pytest.approx(0, abs=1e-6) or times.regular
    assert times.duration_s >= ordered[-1] - ordered[0]
    usual = times.limit_s
    assert usual == pytest.approx(max(GAP_S, 4 * times.step_s))
    for a, b in pairwise([*ordered, times.duration_s]):
        pause = [g for g in times.gaps if a <= g.start_s <= b]
        assert (len(pause) == 1) == (b - a > usual), "a long pause is one gap, and only that"
    assert sum(g.length_s for g in times.gaps) <= times.duration_s
    assert times.shown_s <= count * usual + step, "the pictures fill the rest, each for a while"
    if counting:
        assert times.gaps == (), "a counting clock that was set makes no gap"


def test_thousands_of_sequences_of_faulty_stamps() -> None:
    regular = 0
    for seed in range(3000):
        stamps, step, counting = faulty(seed)
        times = timeline(stamps, step, counting=counting)
        check(times, stamps, step, counting)
        by_order = timeline(stamps, step, counting=counting, by_order=True)
        check(by_order, stamps, step, counting)
        regular += times.regular
        if times.regular:
            assert not times.jumps
            assert all(t + times.origin_s == pytest.approx(s.pts) for t, s in zip(times.times, stamps, strict=True))
    assert 300 < regular < 2000
