"""Timed labels as people write them down: a labels.csv, or one folder of videos per class."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from posewatch.errors import LabelError
from posewatch.video.files import SUFFIXES

COLUMNS = ("file", "start_s", "end_s", "label")


@dataclass(frozen=True)
class Interval:
    """``label`` holds in ``file`` for [start_s, end_s) seconds; ``end_s`` may be infinite; ``where`` is its origin."""

    file: str
    start_s: float
    end_s: float
    label: str
    where: str = field(default="", compare=False)


def table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a csv file as (row number as a spreadsheet shows it, {column: text}); empty rows are left out.

    In a row with more fields than the header the last column takes the last field. Raises LabelError when the file
    cannot be read or lacks one of ``columns``.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise LabelError(f"{path} is not UTF-8 text: save it as CSV UTF-8") from None
    except OSError as error:
        raise LabelError(f"cannot read {path}: {error.strerror}") from None
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [name.strip() for name in next(rows, [])]
        missing = [name for name in columns if name not in header]
        if missing:
            found = ", ".join(name for name in header if name) or "nothing"
            raise LabelError(f"{path.name} has no column {missing[0]!r}: found {found}; expected {', '.join(columns)}")
        for row in rows:
            if any(cell.strip() for cell in row):
                while len(row) > len(header) and not row[-1].strip():
                    row.pop()
                cells = [*row[: len(header) - 1], row[-1]] if len(row) > len(header) else row
                yield rows.line_num, {name: cells[i] if i < len(cells) else "" for i, name in enumerate(header)}
    except csv.Error as error:
        raise LabelError(f"{path.name} row {rows.line_num} is not CSV: {error}") from None


def read_labels_csv(path: str | Path) -> list[Interval]:
    """Read a csv with the columns file, start_s, end_s and label (others are ignored).

    ``end_s`` "inf" means until the end of the video. Raises LabelError, naming the row, for a value that does not fit.
    """
    path = Path(path)
    out: list[Interval] = []
    for number, row in table(path, COLUMNS):
        where = f"{path.name} row {number}"
        file, label = row["file"].strip(), row["label"].strip()
        for name, value in (("file", file), ("label", label)):
            if not value:
                raise LabelError(f"{where}: {name} is empty")
        start, end = (_seconds(row[name], f"{where}: {name}") for name in ("start_s", "end_s"))
        if math.isinf(start):
            raise LabelError(f"{where}: start_s must be finite")
        if end <= start:
            raise LabelError(f"{where}: end_s {end:g} must be greater than start_s {start:g}")
        out.append(Interval(file, start, end, label, where))
    if not out:
        raise LabelError(f"{path.name} has no labels: give rows of {', '.join(COLUMNS)}")
    return out


def _seconds(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise LabelError(f"{where} must be a number of seconds, not {text.strip()!r}") from None
    if math.isnan(value) or value < 0:
        raise LabelError(f"{where} must be 0 or more seconds, not {text.strip()!r}")
    return value


def read_class_folders(folder: str | Path) -> list[Interval]:
    """Read ``folder``/<class>/<video>: each video shows its class from beginning to end. Raises LabelError on none."""
    folder = Path(folder)
    out = [
        Interval(video.relative_to(folder).as_posix(), 0.0, math.inf, kind.name, f"folder {kind.name}")
        for kind in sorted(folder.iterdir() if folder.is_dir() else ())
        if kind.is_dir() and not kind.name.startswith(".")
        for video in sorted(kind.rglob("*"))
        if video.suffix.lower() in SUFFIXES and video.is_file()
    ]
    if not out:
        raise LabelError(f"no class folders in {folder}: expected <class>/<video>, such as abnormal/a.mp4")
    return out
