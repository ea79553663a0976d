"""Annotated events and predicted windows from the files that people and pipelines have."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from posewatch.config import LabelConfig
from posewatch.datasets import gmdcsa24
from posewatch.digests import canonical
from posewatch.errors import InputError, LabelError
from posewatch.recognition.events.alarms import Event
from posewatch.recognition.events.timeline import Window

_VIDEO = ("video", "file", "name", "filename", "file name", "video_id", "frame_dir")
_START = ("start_s", "start", "begin", "from", "start_time", "start (s)")
_END = ("end_s", "end", "stop", "to", "end_time", "end (s)")
_LABEL = ("label", "class", "event", "category", "action")
_P = ("p", "probability", "score", "prob")


def read_intervals(path: str | Path, config: LabelConfig | None = None) -> list[Event]:
    """Annotated events from a csv with the columns video, start_s, end_s and label (or the like: file, start, class).

    A missing label column means that every row is an event with the label "". ``end_s`` may be empty or "inf": until
    the video ends. A csv of GMDCSA-24 (``Subject_1_Fall.csv``), or a folder of those, is read with its videos beside
    it: falls are the positive class of ``config``, all else its default. A csv with a header and no row has no events.
    Raises LabelError naming the row.
    """
    path = Path(path)
    if path.is_dir() or gmdcsa24.PATTERN.match(path.name):
        found = gmdcsa24.read_gmdcsa24(path if path.is_dir() else path.parent, config)
        own = [i for i in found if path.is_dir() or i.where.startswith(f"{path.name} ")]
        return [Event(i.file, i.start_s, i.end_s, i.label) for i in own]
    events = []
    for number, row in _csv(path):
        where = f"{path.name} row {number}"
        video = _text(row, _VIDEO, where)
        start, end = (_seconds(row, names, where, open_end=names is _END) for names in (_START, _END))
        label = _first(row, _LABEL)
        try:
            events.append(Event(video, start, end, "" if label is None else label))
        except LabelError as error:
            raise LabelError(f"{where}: {error}") from None
    return events


def read_windows(path: str | Path, label: str = "", length_s: float = 0.0) -> list[Window]:
    """Scored windows from a csv or JSON lines file with video, start_s, end_s and p (or the like).

    A row may hold ``probabilities`` {class: p} instead of ``p``: then ``label`` says which is meant. Rows without
    ``end_s``, such as a pipeline's predictions.jsonl, are ``length_s`` seconds long; rows with ``people`` 0 and no
    probability, in which nobody was seen, have p = 0. Raises InputError naming the row.
    """
    path = Path(path)
    windows = []
    for number, row in _csv(path) if path.suffix.lower() == ".csv" else _jsonl(path):
        where = f"{path.name} row {number}"
        video, start = _text(row, _VIDEO, where, InputError), _seconds(row, _START, where, InputError)
        if _first(row, _END) in (None, ""):
            if length_s <= 0:
                raise InputError(f"{where} has no end_s: say how long the windows are")
            end = start + length_s
        else:
            end = _seconds(row, _END, where, InputError)
        try:
            windows.append(Window(video, start, end, _probability(row, label, where)))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    if not windows:
        raise InputError(f"{path} holds no window: rows need video, start_s, end_s and p")
    return windows


def write_windows(path: str | Path, windows: Iterable[Window]) -> Path:
    """Write windows as JSON lines that ``read_windows`` reads."""
    path = Path(path)
    rows = ({"video": w.video, "start_s": w.start_s, "end_s": w.end_s, "p": w.p} for w in windows)
    partial = path.with_name(f".{path.name}.part")
    partial.write_text("".join(canonical(row) + "\n" for row in rows), encoding="utf-8")
    return partial.replace(path)


def _probability(row: Mapping[str, Any], label: str, where: str) -> float:
    many = row.get("probabilities")
    if isinstance(many, Mapping):
        if not label:
            raise InputError(f"{where} has several probabilities: say which of {', '.join(map(str, many))} is meant")
        if label not in many:
            raise InputError(f"{where} has no probability of {label!r}: found {', '.join(map(str, many))}")
        value = many[label]
    else:
        value = _first(row, _P)
        if value in (None, "") and str(row.get("people", "")) == "0":
            return 0.0
        if value is None:
            raise InputError(f"{where} has no probability: give a column p")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{where}: the probability must be a number, not {str(value)!r}") from None


def _csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows as (number as a spreadsheet shows it, {column in lower case: text}); empty rows are left out."""
    reader = csv.reader(io.StringIO(_read(path), newline=""))
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        for names, what in ((_VIDEO, "video"), (_START, "start_s")):
            if not any(name in header for name in names):
                found = ", ".join(name for name in header if name) or "nothing"
                raise LabelError(f"{path.name} has no column {what!r}: found {found}")
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, dict(zip(header, (cell.strip() for cell in row), strict=False))
    except csv.Error as error:
        raise LabelError(f"{path.name} row {reader.line_num} is not CSV: {error}") from None


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_read(path).splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                raise InputError(f"{path.name} row {number} is not JSON (one object a line)") from None
            if not isinstance(row, dict):
                raise InputError(f"{path.name} row {number} is not a JSON object")
            yield number, {str(key).lower(): value for key, value in row.items()}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _first(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((row[name] for name in names if name in row), None)


def _text(row: Mapping[str, Any], names: tuple[str, ...], where: str, error: type[InputError] = LabelError) -> str:
    value = str(_first(row, names) or "").strip()
    if not value:
        raise error(f"{where}: {names[0]} is empty")
    return value


def _seconds(
    row: Mapping[str, Any],
    names: tuple[str, ...],
    where: str,
    error: type[InputError] = LabelError,
    open_end: bool = False,
) -> float:
    value = _first(row, names)
    if open_end and value in (None, ""):
        return math.inf
    try:
        return float("" if value is None else value)
    except (TypeError, ValueError):
        raise error(f"{where}: {names[0]} must be a number of seconds, not {str(value or '')!r}") from None
