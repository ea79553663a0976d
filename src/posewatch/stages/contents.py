"""Typed readers of what stages hand on: clips, skeletons, label rows, the parts of a dataset."""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.artifact import Artifact
from posewatch.datasets.clipset import ClipSet
from posewatch.labels.formats.snapshot import read_parquet
from posewatch.recognition.sampling import resample
from posewatch.records import Clip, Skeleton

SNAPSHOT = "labels.parquet"


def labels_of(artifact: Artifact, folder: Path) -> list[dict[str, Any]]:
    """The rows of a snapshot: clip_id, video_id, label, source, who, model_version."""
    return list(read_parquet(artifact.fetch(SNAPSHOT, folder)).rows)


def clips_of(artifact: Artifact) -> list[Clip]:
    """The clips of one video."""
    return [Clip(**row) for row in artifact.lines("clips.jsonl")]


def skeletons_of(artifact: Artifact, only: Collection[str] | None = None) -> dict[str, Skeleton]:
    """Clip id → skeleton, of one video; of the clips ``only``."""
    about = artifact.json("skeletons.json")
    about.pop("persons")
    with np.load(io.BytesIO(artifact.read("skeletons.npz"))) as arrays:
        return {name: Skeleton(arrays[name], **about) for name in arrays.files if only is None or name in only}


def row_of(row: dict[str, Any]) -> dict[str, Any]:
    """What a set's row hands on to the next set: the video and its names."""
    return {"video": row["video"], "names": row["names"]}


def read(artifact: Artifact, part: str) -> ClipSet:
    """One part ("train", "validation" or "test") of a dataset."""
    about = artifact.json("dataset.json")
    rows = [row for row in artifact.lines("clips.jsonl") if row["part"] == part]
    with np.load(io.BytesIO(artifact.read("skeletons.npz"))) as arrays:
        return ClipSet(
            keypoints=tuple(arrays[row["clip"]] for row in rows),
            labels=np.array([about["classes"].index(row["label"]) for row in rows], np.int64),
            classes=tuple(about["classes"]),
            ids=tuple(row["clip"] for row in rows),
            groups=tuple(row["video"] for row in rows),
            fps=about["fps"],
            layout=about["layout"],
        )


def inputs(clips: ClipSet, frames: int, people: int) -> NDArray[np.float32]:
    """What a served model takes: (N, M, T, V, 3)."""
    return resample(clips.keypoints, frames, people)
