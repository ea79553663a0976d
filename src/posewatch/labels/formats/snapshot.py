"""A label snapshot: the current labels as an immutable Parquet file, the input of training.

Equal labels give an equal digest and equal bytes, whenever and wherever the snapshot is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posewatch.datasets.annotations import count
from posewatch.digests import digest
from posewatch.errors import LabelError, first_line
from posewatch.labels.entries import MARKS
from posewatch.labels.formats.rows import write_table
from posewatch.records import Source
from posewatch.units import PERSON, unit_of_persons

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

COLUMNS = ("clip_id", "video_id", "label", "source", "who", "model_version")

_FORMAT = b"posewatch.labels"
_DIGEST = b"posewatch.digest"


@dataclass(frozen=True)
class Snapshot:
    """Labelled clips as rows {clip_id, video_id, label, source, who, model_version}, by clip id; those of single
    persons have ``person``, too.

    ``digest`` (64 hex digits) depends only on the rows.
    """

    rows: tuple[dict[str, Any], ...]

    @cached_property
    def digest(self) -> str:
        return digest([[row[name] for name in self.columns] for row in self.rows])

    @property
    def unit(self) -> str:
        """What the clips show: "scene" or "person"."""
        return unit_of_persons({row.get("person") for row in self.rows}, "a label snapshot")

    @property
    def columns(self) -> tuple[str, ...]:
        return (*COLUMNS, "person") if self.unit == PERSON else COLUMNS


def outside(rows: Iterable[Mapping[str, Any]], classes: Sequence[str]) -> list[str]:
    """A line for each class that rows of a snapshot name and ``classes`` lack, such as one that was taken out."""
    missing = Counter(row["label"] for row in rows if row["label"] not in classes)
    return [
        f"{count(n, 'clip')} {name!r}, which is none of the classes {', '.join(classes)}"
        for name, n in sorted(missing.items())
    ]


def snapshot(
    store: LabelStore,
    clip_ids: Iterable[str] | None = None,
    exclude_sources: Sequence[Source] = (),
    *,
    allow_disagreement: bool = False,
    allow_none: bool = False,
    unit: str = "",
) -> Snapshot:
    """The current labels of all clips, or of ``clip_ids``; clips without a label are left out.

    Clips that are marked as unsure or bad are left out too. ``exclude_sources`` leaves labels out by their source, such
    as ("model",). Raises LabelError for a clip that is not registered, when no clip is left (unless ``allow_none``),
    and while people disagree on a clip, unless ``allow_disagreement``: then the majority label counts, the latest of a
    tie. Clips of scenes and of single persons do not mix: of both, those of ``unit`` are taken; InputError without one.
    """
    wanted = None if clip_ids is None else sorted(set(clip_ids))
    videos = store.video_ids(wanted)
    for clip in wanted or ():
        if clip not in videos:
            raise LabelError(
                f"no such clip: {clip} (registered: {store.size()}; run `posewatch prepare` or split first)"
            )
    events, persons = store.current(wanted), store.persons(wanted)
    if unit and len({person is None for person in persons.values()}) > 1:
        events = {clip: event for clip, event in events.items() if (persons[clip] is None) == (unit != PERSON)}
    if not allow_disagreement:
        _require_agreement(store, events)
    rows: list[dict[str, Any]] = [
        {
            "clip_id": clip,
            "video_id": videos[clip],
            "label": event.new,
            "source": event.source,
            "who": event.who,
            "model_version": event.model_version,
            **({} if persons[clip] is None else {"person": persons[clip]}),
        }
        for clip, event in sorted(events.items())
        if event.new is not None and event.new not in MARKS and event.source not in exclude_sources
    ]
    if not rows and not allow_none:
        clips = len(videos if wanted is None else wanted)
        raise LabelError(f"none of the {clips} clips is labelled: label some with `posewatch label` or import labels")
    unit_of_persons({row.get("person") for row in rows}, "a label snapshot")
    return Snapshot(tuple(rows))


def _require_agreement(store: LabelStore, clips: Collection[str]) -> None:
    differ = store.disagreements(clips)
    if differ:
        count = "1 clip" if len(differ) == 1 else f"{len(differ)} clips"
        raise LabelError(
            f"people disagree on {count}, the first is {differ[0]}: let a reviewer decide on the page, "
            "or take the majority label with --allow-disagreement"
        )


def write_parquet(snapshot: Snapshot, path: str | Path) -> None:
    """Write a snapshot to ``path``: complete or not at all. Equal snapshots give equal bytes."""
    metadata = {_FORMAT: b"1", _DIGEST: snapshot.digest.encode()}
    write_table(Path(path), snapshot.columns, snapshot.rows, ("person",), metadata)


def read_parquet(path: str | Path) -> Snapshot:
    """Read a snapshot. Raises LabelError when ``path`` is missing, is not a snapshot, or was changed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(Path(path))
    except FileNotFoundError:
        raise LabelError(f"no such label snapshot: {path} (create one with `posewatch labels snapshot`)") from None
    except (pa.ArrowException, OSError) as error:
        raise LabelError(f"{path} is not a readable Parquet file: {first_line(error)}") from None
    expected = (table.schema.metadata or {}).get(_DIGEST, b"").decode()
    if not expected or table.column_names not in (list(COLUMNS), [*COLUMNS, "person"]):
        raise LabelError(f"{path} is not a label snapshot: it has the columns {', '.join(table.column_names)}")
    found = Snapshot(tuple(table.to_pylist()))
    if found.digest != expected:
        raise LabelError(
            f"the label snapshot {path} was changed after it was written: its digest is not {expected[:12]}"
        )
    return found
