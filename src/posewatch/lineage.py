"""The way back: from any artifact (a served model, say) through its parents to the raw videos that it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from posewatch.artifact import Artifact, get
from posewatch.errors import StoreError
from posewatch.records import Lineage


@dataclass(frozen=True)
class Node:
    """One artifact in the chain; ``seen`` marks one whose parents were already given."""

    depth: int
    artifact: Artifact
    lineage: Lineage
    seen: bool


def trace(artifact: Artifact) -> Iterator[Node]:
    """All ancestors, depth first, each expanded once. Raises StoreError when a parent is not the recorded one."""
    visited: set[str] = set()
    stack = [(0, artifact)]
    while stack:
        depth, node = stack.pop()
        lineage = node.lineage()
        seen = node.prefix in visited
        visited.add(node.prefix)
        yield Node(depth, node, lineage, seen)
        if seen:
            continue
        for parent in reversed(lineage.parents):
            found = get(artifact.store, parent.prefix)
            if found.digest != parent.digest:
                raise StoreError(
                    f"{found.uri} has digest {found.digest[:12]}, {node.uri} was made from {parent.digest[:12]}"
                )
            stack.append((depth + 1, found))


def raw_videos(artifact: Artifact) -> list[Artifact]:
    """The raw videos that an artifact goes back to, in order of their keys."""
    found = {n.artifact.prefix: n.artifact for n in trace(artifact) if n.lineage.stage == "raw"}
    return [found[key] for key in sorted(found)]


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
