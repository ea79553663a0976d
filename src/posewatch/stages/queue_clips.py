"""Clips → the labelers' queue."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from posewatch.artifact import MEMBERS, Artifact, get, walk
from posewatch.labels.entries import ClipEntry
from posewatch.labels.store import LabelStore
from posewatch.stages.contents import clips_of

REGISTERED = 20_000
"""Clips that are put on the queue in one transaction."""


def entries(clips: Artifact, previews: Artifact | None = None) -> list[ClipEntry]:
    """What the label store knows of every clip of a set, with the previews that `preview.preview` made."""
    return list(stream(clips, previews))


def stream(clips: Artifact, previews: Artifact | None = None) -> Iterator[ClipEntry]:
    """What `entries` gives, one by one: a set of millions of clips is never held as a whole."""
    small = {row["video"]: row for row in previews.lines(MEMBERS)} if previews is not None else {}
    for row, artifact in walk(clips):
        shown = get(clips.store, small[row["video"]]["prefix"]) if row["video"] in small else None

        def file(name: str, shown: Artifact | None = shown) -> str | None:
            return f"{shown.prefix}/{name}" if shown is not None and name in shown.files else None

        for clip in clips_of(artifact):
            yield ClipEntry(
                clip=clip,
                names=tuple(row["names"]),
                store=clips.store.uri,
                key=f"{artifact.prefix}/{clip.id}.mp4",
                preview=file(f"{clip.id}.mp4"),
                skeleton=file(f"{clip.id}.json"),
            )


def queue(clips: Artifact, labels: LabelStore, previews: Artifact | None = None) -> int:
    """Register the clips of a set with the label store, which makes them appear to labelers; returns their number."""
    found, count = stream(clips, previews), 0
    # one transaction for millions of clips would hold all of them in memory, and their locks for minutes
    while part := list(itertools.islice(found, REGISTERED)):
        labels.register(part)
        count += len(part)
    return count
