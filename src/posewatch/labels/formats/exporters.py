"""Labels for other tools: CSV, Parquet, pyskl annotations, class folders of mp4, Label Studio, CVAT, FiftyOne.

`clip_labels.read_clip_labels` reads each of them back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from posewatch.config import DatasetConfig, LabelConfig
from posewatch.errors import LabelError
from posewatch.files import write_atomically
from posewatch.labels.entries import ClipEntry
from posewatch.labels.formats import cvat, fiftyone, labelstudio_tasks, media
from posewatch.labels.formats.rows import csv_text
from posewatch.labels.formats.snapshot import Snapshot, write_parquet
from posewatch.labels.notes import comments
from posewatch.outputs import is_result

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore
    from posewatch.records import Skeleton

COLUMNS = (
    "clip_id",
    "label",
    "source",
    "who",
    "model_version",
    "video",
    "start_s",
    "length_s",
    "key",
    "person",
    "comments",
)
FORMATS = ("csv", "parquet", "pyskl", "folders", "labelstudio", "cvat", "fiftyone")
OPEN = ("labelstudio", "cvat", "fiftyone")
"""Formats that hold the clips without a label, too: there is something to label elsewhere."""


def to_csv(store: LabelStore, snapshot: Snapshot, entries: Mapping[str, ClipEntry], path: Path) -> int:
    """One row per labelled clip, with its position in its video and its comments; returns the number of rows."""
    said, rows = comments(store, entries), []
    for row in snapshot.rows:
        entry = entries[row["clip_id"]]
        start, length = f"{entry.clip.start_s:g}", f"{entry.clip.length_s:g}"
        position = {
            "video": entry.video,
            "start_s": start,
            "length_s": length,
            "key": entry.key,
            "person": entry.clip.person,
        }
        position["comments"] = "\n".join(f"{one.who}: {one.text}" for one in said.get(row["clip_id"], ()))
        rows.append({**{name: row[name] for name in COLUMNS[:5]}, **position})
    write_atomically(path, csv_text(COLUMNS, rows))
    return len(rows)


def to_pyskl(
    snapshot: Snapshot, skeletons: Mapping[str, Skeleton], config: LabelConfig, path: Path,
    groups: Mapping[str, str] | None = None,
) -> int:  # fmt: skip
    """pyskl annotations of the labelled clips that have a skeleton, in one split "all"; the groups are the source
    videos, or what ``groups`` says of a video.

    Raises LabelError when a clip's class is not in ``config.classes``, or no clip has a skeleton.
    """
    import numpy as np

    from posewatch.datasets.clipset import ClipSet, levelled
    from posewatch.datasets.pyskl import write_pyskl

    rows = [row for row in snapshot.rows if row["clip_id"] in skeletons]
    if not rows:
        raise LabelError("none of the labelled clips has a skeleton: give the skeletons of these clips")
    for row in rows:
        if row["label"] not in config.classes:
            raise LabelError(f"clip {row['clip_id']} is {row['label']!r}, which is none of {', '.join(config.classes)}")
    first = skeletons[rows[0]["clip_id"]]
    keypoints, layout = levelled([skeletons[row["clip_id"]] for row in rows])
    clips = ClipSet(
        tuple(keypoints),
        np.array([config.classes.index(row["label"]) for row in rows], np.int64),
        config.classes,
        tuple(row["clip_id"] for row in rows),
        tuple((groups or {}).get(row["video_id"], row["video_id"]) for row in rows),
        first.fps,
        layout,
        certain=True,
    )
    write_pyskl(path, clips, {"all": range(len(rows))}, (first.height, first.width))
    return len(rows)


def to_folders(snapshot: Snapshot, entries: Mapping[str, ClipEntry], folder: Path, *, force: bool = False) -> int:
    """``<class>/<clip id>.mp4`` of every labelled clip; files that exist are not fetched again, obsolete ones deleted.

    Returns the number of clips. Raises LabelError for a class that cannot name a folder, for a clip that was deleted
    from the object store, and, unless ``force`` is set, for an obsolete clip that somebody put there.
    """
    current = {(row["label"], f"{row['clip_id']}.mp4") for row in snapshot.rows}
    obsolete = [  # of an export before a label changed
        path for path in folder.glob("*/c-*.mp4") if (path.parent.name, path.name) not in current
    ]
    foreign = [path for path in obsolete if not is_result(path)]
    if foreign and not force:
        raise LabelError(
            f"{foreign[0]} has another label, or none, and was put there by somebody ({len(foreign)} such clips): "
            "import the folder first, give another --out, or --force to delete them"
        )
    for row in snapshot.rows:
        label, entry = row["label"], entries[row["clip_id"]]
        if label != Path(label).name or label.startswith(".") or "\\" in label:
            raise LabelError(f"the class {label!r} cannot be the name of a folder: export csv instead")
        media.copy(entry, folder / label / f"{entry.clip.id}.mp4")
    for path in obsolete:
        path.unlink()
    return len(snapshot.rows)


def export(
    store: LabelStore,
    snapshot: Snapshot,
    form: str,
    path: str | Path,
    config: LabelConfig,
    skeletons: Mapping[str, Skeleton] | None = None,
    *,
    force: bool = False,
    grouped: DatasetConfig | None = None,
) -> int:
    """Write a snapshot of ``store`` in one of ``FORMATS`` to a file, or to a folder (folders, cvat, fiftyone;
    labelstudio unless ``path`` ends with .json).

    ``skeletons`` by clip id are needed for "pyskl", in which ``grouped`` says which videos are one group. Files are
    whole or absent. Returns the number of clips.
    """
    path = Path(path)
    if form == "parquet":
        write_parquet(snapshot, path)
        return len(snapshot.rows)
    if form == "pyskl":
        if skeletons is None:
            raise LabelError("pyskl annotations need skeletons: give the set of skeletons of these clips")
        from posewatch.datasets.subjects import video_groups

        named = {entry.clip.video_id: entry.names for entry in _entries(store, snapshot).values()}
        groups = video_groups(named, grouped.group_pattern, grouped.groups) if grouped else None
        return to_pyskl(snapshot, skeletons, config, path, groups)
    if form == "labelstudio":
        return labelstudio_tasks.write(store, snapshot, store.clips(), config, path)
    if form in ("cvat", "fiftyone"):
        return (cvat if form == "cvat" else fiftyone).write(snapshot, store.clips(), config, path)
    entries = _entries(store, snapshot)
    return to_csv(store, snapshot, entries, path) if form == "csv" else to_folders(snapshot, entries, path, force=force)


def _entries(store: LabelStore, snapshot: Snapshot) -> dict[str, ClipEntry]:
    return {e.clip.id: e for e in store.clips(clip_ids=[row["clip_id"] for row in snapshot.rows])}
