"""The people in each clip, and the check that no one is in both the training and the test clips.

Subjects come from the annotation itself, from the user's pattern, or from the clip names of well-known data sets. A
clip's group is the people in it ("s03+s05"); the take is how the file writes them ("s05s03"), because the official
folds of some sets separate takes of the same two people.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from posewatch.datasets.annotations import count, some
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.split import people_of
from posewatch.errors import ConfigError, InputError, LabelError

KEYS = ("subject", "subjects", "subject_id", "person", "performer", "group", "video")
"""Keys of an annotation that name its people or their scene; the first one present counts."""
SCHEMES = (
    re.compile(r"(?i:S\d{3}C\d{3}(P\d{3})R\d{3}A\d{3})"),  # NTU RGB+D: setup, camera, performer, replication, action
    re.compile(r"(?:^|/)(s\d{2})(s\d{2})_"),  # SBU Kinect Interaction: who acts and who is acted upon
)


@dataclass(frozen=True)
class Subjects:
    """The people of N clips.

    groups   N canonical names of the people in a clip, sorted and joined by "+"; the clip's own name if unknown
    takes    N names as the file writes them
    certain  named by the annotations or by the user, not guessed from the clips' names
    """

    groups: tuple[str, ...]
    takes: tuple[str, ...]
    certain: bool


@dataclass(frozen=True)
class SplitCheck:
    """What two sides of a split have in common; ``note`` is that as a sentence, or empty."""

    shared_groups: tuple[str, ...]
    shared_subjects: tuple[str, ...]
    groups_train: int
    groups_test: int
    note: str = ""


def subjects_of(row: Mapping[str, Any], pattern: str | None = None) -> frozenset[str]:
    """The people in one annotated clip; empty when neither its keys, ``pattern`` nor its name show them.

    Every match of ``pattern`` in the clip's name is a subject, or what its parentheses hold: ``s\\d\\d`` finds s01 and
    s02 in s01s02_kicking_001. Raises ConfigError for an invalid pattern.
    """
    for key in KEYS:
        if row.get(key) is not None:
            return _listed(row[key])
    name = str(row.get("frame_dir", row.get("filename", "")))
    if pattern is not None:
        return frozenset(_clean(part) for part in _matches(pattern, name))
    for scheme in SCHEMES:
        found = scheme.search(name)
        if found:
            return frozenset(_clean(part) for part in found.groups())
    return frozenset()


def _listed(value: Any) -> frozenset[str]:
    """The subjects that a key of an annotation names: one or a list; a string may join several by "+"."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    values = value if isinstance(value, list | tuple | set | frozenset) else str(value).split("+")
    return frozenset(_clean(str(v)) for v in values if str(v))


def _clean(name: str) -> str:
    return name.strip().replace("+", "_")


def _matches(pattern: str, name: str) -> list[str]:
    try:
        found = list(re.finditer(pattern, name))
    except re.error as error:
        raise ConfigError(f"subject pattern {pattern!r} is not a regular expression: {error}") from None
    return [part for match in found for part in (match.groups() or (match.group(),)) if part]


def _fits(name: str, glob: str) -> bool:
    return fnmatchcase(name, glob) or fnmatchcase(PurePosixPath(name).name, glob)


