"""Who is in a clip, and splits that keep people apart: who was seen in training is recognised too easily in the test.

Subjects come from the annotation itself, from a pattern of the user's, or from how well-known data sets name their
clips. A clip's group is the people in it ("s03+s05"); the take is how the file wrote them ("s05s03"), because the
official folds of some sets tell takes of the same two people apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from posewatch.datasets.annotations import count, some
from posewatch.datasets.split import HoldOut, folds, hold_out, people_of
from posewatch.errors import ConfigError, InputError

if TYPE_CHECKING:
    from posewatch.datasets.clipset import ClipSet

__all__ = [
    "HoldOut",
    "SplitCheck",
    "Subjects",
    "check_split",
    "folds",
    "hold_out",
    "name_subjects",
    "people_of",
    "subjects_of",
]

KEYS = ("subject", "subjects", "subject_id", "person", "performer", "group", "video")
"""What an annotation may name its people, or the scene that they are in, by; the first one counts."""
SCHEMES = (
    re.compile(r"(?i:S\d{3}C\d{3}(P\d{3})R\d{3}A\d{3})"),  # NTU RGB+D: setup, camera, performer, replication, action
    re.compile(r"(?:^|/)(s\d{2})(s\d{2})_"),  # SBU Kinect Interaction: who acts and who is acted upon
)


@dataclass(frozen=True)
class Subjects:
    """The people of N clips.

    groups   N canonical names of the people in a clip, sorted and joined by "+"; the clip's own name if nobody knows
    takes    N names as the file writes them
    certain  named by the annotations or by the user, not guessed from the clips' names
    """

    groups: tuple[str, ...]
    takes: tuple[str, ...]
    certain: bool


@dataclass(frozen=True)
class SplitCheck:
    """What two sides of a split have in common; ``note`` says it in a sentence, empty when there is nothing to say."""

    shared_groups: tuple[str, ...]
    shared_subjects: tuple[str, ...]
    groups_train: int
    groups_test: int
    note: str = ""


def subjects_of(row: Mapping[str, Any], pattern: str | None = None) -> frozenset[str]:
    """The people in one annotated clip; empty when neither its keys, ``pattern`` nor its name tell.

    Every match of ``pattern`` in the clip's name is a subject, or what its parentheses hold: ``s\\d\\d`` finds s01 and
    s02 in s01s02_kicking_001. Raises ConfigError for a pattern that is none.
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
    """What a key of an annotation names: one subject, or a list of them; a string may join several by "+"."""
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
        raise ConfigError(f"subject pattern {pattern!r} is no regular expression: {error}") from None
    return [part for match in found for part in (match.groups() or (match.group(),)) if part]


def name_subjects(rows: Sequence[Mapping[str, Any]], names: Sequence[str], pattern: str | None = None) -> Subjects:
    """The people of all clips; where nothing else tells, clips whose names begin alike are of the same people.

    That beginning ends before the first underscore or dash; it must hold a digit, and be neither a single clip's nor
    that of all. Raises InputError for a pattern that finds nobody, ConfigError for one that is none.
    """
    found = [subjects_of(row, pattern) for row in rows]
    if pattern is not None and not any(found):
        raise InputError(f"subject pattern {pattern!r} finds nobody in the clips' names ({some(names, 3)})")
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
    """Whether two sides (indices into ``clips``) are fit to train and to test on.

    Raises InputError when one is empty or a clip is on both, and, unless ``allow_shared``, when a group is: the same
    take where people are guessed from the clips' names, else any person.
    """
    for name, side in zip(names, (train, test), strict=True):
        if not len(side):
            raise InputError(f"split {name!r} holds no clip: choose another")
    both = sorted(set(map(int, train)) & set(map(int, test)))
    if both:
        raise InputError(
            f"{count(len(both), 'clip')} both in {names[0]!r} and in {names[1]!r}: {some(clips.ids[i] for i in both)} "
            "(a clip can be trained or tested on, not both)"
        )
    takes = clips.takes or clips.groups
    sides = [{takes[i] for i in side} for side in (train, test)]
    people = [{p for i in side for p in people_of(clips.groups[i])} for side in (train, test)]
    shared, persons = sorted(sides[0] & sides[1]), sorted(people[0] & people[1])
    refused = persons if clips.certain else shared
    what = count(len(refused), "subject")
    if not clips.certain:
        what += " or scenes, going by the clips' names,"
    said = f"{what} both in {names[0]!r} and in {names[1]!r}: {some(refused)}"
    if refused and not allow_shared:
        hint = "" if clips.certain else "if these are none, say what names them: --subject-pattern REGEX; "
        raise InputError(f"{said} ({hint}to accept it: --allow-shared-subjects)")
    notes = [f"{said}; scores may be too good."] if refused else []
    if persons and not refused:
        notes.append(f"People of {names[1]!r} are also in {names[0]!r}, in other groups: {some(persons)}.")
    copies = _copies(clips, train, test)
    if copies:
        notes.append(
            f"{count(len(copies), 'clip')} of {names[1]!r} also in {names[0]!r}, copied exactly: {some(copies)}."
        )
    return SplitCheck(tuple(shared), tuple(persons), len(sides[0]), len(sides[1]), " ".join(notes))


def _copies(clips: ClipSet, train: Sequence[int], test: Sequence[int]) -> list[str]:
    seen = {hash(clips.keypoints[i].tobytes()) for i in train}
    return [clips.ids[i] for i in test if hash(clips.keypoints[i].tobytes()) in seen]
