"""What a reader makes of another tool's poses: clips, frame by frame, with what the file says about them."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError
from posewatch.records import Detections

Floats = NDArray[np.float32]
T = TypeVar("T")
MOST_IDS = 2**62
LONGEST = 1_000_000
"""Frames of a clip; a larger frame number is none."""
_SPARSE = 100
"""Frames of a video for each one in which somebody is seen."""
_SAMPLED = 8
"""Frames that do not lie on a common step by chance."""
_TIME = re.compile(r".*\d{4}-?\d\d-?\d\d[T_ -]?\d\d[_:.-]?\d\d[_:.-]?\d\d.*")
"""A name with a date and a time."""
_NUMBERED = re.compile(r"(.*?)[_.-]?(\d+)")


@dataclass(frozen=True)
class PoseClip:
    """One clip of a file.

    frames   per frame its persons, with keypoints (P, V, 3) and, where the file follows persons, ``ids``; None where it
             says nothing of the frame. Or the tracks themselves, (M, T, V, 3), most important first
    where    what messages call the clip
    layout   the joint layout, where the format says it
    size     (height, width) of the frames in pixels, where it says that
    scaled   x and y are shares of the frame's width and height
    measured x and y are no pixels at all, but lengths in space
    label    its class, and the class's ``number`` where classes are numbered
    part     the split that it is in
    """

    name: str
    frames: Sequence[Detections | None] | Floats
    where: str
    layout: str = ""
    size: tuple[int, int] | None = None
    scaled: bool = False
    measured: bool = False
    label: str = ""
    number: int = 0
    part: str = ""

    @property
    def joints(self) -> int:
        """V; 0 where nobody is seen."""
        if isinstance(self.frames, np.ndarray):
            return int(self.frames.shape[2])
        seen = (d.keypoints for d in self.frames if d is not None and len(d))
        return next((k.shape[1] for k in seen if k is not None), 0)


def persons(
    people: Sequence[Any],
    where: str,
    scores: Sequence[float | None] = (),
    ids: Sequence[int] | None = None,
) -> Detections | None:
    """The persons of a frame from P tables (V, 3) of x, y and score, as lists; who has no visible joint is left out.

    A joint of score 0, at (0, 0) or with a coordinate that is no number is missing. ``scores`` are those of the
    persons; default: the mean of their visible joints. Raises InputError for tables that are none, or of several sizes.
    """
    if not len(people):
        return None
    try:
        k = np.array(people, np.float32)
    except (TypeError, ValueError):
        raise InputError(
            f"{where}: the keypoints of a person are not numbers, or not as many as those of another"
        ) from None
    if k.ndim != 3 or k.shape[2] != 3 or not k.shape[1]:
        raise InputError(f"{where}: keypoints must be x, y and score of each joint, not {k.shape}")
    seen = np.isfinite(k).all(-1) & (k[..., 2] > 0) & (k[..., :2] != 0).any(-1)
    k[~seen] = 0
    k[..., 2] = np.minimum(k[..., 2], 1)
    there = seen.any(1)
    if not there.any():
        return None
    low, high = (np.where(seen[..., None], k[..., :2], fill) for fill in (np.inf, -np.inf))
    own = [*scores, *[None] * len(k)]
    mean = k[..., 2].sum(1) / np.maximum(seen.sum(1), 1)
    sure = np.array([s if _is_number(s) else m for s, m in zip(own, mean, strict=False)], np.float64)
    found = Detections(
        np.concatenate([low.min(1), high.max(1)], 1)[there],
        np.clip(np.nan_to_num(sure), 0, 1).astype(np.float32)[there],
        k[there],
        None if ids is None else np.array(ids, np.int64)[there],
    )
    return found


def triples(values: Any, where: str) -> list[list[float]]:
    """A flat list x1, y1, score1, x2, ... as rows of three. Raises InputError for another."""
    if not isinstance(values, list) or not values or len(values) % 3:
        raise InputError(f"{where}: keypoints must be a list x1, y1, score1, x2, y2, score2, ...")
    return [values[i : i + 3] for i in range(0, len(values), 3)]


def numbered(stem: str) -> tuple[str, int | None]:
    """A file's name without ending → what stands before its last number, and that number; None without one."""
    found = _NUMBERED.fullmatch(stem)
    return (found[1], int(found[2])) if found else (stem, None)


