"""A set of videos as shards that run side by side, and the sets that they made as one again.

Shards are consecutive parts of a set, so what is joined from them is byte for byte the set that one pass makes.
"""

from __future__ import annotations

from collections.abc import Sequence

from posewatch.artifact import Artifact, collect, members
from posewatch.errors import InputError
from posewatch.store import ObjectStore

MOST = 200
"""Shards of one run at most: every one costs a few pods and nodes of the workflow's record, which must fit in 1 MiB."""


def divide(store: ObjectStore, videos: Artifact, size: int) -> list[Artifact]:
    """The set ``videos`` in order as sets of ``size`` videos; of more where there would be more than `MOST` sets.

    A set without members gives no shard. Raises InputError for a size below 1.
    """
    if size < 1:
        raise InputError(f"a shard holds at least 1 video, not {size} (set shard_size)")
    stage = _stage(videos)
    found = members(videos)
    size = max(size, -(-len(found) // MOST))
    parts = [found[i : i + size] for i in range(0, len(found), size)]
    return [collect(store, stage, [row for row, _ in part], [artifact for _, artifact in part]) for part in parts]


def join(store: ObjectStore, parts: Sequence[Artifact]) -> Artifact:
    """One set of the members of ``parts``, in order. Raises InputError without parts, or for several stages."""
    if not parts:
        raise InputError("nothing to join: no shard was made (is the set of videos empty?)")
    stages = sorted({_stage(part) for part in parts})
    if len(stages) > 1:
        raise InputError(f"cannot join sets of different stages: {', '.join(stages)}")
    found = [pair for part in parts for pair in members(part)]
    return collect(store, stages[0], [row for row, _ in found], [artifact for _, artifact in found])


def _stage(part: Artifact) -> str:
    head, _, rest = part.prefix.partition("/")
    if head != "sets" or "/" not in rest:
        raise InputError(f"{part.uri} is not a set (give what ingest, mask, split or pose returned)")
    return rest.partition("/")[0]
