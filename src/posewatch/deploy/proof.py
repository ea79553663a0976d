"""Asks an address, over fresh connections, which version answers there, until it is the one that should.

KServe's status does not tell this: Ready and UpToDate are true while the pods of the version before still answer. So
the server itself is asked: the config of a published model carries the name of its version among its parameters.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from posewatch.deploy.runtime import GRPC
from posewatch.deploy.state import API, KIND, Version
from posewatch.errors import ServingError
from posewatch.inference.open import parse_endpoint
from posewatch.inference.triton_client import connect
from posewatch.kube.cluster import Cluster, flat
from posewatch.kube.polling import poll
from posewatch.progress import Progress
from posewatch.units import unit_of

POLL_S = 1.0
NO_POD_S = 15.0
"""How long a Deployment may be without any pod before that is said."""
ROUNDS = 10
"""Fresh connections in a row, of each protocol, that must be answered by the right version and no other."""
ROUND_S = 0.2
_FAILED = ("BlockedByFailedLoad", "InvalidSpec")
_STOP = "serving.kserve.io/stop"
"""The annotation by which KServe stops an InferenceService; its condition Stopped is False otherwise."""
_KNATIVE = ("Knative", "Serverless", "ModelMesh")
"""What KServe calls its other modes: one that does not know ours takes the cluster's default."""
_OF_KNATIVE = {"LatestDeploymentReady", "RoutesReady", "PredictorConfigurationReady", "PredictorRouteReady"}
"""Conditions that only that mode has."""

Identity = Mapping[str, str]
"""The parameters in the config of a published model."""


def identity(text: str) -> Identity:
    """The parameters of a ``config.pbtxt``: ``release``, the version's name, the lineage of the export, and others."""
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    message = text_format.Parse(text, model_config_pb2.ModelConfig())
    return _parameters(json_format.MessageToDict(message, preserving_proto_field_name=True))


def unit_published(text: str) -> str:
    """The unit of the model with this ``config.pbtxt``, "scene" or "person"."""
    return unit_of(identity(text))


def addresses(service: str, namespace: str) -> tuple[str, ...]:
    """Where a Service of this module's objects answers: ``http://host:80`` and ``grpc://host:9000``."""
    host = f"{service}.{namespace}.svc"
    return f"http://{host}:80", f"grpc://{host}:{GRPC}"


def reachable(address: str) -> bool:
    """Whether this runs in a pod, or at least knows the name of the address: outside, Services have none."""
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return True  # a Service that was made a moment ago has its name in a moment
    _, url, _ = parse_endpoint(f"{address}/x")
    with contextlib.suppress(OSError):
        return bool(socket.getaddrinfo(url.rpartition(":")[0], None))
    return False


def wait_loaded(
    cluster: Cluster, version: Version, namespace: str, timeout_s: float, progress: Progress | None = None
) -> None:
    """Wait until KServe reports the pods of ``version`` as available.

    Raises ServingError with the server's own words as soon as the model cannot load or the object is invalid, and with
    what is missing after ``timeout_s`` seconds.
    """
    what, failed_before = f"InferenceService {namespace}/{version.name}", False

    def check() -> tuple[bool | None, str]:
        nonlocal failed_before
        body = cluster.get(API, KIND, version.name, namespace)
        if body is None:
            raise ServingError(f"{what} does not exist: was it deleted?")
        if str((body["metadata"].get("annotations") or {}).get(_STOP, "")).lower() == "true":
            raise ServingError(
                f"{what} was stopped by hand; to start it:"
                f" `kubectl -n {namespace} annotate inferenceservice {version.name} {_STOP}-`"
            )
        status = body.get("status") or {}
        model: Mapping[str, Any] = status.get("modelStatus") or {}
        # seen twice: a container that is restarted can succeed the second time
        if (failed := model.get("transitionStatus") in _FAILED) and failed_before:
            raise ServingError(
                f"{what} cannot serve its model ({model['transitionStatus']}): {_failure(model)}{remedy}"
            )
        failed_before = failed
        conditions = {c.get("type"): c for c in status.get("conditions") or ()}
        mode = status.get("deploymentMode") or ("Knative" if _OF_KNATIVE & conditions.keys() else "")
        if mode in _KNATIVE:
            raise ServingError(
                f"{what} is in KServe's mode {mode}, not Standard, which it knows since 0.16: install KServe 0.20 or"
                " newer"
            )
        if not conditions:
            return None, "KServe's controller has not looked at it yet (is KServe running, and 0.20 or newer?)"
        # not Ready: that waits for an ingress too, which nobody needs inside the cluster
        if conditions.get("PredictorReady", {}).get("status") == "True":
            return True, "its pods are available"
        pods = cluster.list("v1", "Pod", namespace, f"serving.kserve.io/inferenceservice={version.name}")
        if not pods and time.monotonic() - began > NO_POD_S:
            return None, _refused(namespace)
        return None, _unschedulable(pods) or _missing(conditions, model)

    began = time.monotonic()
    remedy = f"; see `kubectl -n {namespace} describe inferenceservice {version.name}`"

    def timed_out(state: str) -> Exception:
        return ServingError(f"{what} was not ready after {timeout_s:g} s: {state}{remedy}")

    poll(check, timeout_s, POLL_S, timed_out, what=what, progress=progress)


