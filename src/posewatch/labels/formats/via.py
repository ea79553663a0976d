"""Projects of VGG Image Annotator 3 (VIA): the JSON that its video annotator saves (``data_format_version`` 3.x)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from posewatch.errors import LabelError
from posewatch.labels.formats.stretches import Stretch
from posewatch.text import read_json

_PARTS = {"project", "file", "view", "attribute", "metadata"}


def is_project(path: Path) -> bool:
    """Whether a file is such a project. Raises LabelError for JSON that cannot be read."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    data = read_json(path, error=LabelError)
    return isinstance(data, Mapping) and set(data) >= _PARTS


def read(path: Path) -> list[Stretch]:
    """The labelled segments of the videos, and labels of whole videos. Raises LabelError naming what cannot be read."""
    data = read_json(path, error=LabelError)
    found: list[Stretch] = []
    for name, one in data["metadata"].items():
        where = f"{path.name} {name}: "
        try:
            found += _of(where, one, data)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise LabelError(f"{where}not a segment of VIA 3 ({error!r})") from None
    return found


def _of(where: str, one: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Stretch]:
    """``z`` are times in seconds: two of a segment, one of a frame, none of a whole file; ``xy`` is a region."""
    times = [float(time) for time in one["z"]]
    if len(times) == 1 or one["xy"]:
        return
    since, until = (times[0], times[-1]) if times else (0.0, math.inf)
    for number in data["view"][str(one["vid"])]["fid_list"]:
        for attribute, value in one["av"].items():
            options = data["attribute"][attribute].get("options") or {}
            chosen = str(value).split(",") if options else [str(value)]  # of checkboxes several
            for label in chosen:
                if label.strip():
                    yield Stretch(
                        where, data["file"][str(number)]["fname"], options.get(label, label).strip(), since, until, True
                    )
