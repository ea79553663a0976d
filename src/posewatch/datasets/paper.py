"""Files of the tools of the paper's authors (docs/from-the-paper.md): read, put right, or refused with the reason."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.annotations import count, some
from posewatch.errors import InputError, LabelError
from posewatch.names import folded, nfc
from posewatch.text import read_text
from posewatch.units import PERSON, UNIT

FPS = 30.0
"""Frames per second that the tools write whatever the source had."""
_LEFT_HIP, _RIGHT_HIP = 11, 12
_NEAR = 0.02
"""How far from 0 and 1 relative hips may be: float16 has three digits."""
_NUMBERED = re.compile(r"(.+)_(\d+)")


def read_label_map(path: Path | str) -> list[str]:
    """The classes of a ``label_map.txt``, one a line, in the order of their index. Raises LabelError."""
    names = [nfc(line.strip()) for line in read_text(path, error=LabelError).splitlines()]
    while names and not names[-1]:
        names.pop()
    if "" in names:
        raise LabelError(f"{Path(path).name} line {names.index('') + 1} is empty: a class's index is its line")
    if len(names) < 2 or len(set(map(folded, names))) < len(names):
        raise LabelError(f"{Path(path).name} must name at least two different classes, one a line, not {names}")
    return names


def class_names(text: str | None) -> list[str]:
    """The classes that an option gives: the lines of a file such as ``label_map.txt``, else names between commas."""
    if not text:
        return []
    if Path(text).is_file():
        return read_label_map(text)
    return [name.strip() for name in text.split(",")]


def read_label_csv(path: Path | str) -> dict[str, tuple[str, str]]:
    """Clip's name without ending → (class, where it is said), of a ``label.csv``: ``file, class``, without a header.

    Raises LabelError for a row of another form, and for a clip in two classes.
    """
    path, labels = Path(path), dict[str, tuple[str, str]]()
    for number, row in enumerate(csv.reader(io.StringIO(read_text(path, error=LabelError)), skipinitialspace=True), 1):
        if not any(cell.strip() for cell in row):
            continue
        where = f"{path.name} row {number}"
        if len(row) != 2 or not all(cell.strip() for cell in row):
            raise LabelError(f"{where} is not `clip file, class`: {', '.join(row)[:60]!r}")
        name, label = stem(row[0].strip()), nfc(row[1].strip())
        if labels.setdefault(name, (label, where))[0] != label:
            raise LabelError(f"{where}: clip {row[0].strip()} is both {labels[name][0]!r} and {label!r}")
    if not labels:
        raise LabelError(f"{path.name} has no labels: give rows of clip file, class")
    return labels


@dataclass(frozen=True)
class NamedLabels:
    """Classes; the class index of each labelled clip, by its name without ending; notes on the rest."""

    classes: list[str]
    numbers: dict[str, int]
    notes: list[str]


def labels_by_name(names: Sequence[str], labels: Path | str, classes: Sequence[str] | None = None) -> NamedLabels:
    """The labels that a ``label.csv`` gives clips of these names; the classes are those given, else in the order of the
    ``label_map.txt`` beside it, else in that of the file. Raises LabelError for another class, and where no clip has
    one."""
    said = read_label_csv(labels)
    beside = Path(labels).with_name("label_map.txt")
    mapped = beside.is_file() and not classes
    origin = beside.name if mapped else "the classes"
    if classes is None or not classes:
        classes = read_label_map(beside) if mapped else list(dict.fromkeys(label for label, _ in said.values()))
    known = {folded(name): i for i, name in enumerate(classes)}
    for label, where in said.values():
        if folded(label) not in known:
            raise LabelError(f"{where}: class {label!r} is none of {origin}: {', '.join(classes)}")
    clips = dict.fromkeys(names)
    numbers = {name: known[folded(said[name][0])] for name in clips if name in said}
    if not numbers:
        raise LabelError(f"{Path(labels).name} labels none of the {len(clips)} clips")
    notes = [f"Labels are those of {Path(labels).name}: {len(numbers)} of {len(clips)} clips."]
    if unknown := sorted(clips.keys() - numbers.keys()):
        notes.append(f"{count(len(unknown), 'clip')} unlabelled, not class 0, and left out: {some(unknown, 3)}.")
    return NamedLabels(list(classes), numbers, notes)


def is_label_csv(path: Path) -> bool:
    """Whether a csv file has two columns and no header: its first row names a video."""
    if path.suffix.lower() not in (".csv", ".txt") or not path.is_file():
        return False
    first = next((line for line in read_text(path, error=LabelError).splitlines() if line.strip()), "")
    cells = [cell.strip() for cell in first.split(",")]
    return len(cells) == 2 and PurePosixPath(cells[0]).suffix.lower() in (".mp4", ".avi", ".mov") and bool(cells[1])


def stem(name: str) -> str:
    """The name of a file without folders and ending, in the composed Unicode form."""
    return PurePosixPath(nfc(name).replace("\\", "/")).stem


def sources_of(names: Sequence[str]) -> tuple[str, ...]:
    """The source video of each clip ``<video>_<person>_<clip>`` or ``<video>_<clip>``, going by the names alone.

    Both numbers are taken off where that leaves several videos, else one: to put two videos into one group is safe, to
    part the persons of one video is not.
    """
    for most in (2, 1):
        found = tuple(_without_numbers(name, most) for name in names)
        if len(set(found)) > 1:
            return found
    return tuple(names)


def _without_numbers(name: str, most: int) -> str:
    for _ in range(most):
        if not (numbered := _NUMBERED.fullmatch(name)):
            break
        name = numbered[1]
    return name


@dataclass(frozen=True)
class Righted:
    """A file of the authors in pyskl's form, and notes on what was put right."""

    data: Mapping[str, Any]
    notes: tuple[str, ...]


