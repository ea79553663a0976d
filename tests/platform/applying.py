"""Server-side apply of several objects, for the tests of the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from posewatch.kube.cluster import FIELD_MANAGER, Cluster


def apply(
    objects: Iterable[Mapping[str, Any]], *, namespace: str, context: str | None = None,
    field_manager: str = FIELD_MANAGER, force: bool = False,
) -> None:  # fmt: skip
    """Apply each object, in order, over one connection."""
    with Cluster(context) as cluster:
        for body in objects:
            cluster.apply(body, namespace, field_manager, force=force)
