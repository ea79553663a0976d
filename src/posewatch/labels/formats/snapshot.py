"""A label snapshot: the labels of one moment, frozen as a Parquet file, which is what training takes.

The same labels give the same digest and the same bytes, whenever and wherever the snapshot is taken.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posewatch.digests import digest
from posewatch.errors import LabelError
from posewatch.labels.entries import MARKS
from posewatch.records import Source

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

COLUMNS = ("clip_id", "video_id", "label", "source", "who", "model_version")

_FORMAT = b"posewatch.labels"
_DIGEST = b"posewatch.digest"


@dataclass(frozen=True)
class Snapshot:
    """Labelled clips as rows {clip_id, video_id, label, source, who, model_version}, by clip id.

    ``digest`` (64 hex digits) depends on nothing but the rows.
    """

    rows: tuple[dict[str, Any], ...]

    @cached_property
    def digest(self) -> str:
        return digest([[row[name] for name in COLUMNS] for row in self.rows])

    def counts(self) -> dict[str, int]:
        """How many clips have each label, by label in alphabetical order."""
        labels = [row["label"] for row in self.rows]
        return {label: labels.count(label) for label in sorted(set(labels))}


def snapshot(
    store: LabelStore,
    clip_ids: Iterable[str] | None = None,
    exclude_sources: Sequence[Source] = (),
    *,
    allow_disagreement: bool = False,
) -> Snapshot:
    """The current labels of all clips, or of ``clip_ids``; clips without a label are left out.

    So are those that people could not decide on or called bad. ``exclude_sources`` leaves labels out by their source,
    such as ("model",). Raises LabelError for a clip that is not registered, when nothing is left, and while people
    disagree on a clip, unless ``allow_disagreement``: then the label of most of them counts, the latest of a tie.
    """
    wanted = None if clip_ids is None else sorted(set(clip_ids))
    videos = store.video_ids(wanted)
    for clip in wanted or ():
        if clip not in videos:
            raise LabelError(
                f"no such clip: {clip} (registered: {store.size()}; run `posewatch prepare` or split first)"
            )
    events = store.current(wanted)
    if not allow_disagreement:
        _agreed(store, events)
    rows = [
        dict(
            zip(
                COLUMNS,
                (clip, videos[clip], event.new, event.source, event.who, event.model_version),
                strict=True,
            )
        )
        for clip, event in sorted(events.items())
        if event.new is not None and event.new not in MARKS and event.source not in exclude_sources
    ]
    if not rows:
        clips = len(videos if wanted is None else wanted)
        raise LabelError(f"none of the {clips} clips is labelled: label some with `posewatch label` or import labels")
    return Snapshot(tuple(rows))


def _agreed(store: LabelStore, clips: Collection[str]) -> None:
    differ = store.differing(clips)
    if differ:
        count = "1 clip" if len(differ) == 1 else f"{len(differ)} clips"
        raise LabelError(
            f"people disagree on {count}, the first is {differ[0]}: let a reviewer decide on the page, "
            "or freeze what most people say with --allow-disagreement"
        )


def write_parquet(snapshot: Snapshot, path: str | Path) -> None:
    """Write a snapshot to ``path``: complete or not at all. Equal snapshots give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: pa.array([row[name] for row in snapshot.rows], pa.string()) for name in COLUMNS}
    table = pa.table(columns).replace_schema_metadata({_FORMAT: b"1", _DIGEST: snapshot.digest.encode()})
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        pq.write_table(table, temporary, compression="zstd")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_parquet(path: str | Path) -> Snapshot:
    """Read a snapshot back. Raises LabelError when ``path`` is missing, not a snapshot, or not what was written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(Path(path))
    except FileNotFoundError:
        raise LabelError(f"no such label snapshot: {path} (make one with `posewatch labels snapshot`)") from None
    except (pa.ArrowException, OSError) as error:
        raise LabelError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
    known = (table.schema.metadata or {}).get(_DIGEST, b"").decode()
    if not known or table.column_names != list(COLUMNS):
        raise LabelError(f"{path} is not a label snapshot: it has the columns {', '.join(table.column_names)}")
    made = Snapshot(tuple(table.to_pylist()))
    if made.digest != known:
        raise LabelError(f"the label snapshot {path} was changed after it was made: its digest is not {known[:12]}…")
    return made
