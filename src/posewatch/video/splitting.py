"""Cutting a video into clips of a fixed length; no clip reaches over a gap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import ConfigError
from posewatch.video.reading import grid, probe, read
from posewatch.video.writing import Writer

_MIN_REMAINDER = 0.2
"""A remainder of at least this share of a clip is covered by a last clip, shifted back."""


@dataclass(frozen=True)
class ClipSpan:
    """A clip that ``split`` wrote: [start_s, start_s + length_s) seconds of the source, ``frames`` frames from number
    ``first`` on."""

    start_s: float
    length_s: float
    path: Path
    frames: int
    first: int


def spans(total: int, length: int, overlap: int) -> list[tuple[int, int]]:
    """(first frame, frames) of the clips of ``length`` frames of a video of ``total`` frames.

    When at least a fifth of a clip remains, a last clip is shifted back so that it ends with the video; a shorter
    remainder is left out. A video shorter than one clip gives one clip of its own length.
    """
    if length < 1 or not 0 <= overlap < length:
        raise ConfigError(f"clips need a length above their overlap, not {length} and {overlap} frames")
    if total <= length:
        return [(0, total)]
    firsts = list(range(0, total - length + 1, length - overlap))
    if total - (firsts[-1] + length) >= _MIN_REMAINDER * length:
        firsts.append(total - length)
    return [(first, length) for first in firsts]


def stretches(places: Iterable[int]) -> list[tuple[int, int]]:
    """(first place, frames) of every stretch of frames without a missing place, from their places on the grid."""
    found: list[tuple[int, int]] = []
    for place in places:
        if found and place == sum(found[-1]):
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((place, 1))
    return found


def split(
    src: Path,
    out_dir: Path,
    length_s: float,
    overlap_s: float = 0.0,
    parts: Sequence[tuple[int, int]] | None = None,
) -> list[ClipSpan]:
    """Cut a video into clips of a fixed length (see ``spans``) in one decoding pass, ``clip-0000.mp4`` and so on.

    Clips are encoded again, so that each begins with a keyframe. The last may hold fewer frames than planned when the
    video cannot be decoded to its end. ``parts`` are (first frame, frames) of stretches that are cut each for itself
    (default: those between the gaps of the video).
    """
    info = probe(src)
    if parts is None:
        total, edges = grid(info.duration_s, info.fps), [0]
        for gap in info.gaps:
            edges += [grid(gap.start_s, info.fps), grid(gap.start_s + gap.length_s, info.fps)]
        parts = [(a, b - a) for a, b in zip(edges[::2], [*edges[1::2], total], strict=True) if b > a]
    length, overlap = round(length_s * info.fps), round(overlap_s * info.fps)
    plan = [(begin + first, count) for begin, total in parts for first, count in spans(total, length, overlap)]
    paths = [Path(out_dir) / f"clip-{i:04d}.mp4" for i in range(len(plan))]
    clips: list[ClipSpan] = []
    waiting = list(range(len(plan)))
    writers: dict[int, Writer] = {}

    def finish(i: int) -> None:
        writer = writers.pop(i)
        writer.__exit__(None, None, None)
        first = plan[i][0]
        clips.append(ClipSpan(first / info.fps, writer.frames / info.fps, paths[i], writer.frames, first))

    with ExitStack() as stack:  # removes unfinished clips when the source fails
        for frame in read(src, info.fps):
            for i in [i for i in writers if frame.index >= sum(plan[i])]:  # frames are missing at its end
                finish(i)
            while waiting and plan[waiting[0]][0] <= frame.index:
                i = waiting.pop(0)
                if frame.index >= sum(plan[i]):
                    continue
                height, width = frame.image.shape[:2]
                writers[i] = stack.enter_context(Writer(paths[i], info.fps, (width, height)))
            for i in list(writers):
                writers[i].write(frame.image)
                if frame.index + 1 >= sum(plan[i]):
                    finish(i)
            if not waiting and not writers:
                break
        for i in list(writers):
            finish(i)
    return sorted(clips, key=lambda clip: clip.start_s)


def cut(src: Path, out_dir: Path, plan: Sequence[tuple[int, int]], begin: int) -> list[ClipSpan]:
    """Cut the frames ``plan``, (first frame, frames) by first frame, out of a video that shows a part of a longer one.

    ``begin`` is the frame of the longer video with which ``src`` begins. All clips have their planned length: what lies
    before or after ``src`` is black.
    """
    fps = probe(src).fps
    paths = [Path(out_dir) / f"clip-{i:04d}.mp4" for i in range(len(plan))]
    waiting = list(range(len(plan)))
    writers: dict[int, Writer] = {}
    black: NDArray[np.uint8] = np.zeros((2, 2, 3), np.uint8)

    def finish(i: int) -> None:
        writer = writers.pop(i)
        while writer.frames < plan[i][1]:
            writer.write(black)
        writer.__exit__(None, None, None)

    with ExitStack() as stack:  # removes unfinished clips when the source fails
        for frame in read(src, fps):
            place = begin + frame.index
            for i in [i for i in writers if place >= sum(plan[i])]:
                finish(i)
            while waiting and plan[waiting[0]][0] <= place:
                i = waiting.pop(0)
                height, width = frame.image.shape[:2]
                black = np.zeros_like(frame.image)
                writers[i] = stack.enter_context(Writer(paths[i], fps, (width, height)))
                for _ in range(min(place, sum(plan[i])) - plan[i][0]):
                    writers[i].write(black)
            for i, writer in writers.items():
                if place < sum(plan[i]):
                    writer.write(frame.image)
        for i in list(writers):
            finish(i)
    return [
        ClipSpan(first / fps, count / fps, path, count, first)
        for (first, count), path in zip(plan, paths, strict=True)
        if path.is_file()
    ]
