"""Ultralytics: ``save_txt``, one text file per frame (``<video>_<frame>.txt``), and ``Results.to_json()`` or
``summary()``, of one frame in a file or of a list of frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from posewatch.datasets.paper import stem
from posewatch.errors import InputError
from posewatch.perception.poses.clip import PoseClip, by_clip, in_order, persons, shown, unique
from posewatch.records import Detections

_BOX = 5
"""Class, centre, width and height come first in a line."""
_JOINTS = 17


def claims(data: Any) -> bool:
    """A frame's persons, each with ``box`` and ``keypoints`` {x, y}; or a list of frames."""
    frame = next((one for one in data if one), None) if isinstance(data, list) else None
    if isinstance(frame, list):
        return claims(frame)
    return isinstance(frame, Mapping) and "box" in frame and isinstance(frame.get("keypoints"), Mapping)


def claims_text(lines: Sequence[Sequence[str]]) -> bool:
    """Lines of numbers, the first whole, the next four from 0 to 1, and joints."""
    try:
        rows = [[float(value) for value in line] for line in lines]
    except ValueError:
        return False
    return bool(rows) and all(len(r) > _BOX + 3 and r[0].is_integer() and max(r[1:5]) <= 1 for r in rows)


def read(files: Iterable[tuple[Path, Any]]) -> Iterator[PoseClip]:
    """A clip of each file that is a list of frames, and of those that differ in their last number only."""
    single: dict[Path, Detections | None] = {}
    for path, data in files:
        if any(isinstance(frame, list) for frame in data):
            frames = [_frame(frame, f"{shown(path)}: frame {t}") for t, frame in enumerate(data)]
            yield PoseClip(stem(path.name), frames, shown(path))
        else:
            single[path] = _frame(data, shown(path))
    for (where, name), found in by_clip(single).items():
        yield PoseClip(name, in_order(found, where), where)


def _frame(people: Any, where: str) -> Detections | None:
    if not isinstance(people, list) or not all(isinstance(one, Mapping) for one in people):
        raise InputError(f"{where} is no list of persons")
    tables, scores, ids = [], [], []
    for one in people:
        joints = one.get("keypoints")
        try:
            x, y = joints["x"], joints["y"]
            tables.append(list(zip(x, y, joints.get("visible") or [1.0] * len(x), strict=True)))
        except (TypeError, KeyError, ValueError, AttributeError):
            raise InputError(
                f"{where}: a person's keypoints need x and y, and visible or not, as many of each"
            ) from None
        scores.append(one.get("confidence"))
        ids.append(one.get("track_id"))
    return persons(tables, where, scores, unique(ids))


def read_text(files: Iterable[tuple[Path, Any]], joints: int = 0) -> Iterator[PoseClip]:
    """A clip of the files of each folder whose names differ in their last number only; ``joints`` is V (default: 17).

    Nobody is seen in a frame without a file.
    """
    lines = {path: [[float(value) for value in row] for row in rows] for path, rows in files}
    for (where, name), frames in by_clip(lines).items():
        form = _form({len(row) for rows in frames.values() for row in rows}, joints or _JOINTS, where)
        found = {number: _of_lines(rows, form, where, frames) for number, rows in frames.items()}
        yield PoseClip(name, in_order(found, where), where, scaled=True)


def _form(lengths: set[int], joints: int, where: str) -> tuple[int, int, int]:
    """V, the numbers of a joint (2, or 3 with its score), and the numbers after the joints: its score, its track id."""
    fits = [
        (joints, per, next(iter(lengths)) - _BOX - per * joints)
        for per in (3, 2)
        if len(lengths) == 1 and 0 <= next(iter(lengths)) - _BOX - per * joints <= 2
    ]
    if not fits:
        raise InputError(
            f"{where}: lines of {' and '.join(map(str, sorted(lengths)))} numbers are not those of {joints} joints "
            "(give --layout, if there are others)"
        )
    return fits[0]


def _of_lines(
    rows: list[list[float]], form: tuple[int, int, int], where: str, frames: Mapping[int, list[list[float]]]
) -> Detections | None:
    joints, per, more = form
    tables, scores, ids = [], [], []
    # One number more may be either: ids are whole, from 1 on, and different in each frame.
    last = [[row[-1] for row in one] for one in frames.values()]
    tracked = more == 2 or (more == 1 and all(v >= 1 and v.is_integer() for one in last for v in one))
    for row in rows:
        body = row[_BOX : _BOX + per * joints]
        tables.append([[*body[i : i + per], 1.0][:3] for i in range(0, len(body), per)])
        scores.append(row[_BOX + per * joints] if more == 2 or (more == 1 and not tracked) else None)
        ids.append(row[-1] if tracked else None)
    return persons(tables, where, scores, unique(ids))