def righted(
    data: Any,
    path: Path | str,
    labels: Path | str | None = None,
    *,
    classes: Sequence[str] | None = None,
    labelled: bool = True,
) -> Righted | None:
    """The unpickled ``data`` as pyskl means it, where they are a dataset of the authors' tool; else None.

    The tool names clips in ``split`` by their path, gives several annotations one name, counts the video's frames and
    not the person's, and leaves infinities where hips coincide. ``labels`` is the ``label.csv`` to take the classes
    from, in the order of ``classes`` where they are given: the tool itself writes class 0 for each clip whose label it
    does not find. With ``labelled`` False none are needed. Raises InputError or LabelError.
    """
    if not _is_theirs(data):
        return None
    notes: list[str] = []
    rows = [dict(row) for row in data["annotations"]]
    given = [stem(str(row["frame_dir"])) for row in rows]
    several = {name for name, n in Counter(given).items() if n > 1}
    seen: Counter[str] = Counter()
    names: dict[str, list[str]] = defaultdict(list)
    for row, name in zip(rows, given, strict=True):
        seen[name] += 1
        row["frame_dir"] = f"{name}#{seen[name]}" if name in several else name
        names[name].append(row["frame_dir"])
    if several:
        notes.append(
            f"{count(len(several), 'clip')} of several people, each a clip of its own with the clip's label: "
            f"{some(sorted(several), 3)}. The tool did not follow people: who is #1 may change within a clip."
        )
    named = _Labels([], [])
    if labelled:
        rows, named = _labelled(rows, given, labels, path, classes)
        notes += named.notes
    kept = {row["frame_dir"] for row in rows}
    splits = _splits(data.get("split") or {}, names, kept, notes)
    measured = [_measured(row) for row in rows]
    if short := sum(shorter for _, shorter in measured):
        notes.append(
            f"{count(short, 'annotation')} of fewer frames than the clip: the tool leaves out the frames in which it "
            "finds nobody, so that their time is uneven."
        )
    if lost := sum(joints for joints, _ in measured):
        notes.append(
            f"{lost:,} joints of frames whose hips coincide are missing (they were divided by nearly nothing)."
        )
    relative = _relative(rows, path)
    if relative:
        notes.append("Coordinates are relative to the hips: train with --set train.features=hips.")
    for row, source in zip(rows, sources_of([stem(row["frame_dir"].partition("#")[0]) for row in rows]), strict=True):
        row["video"] = source
    notes += _leaks(rows, splits)
    about = {k: v for k, v in data.items() if k not in ("annotations", "split")}
    about = {"fps": FPS, **({"classes": named.classes} if named.classes else {}), **about, UNIT: PERSON}
    about |= {"coordinates": "hips"} if relative else {}
    return Righted({**about, "annotations": rows, "split": splits}, tuple(notes))


def _is_theirs(data: Any) -> bool:
    """A split that names files by their path, or one that names none of the annotations."""
    if not isinstance(data, Mapping) or not isinstance(data.get("split"), Mapping):
        return False
    rows = data.get("annotations")
    if (
        not isinstance(rows, list | tuple)
        or not rows
        or not all(isinstance(r, Mapping) and r.get("frame_dir") for r in rows)
    ):
        return False
    known = {str(row["frame_dir"]) for row in rows}
    members = [str(m) for part in data["split"].values() if isinstance(part, list | tuple) for m in part]
    paths = [m for m in members if m not in known and stem(m) in known]
    return bool(paths)


@dataclass(frozen=True)
class _Labels:
    classes: list[str]
    notes: list[str]


