"""FiftyOne's formats, as fiftyone.utils.data writes and reads them: FiftyOneTemporalDetectionDataset (``labels.json``
beside ``data/``), out and in, and FiftyOneDataset (``samples.json``) in.

FiftyOne's VideoClassificationDirectoryTree is the format "folders" of `exporters`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.files import write_atomically
from posewatch.labels.entries import ClipEntry
from posewatch.labels.formats import media
from posewatch.labels.formats.snapshot import Snapshot
from posewatch.labels.formats.stretches import Stretch, person_of
from posewatch.text import read_json

LABELS, SAMPLES, DATA = "labels.json", "samples.json", "data"


def export_of(path: Path) -> Path | None:
    """The JSON file of a dataset (a folder, or the file itself) in one of both formats; None for anything else."""
    if path.is_dir():
        return next((path / name for name in (LABELS, SAMPLES) if (path / name).is_file()), None)
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    data = read_json(path, error=LabelError)
    temporal = isinstance(data, Mapping) and isinstance(data.get("labels"), Mapping)
    samples = isinstance(data, Mapping) and isinstance(data.get("samples"), list)
    return path if temporal or samples else None


def read(path: Path) -> list[Stretch]:
    """The labelled stretches of a dataset. Raises LabelError naming the video whose labels cannot be read."""
    data = read_json(path, error=LabelError)
    found: list[Stretch] = []
    labels = data.get("labels") or {}
    samples = [(uuid, {"detections": {"detections": given}}) for uuid, given in labels.items()]
    samples += [(str(sample.get("filepath", "")), sample) for sample in data.get("samples") or ()]
    for name, sample in samples:
        where = f"{path.name} {name!r}: "
        try:
            found += _of_sample(where, name, sample, data.get("classes"))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise LabelError(f"{where}not a label of FiftyOne ({error!r})") from None
    return found


def _of_sample(where: str, file: str, sample: Mapping[str, Any], classes: Sequence[str] | None) -> Iterator[Stretch]:
    about = sample.get("metadata") or {}
    fps = float(about["frame_rate"]) if about.get("frame_rate") else None
    for field in sample.values():
        if not isinstance(field, Mapping):
            continue
        for one in field.get("detections") or field.get("classifications") or [field]:
            kind = one.get("_cls", "TemporalDetection" if "detections" in field else "")
            if kind not in ("TemporalDetection", "Classification") or one.get("label") is None:
                continue
            label = one["label"]
            label = str(classes[label] if classes and isinstance(label, int) else label)
            more = {**one, **(one.get("attributes") or {})}
            whose: dict[str, Any] = {"who": str(more.get("who") or ""), "person": person_of(more.get("person"))}
            if kind == "Classification":
                yield Stretch(where, file, label, 0.0, float("inf"), True, **whose)
            elif "timestamps" in one:
                first, last = map(float, one["timestamps"])
                yield Stretch(where, file, label, first, last, True, **whose)
            else:
                first, last = map(int, one["support"])  # counted from 1, both included
                yield Stretch(where, file, label, first - 1, last, False, fps, **whose)


def write(snapshot: Snapshot, entries: Iterable[ClipEntry], config: LabelConfig, folder: Path) -> int:
    """Write a FiftyOneTemporalDetectionDataset: the clips' files, and each clip's label over its whole length.

    Clips without a label are samples without one. Returns the number of labelled clips.
    """
    rows = {row["clip_id"]: row for row in snapshot.rows}
    classes = list(dict.fromkeys([*config.classes, *(row["label"] for row in snapshot.rows)]))
    labels: dict[str, Any] = {}
    for entry in entries:
        clip, row = entry.clip, rows.get(entry.clip.id)
        media.copy(entry, folder / DATA / f"{clip.id}.mp4")
        labels[clip.id] = None
        if row:
            about = {"video": entry.video, "start_s": clip.start_s, "who": row["who"], "source": row["source"]}
            about |= {} if clip.person is None else {"person": clip.person}
            labels[clip.id] = [{"label": classes.index(row["label"]), "support": [1, clip.frames], "attributes": about}]
    text = json.dumps({"classes": classes, "labels": labels}, indent=1, ensure_ascii=False) + "\n"
    write_atomically(folder / LABELS, text)
    return len(rows)
