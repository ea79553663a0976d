"""Readers of labels by clip id, from this store and other tools: CSV, Parquet, pyskl, class folders, Label
Studio, CVAT, FiftyOne, VIA, ELAN, Supervisely, ActivityNet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from posewatch.config import LabelConfig
from posewatch.datasets import tables
from posewatch.errors import LabelError
from posewatch.labels.formats import activitynet, cvat, elan, fiftyone, labelstudio, stretches, supervisely, via
from posewatch.labels.formats.rows import unquoted
from posewatch.labels.formats.stretches import NoLabels, Stretch
from posewatch.names import folded
from posewatch.text import read_json

log = logging.getLogger(__name__)


def class_of(name: str, config: LabelConfig, where: str) -> str:
    """The configured class ``name``, whatever its case and Unicode form. Raises LabelError with ``where`` in front."""
    known = {folded(c): c for c in config.classes}
    if folded(name) not in known:
        raise LabelError(f"{where}unknown class {name!r} (known: {', '.join(config.classes)})")
    return known[folded(name)]


def stretches_of(path: Path) -> list[Stretch] | None:
    """What another tool has labelled (`_read`); None for a file or folder of none of these tools.

    Most write a file for each video: a folder of such files is taken whole. Of one with a ``labels.csv`` that one
    counts.
    """
    if (dataset := fiftyone.export_of(path)) is not None:
        return fiftyone.read(dataset)
    if not path.is_dir():
        return _read(path)
    if (path / "labels.csv").is_file():
        return None
    files = [file for file in sorted(path.iterdir()) if not file.name.startswith(".") and _is_certain(file)]
    return _of_files(files) if files else None


def _is_certain(path: Path) -> bool:
    """Whether a file of a folder is of one of these tools, and nothing that may lie beside labels as well."""
    if supervisely.is_named_so(path):
        return supervisely.is_annotation(read_json(path, error=LabelError))
    return elan.is_document(path) or cvat.is_certain(path)


def _read(path: Path) -> list[Stretch] | None:
    """What ELAN, CVAT, VIA, Supervisely or a tool that writes ActivityNet's JSON has labelled; None for another."""
    if elan.is_document(path):
        return elan.read(path)
    if path.is_file() and cvat.is_export(path):
        return cvat.read(path)
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    if via.is_project(path):
        return via.read(path)
    data = read_json(path, error=LabelError)
    if supervisely.is_annotation(data):
        return supervisely.read(path)
    return activitynet.read(path) if activitynet.is_database(data) else None


def _of_files(files: Sequence[Path]) -> list[Stretch]:
    """The stretches of all ``files``, some of which may have none yet."""
    found: list[Stretch] = []
    empty: NoLabels | None = None
    for file in files:
        try:
            found += _read(file) or ()
        except NoLabels as error:
            empty = error
    if empty is not None and not found:
        raise empty
    return found


def has_clip_ids(path: str | Path) -> bool:
    """Whether a file or folder has labels by clip id, which `read_clip_labels` reads, and not timed intervals or labels
    of whole videos."""
    path = Path(path)
    found = stretches_of(path)
    if found is not None:
        return any(one.clip for one in found)
    if path.is_dir():
        return next(path.glob("*/c-*.mp4"), None) is not None
    if path.is_file() and labelstudio.is_export(path):
        shown = labelstudio.tasks(path)
        return not shown or any(task.clip for task in shown)
    if path.suffix.lower() in tables.SUFFIXES and path.is_file():
        return "clip_id" in tables.header(path)
    return path.suffix.lower() in (".parquet", ".pkl", ".pickle", ".json")


@dataclass(frozen=True)
class Given:
    """A clip's label in a file, and who gave it; "" where the file does not tell."""

    label: str
    who: str = ""


def read_clip_labels(
    path: str | Path, config: LabelConfig, warn: Callable[[str], None] = log.warning
) -> dict[str, Given]:
    """Clip id → label, from a csv (clip_id, label), a snapshot (.parquet), pyskl annotations (.pkl), Label Studio's
    export (.json, .csv), CVAT's (.xml, .zip), a dataset of FiftyOne, or a folder ``<class>/<clip id>.mp4``.

    ``warn`` gets a line on what was left out. Raises LabelError for an unknown class, a clip with two different labels,
    and a file that has no labels or cannot be read. Where the annotators of another tool disagree, the annotation that
    is marked as ground truth counts.
    """
    path = Path(path)
    if not path.exists():
        raise LabelError(f"no such label file: {path}")
    suffix = "/" if path.is_dir() else path.suffix.lower()
    readers = {"/": _folders, ".parquet": _parquet, ".pkl": _pyskl, ".pickle": _pyskl}
    rows: Rows
    found = stretches_of(path)
    if found is not None:
        rows = stretches.rows(stretches.of_classes(found, config, path.name, warn))
    elif path.is_file() and labelstudio.is_export(path):
        rows = _studio(path, config, warn)
    elif suffix in tables.SUFFIXES:
        rows = _csv(path)
    elif suffix in readers:
        rows = readers[suffix](path)
    else:
        raise LabelError(
            f"{path.name} is not a label file: give csv, parquet, pkl, json, xml, zip, eaf or a folder of classes"
        )
    labels: dict[str, Given] = {}
    for where, clip, name, who in rows:
        given = Given(class_of(name, config, where), who)
        if (first := labels.setdefault(clip, given)).label != given.label:
            raise LabelError(f"{where}clip {clip} is both {first.label!r} and {given.label!r}")
    if not labels:
        raise LabelError(f"{path.name} has no labels: give rows of clip_id, label")
    return labels


Rows = Iterator[tuple[str, str, str, str]]  # where, clip id, label, who


def _csv(path: Path) -> Rows:
    for row in tables.table(path, ("clip_id", "label"), {"label": tables.ALIASES["label"]}):
        where = f"{path.name} row {row.number}: "
        for name in ("clip_id", "label"):
            if not row[name].strip():
                raise LabelError(f"{where}{name} is empty")
        yield where, row["clip_id"].strip(), unquoted(row["label"].strip()), unquoted(row.get("who", "").strip())


def _parquet(path: Path) -> Rows:
    from posewatch.labels.formats.snapshot import read_parquet

    for row in read_parquet(path).rows:
        yield f"{path.name}: ", row["clip_id"], row["label"], row["who"]


def _pyskl(path: Path) -> Rows:
    from posewatch.datasets.pyskl import read_classes

    for clip, name in read_classes(path).items():
        yield f"{path.name}: ", clip, name, ""


def _folders(path: Path) -> Rows:
    for file in sorted(path.glob("*/c-*.mp4")):
        yield f"{file.relative_to(path)}: ", file.stem, file.parent.name, ""


def _studio(path: Path, config: LabelConfig, warn: Callable[[str], None]) -> Rows:
    tasks = labelstudio.tasks(path)
    if marked := labelstudio.marked(tasks, config):
        yield from stretches.rows(stretches.of_classes(marked, config, path.name, warn))
        return
    for task, label in labelstudio.choices(tasks, config, path.name, warn):
        if task.clip is None:
            raise LabelError(f"{task.where}{task.video!r} is no clip, but other tasks show clips (export one kind)")
        yield task.where, task.clip, label, task.who.get(label, "")
