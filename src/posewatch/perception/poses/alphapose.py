"""AlphaPose: ``alphapose-results.json``, one file per video: a list, or by frames (``--format open`` and ``cmu``)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from posewatch.datasets.paper import stem
from posewatch.errors import InputError
from posewatch.perception.poses import openpose
from posewatch.perception.poses.clip import PoseClip, in_order, persons, places, shown, triples, unique
from posewatch.records import Detections

RESULTS = "alphapose-results"


def claims(data: Any) -> bool:
    """A list of persons with the name of their picture in ``image_id``; or the frames by such names."""
    if isinstance(data, Mapping):
        return bool(data) and all(openpose.claims(frame) and "." in str(name) for name, frame in data.items())
    one = data[0] if isinstance(data, list) and data else None
    return isinstance(one, Mapping) and "keypoints" in one and isinstance(one.get("image_id"), str)


def read(files: Iterable[tuple[Path, Any]]) -> Iterator[PoseClip]:
    """A clip of each file, or, where its pictures have names of several beginnings, of each beginning."""
    for path, data in files:
        name = path.parent.name if path.stem.startswith(RESULTS) else stem(path.name)
        frames: dict[str, dict[int, Detections | None]] = defaultdict(dict)
        rows: dict[str, Any] = defaultdict(list)
        if isinstance(data, Mapping):
            rows = dict(data)
        else:
            for one in data:
                if not isinstance(one, Mapping) or not isinstance(one.get("image_id"), str):
                    raise InputError(f"{shown(path)}: a person without the name of a picture (image_id)")
                rows[one["image_id"]].append(one)
        tracked = not isinstance(data, Mapping) and _tracked(rows)
        named = places(map(stem, rows))
        for picture, people in rows.items():
            before, number = named[stem(picture)]
            where = f"{shown(path)}: {picture}"
            if number is None:
                raise InputError(f"{where} has no number of a frame in its name")
            by_frame = isinstance(people, Mapping)
            frames[before][number] = openpose.frame_of(people, where) if by_frame else _frame(people, where, tracked)
        for before, found in frames.items():
            own = name if len(frames) == 1 else before or name
            made = PoseClip(own, in_order(found, own), shown(path))
            yield replace(made, layout=openpose.LAYOUTS.get(made.joints, ""))


def _tracked(rows: Mapping[str, list[Mapping[str, Any]]]) -> bool:
    """Whether ``idx`` follows persons: it is there without a tracker, too, and is 0 then."""
    ids = [unique([one.get("idx") for one in people]) for people in rows.values()]
    return all(own is not None for own in ids) and len({i for own in ids for i in own or ()}) > 1


def _frame(people: list[Mapping[str, Any]], where: str, tracked: bool) -> Detections | None:
    tables = [triples(one.get("keypoints"), where) for one in people]
    return persons(tables, where, ids=unique([one.get("idx") for one in people]) if tracked else None)