def video_groups(
    names: Mapping[str, Sequence[str]], pattern: str = "", globs: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Video → the group that it shares with others, by its ``names``: what ``globs`` (a name, or one with * and ? →
    group) says, else what ``pattern`` finds (as `subjects_of`), else the video itself. A glob without a slash is also
    compared with the name without its folders, as in label files.

    Raises LabelError when one of the globs, or the pattern, matches no name: it would silently keep nothing together.
    """
    globs = globs or {}
    shown = some(sorted(name for known in names.values() for name in known), 3)
    for glob in globs:
        if not any(_fits(name, glob) for known in names.values() for name in known):
            raise LabelError(f"dataset.groups: {glob!r} matches none of the videos ({shown})")
    found: dict[str, str] = {}
    matched = False
    for video, known in names.items():
        given = next((group for glob, group in globs.items() for name in known if _fits(name, glob)), "")
        parts = {_clean(part) for name in known for part in _matches(pattern, name)} if pattern else set()
        matched |= bool(parts)
        found[video] = _clean(given) or "+".join(sorted(parts)) or video
    if pattern and not matched:
        raise LabelError(f"dataset.group_pattern {pattern!r} finds nothing in any video's name ({shown})")
    return found


def name_subjects(rows: Sequence[Mapping[str, Any]], names: Sequence[str], pattern: str | None = None) -> Subjects:
    """The people of all clips; where nothing names them, clips whose names have the same beginning are of one group.

    The beginning ends before the first underscore or dash; it must contain a digit, and some but not all clips must
    share it. Raises InputError for a pattern that matches no clip, ConfigError for an invalid one.
    """
    found = [subjects_of(row, pattern) for row in rows]
    if pattern is not None and not any(found):
        raise InputError(f"subject pattern {pattern!r} matches none of the clips' names ({some(names, 3)})")
    heads = [re.split(r"[_-]", name, maxsplit=1)[0] for name in names]
    certain = pattern is not None or any(row.get(key) is not None for row in rows for key in KEYS)
    usable = set()
    if not certain:
        counts = Counter(heads)
        usable = {h for h, n in counts.items() if n > 1 and n < len(names) and re.search(r"\d", h)}
    groups, takes = [], []
    for people, name, head in zip(found, names, heads, strict=True):
        own = head if head in usable else name
        groups.append("+".join(sorted(people)) or _clean(own))
        takes.append(head if len(people) > 1 and not certain else groups[-1])
    return Subjects(tuple(groups), tuple(takes), certain)


def check_split(
    clips: ClipSet,
    train: Sequence[int],
    test: Sequence[int],
    *,
    allow_shared: bool = False,
    names: tuple[str, str] = ("train", "test"),
) -> SplitCheck:
    """Check two sides of a split (indices into ``clips``).

    Raises InputError when one is empty, a clip is on both, or, unless ``allow_shared``, people are: any person where
    groups are certain, the same take where they are guessed from the clips' names.
    """
    for name, side in zip(names, (train, test), strict=True):
        if not len(side):
            raise InputError(f"split {name!r} holds no clip: choose another")
    both = sorted(set(map(int, train)) & set(map(int, test)))
    if both:
        raise InputError(
            f"{count(len(both), 'clip')} both in {names[0]!r} and in {names[1]!r}: {some(clips.ids[i] for i in both)} "
            "(a clip is for training or for testing, not both)"
        )
    takes = clips.takes or clips.groups
    sides = [{takes[i] for i in side} for side in (train, test)]
    people = [{p for i in side for p in people_of(clips.groups[i])} for side in (train, test)]
    shared, persons = sorted(sides[0] & sides[1]), sorted(people[0] & people[1])
    refused = persons if clips.certain else shared
    what = count(len(refused), "subject")
    if not clips.certain:
        what += " or scenes, going by the clips' names,"
    shared_text = f"{what} both in {names[0]!r} and in {names[1]!r}: {some(refused)}"
    if refused and not allow_shared:
        hint = (
            ""
            if clips.certain
            else "if these are not subjects, give a pattern that finds them: --subject-pattern REGEX; "
        )
        raise InputError(f"{shared_text} ({hint}to accept it: --allow-shared-subjects)")
    notes = [f"{shared_text}; scores may be too good."] if refused else []
    if persons and not refused and takes == clips.ids:
        notes.append(
            f"{count(len(persons), 'source video')} of {names[1]!r} also in {names[0]!r}: {some(persons)}; "
            "scores may be too good."
        )
    elif persons and not refused:
        notes.append(f"People of {names[1]!r} are also in {names[0]!r}, in other groups: {some(persons)}.")
    copies = _copies(clips, train, test)
    if copies:
        notes.append(
            f"{count(len(copies), 'clip')} of {names[1]!r} also in {names[0]!r}, copied exactly: {some(copies)}."
        )
    return SplitCheck(tuple(shared), tuple(persons), len(sides[0]), len(sides[1]), " ".join(notes))


def _copies(clips: ClipSet, train: Sequence[int], test: Sequence[int]) -> list[str]:
    seen = {hash(clips.keypoints[i].tobytes()) for i in train}
    # clips in which nobody is seen are all alike, and no copies
    shown = [i for i in test if clips.keypoints[i][..., 2].any()]
    return [clips.ids[i] for i in shown if hash(clips.keypoints[i].tobytes()) in seen]
