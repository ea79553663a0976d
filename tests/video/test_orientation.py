"""Turned and mirrored pictures, and which of several video streams is the picture."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from numbered import numbered

from posewatch import video

SHOWN = np.zeros((64, 96, 3), np.uint8)
SHOWN[:32, :48], SHOWN[:32, 48:], SHOWN[32:, :48] = 255, 170, 85
"""What a player shows: four quarters, each of a brightness of its own."""
MATRICES = [
    (1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1), (0, 1, -1, 0), (0, -1, 1, 0),
    (0, 1, 1, 0), (0, -1, -1, 0),
]  # fmt: skip
"""Nothing, mirrored, flipped, half a turn, a quarter turn each way, and both mirrored."""


def stored(matrix: tuple[int, int, int, int]) -> np.ndarray:
    """The picture that a camera stores so that its display matrix gives ``SHOWN``: x' = a x + c y, y' = b x + d y."""
    a, b, c, d = matrix
    height, width = SHOWN.shape[:2] if a else SHOWN.shape[1::-1]
    ys, xs = np.mgrid[:height, :width]
    to_x, to_y = a * xs + c * ys, b * xs + d * ys
    return np.ascontiguousarray(SHOWN[to_y - to_y.min(), to_x - to_x.min()])


@pytest.mark.parametrize("matrix", MATRICES)
def test_every_display_matrix_is_followed(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path, picture = tmp_path / "phone.mp4", stored(matrix)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    data = bytearray(path.read_bytes())
    a, b, c, d = (v << 16 for v in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 4 + 40, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    info = video.probe(path)
    assert (info.width, info.height) == (96, 64)
    image = next(video.read(path, 10)).image
    assert image.shape == SHOWN.shape
    assert np.abs(image.astype(int) - SHOWN).mean() < 8


def streams(path: Path, *sizes: tuple[int, int], default: int | None = None, still: int | None = None) -> Path:
    """A file with a video stream of each size, one of them marked as the default, one as cover art."""
    with av.open(str(path), "w") as out:
        made = []
        for i, (width, height) in enumerate(sizes):
            stream = out.add_stream("mjpeg" if i == still else "libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p" if i == still else "yuv420p"
            stream.disposition = (
                Disposition.attached_pic if i == still else Disposition.default if i == default else Disposition(0)
            )
            made.append(stream)
        for k in range(5):
            for i, (stream, size) in enumerate(zip(made, sizes, strict=True)):
                if i == still and k:
                    continue
                frame = av.VideoFrame.from_ndarray(numbered(k, *size), format="rgb24").reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = k, Fraction(1, 10)
                out.mux(stream.encode(frame))
        for stream in made:
            out.mux(stream.encode())
    return path


SMALL, LARGE = (96, 64), (192, 128)
CHOICES = [
    ([SMALL, LARGE], {"default": 1}, LARGE),
    ([LARGE, SMALL], {"default": 1}, SMALL),
    ([SMALL, LARGE], {"default": 0}, SMALL),
    ([SMALL, LARGE], {}, LARGE),
    ([LARGE, SMALL], {}, LARGE),
    ([LARGE, SMALL], {"still": 0, "default": 1}, SMALL),
]


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize(("sizes", "marks", "chosen"), CHOICES)
def test_the_stream_that_a_player_shows(tmp_path: Path, suffix, sizes, marks, chosen) -> None:
    if suffix == "mp4" and "default" not in marks:
        pytest.skip("an mp4's first track is enabled where none is marked")
    path = streams(tmp_path / f"two.{suffix}", *sizes, **marks)
    info = video.probe(path)
    assert (info.width, info.height, info.frames, info.truncated) == (*chosen, 5, False)
    assert next(video.read(path, 10)).image.shape == (chosen[1], chosen[0], 3)
