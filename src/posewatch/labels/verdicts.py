"""What operators say of alarm records: true, false, unsure, not a person. Append-only events; the last one counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from posewatch import alarms
from posewatch.errors import LabelError
from posewatch.labels.db import tables
from posewatch.labels.db.database import select_ids
from posewatch.labels.entries import timestamp
from posewatch.labels.team import roles

if TYPE_CHECKING:
    from posewatch.alarms import AlarmRecord
    from posewatch.labels.store import LabelStore

VERDICTS = ("true", "false", "unsure", "not_a_person")
MAX_NOTE = 10_000
"""Characters of a note."""
_FIELDS = ("alarm", "verdict", "note", "who", "when", "undoes", "batch", "record", "kind", "camera", "began", "version")


@dataclass(frozen=True)
class Verdict:
    """One act: ``who`` said ``verdict`` of the record ``alarm`` (its id) at ``when`` (ISO 8601, UTC).

    ``verdict`` None takes back the event ``undoes``: what was said before it counts again. ``batch`` names the act.
    ``record`` is the record's URI; ``kind``, ``camera``, ``began`` and ``version`` say which alarm it is.
    """

    alarm: str
    verdict: str | None
    note: str
    who: str
    when: str
    undoes: int | None
    batch: str
    record: str
    kind: str
    camera: str
    began: str
    version: str
    id: int = 0


def judge(
    store: LabelStore, record: AlarmRecord, verdict: str, who: str, batch: str, *, note: str = "",
    seen: int | None = None,
) -> Verdict:  # fmt: skip
    """Say ``verdict`` of a record, which is kept from then on whatever its age; ``batch`` repeated changes nothing.

    ``seen`` is the id of the verdict that counted when ``who`` looked (0: none). Raises NotAllowed without the role,
    LabelError for another word, a note that is too long, or when somebody else has judged since ``seen``, NotFound for
    a record that was deleted meanwhile.
    """
    roles.require(roles.role_of(store, who), who, roles.JUDGE)
    if verdict not in VERDICTS:
        raise LabelError(f"a verdict is one of {', '.join(VERDICTS)}, not {verdict!r}")
    if len(note) > MAX_NOTE:
        raise LabelError(f"a note has at most {MAX_NOTE:,} characters, not {len(note):,}")
    alarms.judge(record.artifact.store, record.prefix)  # before it is said: nothing judged is ever deleted by age
    about = record.about
    row = {
        "alarm": record.id, "verdict": verdict, "note": note, "who": who, "when": timestamp(), "undoes": None,
        "batch": batch, "record": record.artifact.uri, "kind": about["kind"], "camera": about["camera"],
        "began": record.time, "version": str(about["model"].get("release") or about["model"].get("version", "")),
    }  # fmt: skip
    return _append(store, row, seen)


def undo(store: LabelStore, alarm: str, who: str, batch: str) -> Verdict:
    """Take back the verdict that counts, if it is one of ``who``. Raises NotAllowed, LabelError."""
    roles.require(roles.role_of(store, who), who, roles.JUDGE)
    now = counting(history(store, alarm))
    if now is None or now.who != who:
        done = next((v for v in history(store, alarm) if v.batch == batch), None)
        if done is not None:
            return done
        whose = f"it is {now.who}'s" if now else "there is none"
        raise LabelError(f"{who} has no verdict on this alarm to take back: {whose}")
    row = {name: getattr(now, name) for name in _FIELDS}
    row |= {"verdict": None, "note": "", "when": timestamp(), "undoes": now.id, "batch": batch}
    return _append(store, row, now.id)


def look(store: LabelStore, alarm: str, who: str, batch: str) -> None:
    """Record that ``who`` looks at the clip of an alarm as it was recorded; ``batch`` repeated changes nothing."""
    table = tables.alarm_looks

    def work(connection: sa.Connection) -> None:
        if connection.execute(sa.select(table.c.id).where(table.c.batch == batch)).first() is None:
            row = {"alarm": alarm, "who": who, "when": timestamp(), "batch": batch}
            connection.execute(table.insert(), row)

    store.database.write(work)


def history(store: LabelStore, alarm: str) -> list[Verdict]:
    """Everything that was said of a record, in order."""
    table = tables.verdicts
    query = sa.select(table).where(table.c.alarm == alarm).order_by(table.c.id)
    return [verdict_of(row) for row in store.database.rows(query)]


def current(store: LabelStore, ids: Iterable[str] | None = None) -> dict[str, Verdict]:
    """The verdict that counts of each of these records, or of all that have one."""
    return store.database.read(lambda connection: current_in(connection, ids))


def current_in(connection: sa.Connection, ids: Iterable[str] | None = None) -> dict[str, Verdict]:
    """Like `current`, inside a transaction."""
    table = tables.verdicts
    events: dict[str, list[Verdict]] = {}
    for query in select_ids(sa.select(table).order_by(table.c.id), table.c.alarm, ids):
        for row in connection.execute(query):
            events.setdefault(row.alarm, []).append(verdict_of(row))
    found = {alarm: counting(said) for alarm, said in events.items()}
    return {alarm: verdict for alarm, verdict in found.items() if verdict is not None}


def trail(store: LabelStore) -> list[dict[str, Any]]:
    """Every verdict (act "verdict"), every one taken back (act "undo verdict") and every look at an alarm's clip as it
    was recorded (act "raw") as rows of the audit trail, in which the alarm's id stands for the clip's."""
    rows = []
    for row in store.database.rows(sa.select(tables.alarm_looks).order_by(tables.alarm_looks.c.id)):
        about = {"id": row.id, "when": row.when, "who": row.who, "act": "raw", "clip_id": row.alarm}
        rows.append({**about, "new": None, "source": "human", "batch": row.batch})
    for row in store.database.rows(sa.select(tables.verdicts).order_by(tables.verdicts.c.id)):
        act = "undo verdict" if row.verdict is None else "verdict"
        about = {"id": row.id, "when": row.when, "who": row.who, "act": act, "clip_id": row.alarm, "new": row.verdict}
        rows.append(
            {**about, "source": "human", "model_version": row.version, "batch": row.batch, "undoes": row.undoes}
        )
    return rows


def counting(events: Iterable[Verdict]) -> Verdict | None:
    """The verdict that counts after these events of one record: the last one that was not taken back."""
    said: list[Verdict] = []
    for event in sorted(events, key=lambda e: e.id):
        if event.verdict is None:
            said = [one for one in said if one.id != event.undoes]
        else:
            said.append(event)
    return said[-1] if said else None


def _append(store: LabelStore, row: dict[str, Any], seen: int | None) -> Verdict:
    table = tables.verdicts

    def work(connection: sa.Connection) -> Verdict:
        if connection.dialect.name == "postgresql":  # two operators on one alarm: one after the other
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(row["alarm"]))))
        query = sa.select(table).where(table.c.alarm == row["alarm"]).order_by(table.c.id)
        before = [verdict_of(found) for found in connection.execute(query)]
        if done := [event for event in before if event.batch == row["batch"]]:
            return done[0]
        now = counting(before)
        if seen is not None and seen != (now.id if now else 0):
            said = f"{now.who} said {now.verdict}" if now else "the verdict was taken back"
            raise LabelError(f"somebody else was faster: {said} (look again)")
        number = connection.execute(table.insert().values(**row).returning(table.c.id)).scalar_one()
        return Verdict(**row, id=number)

    return store.database.write(work)


def verdict_of(row: Any) -> Verdict:
    """A row of the table of verdicts."""
    return Verdict(**{name: getattr(row, name) for name in _FIELDS}, id=row.id)
