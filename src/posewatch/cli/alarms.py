"""``posewatch alarms``: list, show, fetch or delete the records of alarms in the object store."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from posewatch.cli.context import Context, Writes, topic, verb
from posewatch.errors import InputError
from posewatch.rules import Range
from posewatch.units import shown

if TYPE_CHECKING:
    from posewatch.alarms import AlarmRecord

app = topic()


@verb(app, "alarms")
def alarms(
    act: Annotated[Literal["list", "show", "pull", "prune"], Argument(help="What to do.")],
    context: Context,
    ids: Annotated[list[str] | None, Argument(metavar="ID", help="Records to show or pull, by id.")] = None,
    camera: Annotated[str, Option(help="Only this camera's.")] = "",
    since: Annotated[str, Option(metavar="DAY", help="From this day on (2026-03-01, in UTC).")] = "",
    until: Annotated[str, Option(metavar="DAY", help="Up to this day.")] = "",
    kind: Annotated[Literal["alarm", "near_miss", "sample", "all"], Option(help="What kind of record.")] = "alarm",
    limit: Annotated[int, Option(help="Rows of the list at most."), Range(1, 1_000_000)] = 50,
    out: Annotated[
        Path | None, Option(metavar="DIR", help="Folder to pull into."), Writes(paths=lambda given: _places(given))
    ] = None,
    days: Annotated[int | None, Option(help="Prune: delete what is older."), Range(1, 36_500)] = None,
    judged: Annotated[bool, Option("--judged", help="Prune: also records with a verdict.")] = False,
) -> Any:
    """List, show, fetch or delete alarm records."""
    from posewatch import alarms as room
    from posewatch.store import FolderStore

    store = context.objects
    if isinstance(store, FolderStore) and not store.root.is_dir():
        raise InputError(f"there is no store {store.uri} (check --store)")
    if act in ("show", "pull") and not ids:
        raise InputError(f"which record? `posewatch alarms {act} ID` (see `posewatch alarms list`)")
    if act == "show":
        found = [room.by_id(store, number) for number in ids or ()]
        rows = [{"uri": record.artifact.uri, **record.about} for record in found]
        return rows[0] if len(rows) == 1 else rows
    if act == "pull":
        if out is None:
            raise InputError("pull into which folder? --out DIR")
        return "\n".join(str(_pull(room.by_id(store, number), out / Path(number).name)) for number in ids or ())
    if act == "prune":
        if days is None:
            raise InputError("delete what is older than how many days? --days N")
        gone = room.prune(store, (datetime.now(UTC) - timedelta(days=days)).date(), camera=camera, judged=judged)
        return "\n".join([*gone, f"{len(gone)} records deleted"])
    kinds = room.KINDS if kind == "all" else (kind,)
    lines: list[str] = []
    for record in room.records(store, camera=camera, since=_day(since), until=_day(until), kinds=kinds):
        if len(lines) == limit:
            lines.append(f"... and more (--limit {limit})")
            break
        lines.append(_line(record))
    return "\n".join(lines) or "no records"


def _places(given: dict[str, Any]) -> list[Path]:
    from posewatch.alarms import FILES

    return [given["out"] / Path(number).name / name for number in given["ids"] or () for name in FILES]


def _pull(record: AlarmRecord, folder: Path) -> Path:
    from posewatch.outputs import mark

    for name in record.artifact.files:
        mark(record.artifact.fetch(name, folder))
    return folder


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InputError(f"a day looks like 2026-03-01, not {text!r}") from None


def _line(record: AlarmRecord) -> str:
    """One row: when, who, what, how likely, how long, which version, the id."""
    about = record.about
    long = about["end_s"] - about["start_s"] if about["end_s"] is not None else 0.0
    version = about["model"].get("release") or about["model"].get("version", "")
    what = about.get("rule") or {"alarm": about["label"]}.get(about["kind"], about["kind"].replace("_", " "))
    who, p = shown(about["camera"], about["person"]), about["probability"]
    return f"{record.time[:19]:19}  {who[:40]:24} {what:12} {p:5.0%} {long:6.1f} s  {version:12}  {record.id}"
