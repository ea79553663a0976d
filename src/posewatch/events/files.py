"""Annotated events and predicted windows from csv and JSON lines files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from posewatch.config import LabelConfig
from posewatch.datasets import gmdcsa24, tables
from posewatch.datasets.tables import columns, table
from posewatch.digests import canonical
from posewatch.errors import InputError, LabelError
from posewatch.events.alarms import Event
from posewatch.events.timeline import Window
from posewatch.files import write_atomically
from posewatch.names import known_as
from posewatch.text import read_text

ALIASES = {
    "video": ("video", *tables.ALIASES["file"], "frame_dir"),
    **{name: tables.ALIASES[name] for name in ("start_s", "end_s", "label")},
    "p": ("p", "probability", "score", "prob"),
    "person": ("person",),
    "act": tables.ALIASES["act"],
}
REQUIRED = ("video", "start_s")


def read_intervals(path: str | Path, config: LabelConfig | None = None) -> list[Event]:
    """Annotated events from a csv with the columns video, start_s, end_s and label, or ``ALIASES`` of these.

    Without a label column every row is an event with the label ""; a column person says whose it is, a column act what
    is done. ``end_s`` may be empty or "inf": until the video ends. A csv of GMDCSA-24 (``Subject_1_Fall.csv``), or a
    folder of those, is read with its videos beside it: falls are the positive class of ``config``, all else its
    default. A csv with a header and no row has no events. Raises LabelError naming the row.
    """
    path = Path(path)
    if path.is_dir() or gmdcsa24.is_sheet(path):
        intervals = gmdcsa24.read_gmdcsa24(path if path.is_dir() else path.parent, config)
        chosen = [i for i in intervals if path.is_dir() or i.where.startswith(f"{path.name} ")]
        return [Event(i.file, i.start_s, i.end_s, i.label, act=i.act) for i in chosen]
    events = []
    for row in table(path, REQUIRED, ALIASES):
        try:
            end = _seconds(row, "end_s") if row.get("end_s", "").strip() else math.inf
            label, start_s = row.get("label", "").strip(), _seconds(row, "start_s")
            act = row.get("act", "").strip()
            events.append(Event(_video(row), start_s, end, label, person=_person(row), act=act))
        except InputError as error:
            raise LabelError(f"{path.name} row {row.number}: {error}") from None
    return events


def read_windows(path: str | Path, label: str = "", length_s: float = 0.0) -> list[Window]:
    """Scored windows from a csv or JSON lines file with video, start_s, end_s and p, or ``ALIASES`` of these.

    A row may hold ``probabilities`` {class: p} instead of ``p``; ``label`` is then the class that counts. Rows without
    ``end_s``, such as a pipeline's predictions.jsonl, are ``length_s`` seconds long. Rows with ``people`` 0 and no
    probability, in which nobody is visible, have p = 0. A ``person`` is whose window it is. Raises
    InputError naming the row.
    """
    path = Path(path)
    windows = []
    for row in table(path, REQUIRED, ALIASES) if path.suffix.lower() in tables.SUFFIXES else _jsonl(path):
        try:
            start = _seconds(row, "start_s")
            if row.get("end_s") not in (None, ""):
                end = _seconds(row, "end_s")
            elif length_s > 0:
                end = start + length_s
            else:
                raise InputError("it has no end_s (give the length of the windows: --window-s)")
            windows.append(Window(_video(row), start, end, _probability(row, label), _person(row)))
        except InputError as error:
            raise InputError(f"{path.name} row {row.number}: {error}") from None
    if not windows:
        raise InputError(f"{path} holds no window: rows need video, start_s, end_s and p")
    return windows


def write_windows(path: str | Path, windows: Iterable[Window]) -> Path:
    """Write windows as JSON lines that ``read_windows`` reads."""
    rows = (
        {"video": w.video, "start_s": w.start_s, "end_s": w.end_s, "p": w.p}
        | ({} if w.person is None else {"person": w.person})
        for w in windows
    )
    write_atomically(path, "".join(canonical(row) + "\n" for row in rows))
    return Path(path)


def _probability(row: tables.Row, label: str) -> float:
    by_class = row.get("probabilities")
    if isinstance(by_class, Mapping):
        label = known_as(label, by_class) or label
        if not label:
            raise InputError(f"it has several probabilities: choose one of {', '.join(map(str, by_class))} (--label)")
        if label not in by_class:
            raise InputError(f"it has no probability of {label!r}: found {', '.join(map(str, by_class))}")
        value = by_class[label]
    else:
        value = row.get("p")
        if value in (None, "") and str(row.get("people", "")) == "0":
            return 0.0
        if value is None:
            raise InputError("it has no probability: give a column p")
    return _number(row, value, "the probability must be a number")


def _jsonl(path: Path) -> Iterator[tables.Row]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                raise InputError(f"{path.name} row {number} is not JSON (one object a line)") from None
            if not isinstance(row, dict):
                raise InputError(f"{path.name} row {number} is not a JSON object")
            yield tables.Row(number, dict(zip(columns(row, ALIASES), row.values(), strict=True)), "")


def _video(row: Mapping[str, Any]) -> str:
    video = str(row.get("video") or "").strip()
    if not video:
        raise InputError("video is empty")
    return video


def _person(row: Mapping[str, Any]) -> int | None:
    text = str(row.get("person") or "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text)):
        raise InputError(f"person must be a whole number from 1, or empty for the scene, not {text[:20]!r}")
    return int(text)


def _seconds(row: tables.Row, column: str) -> float:
    return _number(row, row.get(column), f"{column} must be a number of seconds", tables.seconds)


def _number(row: tables.Row, value: Any, need: str, read: Callable[[Any, str], float] = tables.number) -> float:
    try:
        return read(value, row.separator)
    except ValueError:
        raise InputError(f"{need}, not {str('' if value is None else value).strip()!r}") from None
