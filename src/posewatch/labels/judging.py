"""The logic of the page Alarms for one person who judges: pages of records by filters, verdicts, undo.

All state lives in the two stores; what this holds for a process is a copy of what they say.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from posewatch import alarms
from posewatch.alarms import AlarmRecord
from posewatch.errors import LabelError, NoBucket, NotAllowed, NotFound
from posewatch.labels import verdicts
from posewatch.labels.alarm_index import AlarmIndex, AlarmRow
from posewatch.labels.db import tables
from posewatch.labels.precision import Figures, Tally, figures, tally
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles
from posewatch.labels.verdicts import Verdict
from posewatch.store import ObjectStore

KINDS = ("judge", "unjudge")
"""The acts of this page that change something."""
SHOWN = 50
"""Records on a page when it is opened; new ones join it, up to six times as many."""
WAIT_S = 1.0
"""How long a page waits for records that are not read yet."""
OPEN = "open"
AGAIN = 100
"""Events that are read again each time: a database may finish an earlier one later."""
_DAY, _MINUTE = "%Y-%m-%d", "%Y-%m-%dT%H:%M"
_PREFIX = re.compile(rf"{alarms.ROOT}(/(?!\.\.?(/|$))[^/\\]+){{3}}")
_CURSOR = re.compile(r"(\S{10,40})/([^/\s]{1,64})")


@dataclass(frozen=True)
class AlarmFilter:
    """Which records to show; empty values select all. ``kind`` is one of ``alarms.KINDS`` or "all" (default: alarms).

    ``camera`` is its key. They began from ``since`` to ``until``, both included: days like 2026-11-26, or minutes like
    2026-11-26T14:30 (in a zone ``zone`` minutes ahead of UTC), with a score between ``low`` and ``high``, by the model
    version ``version``. ``verdict`` is one of ``verdicts.VERDICTS`` or "open": none.
    """

    kind: str = ""
    camera: str = ""
    since: str = ""
    until: str = ""
    zone: int = 0
    low: float = 0.0
    high: float = 1.0
    version: str = ""
    verdict: str = ""

    def __post_init__(self) -> None:
        choices = {"kind": (*alarms.KINDS, "all"), "verdict": (OPEN, *verdicts.VERDICTS)}
        for name, known in choices.items():
            if getattr(self, name) not in ("", *known):
                raise LabelError(f"the filter {name!r} is one of {', '.join(known)}")
        for name in ("since", "until"):
            self._bound(name)
        if not (0 <= self.low <= self.high <= 1 and abs(self.zone) <= 24 * 60):
            raise LabelError("the filters 'low' and 'high' are numbers from 0 to 1, 'zone' minutes of a time zone")

    @classmethod
    def from_query(cls, query: Mapping[str, Any]) -> AlarmFilter:
        """The filter that an address names; what is no filter there is ignored. Raises LabelError for a wrong value."""
        values: dict[str, Any] = {}
        for one in dataclasses.fields(cls):
            text = str(query.get(one.name, "")).strip()[:300]
            try:
                if text:
                    kind: Any = type(one.default)
                    values[one.name] = kind(text)
            except ValueError:
                raise LabelError(f"the filter {one.name!r} is a number, not {text!r}") from None
        return cls(**values)

    def query(self) -> dict[str, str]:
        """The filter as the query of an address."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        return {name: str(value) for name, value in given.items() if name != "zone" or self.since or self.until}

    def days(self) -> tuple[str, str]:
        """The days in UTC that can hold what is wanted, "" where it is open."""
        return self._bound("since")[:10], self._bound("until")[:10]

    def takes(self, row: AlarmRow, verdict: Verdict | None) -> bool:
        """Whether a record is wanted, with the verdict that counts."""
        said = verdict.verdict if verdict else OPEN
        since, until = self._bound("since"), self._bound("until")
        return (
            (self.kind == "all" or row.kind == (self.kind or alarms.KINDS[0]))
            and (not self.camera or row.key == self.camera)
            and (not since or row.time >= since)
            and (not until or row.time < until)
            and self.low <= row.score <= self.high
            and (not self.version or row.version == self.version)
            and (not self.verdict or said == self.verdict)
        )

    def _bound(self, name: str) -> str:
        """The moment in UTC at which "since" begins, or after which "until" has ended; "" without one."""
        text = getattr(self, name)
        if not text:
            return ""
        form, lasts = (_MINUTE, timedelta(minutes=1)) if "T" in text else (_DAY, timedelta(days=1))
        try:
            begin = datetime.strptime(text, form).replace(tzinfo=UTC) - timedelta(minutes=self.zone)
            return (begin + lasts if name == "until" else begin).isoformat(timespec="milliseconds")
        except (ValueError, OverflowError):
            said = "a day like 2026-11-26 or a minute like 2026-11-26T14:30"
            raise LabelError(f"the filter {name!r} is {said}, not {text!r}") from None


