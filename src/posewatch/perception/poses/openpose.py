"""OpenPose's ``--write_json``: one file per frame, ``<video>_000000000012_keypoints.json``; AlphaPose's ``--format
open`` and ``cmu`` are nearly the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from posewatch.errors import InputError
from posewatch.perception.poses.clip import PoseClip, by_clip, in_order, persons, shown, triples, unique
from posewatch.records import Detections

LAYOUTS = {25: "body25", 18: "openpose18", 15: "mpi15"}
"""Of its models BODY_25, COCO and MPI."""
_KEYS = ("pose_keypoints_2d", "pose_keypoints", "joints")
"""Of OpenPose since 1.1, of OpenPose before, and of AlphaPose's ``cmu``."""


def claims(data: Any) -> bool:
    """A frame: {people: [{pose_keypoints_2d}]}, or {bodies: [{joints}]}."""
    return isinstance(data, Mapping) and any(isinstance(data.get(key), list) for key in ("people", "bodies"))


def read(files: Iterable[tuple[Path, Any]]) -> Iterator[PoseClip]:
    """A clip of the files of each folder whose names differ in their last number only."""
    found = {path: frame_of(data, shown(path)) if data else None for path, data in files}
    for (where, name), frames in by_clip(found, "_keypoints").items():
        made = PoseClip(name, in_order(frames, where), where)
        yield replace(made, layout=LAYOUTS.get(made.joints, ""))


def frame_of(data: Any, where: str) -> Detections | None:
    """The persons of one frame; ``person_id`` counts where OpenPose followed them (``--tracking``)."""
    people = data.get("people", data.get("bodies")) if isinstance(data, Mapping) else None
    if not isinstance(people, list) or not all(isinstance(one, Mapping) for one in people):
        raise InputError(f"{where}: no list of people")
    tables, ids = [], []
    for one in people:
        key = next((key for key in _KEYS if key in one), None)
        if key is None:
            raise InputError(f"{where}: a person has no {_KEYS[0]}")
        if one[key]:
            tables.append(triples(one[key], where))
            ids.append(one.get("person_id"))
    return persons(tables, where, ids=unique(ids))
