"""Kinetics-skeleton, as ST-GCN published it and MMSkeleton reads it: one JSON file per clip, with its label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from posewatch.datasets.paper import stem
from posewatch.errors import InputError
from posewatch.perception.poses.clip import PoseClip, in_order, persons, shown
from posewatch.records import Detections

SIZE = (256, 340)
"""(height, width) that its authors brought all videos to; coordinates are shares of it."""


def claims(data: Any) -> bool:
    """{data: [{frame_index, skeleton}], label, label_index}."""
    frames = data.get("data") if isinstance(data, Mapping) else None
    return isinstance(frames, list) and all(isinstance(one, Mapping) and "skeleton" in one for one in frames)


def read(files: Iterable[tuple[Path, Any]]) -> Iterator[PoseClip]:
    """A clip of each file; the folders ``kinetics_train`` and ``kinetics_val`` (any ``..._<part>``) are its splits."""
    for path, data in files:
        found = {}
        for frame in data["data"]:
            number = frame.get("frame_index")
            if not isinstance(number, int):
                raise InputError(f"{shown(path)}: a frame without frame_index")
            found[number] = _frame(frame["skeleton"], f"{shown(path)}: frame {number}")
        # Its frames are counted from 1 on, and all are there: one without persons has an empty list.
        frames = in_order(found, shown(path))
        before, _, part = path.parent.name.rpartition("_")
        number = data.get("label_index")
        yield PoseClip(
            stem(path.name), frames, shown(path), "openpose18" if _eighteen(frames) else "", SIZE, True,
            label=str(data.get("label") or ""), number=number if isinstance(number, int) else 0,
            part=part if before and part in ("train", "val", "test") else "",
        )  # fmt: skip


def _eighteen(frames: list[Detections | None]) -> bool:
    return PoseClip("", frames, "").joints == 18


def _frame(people: Any, where: str) -> Detections | None:
    tables = []
    for one in people if isinstance(people, list) else ():
        try:
            pose, score = one["pose"], one["score"]
            tables.append(list(zip(pose[0::2], pose[1::2], score, strict=True)))
        except (TypeError, KeyError, ValueError, IndexError):
            raise InputError(f"{where}: a skeleton needs pose (x1, y1, x2, ...) and score, of as many joints") from None
    return persons(tables, where)