class Judged:
    """The verdict that counts of every record, kept up to date by reading only new events."""

    def __init__(self, store: LabelStore) -> None:
        self._store, self._lock = store, threading.Lock()
        self._events: dict[str, dict[int, Verdict]] = {}
        self._counting: dict[str, Verdict] = {}
        self._figures: tuple[int, Figures] | None = None
        self._tally: tuple[int, Tally] | None = None
        self.last = 0

    def refresh(self) -> int:
        """Read new events; returns the id of the last one."""
        table = tables.verdicts
        with self._lock:
            query = sa.select(table).where(table.c.id > self.last - AGAIN).order_by(table.c.id)
            changed = set()
            for row in self._store.database.rows(query):
                known = self._events.setdefault(row.alarm, {})
                if row.id not in known:
                    known[row.id] = verdicts.verdict_of(row)
                    changed.add(row.alarm)
                    self.last = max(self.last, row.id)
            for alarm in changed:
                counts = verdicts.counting(self._events[alarm].values())
                if counts is None:
                    self._counting.pop(alarm, None)
                else:
                    self._counting[alarm] = counts
            return self.last

    def of(self, alarm: str) -> Verdict | None:
        return self._counting.get(alarm)

    def figures(self) -> Figures:
        with self._lock:
            if self._figures is None or self._figures[0] != self.last:
                self._figures = self.last, figures(self._counting.values())
            return self._figures[1]

    def tally(self) -> Tally:
        with self._lock:
            if self._tally is None or self._tally[0] != self.last:
                self._tally = self.last, tally(events.values() for events in self._events.values())
            return self._tally[1]


@dataclass(frozen=True)
class AlarmPage:
    """Records of a page, newest first, with the verdicts that count; ``reading``: older ones are not looked at yet.

    ``oldest`` is the place of the last one; ``newer`` and ``older``: whether there are pages on both sides.
    """

    rows: tuple[AlarmRow, ...]
    verdicts: dict[str, Verdict]
    oldest: tuple[str, str]
    newer: bool
    older: bool
    reading: bool


def page(
    index: AlarmIndex, judged: Judged, wanted: AlarmFilter, *, before: str = "", floor: tuple[str, str] | None = None,
    keep: Collection[str] = (), wait_s: float = WAIT_S,
) -> AlarmPage:  # fmt: skip
    """The newest wanted records, of those older than the cursor ``before`` (see `cursor`).

    ``floor`` is the ``oldest`` of this page when it was opened, so that new records do not push others off it, and
    ``keep`` the ids that are on it: they stay, whatever verdict they have got.
    """
    stayed, ceiling = set(keep), _place(before)

    def takes(row: AlarmRow) -> bool:
        if ceiling and row.place >= ceiling:
            return False
        return row.id in stayed or wanted.takes(row, judged.of(row.id))

    since, until = wanted.days()
    ahead = 6 * SHOWN if floor else SHOWN
    rows, reading = index.rows(takes, ahead + 1, wait_s, since=since, until=until, camera=wanted.camera)
    shown = [row for row in rows if row.place >= floor][:ahead] if floor else rows[:ahead]
    if floor and len(shown) < SHOWN:  # it was opened while there were fewer
        shown = rows[:SHOWN]
    counting = {row.id: verdict for row in shown if (verdict := judged.of(row.id))}
    oldest = shown[-1].place if shown else ("", "")
    return AlarmPage(tuple(shown), counting, oldest, bool(ceiling), len(rows) > len(shown), reading)


