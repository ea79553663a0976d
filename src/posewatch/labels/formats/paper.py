"""Label files of the paper's tools: ``label.csv`` without a header, ``label_map.txt``, ``output_data.json``.

In ``output_data.json`` every clip begins as class 0, so that the file does not tell a clip that somebody looked at from
one that nobody did. Labelers work through the list of videos; so the class 0 of all videos behind the last one with
another class is taken for untouched (``zeros="touched"``); ``all`` takes every 0 for a label, ``none`` takes no 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from posewatch.config import LabelConfig
from posewatch.datasets.annotations import count, some
from posewatch.datasets.paper import is_label_csv, read_label_csv, read_label_map, stem
from posewatch.errors import LabelError
from posewatch.labels.formats.clip_labels import class_of
from posewatch.text import read_json

JSON, CSV, MAP = "output_data.json", "label.csv", "label_map.txt"
Zeros = Literal["touched", "all", "none"]


@dataclass(frozen=True)
class Named:
    """``labels``: a clip's name without ending → (class, where it is said); ``unlabelled``: clips without a label."""

    labels: dict[str, tuple[str, str]]
    unlabelled: int = 0


def find(path: Path) -> Path | None:
    """The label file of the paper's tools that ``path`` is, or that lies in the folder ``path``; None for others.

    Of both, ``output_data.json`` counts: the csv is made of it and does not know what was untouched.
    """
    if path.is_dir():
        return next((path / n for n in (JSON, CSV) if (path / n).is_file() and find(path / n) is not None), None)
    if path.suffix.lower() == ".json" and path.is_file():
        data = read_json(path, error=LabelError)
        return path if isinstance(data, Mapping) and {"video_list", "label_list", "clip_size"} <= set(data) else None
    return path if is_label_csv(path) else None


def read(path: Path, config: LabelConfig, zeros: Zeros, warn: Callable[[str], None]) -> Named:
    """The labels of a file that ``find`` found. Raises LabelError for an unknown class or another content."""
    found = _json(path, zeros, warn) if path.suffix.lower() == ".json" else Named(read_label_csv(path))
    if path.suffix.lower() != ".json":
        first = next(iter(found.labels.values()))[0]
        beside = path.with_name(MAP)
        names = read_label_map(beside) if beside.is_file() else [first]
        n = sum(label == names[0] for label, _ in found.labels.values())
        warn(
            f"{path.name}: {count(n, 'clip')} {names[0]!r}. The tool that makes this file writes the first class for a "
            f"clip that nobody looked at, too: import {JSON} to leave those out"
        )
    labels = {name: (class_of(label, config, f"{where}: "), where) for name, (label, where) in found.labels.items()}
    return Named(labels, found.unlabelled)


def _json(path: Path, zeros: Zeros, warn: Callable[[str], None]) -> Named:
    maps = [p for p in (path.with_name(MAP), path.parent / "output" / MAP) if p.is_file()]
    if not maps:
        raise LabelError(f"{path.name} holds numbers of classes: put the {MAP} that names them beside it")
    classes = read_label_map(maps[0])
    rows = read_json(path, error=LabelError)["label_list"]
    videos = [_row(row, classes, f"{path.name} video {i + 1}") for i, row in enumerate(rows)]
    touched = max((i for i, (_, numbers) in enumerate(videos) if any(numbers)), default=-1)
    labels: dict[str, tuple[str, str]] = {}
    left: list[str] = []
    for i, (name, numbers) in enumerate(videos):
        for clip, number in enumerate(numbers):
            key = f"{name}_{clip}"
            if number or zeros == "all" or (zeros == "touched" and i <= touched):
                labels[key] = (classes[number], f"{path.name} {name}")
            else:
                left.append(key)
    if left:
        behind = count(len(videos) - 1 - touched, "video")
        why = {
            "touched": f"they are {classes[0]!r} in the {behind} behind the last one with another class, which nobody "
            "touched (--zeros all takes them for labels)",
            "none": f"they are {classes[0]!r}, which the file writes before anybody looks (--zeros none)",
        }[zeros]
        warn(f"{path.name}: {count(len(left), 'clip')} unlabelled: {why}: {some(left, 3)}")
    if not labels:
        raise LabelError(
            f"{path.name}: no clip has another class than {classes[0]!r}: --zeros all takes that for a label"
        )
    return Named(labels, len(left))


def _row(row: Any, classes: list[str], where: str) -> tuple[str, list[int]]:
    name, numbers = (row.get("video_name"), row.get("label")) if isinstance(row, Mapping) else (None, None)
    whole = isinstance(numbers, list) and all(type(n) is int for n in numbers)
    if not isinstance(name, str) or not name or not whole:
        raise LabelError(f"{where} needs a video_name, and a label for each clip as a number of a class")
    assert isinstance(numbers, list)
    if outside := [n for n in numbers if not 0 <= n < len(classes)]:
        raise LabelError(
            f"{where} ({name}): class {outside[0]} is none of the {len(classes)} of {MAP}: {', '.join(classes)}"
        )
    return stem(name), numbers
