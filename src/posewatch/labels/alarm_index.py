"""The alarm records of a store in the order of their time, for all viewers of a process.

Records lie by camera and day, so that looking for new ones lists the newest day of each camera and no more. Older days
are listed, and their records read, when somebody looks that far back; a few of them are listed again each time, so that
late and deleted records are noticed there, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from posewatch import alarms
from posewatch.artifact import MANIFEST
from posewatch.errors import NoBucket, NotFound
from posewatch.store import ObjectStore

FRESH_S = 0.9
"""Between two looks for new records, at least; and a look takes at most a fifth of the time."""
SHARE = 5
TOUR = 8
"""Older days, and cameras' lists of days, that each look lists again."""
CHUNK = 200
"""Records that are read at once, before the next look at the clock."""
THREADS = 8
UNFINISHED_S = 60.0
"""How long a record that is being uploaded is looked for at each look; later only on the tour."""
CHECKED_S = 3.0
"""For how long it is known that a record exists."""
UNDATED = "0000"
"""Stands for ``alarms.UNDATED`` in the order of days."""


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """What a list shows of a record. ``key`` stands for the camera in keys and addresses; ``time`` as in
    ``AlarmRecord``; ``version`` as in ``verdicts.Verdict``, ``named`` its name for people; ``on`` is the threshold."""

    id: str
    prefix: str
    key: str
    kind: str
    camera: str
    person: int | None
    time: str
    length_s: float
    score: float
    on: float | None
    version: str
    named: str
    rule: str

    @property
    def place(self) -> tuple[str, str]:
        """Its place in time: the newest has the greatest."""
        return self.time, self.id


def row_of(record: alarms.AlarmRecord) -> AlarmRow:
    """What a list shows of this record. Raises KeyError, TypeError or ValueError for a record of another kind."""
    about = record.about
    model, begin, end = about["model"], about.get("start_s"), about.get("end_s")
    release, version = str(model.get("release") or ""), str(model.get("version") or "")
    return AlarmRow(
        id=record.id,
        prefix=record.prefix,
        key=record.prefix.split("/")[1],
        kind=str(about["kind"]),
        camera=str(about["camera"]),
        person=about.get("person"),
        time=_utc(record.time),
        length_s=0.0 if begin is None or end is None else max(0.0, float(end) - float(begin)),
        score=float(about.get("probability") or 0.0),
        on=(about.get("watch") or {}).get("on"),
        version=release or version,
        named=version or release[:12],
        rule=str(about.get("rule") or ""),
    )


def _utc(text: str) -> str:
    """A time in UTC with milliseconds, so that times are ordered as their texts are."""
    return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="milliseconds") if text else ""


@dataclass
class _Day:
    """A day of a camera: its records by id (None: no finished record), the ids that are not read yet, and of each that
    is unfinished when it was seen first and when to read it again."""

    rows: dict[str, AlarmRow | None] = field(default_factory=dict)
    waiting: dict[str, None] = field(default_factory=dict)
    unfinished: dict[str, tuple[float, float]] = field(default_factory=dict)
    listed: bool = False