def cursor(place: tuple[str, str]) -> str:
    """A place in time as an address holds it."""
    return "/".join(place)


def _place(text: str) -> tuple[str, str] | None:
    match = _CURSOR.fullmatch(text)
    return (match[1], match[2]) if match else None


def execute(
    store: LabelStore, objects: Callable[[], ObjectStore], judged: Judged, who: str, act: Mapping[str, Any]
) -> Verdict:
    """Do an act of a browser, which is not trusted: a verdict, or taking one back; done once, however often it is sent.

    Without an alarm the last verdict of ``who`` is taken back. Raises NotAllowed, LabelError, and StoreError while the
    object store ``objects`` gives no answer.
    """
    who = roles.known_as(store, who.strip())
    roles.require(roles.role_of(store, who), who, roles.JUDGE)
    batch = str(act["id"])[:64]
    if act.get("kind") == "unjudge":
        said = _of_batch(store, batch) or verdicts.undo(store, _alarm(store, act, who), who, batch)
        judged.refresh()
        return said
    record = _record(objects, act)
    events = verdicts.history(store, record.id)
    now, seen = verdicts.counting(events), act.get("seen")
    mine = {event.id for event in events if event.who == who}
    if now.who == who if now else seen in mine:  # one's own acts surprise nobody, also those after this page
        seen = now.id if now else 0
    verdict, note = str(act.get("verdict")), str(act.get("note") or "").strip()
    seen = seen if isinstance(seen, int) else 0
    said = verdicts.judge(store, record, verdict, who, batch, note=note, seen=seen)
    judged.refresh()
    return said


def look(
    store: LabelStore, objects: Callable[[], ObjectStore], needed: str, who: str, act: Mapping[str, Any]
) -> AlarmRecord:
    """The record whose clip ``who`` asks to see as it was recorded; that is in the audit trail from now on.

    ``needed`` is the lowest role that may (``labels.raw_alarms``). Raises NotAllowed, LabelError for a record without
    such a clip or that was deleted, and StoreError while the object store gives no answer.
    """
    who = roles.known_as(store, who.strip())
    if not roles.at_least(roles.role_of(store, who), needed):
        raise NotAllowed(f"{who} may not look at unmasked video: labels.raw_alarms is {needed}")
    record = _record(objects, act)
    if alarms.RAW not in record.artifact.files:
        raise LabelError("this alarm has no unmasked clip: the watcher keeps one with --record-raw")
    verdicts.look(store, record.id, who, str(act["id"])[:64])
    return record


def _record(objects: Callable[[], ObjectStore], act: Mapping[str, Any]) -> AlarmRecord:
    prefix = str(act.get("record"))
    if not _PREFIX.fullmatch(prefix):
        raise LabelError("a verdict names its alarm record: reload the page")
    try:
        return alarms.read(objects(), prefix)
    except NoBucket:
        raise
    except NotFound:
        raise LabelError(f"the alarm record {prefix} was deleted by retention: it cannot be judged any more") from None


def _of_batch(store: LabelStore, batch: str) -> Verdict | None:
    rows = store.database.rows(sa.select(tables.verdicts).where(tables.verdicts.c.batch == batch))
    return next((verdicts.verdict_of(row) for row in rows), None)


def _alarm(store: LabelStore, act: Mapping[str, Any], who: str) -> str:
    """The alarm that an undo names, or that of the last verdict of ``who`` that was not taken back."""
    if act.get("alarm"):
        return str(act["alarm"])[:64]
    table = tables.verdicts
    taken = sa.select(table.c.undoes).where(table.c.undoes.is_not(None))
    mine = sa.and_(table.c.who == who, table.c.verdict.is_not(None), table.c.id.not_in(taken))
    rows = store.database.rows(sa.select(table.c.alarm).where(mine).order_by(table.c.id.desc()).limit(1))
    if not rows:
        raise LabelError("you have no verdict to take back")
    return str(rows[0].alarm)
