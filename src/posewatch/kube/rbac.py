"""The permissions that posewatch uses on a cluster, and so all that a Role has to grant; a test holds them equal."""

from __future__ import annotations

from typing import Any

PERMISSIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    # a server-side apply of an object that does not exist yet needs create as well as patch
    ("serving.kserve.io", "servingruntimes", ("create", "get", "patch")),
    ("serving.kserve.io", "inferenceservices", ("create", "delete", "get", "list", "patch")),
    ("gateway.networking.k8s.io", "httproutes", ("create", "patch")),
    ("gateway.networking.k8s.io", "grpcroutes", ("create", "patch")),
    ("trainer.kubeflow.org", "trainjobs", ("create", "delete", "get", "patch")),
    ("", "services", ("create", "get", "patch")),
    ("", "configmaps", ("create", "get", "patch")),
    ("", "pods", ("list",)),
    ("", "pods/log", ("get",)),
)
"""(API group, resource, verbs) in the namespace of a deployment, for ``deploy``, ``promote``, ``rollback`` and training
as a TrainJob. ``history`` reads the object store only."""


def rules() -> list[dict[str, Any]]:
    """The permissions as the rules of a Role."""
    return [{"apiGroups": [g], "resources": [resource], "verbs": list(verbs)} for g, resource, verbs in PERMISSIONS]
