"""Readers of labels by clip id, from this store and other tools: CSV, Parquet, pyskl, class folders, Label Studio."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from posewatch.config import LabelConfig
from posewatch.datasets.intervals import table
from posewatch.errors import LabelError
from posewatch.labels.entries import MARKS
from posewatch.names import folded


def class_of(name: str, config: LabelConfig, where: str) -> str:
    """The configured class ``name``, whatever its case and Unicode form. Raises LabelError with ``where`` in front."""
    known = {folded(c): c for c in config.classes}
    if folded(name) not in known:
        raise LabelError(f"{where}unknown class {name!r} (known: {', '.join(config.classes)})")
    return known[folded(name)]


def has_clip_ids(path: str | Path) -> bool:
    """Whether a file or folder has labels by clip id, which `read_clip_labels` reads, and not timed intervals."""
    path = Path(path)
    if path.is_dir():
        return next(path.glob("*/c-*.mp4"), None) is not None
    if path.suffix.lower() == ".csv" and path.is_file():
        with path.open(newline="", encoding="utf-8-sig") as file:
            return "clip_id" in [name.strip() for name in next(csv.reader(file), [])]
    return path.suffix.lower() in (".parquet", ".pkl", ".pickle", ".json")


def read_clip_labels(path: str | Path, config: LabelConfig) -> dict[str, str]:
    """Clip id → class, from a csv (clip_id, label), a snapshot (.parquet), pyskl annotations (.pkl), Label Studio's
    export (.json), or a folder ``<class>/<clip id>.mp4``.

    Raises LabelError for an unknown class, a clip with two different labels, and a file that has no labels or cannot
    be read. Where the annotators of another tool disagree, the annotation that is marked as ground truth counts.
    """
    path = Path(path)
    if not path.exists():
        raise LabelError(f"no such label file: {path}")
    suffix = "/" if path.is_dir() else path.suffix.lower()
    readers = {"/": _folders, ".csv": _csv, ".parquet": _parquet, ".pkl": _pyskl, ".pickle": _pyskl, ".json": _studio}
    if suffix not in readers:
        raise LabelError(f"{path.name} is not a label file: give csv, parquet, pkl, json or a folder of classes")
    labels: dict[str, str] = {}
    for where, clip, name in readers[suffix](path):
        label = class_of(name, config, where)
        if labels.setdefault(clip, label) != label:
            raise LabelError(f"{where}clip {clip} is both {labels[clip]!r} and {label!r}")
    if not labels:
        raise LabelError(f"{path.name} has no labels: give rows of clip_id, label")
    return labels


Rows = Iterator[tuple[str, str, str]]  # where, clip id, label


def _csv(path: Path) -> Rows:
    for number, row in table(path, ("clip_id", "label")):
        yield f"{path.name} row {number}: ", row["clip_id"].strip(), row["label"].strip()


def _parquet(path: Path) -> Rows:
    from posewatch.labels.formats.snapshot import read_parquet

    for row in read_parquet(path).rows:
        yield f"{path.name}: ", row["clip_id"], row["label"]


def _pyskl(path: Path) -> Rows:
    from posewatch.datasets.pyskl import read_pyskl

    clips, _ = read_pyskl(path)
    for clip, label in zip(clips.ids, clips.labels, strict=True):
        yield f"{path.name}: ", clip, clips.classes[int(label)]


def _folders(path: Path) -> Rows:
    for file in sorted(path.glob("*/c-*.mp4")):
        yield f"{file.relative_to(path)}: ", file.stem, file.parent.name


def _studio(path: Path) -> Rows:
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise LabelError(f"{path.name} is not readable JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(tasks, list):
        raise LabelError(f"{path.name} is not a Label Studio export: it must be a list of tasks")
    for number, task in enumerate(tasks, 1):
        where = f"{path.name} task {number}: "
        try:
            clip = _clip(task["data"])
            annotations = [one for one in task.get("annotations", ()) if not one.get("was_cancelled")]
            truth = [one for one in annotations if one.get("ground_truth")]
            for annotation in truth or annotations:
                for label in _choices(annotation):
                    yield where, clip, label
        except (KeyError, TypeError, AttributeError) as error:
            raise LabelError(f"{where}not a task with a choice of classes ({error})") from None


def _choices(annotation: dict[str, Any]) -> list[str]:
    labels = [str(c) for r in annotation["result"] if r["type"] == "choices" for c in r["value"]["choices"]]
    return [label for label in labels if label not in MARKS]


def _clip(data: dict[str, Any]) -> str:
    if "clip_id" in data:
        return str(data["clip_id"])
    video = next(str(value) for name, value in data.items() if name in ("video", "url", "file"))
    return Path(video.split("?")[0]).stem  # a task whose video is the clip itself
