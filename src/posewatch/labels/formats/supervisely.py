"""Supervisely's annotations of videos, as ``VideoAnnotation.to_json`` of its SDK writes them: a JSON file in the folder
``ann`` of a dataset, named after its video (``yard.mp4.json``)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from posewatch.errors import LabelError
from posewatch.labels.formats.stretches import Stretch
from posewatch.text import read_json
from posewatch.video.files import SUFFIXES

_PARTS = {"tags", "objects", "frames", "framesCount"}


def is_named_so(path: Path) -> bool:
    """Whether a file is named like an annotation of a video."""
    return path.suffix.lower() == ".json" and PurePosixPath(path.stem).suffix.lower() in SUFFIXES


def is_annotation(data: Any) -> bool:
    """Whether JSON is such an annotation's."""
    return isinstance(data, Mapping) and set(data) >= _PARTS


def read(path: Path) -> list[Stretch]:
    """The stretches of tags, of the video or of objects, and those in which an object is marked. A tag's label is its
    name, and its value where that is a text. Frames are counted. Raises LabelError naming the file."""
    where = f"{path.name}: "
    try:
        return list(_of(where, path.stem, read_json(path, error=LabelError)))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise LabelError(f"{where}not an annotation of a video of Supervisely ({error!r})") from None


def _of(where: str, file: str, data: Mapping[str, Any]) -> Iterator[Stretch]:
    tags = [*data["tags"], *(tag for one in data["objects"] for tag in one.get("tags") or ())]
    for tag in tags:
        frames = tag.get("frameRange")  # both included; without one the tag is for the whole video
        first, last = (0, math.inf) if frames is None else (int(frames[0]), int(frames[1]) + 1)
        for label in (tag["name"], tag.get("value")):
            if isinstance(label, str) and label.strip():
                yield Stretch(where, file, label.strip(), first, last, who=str(tag.get("labelerLogin") or ""))
    marked: dict[str, list[int]] = defaultdict(list)
    for frame in data["frames"]:
        for figure in frame["figures"]:
            marked[figure["objectKey"]].append(int(frame["index"]))
    for one in data["objects"]:
        run: list[int] = []
        for index in [*sorted(set(marked[one["key"]])), None]:
            if run and (index is None or index > run[-1] + 1):
                yield Stretch(where, file, str(one["classTitle"]), run[0], run[-1] + 1)
                run = []
            run += [] if index is None else [index]
