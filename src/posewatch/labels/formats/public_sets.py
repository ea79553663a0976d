"""The ground truth of public data sets of CCTV and falls, as their authors publish it: which frames show what.

UCF-Crime and XD-Violence are lists of test videos, Le2i and UBI-Fights have a file beside each video. A video that
such a file describes is normal where it names nothing.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from posewatch.config import LabelConfig
from posewatch.datasets.intervals import Interval
from posewatch.errors import LabelError
from posewatch.names import folded, readable
from posewatch.text import read_text
from posewatch.video.files import Walk

_UCF = re.compile(r"(\S+\.(?:mp4|avi))\s+([A-Za-z]+)((?:\s+-?\d+){4})")
"""A video, its class, and first and last frame of two events, -1 for none."""
_XD = re.compile(r"(\S*_label_([A-Z][0-9A-Z-]*)(?:\.mp4)?)((?:\s+\d+\s+\d+)+)")
"""A video named after its classes, and first and last frame of each event."""
_XD_CLASSES = {"B1": "fighting", "B2": "shooting", "B4": "riot", "B5": "abuse", "B6": "car accident", "G": "explosion"}
_XD_NORMAL = re.compile(r".*_label_A(?:\.\w+)?")
_LE2I = re.compile(r"annotations?_files", re.IGNORECASE)
_ANY = ("abnormal", "abnormality", "anomaly", "anomalous", "이상", "이상행동", "비정상")
"""Names of a class that is any event."""
UCF_FPS, XD_FPS, LE2I_FPS, UBI_FPS = 30.0, 24.0, 25.0, 30.0
"""Frames a second that each set counts, whatever the frame rate of a copy of a video."""


@dataclass(frozen=True)
class _Video:
    """``events``: (first frame, frame of the end) in ``file``; ``kinds`` are their classes, of which the first that the
    experiment has counts."""

    where: str
    file: str
    fps: float
    kinds: tuple[str, ...] = ()
    events: list[tuple[float, float]] = field(default_factory=list)


def read(source: Path, config: LabelConfig, warn: Callable[[str], None]) -> list[Interval] | None:
    """The labels of a data set in a file or a folder; None for what is none of them.

    An event has the class of its name where the experiment has it. Where it has none of the set's names, all events are
    of the positive class, if the set has one kind of event only or the class means any ("abnormal"). ``warn`` gets a
    line on that, and on videos that are left out, since their event is of no class and they are not normal either.
    Videos that were not ingested are no error: lists name all of the set's. Raises LabelError where no event has a
    class.
    """
    for one in (_ucf, _xd, _le2i, _ubi):
        if videos := one(source):
            return list(_intervals(videos, config, warn, source.name))
    return None


def _intervals(videos: list[_Video], config: LabelConfig, warn: Callable[[str], None], name: str) -> Iterator[Interval]:
    known = {folded(label): label for label in config.classes}
    kinds = sorted({kind for video in videos if video.events for kind in video.kinds})
    any_event = None
    if kinds and not any(folded(kind) in known for kind in kinds):
        if not config.positive or (len(kinds) > 1 and folded(config.positive) not in _ANY):
            classes = ", ".join(config.classes)
            raise LabelError(
                f"{name}: none of its events ({', '.join(kinds)}) is one of {classes}: name some in labels.classes"
            )
        any_event = config.positive
        warn(f"{name}: events ({', '.join(kinds)}) count as {any_event!r}, no class has one of these names")
    left = Counter[str]()
    for video in videos:
        label = next((known[folded(kind)] for kind in video.kinds if folded(kind) in known), any_event)
        if video.events and label is None:
            left["/".join(video.kinds)] += 1
            continue
        at = 0.0
        for first, last in sorted(video.events):
            start, end = first / video.fps, last / video.fps
            if start > at:
                yield Interval(video.file, at, start, config.default, video.where, listed=True)
            act = video.kinds[0] if len(video.kinds) == 1 else ""
            yield Interval(video.file, start, end, str(label), video.where, act=act, listed=True)
            at = max(at, end)
        yield Interval(video.file, at, math.inf, config.default, video.where, listed=True)
    if left:
        told = ", ".join(f"{kinds} ({count})" for kinds, count in sorted(left.items()))
        warn(f"{name}: videos of no class are left out: {told}")


def _lists(source: Path) -> list[Path]:
    return [source] if source.is_file() else sorted(source.glob("*.txt"))


def _matched(source: Path, row: re.Pattern[str]) -> Iterator[tuple[str, re.Match[str]]]:
    """(where, match) of each row of a list whose first row is such; other rows of it raise LabelError."""
    for path in _lists(source):
        if path.suffix.lower() != ".txt":
            continue
        try:
            text = _text(path)
        except LabelError:
            continue  # somebody else's, whatever it is
        lines = [(i, line.strip()) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
        if not lines or not row.fullmatch(lines[0][1]):
            continue
        for number, line in lines:
            found = row.fullmatch(line)
            if found is None:
                raise LabelError(f"{path.name} row {number}: {line[:60]!r} is not like the rows before: correct it")
            yield f"{path.name} row {number}", found


def _text(path: Path) -> str:
    return read_text(path, error=LabelError)


def _ucf(source: Path) -> list[_Video]:
    """UCF-Crime's ``Temporal_Anomaly_Annotation_for_Testing_Videos.txt``."""
    videos = []
    for where, found in _matched(source, _UCF):
        frames = [int(number) for number in found[3].split()]
        kinds = () if folded(found[2]) == "normal" else (found[2],)
        videos.append(_Video(where, found[1], UCF_FPS, kinds, list(_spans(frames))))
    return videos


