"""Finds clips among millions: filters, an order, and pages that begin after a clip and not at a number.

A filter is also the query of an address, so that a view can be sent to a colleague. What a person must not know before
their own opinion (`posewatch.labels.cards`) is no criterion for them either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from posewatch.errors import LabelError
from posewatch.labels.db import tables
from posewatch.labels.entries import VideoProgress
from posewatch.names import folded
from posewatch.records import SOURCES

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

_found = tables.waiting.c
SORTS: dict[str, tuple[tuple[Any, ...], bool]] = {
    "video": ((_found.video_id, _found.start_s, _found.clip_id), False),
    "new": ((_found.when, _found.clip_id), True),
    "old": ((_found.when, _found.clip_id), False),
    "sure": ((_found.score, _found.clip_id), True),
    "unsure": ((_found.score, _found.clip_id), False),
}
"""Name → (columns, descending): by video and time, by the label's time, by the model's score."""
MOST = 10_000
"""Clips are counted up to this number."""
VIDEOS = 5000
"""Videos that a part of a name may stand for."""


@dataclass(frozen=True)
class Filter:
    """Which clips to show, and in which order. Empty values select all.

    ``label`` is a class or a mark; ``open``: without any label. ``who`` has labelled the clip. ``video`` is a part of
    the names of videos, such as a camera's, and ``person`` the person of a video that a clip shows alone. The label is
    from the days ``since`` to ``until`` (ISO dates, in a zone ``zone`` minutes ahead of UTC). ``model`` is the
    predicted class, its score between ``low`` and ``high``. ``odd``: the model says otherwise; ``differ``: people
    disagree. ``sort`` is one of `SORTS`.
    """

    label: str = ""
    open: bool = False
    who: str = ""
    source: str = ""
    video: str = ""
    person: int = 0
    since: str = ""
    until: str = ""
    zone: int = 0
    model: str = ""
    low: float = 0.0
    high: float = 1.0
    odd: bool = False
    differ: bool = False
    sort: str = "video"

    def __post_init__(self) -> None:
        for name, choices in (("source", ("", *SOURCES)), ("sort", tuple(SORTS))):
            if getattr(self, name) not in choices:
                raise LabelError(f"the filter {name!r} is one of {', '.join(filter(None, choices))}")
        for name in ("since", "until"):
            _day(name, getattr(self, name))
        if not (0 <= self.low <= self.high <= 1 and abs(self.zone) <= 24 * 60):
            raise LabelError("the filters 'low' and 'high' are numbers from 0 to 1, 'zone' minutes of a time zone")

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Filter:
        """The filter that an address names; what is no filter there is ignored. Raises LabelError for a wrong value."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            text = str(query.get(field.name, "")).strip()[:300]
            if not text:
                continue
            try:
                kind: Any = type(field.default)
                values[field.name] = text == "1" if kind is bool else kind(text)
            except ValueError:
                raise LabelError(f"the filter {field.name!r} is a number, not {text!r}") from None
        return cls(**values)

    def query(self) -> dict[str, str]:
        """The filter as the query of an address, without what it leaves open."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        return {name: "1" if value is True else str(value) for name, value in given.items()}

    @property
    def knowing(self) -> bool:
        """Whether the filter or the order tells of a label or of a prediction."""
        given = self.query().keys()
        return not given <= {"video", "person", "zone", "sort"} or self.sort != "video"


@dataclass(frozen=True)
class Found:
    """A page of clips by their ids; ``first`` and ``last`` are its ends as ``before`` and ``after`` take them."""

    ids: tuple[str, ...]
    first: str
    last: str
    earlier: bool
    later: bool


def find(
    store: LabelStore,
    wanted: Filter,
    who: str,
    double: float,
    size: int,
    after: str = "",
    before: str = "",
    unit: str = "",
) -> Found:
    """One page of ``size`` clips, ``after`` or ``before`` an end of another page.

    ``double`` is the experiment's; ``unit``: only clips of whole scenes or of single persons.
    """
    columns, falling = SORTS[wanted.sort]
    at = _ends(after or before, columns)
    rising = falling == bool(before)
    query = sa.select(*columns).where(*_conditions(store, wanted, who, double, unit))
    if at:
        here, there = sa.tuple_(*columns), sa.tuple_(*(sa.literal(v, c.type) for v, c in zip(at, columns, strict=True)))
        query = query.where(here > there if rising else here < there)
    query = query.order_by(*(column if rising else column.desc() for column in columns)).limit(size + 1)
    rows = store.database.rows(query)
    more, rows = len(rows) > size, rows[:size]
    if before:
        rows.reverse()
    ends = [",".join(map(str, row)) for row in (rows[:1] + rows[-1:])] or ["", ""]
    earlier, later = (more, True) if before else (bool(at), more)
    return Found(tuple(row[-1] for row in rows), ends[0], ends[-1], earlier, later)


def count(store: LabelStore, wanted: Filter, who: str, double: float, unit: str = "") -> int:
    """The number of clips, at most `MOST` + 1."""
    some = sa.select(sa.literal(1)).where(*_conditions(store, wanted, who, double, unit)).select_from(tables.waiting)
    return int(store.database.rows(sa.select(sa.func.count()).select_from(some.limit(MOST + 1).subquery()))[0][0])


def everything(
    store: LabelStore, wanted: Filter, who: str, double: float, until: str, most: int, unit: str = ""
) -> list[str]:
    """All clips of a filter whose label has not changed since ``until`` (ISO, UTC).

    Raises LabelError where they are more than ``most``.
    """
    query = sa.select(_found.clip_id).where(*_conditions(store, wanted, who, double, unit))
    query = query.where(sa.or_(_found.when.is_(None), _found.when <= until)).order_by(_found.clip_id).limit(most + 1)
    ids = [clip for (clip,) in store.database.rows(query)]
    if len(ids) > most:
        raise LabelError(f"the filter holds more than {most} clips: narrow it, and label these first")
    return ids


def blind(who: str, double: float) -> sa.ColumnElement[bool]:
    """Whether a clip still waits for two opinions, and this person has not given theirs."""
    votes = tables.votes.c
    mine = sa.select(sa.literal(1)).where(votes.clip_id == _found.clip_id, votes.who == who).scalar_subquery()
    return sa.and_(_found.double_draw < double, _found.state < 2, mine.is_(None))


def blind_clips(store: LabelStore, clip_ids: Iterable[str], who: str, double: float) -> set[str]:
    """Those of the clips whose labels this person must not see yet."""
    if not double:
        return set()
    query = sa.select(_found.clip_id).where(_found.clip_id.in_(list(clip_ids)), blind(who, double))
    return {clip for (clip,) in store.database.rows(query)}


def _conditions(store: LabelStore, wanted: Filter, who: str, double: float, unit: str) -> list[sa.ColumnElement[bool]]:
    votes = tables.votes.c
    given: list[sa.ColumnElement[bool]] = [tables.is_of_unit(_found.clip_id, unit)] if unit else []
    if wanted.label or wanted.open:
        given.append(_found.label == wanted.label if wanted.label else _found.label.is_(None))
    if wanted.who:
        given.append(_found.clip_id.in_(sa.select(votes.clip_id).where(votes.who == wanted.who)))
    if wanted.source:
        # most labels are of people: in the order of the score, not by an index of the source
        many = wanted.source in ("human", "bulk") and SORTS[wanted.sort][0][0] is _found.score
        given.append((sa.func.coalesce(_found.source, "") if many else _found.source) == wanted.source)
    if wanted.video:
        given.append(_found.video_id.in_(_videos(store, wanted.video)))
    if wanted.person:
        clips = tables.clips.c
        given.append(sa.select(clips.person).where(clips.id == _found.clip_id).scalar_subquery() == wanted.person)
    for text, days in ((wanted.since, 0), (wanted.until, 1)):
        day = _day("since", text)
        if day:
            moment = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=days, minutes=-wanted.zone)
            bound = moment.isoformat(timespec="milliseconds")
            given.append(_found.when < bound if days else _found.when >= bound)
    if wanted.model:
        given.append(_found.predicted == wanted.model)
    if wanted.low > 0:
        given.append(_found.score >= wanted.low)
    if wanted.high < 1:
        given.append(_found.score <= wanted.high)
    if wanted.odd:
        given.append(_found.odd)
    if wanted.differ:
        given.append(_found.differ)
    first = SORTS[wanted.sort][0][0]
    if first is not _found.video_id:
        given.append(first.is_not(None))
    if double and wanted.knowing:
        given.append(~blind(who, double))
    return given


def _videos(store: LabelStore, part: str) -> list[str]:
    videos: Sequence[VideoProgress] = store.slow_counts.get("videos", store.videos)
    found = [video.video_id for video in videos if folded(part) in folded(video.name) or video.video_id == part]
    if len(found) > VIDEOS:
        raise LabelError(f"more than {VIDEOS} videos have {part!r} in their names: give more of the name")
    return found


def _day(name: str, text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise LabelError(f"the filter {name!r} is a day like 2026-11-26, not {text!r}") from None


def _ends(text: str, columns: tuple[Any, ...]) -> list[Any]:
    """The values of ``columns`` at the end of a page; nothing for a text that is none."""
    parts = text.split(",")
    if not text or len(parts) != len(columns):
        return []
    try:
        return [float(part) if isinstance(c.type, sa.Double) else part for part, c in zip(parts, columns, strict=True)]
    except ValueError:
        return []