class AlarmIndex:
    """The records of ``store``. ``stamp`` changes with every change that is seen. Methods raise StoreError while the
    store gives no answer; what was known before stays. ``clock`` returns seconds."""

    def __init__(self, store: ObjectStore, clock: Callable[[], float] = time.monotonic) -> None:
        self.store, self.stamp = store, 0
        self._clock, self._days = clock, dict[tuple[str, str], _Day]()
        self._lock, self._looking = threading.RLock(), threading.Lock()
        self._due, self._turn = -1.0, 0
        self._checked: dict[str, float] = {}
        self._names, self._versions = dict[str, str](), dict[str, str]()
        self._pool = ThreadPoolExecutor(THREADS, "alarm records")

    def refresh(self) -> int:
        """Look for new records, unless that was done a moment ago or is being done; returns the stamp."""
        if self._clock() < self._due or not self._looking.acquire(blocking=not self._days):
            return self.stamp
        try:
            began = self._clock()
            if began >= self._due:
                try:
                    self._look()
                finally:
                    self._due = self._clock() + max(FRESH_S, (SHARE - 1) * (self._clock() - began))
        finally:
            self._looking.release()
        return self.stamp

    def rows(
        self, wanted: Callable[[AlarmRow], bool], count: int, wait_s: float, *, since: str = "", until: str = "",
        camera: str = "",
    ) -> tuple[list[AlarmRow], bool]:  # fmt: skip
        """The newest ``count`` records that are ``wanted``, and whether older ones were not looked at.

        Reads on for up to ``wait_s`` seconds; a later call goes on. ``since`` and ``until`` (days in UTC) and
        ``camera`` (its key) say where to look at all.
        """
        end = self._clock() + wait_s
        while True:
            found, unread = self._scan(wanted, count, since, until, camera)
            if not unread or self._clock() >= end:
                return found, bool(unread)
            self._read_on(unread)

    def cameras(self) -> dict[str, str]:
        """Camera key → name, as far as its records were read (else the key)."""
        with self._lock:
            return {key: self._names.get(key, key) for key, _ in self._days}

    def versions(self) -> dict[str, str]:
        """Model version → its name for people, of the records that were read."""
        with self._lock:
            return dict(self._versions)

    def exists(self, prefix: str) -> bool:
        """Whether the record is still there; forgets it otherwise."""
        now = self._clock()
        if now < self._checked.get(prefix, -1.0):
            return True
        if self.store.exists(f"{prefix}/{MANIFEST}"):
            self._checked = {one: at for one, at in self._checked.items() if at > now} | {prefix: now + CHECKED_S}
            return True
        self.forget(prefix)
        return False

    def forget(self, prefix: str) -> None:
        """A record was deleted."""
        _, key, day, number = prefix.split("/")
        with self._lock:
            known = self._days.get((key, _order(day)))
            if known and known.rows.pop(number, None):
                self.stamp += 1

    def _look(self) -> None:
        keys = self.store.folders(f"{alarms.ROOT}/")
        before = {key for key, _ in self._days}
        today = datetime.now(UTC).date().isoformat()
        with self._lock:
            for gone in before - set(keys):
                self._drop(gone, ())
            old: list[tuple[str, str | None]] = [(key, None) for key in keys if key in before]
            old += [place for place, known in self._days.items() if known.listed]
        tour = [old[(self._turn + i) % len(old)] for i in range(min(TOUR, len(old)))]
        self._turn = (self._turn + len(tour)) % max(1, len(old))
        self._each(self._list_days, [key for key in keys if key not in before])
        self._each(self._list_days, [key for key, day in tour if day is None])
        with self._lock:
            newest: dict[str, str] = {}
            for key, day in self._days:
                newest[key] = max(day, newest.get(key, ""))
        hot = {place for key in keys for place in ((key, today), (key, newest.get(key, today)), (key, UNDATED))}
        places = [*hot, *((key, day) for key, day in tour if day is not None and (key, day) not in hot)]
        self._each(self._list, places)
        # few are new: they are read at once; many wait until somebody looks at them
        with self._lock:
            fresh = self._waiting(hot)
        self.stamp += self._read(fresh)

    def _list_days(self, key: str) -> None:
        """Learn which days a camera has."""
        days = {_order(day) for day in self.store.folders(f"{alarms.ROOT}/{key}/")}
        with self._lock:
            self._drop(key, days)
            for day in days:
                self._days.setdefault((key, day), _Day())

    def _drop(self, key: str, days: Iterable[str]) -> None:
        gone = [place for place in self._days if place[0] == key and place[1] not in days]
        self.stamp += sum(bool(self._days.pop(place).rows) for place in gone)

    def _list(self, place: tuple[str, str]) -> None:
        """Learn which records a day has, and which have gone."""
        numbers = self.store.folders(_prefix(place))
        there, now = set(numbers), self._clock()
        with self._lock:
            if not numbers and place not in self._days:
                return
            known = self._days.setdefault(place, _Day())
            gone = [number for number in known.rows if number not in there]
            self.stamp += bool([number for number in gone if known.rows.pop(number)])
            again = {number for number, (_, at) in known.unfinished.items() if at <= now}
            known.waiting = {number: None for number in numbers if number not in known.rows or number in again}
            known.listed = True

    def _read(self, places: list[tuple[tuple[str, str], str]]) -> bool:
        """Read records that wait; whether there was any."""
        now = self._clock()
        found = self._each(lambda one: self._row(f"{_prefix(one[0])}{one[1]}"), places)
        with self._lock:
            for (place, number), row in zip(places, found, strict=True):
                if (day := self._days.get(place)) is None:
                    continue
                day.waiting.pop(number, None)
                if row is None:
                    first, _ = day.unfinished.get(number, (now, now))
                    day.unfinished[number] = first, now + (UNFINISHED_S if now - first >= UNFINISHED_S else 0.0)
                else:
                    day.unfinished.pop(number, None)
                    self._names[row.key] = row.camera
                    if row.version:
                        self._versions[row.version] = row.named
                day.rows[number] = row
        return any(found)

    def _row(self, prefix: str) -> AlarmRow | None:
        try:
            return row_of(alarms.read(self.store, prefix))
        except NoBucket:
            raise
        except (NotFound, KeyError, TypeError, ValueError, AttributeError):
            return None  # being uploaded, deleted meanwhile, or nothing of ours

    def _each(self, call: Callable[[Any], Any], over: list[Any]) -> list[Any]:
        return list(self._pool.map(call, over)) if len(over) > 1 else [call(one) for one in over]

    def _scan(
        self, wanted: Callable[[AlarmRow], bool], count: int, since: str, until: str, camera: str
    ) -> tuple[list[AlarmRow], list[tuple[str, str]]]:
        """The records as far as they are read, and the days to read next."""
        with self._lock:
            # recordings come first: they have the times when they were stored, whatever their days
            places: dict[str, list[tuple[str, str]]] = {UNDATED: []}
            for key, day in self._days:
                if (not camera or key == camera) and (day == UNDATED or (since or day) <= day <= (until or day)):
                    places.setdefault(day, []).append((key, day))
            found: list[AlarmRow] = []
            for day in [UNDATED, *sorted(places.keys() - {UNDATED}, reverse=True)]:
                here = places[day]
                rows = (row for place in here for row in self._days[place].rows.values())
                found += [row for row in rows if row and wanted(row)]
                unread = [place for place in here if not self._days[place].listed or self._days[place].waiting]
                if unread:
                    return sorted(found, key=lambda row: row.place, reverse=True)[:count], unread
                if len(found) < count or day == UNDATED:
                    continue
                enough = sorted(found, key=lambda row: row.place, reverse=True)[:count]
                if enough[-1].time[:10] >= day:
                    return enough, []
            return sorted(found, key=lambda row: row.place, reverse=True)[:count], []

    def _read_on(self, places: list[tuple[str, str]]) -> None:
        self._each(self._list, [place for place in places if place in self._days and not self._days[place].listed])
        with self._lock:
            waiting = self._waiting(places)
        self._read(waiting)

    def _waiting(self, places: Iterable[tuple[str, str]]) -> list[tuple[tuple[str, str], str]]:
        """The next records of these days to read."""
        days = (place for place in places if place in self._days)
        return list(islice(((place, number) for place in days for number in self._days[place].waiting), CHUNK))


def _order(day: str) -> str:
    return UNDATED if day == alarms.UNDATED else day


def _prefix(place: tuple[str, str]) -> str:
    key, day = place
    return f"{alarms.ROOT}/{key}/{alarms.UNDATED if day == UNDATED else day}/"
