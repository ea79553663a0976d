"""The sets that a stage wrote shard by shard → one set."""

from __future__ import annotations

from collections.abc import Sequence

from posewatch.artifact import Artifact, collect, members
from posewatch.errors import InputError
from posewatch.stages.contents import stage_of
from posewatch.store import ObjectStore


def gather(store: ObjectStore, parts: Sequence[Artifact]) -> Artifact:
    """One set of the members of ``parts``, in order. Raises InputError without parts, or for several stages."""
    if not parts:
        raise InputError("nothing to join: there is no shard (is the set of videos empty?)")
    stages = sorted({stage_of(part) for part in parts})
    if len(stages) > 1:
        raise InputError(f"cannot join sets of different stages: {', '.join(stages)}")
    rows = [pair for part in parts for pair in members(part)]
    return collect(store, stages[0], [row for row, _ in rows], [artifact for _, artifact in rows])
