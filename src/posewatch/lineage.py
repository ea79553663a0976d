"""The way back: from any artifact (a served model, say) through its parents to the raw videos that it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from posewatch.artifact import MANIFEST, Artifact, find, get
from posewatch.errors import NotFound, StoreError
from posewatch.records import Lineage
from posewatch.store import ObjectStore

_RECORDS = "alarms"
"""The stage whose artifacts people delete while what was made of them stays."""


@dataclass(frozen=True)
class Node:
    """One artifact in the chain; ``seen`` marks one whose parents were already given."""

    depth: int
    artifact: Artifact
    lineage: Lineage
    seen: bool


def trace(artifact: Artifact) -> Iterator[Node]:
    """All ancestors, depth first, each expanded once. Raises StoreError when a parent is not the recorded one.

    An alarm record that was deleted since, as retention does, is given without files, and its source says so. Another
    parent that is missing raises NotFound.
    """
    visited: set[str] = set()
    stack = [(0, artifact)]
    while stack:
        depth, node = stack.pop()
        lineage = node.lineage() if node.files else Lineage(_RECORDS, "", {}, source="deleted since")
        seen = node.prefix in visited
        visited.add(node.prefix)
        yield Node(depth, node, lineage, seen)
        if seen:
            continue
        for recorded in reversed(lineage.parents):
            current = find(artifact.store, recorded.prefix)
            if current is None and recorded.prefix.startswith(f"{_RECORDS}/"):
                current = Artifact(artifact.store, recorded.prefix, recorded.digest, {})
            current = current or get(artifact.store, recorded.prefix)
            if current.digest != recorded.digest:
                raise StoreError(
                    f"{current.uri} has digest {current.digest[:12]}, {node.uri} was built from {recorded.digest[:12]}"
                )
            stack.append((depth + 1, current))


def find_ancestor(artifact: Artifact, stage: str, unit: str = "") -> Artifact | None:
    """The nearest artifact of ``stage`` (and ``unit``) among the ancestors, or None."""
    for node in trace(artifact):
        if node.lineage.stage == stage and (not unit or node.lineage.unit == unit):
            return node.artifact
    return None


def ancestor(artifact: Artifact, stage: str, unit: str = "") -> Artifact:
    """Like `find_ancestor`. Raises NotFound where there is none."""
    found = find_ancestor(artifact, stage, unit)
    if found is None:
        raise NotFound(f"{artifact.uri} has no ancestor of the stage {stage!r}")
    return found


def parent(artifact: Artifact, stage: str) -> Artifact:
    """The parent that belongs to ``stage``, such as "raw" or "masked". Raises NotFound."""
    for recorded in artifact.lineage().parents:
        if recorded.prefix.startswith(f"{stage}/"):
            return get(artifact.store, recorded.prefix)
    raise NotFound(f"{artifact.uri} has no parent of the stage {stage!r}")


def published(store: ObjectStore, release: str) -> Artifact | None:
    """The published version that calls itself ``release``, when this store has it."""
    keys = [item.key for item in store.list("models/") if item.key.count("/") == 3] if release else []
    found = next((key for key in keys if key.endswith(f"/{release}/{MANIFEST}")), None)
    return find(store, found.rpartition("/")[0]) if found else None


def raw_videos(artifact: Artifact) -> list[Artifact]:
    """The raw videos that an artifact goes back to, in order of their keys."""
    raw = {n.artifact.prefix: n.artifact for n in trace(artifact) if n.lineage.stage == "raw"}
    return [raw[key] for key in sorted(raw)]


def rows(artifact: Artifact) -> list[dict[str, Any]]:
    """The chain as plain data, one row per ancestor."""
    return [
        {"depth": n.depth, "uri": n.artifact.uri, "digest": n.artifact.digest, **n.lineage.to_dict()}
        for n in trace(artifact)
        if not n.seen
    ]


def text(artifact: Artifact) -> str:
    """The chain as an indented tree, one line per artifact."""
    lines, videos = [], 0
    for n in trace(artifact):
        note = f"  {n.lineage.source}" if n.lineage.source else ""
        for name, weight in n.lineage.weights.items():
            note += f"  {name} sha256 {weight['sha256'][:12]} ({weight['licence']})"
        note += "  (as above)" if n.seen and n.lineage.parents else ""
        videos += n.lineage.stage == "raw" and not n.seen
        lines.append(f"{'  ' * n.depth}{'└ ' if n.depth else ''}{n.artifact.prefix}  {n.artifact.digest[:12]}{note}")
    lines.append(f"{videos} raw video{'s' if videos != 1 else ''}, code {artifact.lineage().code_version}")
    return "\n".join(lines)
