"""The client of the Kubernetes API server: server-side apply, get and delete of plain dicts.

Each failure is one line that names the object and the remedy. The ``kubernetes`` package is imported at the first
request, so that a command line without a cluster starts without it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from posewatch.errors import ServingError
from posewatch.retry import retry

FIELD_MANAGER = "posewatch"
REQUEST_S = 30.0
"""Timeout of one request."""
SETTLE_S = 10.0
"""How long a request is repeated while the server does not know the kind: a new CRD is a 404 for a moment."""
_NEEDED = {"serving.kserve.io": "KServe 0.20", "trainer.kubeflow.org": "Kubeflow Trainer 2.2"}


class ClusterUnavailable(ServingError):
    """The API server gave no answer, or is too busy to give one: a wait may ask again."""


class _UnknownKind(Exception):
    """The server does not know the kind of an object (yet)."""


class Cluster:
    """One API server, connected at the first request; use as a context manager.

    ``context`` is a kubeconfig context (default: the current one, or the pod's service account inside a cluster).
    """

    def __init__(self, context: str | None = None) -> None:
        self._context = context
        self._connection = ExitStack()
        self._client: Any = None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def client(self) -> Any:
        """The dynamic client of the ``kubernetes`` package. Raises ServingError or ClusterUnavailable."""
        if self._client is None:
            self._client = self._connection.enter_context(_connect(self._context))
        return self._client

    def apply(
        self, body: Mapping[str, Any], namespace: str, field_manager: str = FIELD_MANAGER, *, force: bool = False
    ) -> None:
        """Server-side apply; an unchanged object stays untouched.

        A field that another manager holds with another value raises ServingError unless ``force`` takes it over.
        """
        kind, options = body["kind"], {"field_manager": field_manager, "force_conflicts": True if force else None}
        with one_line(f"{kind} {namespace}/{body['metadata']['name']}", namespace):
            self.call(body["apiVersion"], kind, "server_side_apply", body=body, namespace=namespace, **options)

    def get(self, api_version: str, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        """The object as a plain dict; None if the object or its namespace does not exist."""
        from kubernetes.dynamic.exceptions import NotFoundError

        with one_line(f"{kind} {namespace}/{name}", namespace):
            try:
                return dict(self.call(api_version, kind, "get", name=name, namespace=namespace).to_dict())
            except NotFoundError:
                return None

    def list(self, api_version: str, kind: str, namespace: str, selector: str) -> list[dict[str, Any]]:
        """The objects that a label selector names, by their names."""
        with one_line(f"{kind} {namespace}/{selector}", namespace):
            found = self.call(api_version, kind, "get", label_selector=selector, namespace=namespace)
        return sorted(found.to_dict()["items"], key=lambda item: str(item["metadata"]["name"]))

    def delete(self, api_version: str, kind: str, name: str, namespace: str) -> None:
        """Delete the object, if it exists; it stays visible until the objects that it owns are deleted."""
        from kubernetes.dynamic.exceptions import NotFoundError

        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        with one_line(f"{kind} {namespace}/{name}", namespace):
            try:
                self.call(api_version, kind, "delete", name=name, namespace=namespace, body=options)
            except NotFoundError:
                return

    def call(self, api_version: str, kind: str, verb: str, **options: Any) -> Any:
        """One request of the dynamic client, repeated for a while if the server does not know the kind."""
        from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError

        client = self.client

        def once() -> Any:
            try:
                resource = client.resources.get(api_version=api_version, kind=kind)
                return getattr(client, verb)(resource, **options, _request_timeout=REQUEST_S)
            except (ResourceNotFoundError, NotFoundError) as error:
                if isinstance(error, NotFoundError) and "could not find the requested resource" not in message(error):
                    raise
                client.resources.invalidate_cache()
                raise _UnknownKind from None

        try:
            return retry(once, lambda e: isinstance(e, _UnknownKind), timeout_s=SETTLE_S, first_s=0.5, max_s=0.5)
        except _UnknownKind:
            needed = _NEEDED.get(api_version.partition("/")[0], "what defines it")
            raise ServingError(
                f"the cluster does not know {kind} ({api_version}): install {needed} or newer first"
            ) from None


@contextmanager
def _connect(context: str | None) -> Iterator[Any]:
    """A dynamic client with its own discovery cache: the shared one in the temp folder outlives its cluster."""
    try:
        import yaml
        from kubernetes import client, config
        from kubernetes.dynamic import DynamicClient
        from urllib3.exceptions import HTTPError
    except ImportError:
        raise ServingError("a cluster needs another package: pip install 'posewatch[serving]'") from None
    settings = client.Configuration()
    # urllib3 would retry three times, with a warning each
    settings.retries = 0
    # Read here, because the client remembers the KUBECONFIG of the time when it was imported.
    file = os.environ.get("KUBECONFIG")
    try:
        if context is None and not file and os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(client_configuration=settings)
        else:
            config.load_kube_config(file or "~/.kube/config", context=context, client_configuration=settings)
    except (config.ConfigException, yaml.YAMLError, OSError, TypeError, ValueError) as error:
        raise ServingError(
            f"no usable kubeconfig: {flat(str(error))} (set KUBECONFIG, or name a context of `kubectl config"
            " get-contexts`)"
        ) from None
    api = client.ApiClient(settings)
    try:
        with tempfile.TemporaryDirectory(prefix="posewatch-") as folder:
            try:
                api.call_api("/version", "GET", auth_settings=["BearerToken"], _request_timeout=10)
                cluster = DynamicClient(api, cache_file=str(Path(folder) / "discovery.json"))
            except client.ApiException as error:
                raise _error(error.status)(
                    f"the cluster at {settings.host} refuses to talk: {error.status} {message(error)}"
                    " (check `kubectl auth whoami`)"
                ) from None
            except HTTPError as error:
                raise _unreachable(settings.host, error) from None
            yield cluster
    finally:
        api.close()
        api.rest_client.pool_manager.clear()


@contextmanager
def one_line(what: str, namespace: str) -> Iterator[None]:
    """Turn an error of the API server about ``what`` into one line with the remedy."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        reason = message(error)
        if error.status == 409 and "conflict" in reason.lower():
            raise ServingError(
                f"{what} has fields that another manager holds: {_conflicts(error)} (change them there, or take them"
                " over with --force)"
            ) from None
        remedy = {
            401: "log in again; `kubectl auth whoami` shows who you are",
            403: f"manifests/base/rbac.yaml lists the permissions that posewatch needs in {namespace}",
            404: f"create what is missing, e.g. the namespace {namespace}, with `kubectl apply -k manifests/base`",
        }.get(error.status)
        kind = ServingError if "typed patch" in reason else _error(error.status)
        raise kind(
            f"the cluster refuses {what}: {error.status} {reason}" + (f" ({remedy})" if remedy else "")
        ) from None
    except HTTPError as error:
        raise _unreachable("its address", error) from None


def _error(status: int) -> type[ServingError]:
    return ClusterUnavailable if status == 429 or status >= 500 else ServingError


def _unreachable(host: str, error: Exception) -> ClusterUnavailable:
    reason = str(getattr(error, "reason", None) or error)
    # urllib3 begins with its own object: "HTTPConnection(host=..., port=...): Failed to ..."
    text = flat(reason.partition("): ")[2] or reason)
    return ClusterUnavailable(f"cannot reach the cluster at {host}: {text} (is it up, and is this the right context?)")


def _body(error: Any) -> dict[str, Any]:
    try:
        data = json.loads(error.body)
    except (TypeError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def message(error: Any) -> str:
    """The message of an ApiException as one line."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    return flat(str(_body(error).get("message") or body or error.reason or ""))


def _conflicts(error: Any) -> str:
    """``conflict with "kubectl": .spec.replicas``, one per field, from the details or else from the message."""
    causes = (_body(error).get("details") or {}).get("causes") or ()
    fields = [f"{c.get('message')}: {c.get('field')}" for c in causes if c.get("reason") == "FieldManagerConflict"]
    return flat("; ".join(fields) or message(error))


def flat(text: str, limit: int = 600) -> str:
    """One line of at most ``limit`` characters; Triton's load errors bring a table of many lines."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