def places(stems: Iterable[str]) -> dict[str, tuple[str, int | None]]:
    """Names of the frames of one or more videos, without ending → what stands before the last number, and that number.

    Where all names hold a date and a time, and the last numbers are too far apart to count frames, they are the frames
    of one video, "", in the order of their times.
    """
    known = {stem: numbered(stem) for stem in stems}
    ends: dict[str, tuple[int, int]] = {}
    for before, number in known.values():
        low, high = ends.get(before, (number or 0, number or 0))
        ends[before] = min(low, number or 0), max(high, number or 0)
    apart = sum(high - low + 1 for low, high in ends.values()) > _SPARSE * len(known)
    if apart and all(_TIME.fullmatch(stem) for stem in known):
        return {stem: ("", i) for i, stem in enumerate(sorted(known))}
    return known


def by_clip(found: Mapping[Path, T], ending: str = "") -> dict[tuple[str, str], dict[int, T]]:
    """What was found in files of one frame each, by (where it is, name of the clip) and by frame number.

    ``ending`` of the files' names without suffix does not count. A clip without a name has that of its folder. Raises
    InputError for a name without a number, and a frame that is there twice.
    """
    folders: dict[Path, dict[str, Path]] = defaultdict(dict)
    for path in found:
        folders[path.parent][path.stem.removesuffix(ending)] = path
    out: dict[tuple[str, str], dict[int, T]] = defaultdict(dict)
    for folder, files in folders.items():
        own = (folder.parent if folder.name == "labels" else folder).name  # Ultralytics' labels/ is that of a run
        for stem, (before, number) in places(files).items():
            path = files[stem]
            if number is None:
                raise InputError(
                    f"{shown(path)}: its name has no number of a frame (video_000012{ending}{path.suffix})"
                )
            frames = out[f"{folder.name}/{before}*", before or own]
            if number in frames:
                raise InputError(f"{shown(path)}: frame {number} of {before or own} is there twice")
            frames[number] = found[path]
    return out


def in_order(found: Mapping[int, Detections | None], where: str) -> list[Detections | None]:
    """Frames by their numbers as a list from the first one on; the numbers in between that are missing are frames
    without persons. Many numbers that are all multiples of a step count as the frames of a lower rate."""
    if not found:
        return []
    first = min(found)
    step = math.gcd(*(number - first for number in found)) if len(found) >= _SAMPLED else 1
    length = (max(found) - first) // step + 1
    if length > min(LONGEST, 1000 + _SPARSE * len(found)):
        raise InputError(f"{where}: {len(found)} frames numbered {first} to {max(found)} are no video's")
    out: list[Detections | None] = [None] * length
    for number, persons_there in found.items():
        out[(number - first) // step] = persons_there
    return out


def unique(ids: Sequence[Any]) -> list[int] | None:
    """Track ids of a frame as whole numbers; None where one is missing, or two are the same."""
    whole = [track_id(i) for i in ids]
    known = [i for i in whole if i is not None and i >= 0]
    return known if len(known) == len(whole) == len(set(known)) else None


def track_id(value: Any) -> int | None:
    """A track id: a number, or the first number of a (nested) list; None for anything else."""
    while isinstance(value, list) and value:
        value = value[0]
    return int(value) if _is_number(value) and abs(value) < MOST_IDS and value == int(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def shown(path: Path) -> str:
    """A file as messages name it: with its folder."""
    return "/".join(path.parts[-2:])
