"""The port ``Target``: it brings a published version to where it serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from posewatch.artifact import Artifact
from posewatch.config import ServingConfig
from posewatch.deploy.gates import Gate
from posewatch.progress import Progress


@dataclass(frozen=True)
class Release:
    """One immutable published version: ``uri`` is the root of its repository, ``digest`` its manifest's sha256."""

    version: str
    uri: str
    digest: str

    @property
    def root(self) -> str:
        """``uri`` in the form that KServe needs: with one slash at the end."""
        return self.uri.rstrip("/") + "/"

    def same(self, other: Release) -> bool:
        """Whether both are the same bytes under the same name."""
        return (self.version, self.root, self.digest) == (other.version, other.root, other.digest)

    @classmethod
    def of(cls, model: Artifact) -> Release:
        """The release of a published version."""
        return cls(model.prefix.rsplit("/", 1)[1], f"{model.uri}/", model.digest)


SmokeTest = Callable[[str, Release], dict[str, Any]]
"""Endpoint (``http://host:port/model``) and release → figures; raises if it does not answer as the release's export."""


@dataclass(frozen=True)
class DeployRequest:
    """A published version whose ``gates`` were judged; ``override`` is the reason to serve it although it misses one.

    ``percent`` of the traffic goes to it (None: as configured). ``smoke_test`` is run before users meet it, at
    ``smoke_url`` (``http://host:port``) if the target's own address is not reachable from here. ``force`` takes over
    fields that another manager of the service owns.
    """

    model: Artifact
    config: ServingConfig
    gates: tuple[Gate, ...] = ()
    override: str = ""
    percent: int | None = None
    smoke_test: SmokeTest | None = None
    smoke_url: str = ""
    force: bool = False
    progress: Progress | None = None


Target = Callable[[DeployRequest], str]
"""Serves the version; returns its endpoint, ``grpc://host:port/model`` or ``http://...``. Raises ServingError."""
