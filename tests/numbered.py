"""Small videos in which every picture says its number, so that a lost, repeated or misplaced one is found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from posewatch import video

WIDTH, HEIGHT, BITS = 96, 64, 8
Restamp = Callable[[int, int], int]
"""(number of the packet, its time in ticks) -> the time to write."""


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A picture whose upper half shows ``number`` as eight black or white bars."""
    image = np.full((height, width, 3), 90, np.uint8)
    for bit in range(BITS):
        image[: height // 2, bit * width // BITS : (bit + 1) * width // BITS] = 255 * (number >> bit & 1)
    return image


def number_of(image: np.ndarray) -> int:
    height, width = image.shape[:2]
    bars = [image[height // 4, (2 * bit + 1) * width // (2 * BITS)].mean() > 127 for bit in range(BITS)]
    return sum(1 << bit for bit, lit in enumerate(bars) if lit)


def encode(
    path: Path, numbers: Iterable[int], fps: int = 25, codec: str = "libx264", *, form: str | None = None,
    bframes: int = 0, places: Sequence[int] | None = None, pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (WIDTH, HEIGHT), gop: int = 25,
) -> Path:  # fmt: skip
    """Write the pictures with these numbers, at ``places`` of the grid (default: one after the other)."""
    with av.open(str(path), "w", format=form) as out:
        stream = out.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.gop_size = gop
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "x264-params": f"bframes={bframes}:b-adapt=0:scenecut=0"}
        elif codec == "libx265":
            stream.options = {"preset": "ultrafast", "x265-params": "log-level=none"}
        for k, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(numbered(number, *size), format="rgb24")
            frame.pts, frame.time_base = k if places is None else places[k], Fraction(1, fps)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def restamped(source: Path, target: Path, change: Restamp, form: str | None = None, **options: str) -> Path:
    """Copy the packets of a video with other times."""
    with av.open(str(source)) as given, av.open(str(target), "w", format=form, options=options) as out:
        stream = given.streams.video[0]
        copied = out.add_stream_from_template(stream)
        k = 0
        for packet in given.demux(stream):
            if packet.size == 0:
                continue
            for name in ("pts", "dts"):
                if getattr(packet, name) is not None:
                    setattr(packet, name, change(k, getattr(packet, name)))
            packet.stream = copied
            out.mux(packet)
            k += 1
    return target


def shown(path: Path, fps: float = 25, **options: Any) -> list[tuple[int, int]]:
    """(place on the grid, number) of every frame that is read."""
    return [(frame.index, number_of(frame.image)) for frame in video.read(path, fps, **options)]