def _labelled(
    rows: list[dict[str, Any]],
    names: Sequence[str],
    labels: Path | str | None,
    path: Path | str,
    classes: Sequence[str] | None,
) -> tuple[list[dict[str, Any]], _Labels]:
    """The rows that have a label, from the ``label.csv`` where one is given."""
    if labels is None:
        numbers = {row.get("label") for row in rows}
        if numbers <= {0, None, ""}:
            raise LabelError(
                f"{path}: all {len(rows)} annotations are class 0, as the tool writes where it finds no label: give "
                "the label.csv that they were made with (--labels)"
            )
        unlabelled = [row for row in rows if row.get("label") in (None, "")]
        kept = [row for row in rows if row.get("label") not in (None, "")]
        note = "Class 0 may mean that nobody gave a label: give the label.csv with --labels to tell them apart."
        left = [f"{count(len(unlabelled), 'annotation')} without a label left out."] if unlabelled else []
        return kept, _Labels([], [note, *left])
    given = labels_by_name(names, labels, classes)
    kept = [
        row | {"label": given.numbers[name]} for row, name in zip(rows, names, strict=True) if name in given.numbers
    ]
    return kept, _Labels(given.classes, given.notes)


def _splits(
    split: Mapping[str, Any], names: Mapping[str, list[str]], kept: set[str], notes: list[str]
) -> dict[str, list[str]]:
    """The splits by the names of annotations; ``val`` is also ``test`` where there is none."""
    out: dict[str, list[str]] = {}
    empty = []
    for part, members in split.items():
        found = [stem(str(member)) for member in members]
        empty += [name for name in found if name not in names]
        out[str(part)] = [one for name in dict.fromkeys(found) for one in names.get(name, ()) if one in kept]
    if empty:
        notes.append(f"{count(len(empty), 'clip')} in which nobody was found: {some(empty, 3)}.")
    if "test" not in out and "val" in out:
        out["test"] = list(out["val"])
        notes.append("The split val is taken as test, too: the file has none.")
    return out


def _measured(row: dict[str, Any]) -> tuple[int, bool]:
    """Make ``total_frames`` that of the person, and joints without a number missing; returns how many there were, and
    whether the person has fewer frames than the clip."""
    xy = np.asarray(row.get("keypoint", ()), np.float32)
    score = np.asarray(row.get("keypoint_score", ()), np.float32)
    if xy.ndim != 4 or score.shape != xy.shape[:3]:
        return 0, False  # refused with the other clips of such shapes
    frames = int(row.get("total_frames") or xy.shape[1])
    lost = ~np.isfinite(xy).all(-1) | ~np.isfinite(score)
    row |= {
        "keypoint": np.where(lost[..., None], 0, xy),
        "keypoint_score": np.where(lost, 0, score),
        "total_frames": min(frames, xy.shape[1]),
    }
    return int(lost.sum()), frames > xy.shape[1]


def _relative(rows: Sequence[Mapping[str, Any]], path: Path | str) -> bool:
    """Whether the hips' middle is 0 and their distance 1 in nearly all frames. Raises InputError for a mixture."""
    kinds = {kind for row in rows if (kind := _about_hips(np.asarray(row["keypoint"], np.float32))) is not None}
    if len(kinds) > 1:
        raise InputError(f"{path}: some clips are relative to the hips and others are pixels: make the file anew")
    return kinds == {True}


def _about_hips(xy: NDArray[np.float32]) -> bool | None:
    if xy.ndim != 4 or xy.shape[2] != 17:
        return None
    left, right = xy[..., _LEFT_HIP, :2], xy[..., _RIGHT_HIP, :2]
    there = np.abs(left).sum(-1) + np.abs(right).sum(-1) > 0
    if not there.any():
        return None
    middle = np.abs(left + right).max(-1)[there] / 2
    apart = np.linalg.norm(left - right, axis=-1)[there]
    return bool(np.mean((middle < _NEAR) & (np.abs(apart - 1) < _NEAR)) > 0.95)


def _leaks(rows: Sequence[Mapping[str, Any]], splits: Mapping[str, Sequence[str]]) -> list[str]:
    """A line for each two splits that share source videos."""
    video = {row["frame_dir"]: row["video"] for row in rows}
    notes = []
    for a, b in combinations(
        [part for part in splits if not (part == "test" and splits[part] == splits.get("val"))], 2
    ):
        sides = [{video[name] for name in splits[part]} for part in (a, b)]
        if both := sorted(sides[0] & sides[1]):
            notes.append(
                f"{count(len(both), 'source video')} of {len(sides[0] | sides[1])} both in {a!r} and in {b!r}: "
                f"{some(both, 3)}. Scores will be too good: --resplit splits by video."
            )
    return notes
