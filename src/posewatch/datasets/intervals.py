"""Timed labels from files that people write: a labels.csv, or one folder of videos per class."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from posewatch.datasets import boris
from posewatch.datasets.annotations import some
from posewatch.datasets.tables import ALIASES, positive_seconds, table
from posewatch.errors import LabelError
from posewatch.names import readable
from posewatch.video.files import Walk, is_trash

log = logging.getLogger(__name__)

_NAMED = re.compile(r"(.+\S)\s+#(\d+)")
COLUMNS = ("file", "start_s", "end_s", "label")


@dataclass(frozen=True)
class Interval:
    """``label`` holds in ``file`` for [start_s, end_s) seconds; ``end_s`` may be infinite; ``where`` is its origin.

    ``person`` is the person of the video whom it is about, None for everybody; ``act`` what is done, finer than the
    label, "" where nobody says. ``listed``: its file lists a whole data set, of which any part may be here.
    """

    file: str
    start_s: float
    end_s: float
    label: str
    where: str = field(default="", compare=False)
    person: int | None = None
    act: str = field(default="", compare=False)
    listed: bool = field(default=False, compare=False)


def read_labels_csv(path: str | Path, warn: Callable[[str], None] = log.warning) -> list[Interval]:
    """Read a csv with the columns file, start_s, end_s and label, or their ``ALIASES`` (others are ignored).

    A column act says what is done, finer than the label. A column person, or a file ``yard.mp4 #2``, names the person
    of the video whom the label is about. Times are seconds, mm:ss or hh:mm:ss; ``end_s`` "inf" means until the end of
    the video. Of BORIS's aggregated events those at one moment are left out, which ``warn`` is told. Raises LabelError,
    naming the row, for an invalid value.
    """
    path = Path(path)
    out: list[Interval] = []
    points: list[str] = []
    for row in table(path, COLUMNS, ALIASES):
        where = f"{path.name} row {row.number}"
        file, label = row["file"].strip(), row["label"].strip()
        for name, value in (("file", file), ("label", label)):
            if not value:
                raise LabelError(f"{where}: {name} is empty")
        if boris.is_point(row):
            points.append(f"row {row.number} ({label})")
            continue
        start, end = (positive_seconds(row, name, where) for name in ("start_s", "end_s"))
        if math.isinf(start):
            raise LabelError(f"{where}: start_s must be finite")
        if end <= start:
            raise LabelError(f"{where}: end_s {end:g} must be greater than start_s {start:g}")
        file, person = _person(file, str(row.get("person") or ""), where)
        act = str(row.get("act") or "").strip()
        out += [
            Interval(name, since, until, label, where, person, act)
            for name, since, until in boris.parts(row, file, start, end, where)
        ]
    if points:
        told = f"{path.name}: point events have no length and label nothing: {some(points, 3)}"
        if not out:
            raise LabelError(f"{told} (code the classes as state events)")
        warn(told)
    if not out:
        raise LabelError(f"{path.name} has no labels: give rows of {', '.join(COLUMNS)}")
    return out


def _person(file: str, given: str, where: str) -> tuple[str, int | None]:
    """The file, and the number of the person. Raises LabelError."""
    named = _NAMED.fullmatch(file)
    text = given.strip().removeprefix("#") or (named[2] if named else "")
    if text and not (text.isdecimal() and int(text)):
        raise LabelError(
            f"{where}: person {given.strip()!r} is not a number from 1, as persons.json and the page show it"
        )
    return (named[1] if named else file), int(text) if text else None


def read_class_folders(folder: str | Path) -> list[Interval]:
    """Read ``folder``/<class>/<video>: each video shows its class from start to end. Raises LabelError for none."""
    folder = Path(folder)
    out = [
        Interval(f"{readable(kind.name)}/{name}", 0.0, math.inf, readable(kind.name), f"folder {readable(kind.name)}")
        for kind in sorted(folder.iterdir() if folder.is_dir() else ())
        if kind.is_dir() and not kind.name.startswith(".") and not is_trash(kind)
        for name, _ in Walk(kind).files
    ]
    if not out:
        raise LabelError(f"no class folders in {folder}: expected <class>/<video>, such as abnormal/a.mp4")
    return out
