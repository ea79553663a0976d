"""A set of videos → shards, which stages process side by side; ``gather`` joins what comes out.

Shards are consecutive parts of a set, so the set joined from them is byte for byte the set that one pass writes.
"""

from __future__ import annotations

from posewatch.artifact import Artifact, collect, members
from posewatch.errors import InputError
from posewatch.stages.contents import stage_of
from posewatch.store import ObjectStore

MAX_SHARDS = 50
"""Of one run: every shard costs seven pods, each of which the workflow's record holds with all it was given (12 kB a
shard when packed), and the record must fit in 1 MiB, also of ``end_to_end`` when every step was tried twice."""


def shards(store: ObjectStore, videos: Artifact, size: int) -> list[Artifact]:
    """The set ``videos``, in order, as sets of ``size`` videos; of more where there would be over `MAX_SHARDS` sets.

    A set without members gives no shard. Raises InputError for a size below 1.
    """
    if size < 1:
        raise InputError(f"a shard holds at least 1 video, not {size} (set shard_size)")
    stage, rows = stage_of(videos), members(videos)
    size = max(size, -(-len(rows) // MAX_SHARDS))
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    return [collect(store, stage, [row for row, _ in part], [artifact for _, artifact in part]) for part in parts]
