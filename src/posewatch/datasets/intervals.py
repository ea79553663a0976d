"""Timed labels from files that people write: a labels.csv, or one folder of videos per class."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posewatch.errors import LabelError
from posewatch.names import readable
from posewatch.video.files import Walk, is_trash

COLUMNS = ("file", "start_s", "end_s", "label")


@dataclass(frozen=True)
class Interval:
    """``label`` holds in ``file`` for [start_s, end_s) seconds; ``end_s`` may be infinite; ``where`` is its origin."""

    file: str
    start_s: float
    end_s: float
    label: str
    where: str = field(default="", compare=False)


def columns(names: Iterable[str], aliases: Mapping[str, Sequence[str]]) -> list[str]:
    """``names`` in lower case; the first of each column's ``aliases`` that is among them is replaced by the column."""
    lower = [name.strip().lower() for name in names]
    found = {next((alias for alias in known if alias in lower), ""): column for column, known in aliases.items()}
    return [found.get(name, name) for name in lower]


def table(
    path: Path, required: Sequence[str], aliases: Mapping[str, Sequence[str]] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a csv file as (row number as a spreadsheet shows it, {column: text}); empty rows are left out.

    The fields that a row has beyond the header are a list under the key "". Raises LabelError when the file cannot be
    read or lacks one of the ``required`` columns, which may be named by their ``aliases`` in any case.
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
        names = columns(header, aliases) if aliases else header
        missing = [name for name in required if name not in names]
        if missing:
            found = ", ".join(name for name in header if name) or "nothing"
            raise LabelError(f"{path.name} has no column {missing[0]!r}: found {found}; expected {', '.join(required)}")
        for row in rows:
            if any(cell.strip() for cell in row):
                cells = [*row, *[""] * (len(names) - len(row))]
                yield rows.line_num, {**dict(zip(names, cells, strict=False)), "": cells[len(names) :]}
    except csv.Error as error:
        raise LabelError(f"{path.name} row {rows.line_num} is not CSV: {error}") from None


def read_labels_csv(path: str | Path) -> list[Interval]:
    """Read a csv with the columns file, start_s, end_s and label (others are ignored).

    ``end_s`` "inf" means until the end of the video. Raises LabelError, naming the row, for an invalid value.
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
