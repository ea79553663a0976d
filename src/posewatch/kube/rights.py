"""What posewatch asks the API server for, and so all that a Role has to grant; a test holds them equal."""

from __future__ import annotations

from typing import Any

RIGHTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    # a server-side apply of an object that is not there yet needs create as well as patch
    ("serving.kserve.io", "servingruntimes", ("create", "patch")),
    ("serving.kserve.io", "inferenceservices", ("create", "get", "patch")),
    ("trainer.kubeflow.org", "trainjobs", ("create", "delete", "get", "patch")),
    ("", "pods", ("list",)),
    ("", "pods/log", ("get",)),
)
"""(API group, resource, verbs) in the namespace that is deployed to: ``deploy``, ``promote``, ``rollback``, and
training as a TrainJob. ``history`` asks the object store only."""


def rules() -> list[dict[str, Any]]:
    """The same as the rules of a Role."""
    return [{"apiGroups": [g], "resources": [resource], "verbs": list(verbs)} for g, resource, verbs in RIGHTS]
