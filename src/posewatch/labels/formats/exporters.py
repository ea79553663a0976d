"""Labels for other tools: CSV, Parquet, pyskl annotations, class folders of mp4, Label Studio JSON.

`clip_labels.read_clip_labels` reads each of them back.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posewatch.config import LabelConfig
from posewatch.errors import LabelError, NotFound
from posewatch.labels.entries import ClipEntry
from posewatch.labels.formats.snapshot import Snapshot, write_parquet

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore
    from posewatch.records import Skeleton
    from posewatch.store import ObjectStore

COLUMNS = ("clip_id", "label", "source", "who", "model_version", "video", "start_s", "length_s", "key")
FORMATS = ("csv", "parquet", "pyskl", "folders", "labelstudio")


def to_csv(snapshot: Snapshot, entries: Mapping[str, ClipEntry], path: Path) -> int:
    """One row per labelled clip, with where it lies in its video; returns the number of rows."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in snapshot.rows:
        entry = entries[row["clip_id"]]
        place = [entry.video, f"{entry.clip.start_s:g}", f"{entry.clip.length_s:g}", entry.key]
        writer.writerow([*(row[name] or "" for name in COLUMNS[:5]), *place])
    _write(path, out.getvalue().encode())
    return len(snapshot.rows)


def to_parquet(snapshot: Snapshot, path: Path) -> int:
    """The snapshot itself, as training takes it."""
    write_parquet(snapshot, path)
    return len(snapshot.rows)


def to_pyskl(snapshot: Snapshot, skeletons: Mapping[str, Skeleton], config: LabelConfig, path: Path) -> int:
    """pyskl annotations of the labelled clips that have a skeleton, all in one split "all"; source videos are groups.

    Raises LabelError when a clip's class is none of ``config.classes``, or no clip has a skeleton.
    """
    import numpy as np

    from posewatch.datasets.clipset import ClipSet
    from posewatch.datasets.pyskl import write_pyskl

    rows = [row for row in snapshot.rows if row["clip_id"] in skeletons]
    if not rows:
        raise LabelError("none of the labelled clips has a skeleton: give the skeletons of these clips")
    for row in rows:
        if row["label"] not in config.classes:
            raise LabelError(f"clip {row['clip_id']} is {row['label']!r}, which is none of {', '.join(config.classes)}")
    first = skeletons[rows[0]["clip_id"]]
    clips = ClipSet(
        tuple(skeletons[row["clip_id"]].keypoints for row in rows),
        np.array([config.classes.index(row["label"]) for row in rows], np.int64),
        config.classes,
        tuple(row["clip_id"] for row in rows),
        tuple(row["video_id"] for row in rows),
        first.fps,
        first.layout,
        certain=True,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pyskl(path, clips, {"all": range(len(rows))}, (first.height, first.width))
    return len(rows)


def to_folders(
    snapshot: Snapshot, entries: Mapping[str, ClipEntry], open_store: Callable[[str], ObjectStore], folder: Path
) -> int:
    """``<class>/<clip id>.mp4`` of every labelled clip; clips that are there already are not fetched again.

    Returns the number of clips. Raises LabelError for a class that is no folder's name, and for a clip that is gone
    from the object store.
    """
    stores: dict[str, ObjectStore] = {}
    for row in snapshot.rows:
        label, entry = row["label"], entries[row["clip_id"]]
        if label != Path(label).name or label.startswith(".") or "\\" in label:
            raise LabelError(f"the class {label!r} cannot be the name of a folder: export csv instead")
        target = folder / label / f"{entry.clip.id}.mp4"
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        store = stores.setdefault(entry.store, open_store(entry.store))
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            store.fetch(entry.key, temporary)
            temporary.replace(target)
        except NotFound:
            raise LabelError(f"clip {entry.clip.id} is not in {entry.store} any more: it cannot be exported") from None
        finally:
            temporary.unlink(missing_ok=True)
    kept = {(row["label"], f"{row['clip_id']}.mp4") for row in snapshot.rows}
    for path in folder.glob("*/c-*.mp4"):  # of an export before a label changed
        if (path.parent.name, path.name) not in kept:
            path.unlink()
    return len(snapshot.rows)


def to_labelstudio(store: LabelStore, snapshot: Snapshot, entries: Mapping[str, ClipEntry], path: Path) -> int:
    """Label Studio tasks: one annotation per person (the label that counts first), ``data.clip_id`` names the clip.

    The matching labelling interface is ``<Video name="video" value="$video"/><Choices name="label" toName="video">``.
    """
    states = store.states(row["clip_id"] for row in snapshot.rows)
    tasks: list[dict[str, Any]] = []
    for number, row in enumerate(snapshot.rows, 1):
        entry = entries[row["clip_id"]]
        said = [(row["who"], row["label"], True)]
        said += [
            (who, event.new or "", False)
            for who, event in sorted(states[row["clip_id"]].votes.items())
            if who != row["who"]
        ]
        tasks.append(
            {
                "id": number,
                "data": {
                    "video": f"{entry.store}/{entry.preview or entry.key}",
                    "clip_id": entry.clip.id,
                    "source_video": entry.video,
                    "start_s": entry.clip.start_s,
                    "length_s": entry.clip.length_s,
                },
                "meta": {"source": row["source"], "model_version": row["model_version"]},
                "annotations": [
                    {
                        "completed_by": {"email": who},
                        "ground_truth": counts,
                        "result": [
                            {
                                "from_name": "label",
                                "to_name": "video",
                                "type": "choices",
                                "value": {"choices": [label]},
                            }
                        ],
                    }
                    for who, label, counts in said
                ],
            }
        )
    _write(path, (json.dumps(tasks, indent=1, ensure_ascii=False) + "\n").encode())
    return len(tasks)


def export(
    store: LabelStore,
    snapshot: Snapshot,
    form: str,
    path: str | Path,
    config: LabelConfig,
    skeletons: Mapping[str, Skeleton] | None = None,
    open_store: Callable[[str], ObjectStore] | None = None,
) -> int:
    """Write a snapshot of ``store`` in one of ``FORMATS`` to a file (a folder for "folders"); returns how many clips.

    ``skeletons`` by clip id are needed for "pyskl", ``open_store`` for "folders". Files are whole or absent.
    """
    path = Path(path)
    entries = {e.clip.id: e for e in store.clips(clip_ids=[row["clip_id"] for row in snapshot.rows])}
    if form == "csv":
        return to_csv(snapshot, entries, path)
    if form == "parquet":
        return to_parquet(snapshot, path)
    if form == "labelstudio":
        return to_labelstudio(store, snapshot, entries, path)
    if form == "pyskl":
        if skeletons is None:
            raise LabelError("pyskl annotations hold skeletons: give the set of skeletons of these clips")
        return to_pyskl(snapshot, skeletons, config, path)
    if form == "folders":
        if open_store is None:
            from posewatch.store import open_store as opener

            open_store = opener
        return to_folders(snapshot, entries, open_store, path)
    raise LabelError(f"unknown format {form!r} (known: {', '.join(FORMATS)})")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
