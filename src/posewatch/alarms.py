"""Alarm records in the object store: their keys, how they are found, read, kept and deleted.

A record is an artifact, ``alarms/<camera>/<day>/<id>/`` (the day in UTC of a camera; ``undated`` for a recording):

    alarm.json     what happened, see ``AlarmRecord``
    windows.npz    the keypoints (M, T, V, 3) that the model was asked about, one array per window of alarm.json
    people.jsonl   one row per frame of the clip: when, and the box and keypoints of everybody seen
    masked.mp4     the clip, black but for whom it is about; raw.mp4 beside it where the rights allow it

``judged`` beside them says that somebody gave a verdict: such a record is kept when older ones are deleted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from posewatch.artifact import LINEAGE, MANIFEST, Artifact, find
from posewatch.errors import NotFound
from posewatch.names import folded
from posewatch.store import ObjectStore

ROOT = "alarms"
ABOUT, WINDOWS, PEOPLE, MASKED, RAW = "alarm.json", "windows.npz", "people.jsonl", "masked.mp4", "raw.mp4"
FILES = (ABOUT, WINDOWS, PEOPLE, MASKED, RAW, LINEAGE)
JUDGED, UNDATED = "judged", "undated"
Kind = Literal["alarm", "near_miss", "sample"]
KINDS: tuple[Kind, ...] = ("alarm", "near_miss", "sample")
"""An alarm; a window just below the threshold; a random window without an alarm."""
_PLAIN = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def camera_key(name: str) -> str:
    """The part of a key that stands for a camera, whatever its name is: a plain name itself, any other shortened to
    letters that are safe, and told apart by a digest."""
    if _PLAIN.fullmatch(name):
        return name
    plain = re.sub(r"[^a-z0-9]+", "-", folded(name)).strip("-")[:40].strip("-")
    return f"{plain or 'camera'}_{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:12]}"


def key_of(camera: str, began: datetime | None, number: str) -> str:
    """The prefix of the record ``number`` of a ``camera`` that began at this time in UTC (None: a recording)."""
    return f"{ROOT}/{camera_key(camera)}/{began.date().isoformat() if began else UNDATED}/{number}"


@dataclass(frozen=True)
class AlarmRecord:
    """A stored record. ``about`` is alarm.json:

        kind, id, camera, unit, person (None: the scene), persons, label, rule, of, reason, times
        began, raised, ended   times in UTC, None for a recording; start_s, raised_s, end_s seconds of the source
        probability            the highest smoothed one
        novelty                the highest one, of a model that tells it: above 1, like nothing it knows
        windows                [{start_s, end_s, p, smoothed, keypoints: its array in windows.npz}, ...]: the curve
        model                  {name, version, lineage, release, uri: the artifact in the store}
        watch                  thresholds and windows
        clip                   {start_s, fps, frames, width, height}
        stored                 when it was written, in UTC

    ``artifact`` holds the files, with the model as its parent.
    """

    artifact: Artifact
    about: dict[str, Any]

    @property
    def prefix(self) -> str:
        return self.artifact.prefix

    @property
    def id(self) -> str:
        return str(self.about["id"])

    @property
    def time(self) -> str:
        """When it began; of a recording, when it was stored."""
        return str(self.about.get("began") or self.about.get("stored") or "")


def _days(store: ObjectStore, camera: str) -> dict[tuple[str, str, str], list[str]]:
    """(day, camera key, id) → keys of the objects of each record, the finished ones and others."""
    found: dict[tuple[str, str, str], list[str]] = {}
    below = f"{ROOT}/{camera_key(camera)}/" if camera else f"{ROOT}/"
    for item in store.list(below):
        parts = item.key.split("/")
        if len(parts) >= 5:
            found.setdefault((parts[2], parts[1], parts[3]), []).append(item.key)
    return found


def read(store: ObjectStore, prefix: str) -> AlarmRecord:
    """The record at ``prefix``. Raises NotFound."""
    artifact = find(store, prefix)
    if artifact is None:
        raise NotFound(f"no such alarm record: {store.uri}/{prefix} (deleted, or not stored yet)")
    return AlarmRecord(artifact, artifact.json(ABOUT))


def records(
    store: ObjectStore, *, camera: str = "", since: date | None = None, until: date | None = None,
    kinds: Iterable[str] = KINDS,
) -> Iterator[AlarmRecord]:  # fmt: skip
    """The records of all cameras or of one, newest day first, read one by one; those of recordings come last.

    ``since`` and ``until`` are days in UTC, both included; with either, recordings are left out.
    """
    wanted = set(kinds)
    for (day, name, number), keys in sorted(_days(store, camera).items(), key=_newest):
        if (since or until) and not _DAY.fullmatch(day):
            continue
        if (since and day < since.isoformat()) or (until and day > until.isoformat()):
            continue
        prefix = f"{ROOT}/{name}/{day}/{number}"
        if f"{prefix}/{MANIFEST}" in keys:
            try:
                record = read(store, prefix)
            except NotFound:  # deleted since
                continue
            if record.about["kind"] in wanted:
                yield record


def _newest(item: tuple[tuple[str, str, str], list[str]]) -> tuple[int, str, str]:
    day, name, number = item[0]
    ordinal = date.fromisoformat(day).toordinal() if _DAY.fullmatch(day) else 0
    return -ordinal, name, number


def by_id(store: ObjectStore, number: str) -> AlarmRecord:
    """The record with this id, or with this prefix. Raises NotFound."""
    if number.startswith(f"{ROOT}/"):
        return read(store, number.strip("/"))
    for day, name, found in _days(store, ""):
        if found == number:
            return read(store, f"{ROOT}/{name}/{day}/{found}")
    raise NotFound(f"no alarm record {number} in {store.uri} (see `posewatch alarms list`)")


def judge(store: ObjectStore, prefix: str) -> None:
    """Keep a record that somebody gave a verdict on. Raises NotFound when it was deleted before."""
    store.put(f"{prefix}/{JUDGED}", b"")
    if not store.exists(f"{prefix}/{MANIFEST}"):
        store.delete(f"{prefix}/{JUDGED}")
        raise NotFound(f"the alarm record {store.uri}/{prefix} was deleted by retention: it cannot be judged any more")


def prune(store: ObjectStore, before: date, *, camera: str = "", judged: bool = False) -> list[str]:
    """Delete the records of cameras from before a day in UTC; returns their prefixes.

    Those with a verdict stay unless ``judged``. What a killed deletion or upload left of such a day goes as well.
    """
    gone = []
    for (day, name, number), keys in _days(store, camera).items():
        prefix = f"{ROOT}/{name}/{day}/{number}"
        if not _DAY.fullmatch(day) or day >= before.isoformat():
            continue
        if not judged and f"{prefix}/{JUDGED}" in keys:
            continue
        # without its manifest the record is absent; a verdict that came meanwhile keeps it
        if not judged and store.exists(f"{prefix}/{JUDGED}"):
            continue
        store.delete(f"{prefix}/{MANIFEST}")
        for key in keys:
            store.delete(key)
        gone.append(prefix)
    return gone
