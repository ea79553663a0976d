"""Tables as people bring them, read like a person would: csv with any separator, headers in any spelling, seconds as
numbers or as times."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from posewatch.errors import LabelError
from posewatch.names import folded
from posewatch.text import read_text

SUFFIXES = (".csv", ".tsv", ".txt")
SEPARATORS = (",", ";", "\t", "|")
ALIASES = {
    "file": (
        *("file", "video", "filename", "file_name", "video_id", "path", "name", "media_file_name", "media_file"),
        *("파일", "파일명", "영상", "동영상"),
    ),
    "start_s": ("start_s", "start", "begin", "from", "start_time", "start_sec", "시작", "시작시간", "시작초"),
    "end_s": ("end_s", "end", "stop", "to", "end_time", "end_sec", "stop_s", "끝", "종료", "종료시간", "끝초"),
    "act": ("act", "sub_label", "행위"),
    "person": ("person", "person_id", "track", "track_id", "사람", "인물", "사람번호"),
    "label": (
        *("label", "class", "event", "category", "action", "behavior", "behaviour", "라벨", "레이블", "클래스", "분류"),
    ),
}
"""Column → the headers that mean it; of several in one file the first counts."""
_CLOCK = re.compile(r"(?:(?P<h>\d+):)?(?P<m>\d+):(?P<s>\d{1,2}(?:[.,]\d+)?)")
_UNIT = re.compile(r"\s*(s|sec|secs|seconds|초)$", re.IGNORECASE)


class Row(dict[str, Any]):
    """One row, {column: text}; the fields beyond the header are a list under "". ``number`` is its line."""

    def __init__(self, number: int, values: Mapping[str, Any], separator: str) -> None:
        super().__init__(values)
        self.number, self.separator = number, separator


def key_of(name: str) -> str:
    """A header without its case, Unicode form and signs: "Start (s)" and "START_S" are "start_s"."""
    return re.sub(r"\W+", "_", folded(name)).strip("_")


def columns(names: Iterable[str], aliases: Mapping[str, Sequence[str]]) -> list[str]:
    """``names`` stripped; the first of each column's ``aliases`` that is among them is replaced by the column."""
    names = [name.strip() for name in names]
    keys = [key_of(name) for name in names]
    found = {next((key for key in map(key_of, known) if key in keys), ""): column for column, known in aliases.items()}
    return [found.get(key, name) if key else name for key, name in zip(keys, names, strict=True)]


def header(path: Path) -> list[str]:
    """The keys of a csv file's columns. Raises LabelError."""
    return [key_of(name) for name in _open(path, {})[0]]


def table(path: Path, required: Sequence[str], aliases: Mapping[str, Sequence[str]] | None = None) -> Iterator[Row]:
    """The rows of a csv file; empty ones are left out.

    The separator is that of Excel's line ``sep=;``, else the one with which the header has most of the columns.
    Headers match in any case and spelling, or by ``aliases``. Raises LabelError when the file cannot be read, lacks
    one of the ``required`` columns, or has it twice.
    """
    known = {name: (name, *(aliases or {}).get(name, ())) for name in (*required, *(aliases or {}))}
    first, rows, separator, offset = _open(path, known)
    names = columns(first, known)
    missing = [name for name in required if name not in names]
    if missing:
        found = ", ".join(name.strip() for name in first if name.strip()) or "nothing"
        raise LabelError(f"{path.name} has no column {missing[0]!r}: found {found}; expected {', '.join(required)}")
    if twice := [name for name in known if names.count(name) > 1]:
        raise LabelError(f"{path.name} has two columns {twice[0]!r}: rename or remove one")
    try:
        for row in rows:
            if any(cell.strip() for cell in row):
                cells = [*row, *[""] * (len(names) - len(row))]
                values = {**dict(zip(names, cells, strict=False)), "": cells[len(names) :]}
                yield Row(rows.line_num + offset, values, separator)
    except csv.Error as error:
        raise LabelError(f"{path.name} row {rows.line_num + offset} is not CSV: {error}") from None


def _open(path: Path, known: Mapping[str, Sequence[str]]) -> tuple[list[str], Any, str, int]:
    """The header, a csv reader of what follows, the separator, and the lines before the reader's first."""
    text, offset = read_text(path, error=LabelError), 0
    separators: tuple[str, ...] = SEPARATORS
    if told := re.match(r"\s*\"?sep=(.)\"?[^\S\r\n]*\r?\n", text, re.IGNORECASE):
        text, offset, separators = text[told.end() :], told[0].count("\n"), (told[1],)

    def first_row(separator: str) -> list[str]:
        try:
            return next((row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if any(row)), [])
        except csv.Error:
            return []

    def fits(separator: str) -> tuple[int, int]:
        names = columns(first_row(separator), known)
        return len(set(names) & set(known)), len(names)

    separator = max(separators, key=fits)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        return next((row for row in rows if any(cell.strip() for cell in row)), []), rows, separator, offset
    except csv.Error as error:
        raise LabelError(f"{path.name} row {rows.line_num + offset} is not CSV: {error}") from None


def number(value: Any, separator: str = "") -> float:
    """A number as people write it: 12.5, or 12,5 with a decimal comma. Raises ValueError for another text, and for
    1,234 in a table separated by commas: it is a thousand in some countries and one in others."""
    text = str("" if value is None else value).strip()
    if re.fullmatch(r"[+-]?\d+,\d+", text) and not (separator == "," and re.search(r",\d{3}$", text)):
        text = text.replace(",", ".")
    return float(text)


def seconds(value: Any, separator: str = "") -> float:
    """Seconds from a number, with or without a unit, or from mm:ss or hh:mm:ss, with or without a fraction.

    Raises ValueError for another text.
    """
    text = _UNIT.sub("", str("" if value is None else value).strip())
    if not (clock := _CLOCK.fullmatch(text)):
        return number(text, separator)
    rest = number(clock["s"])
    if rest >= 60 or (clock["h"] and int(clock["m"]) >= 60):
        raise ValueError
    return int(clock["h"] or 0) * 3600 + int(clock["m"]) * 60 + rest


def positive_seconds(row: Row, column: str, where: str) -> float:
    """A time from the beginning of a video; may be infinite. Raises LabelError."""
    shown = str(row[column]).strip()
    try:
        value = seconds(row[column], row.separator)
    except ValueError:
        raise LabelError(
            f"{where}: {column} must be a number of seconds, not {shown!r} (12.5, 1:30 or 0:01:30.5)"
        ) from None
    if math.isnan(value) or value < 0:
        raise LabelError(f"{where}: {column} must be 0 or more seconds, not {shown!r}")
    return value
