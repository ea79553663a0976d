"""What a step works with, on a laptop and in a pod: the object store and the experiment's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from posewatch.artifact import Artifact
    from posewatch.config import Experiment
    from posewatch.store import ObjectStore


@dataclass(frozen=True)
class Run:
    """``store`` and ``config`` as they are given to a verb or a component; ``set`` overrides single values."""

    store: str | None = None
    config: str = "default"
    set: Sequence[str] | None = None

    @cached_property
    def experiment(self) -> Experiment:
        """Raises ConfigError for an unknown key or a value out of range."""
        from posewatch.config import load

        return load(self.config, self.set or ())

    @cached_property
    def objects(self) -> ObjectStore:
        """Raises StoreError when no store is given, or it does not answer."""
        from posewatch.store import open_store

        return open_store(self.store)

    def artifact(self, uri: str) -> Artifact:
        """Raises StoreError for a URI at which there is no artifact."""
        from posewatch.artifact import get

        return get(self.objects, uri)


def step(store: str, config: str = "default") -> Run:
    """What a step of a pipeline works with; from here on its errors are one line."""
    from posewatch.boundary import errors_in_one_line

    errors_in_one_line()
    return Run(store, config)