def _xd(source: Path) -> list[_Video]:
    """XD-Violence's ``annotations.txt``; beside it in a folder, the videos that their names call normal."""
    videos = []
    for where, found in _matched(source, _XD):
        kinds = tuple(_XD_CLASSES[code] for code in found[2].split("-") if code in _XD_CLASSES)
        frames = [int(number) for number in found[3].split()]
        videos.append(_Video(where, found[1], XD_FPS, kinds, list(_spans(frames))))
    if videos and source.is_dir():
        for name, _ in Walk(source).files:
            if _XD_NORMAL.fullmatch(Path(name).name):
                videos.append(_Video(name, name, XD_FPS))
    return videos


def _spans(frames: list[int]) -> Iterator[tuple[float, float]]:
    """Pairs of first and last frame → [first, end); pairs of -1 are none."""
    for first, last in zip(frames[::2], frames[1::2], strict=True):
        if first >= 0 and last > first:
            yield float(first), float(last)


def _le2i(source: Path) -> list[_Video]:
    """The falls of Le2i (FDD): ``Annotation_files/video (1).txt`` of ``Videos/video (1).avi`` begins with the first and
    the last frame of the fall, 0 for none."""
    videos = []
    near = [path for depth in ("*", "*/*", "*/*/*") for path in sorted(source.glob(depth))]
    for folder in [path for path in near if _LE2I.fullmatch(path.name) and path.is_dir()]:
        room = readable(folder.parent.relative_to(source).as_posix())
        for path in sorted(folder.glob("*.txt")):
            numbers = [line.strip() for line in _text(path).splitlines()[:2]]
            if len(numbers) < 2 or not all(number.isdigit() for number in numbers):
                continue  # boxes only: some files have no word on a fall
            file = f"{room}/Videos/{readable(path.stem)}".removeprefix("./")
            where = f"{room}/{readable(path.name)}".removeprefix("./")
            videos.append(_Video(where, file, LE2I_FPS, ("fall",), list(_spans([int(n) for n in numbers]))))
    return videos


def _ubi(source: Path) -> list[_Video]:
    """UBI-Fights: ``annotation/F_0_1_0_0_0.csv`` has a row for each frame, 1 in a fight, else 0."""
    videos = []
    for path in sorted((source / "annotation").glob("*.csv")) if source.is_dir() else ():
        rows = _text(path).split()
        if not rows or not {row.split(".")[0] for row in rows} <= {"0", "1"}:
            return []
        spans, at = [], 0
        for fighting, run in groupby(rows, lambda row: row.split(".")[0] == "1"):
            length = len(list(run))
            if fighting:
                spans.append((float(at), float(at + length)))
            at += length
        videos.append(_Video(readable(path.name), readable(path.stem), UBI_FPS, ("fight",), spans))
    return videos