def wait_answers(
    where: tuple[str, ...], model: str, version: str, expected: Identity, timeout_s: float, progress: Progress | None
) -> None:
    """Wait until ``ROUNDS`` fresh connections in a row to each address are answered by this version.

    Raises ServingError naming who answers instead after ``timeout_s`` seconds.
    """
    what = f"version {version} at {' and '.join(where)}"

    def check() -> tuple[bool | None, str]:
        for _ in range(ROUNDS):
            for address in where:
                if state := _other(address, model, expected):
                    return None, state
            time.sleep(ROUND_S)
        return True, "answers"

    def timed_out(state: str) -> Exception:
        return ServingError(f"{what} did not answer after {timeout_s:g} s: {state}")

    poll(check, timeout_s, POLL_S, timed_out, what=what, progress=progress)


def _other(address: str, model: str, expected: Identity) -> str:
    """What a fresh connection to ``address`` finds instead of the expected version; "" if it finds that."""
    protocol, url, name = parse_endpoint(f"{address}/{model}")
    try:
        with closing(connect(url, protocol, timeout_s=5.0, retries=0)) as connection:
            if not connection.ready(name):
                return f"no model {name!r} yet"
            found = _parameters(connection.config(name))
    except ServingError as error:
        return str(error)
    if found == dict(expected):
        return ""
    return f"{address} answers as version {found.get('release') or found.get('lineage', '')[:12] or 'unknown'}"


def _parameters(config: Mapping[str, Any]) -> Identity:
    return {k: str(v.get("string_value", "")) for k, v in (config.get("parameters") or {}).items()}


def _missing(conditions: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    parts = [
        f"{kind}={c.get('status')}" + (f" ({flat(': '.join(reasons))})" if reasons else "")
        for kind, c in sorted(conditions.items())
        if c.get("status") != "True" and kind != "Stopped"
        for reasons in [list(filter(None, (c.get("reason"), c.get("message"))))]
    ]
    return "; ".join([*parts, f"model {model.get('transitionStatus', 'unknown')}"])


def _failure(model: Mapping[str, Any]) -> str:
    info = model.get("lastFailureInfo") or {}
    return flat(": ".join(filter(None, (info.get("reason"), info.get("message"))))) or "no reason given"


def _refused(namespace: str) -> str:
    """The usual cause of a Deployment without pods: KServe installed from its manifests."""
    return (
        "the namespace lets no pod of it in: if it enforces `restricted`, KServe's storage initializer has to be"
        f" restricted, too (docs/operations.md, Install); `kubectl -n {namespace} get events` has the reason"
    )


def _unschedulable(pods: Sequence[Mapping[str, Any]]) -> str:
    """Why no node has room for its pods; "" if that is not what it waits for."""
    for pod in pods:
        for condition in (pod.get("status") or {}).get("conditions") or ():
            if condition.get("reason") == "Unschedulable" and condition.get("status") == "False":
                hint = ""
                if "nvidia.com/gpu" in str(condition.get("message")):
                    hint = " (serving.strategy=recreate stops the version that holds the GPU first)"
                return f"no node has room for it: {flat(str(condition.get('message')))}{hint}"
    return ""
