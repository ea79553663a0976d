"""ActivityNet's JSON, in which many sets of timed actions are published (THUMOS, HACS, FineAction, Kinetics):
``{"database": {video: {"annotations": [{"segment": [start, end], "label": class}]}}}``; MMAction2 and Kinetics leave
``database`` out, and Kinetics has one annotation instead of a list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from posewatch.errors import LabelError
from posewatch.labels.formats.stretches import Stretch
from posewatch.text import read_json


def is_database(data: Any) -> bool:
    """Whether JSON is such a file's."""
    videos = _videos(data)
    return bool(videos) and all(isinstance(one, Mapping) and "annotations" in one for one in videos.values())


def read(path: Path) -> list[Stretch]:
    """The segments of all videos, which are named without the ending of their file. Raises LabelError naming a video
    whose annotation is none."""
    found: list[Stretch] = []
    for name, one in _videos(read_json(path, error=LabelError)).items():
        where = f"{path.name} {name}: "
        try:
            found += _of(where, name, one["annotations"])
        except (KeyError, TypeError, ValueError) as error:
            raise LabelError(f"{where}not an annotation with a segment and a label ({error!r})") from None
    return found


def _videos(data: Any) -> Mapping[str, Any]:
    videos = data.get("database", data) if isinstance(data, Mapping) else None
    return videos if isinstance(videos, Mapping) else {}


def _of(where: str, name: str, given: Any) -> Iterator[Stretch]:
    for one in [given] if isinstance(given, Mapping) else given or ():
        since, until = map(float, one["segment"])
        if not 0 <= since < until:
            raise ValueError(f"segment {one['segment']}")
        yield Stretch(where, name, str(one["label"]), since, until, True)
