"""Deploying to KServe against a stand-in API server with the real CRDs."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posewatch.config import ServingConfig
from posewatch.deploy import manifests, proof, runtime
from posewatch.deploy.state import Version
from posewatch.deploy.target import Release
from posewatch.errors import ConfigError, ServingError
from posewatch.kube.cluster import Cluster

from .applying import apply

NAMESPACE = "posewatch"
ISVC = "/apis/serving.kserve.io/v1beta1/namespaces/posewatch/inferenceservices"
RUNTIMES = "/apis/serving.kserve.io/v1alpha1/namespaces/posewatch/servingruntimes"
URI = "s3://posewatch/models/abnormal/1/"
DIGEST = "ab" * 32
CONFIG = ServingConfig(namespace=NAMESPACE)


def service(uri: str = URI, **options: Any) -> dict[str, Any]:
    """The InferenceService, always under the same name, for tests of what is applied."""
    body = manifests.inference_service(ServingConfig(namespace=NAMESPACE, **options), Release("1", uri, DIGEST))
    body["metadata"]["name"] = "abnormal"
    return body


def waits(timeout_s: float = 20.0) -> None:
    with Cluster() as cluster:
        proof.wait_loaded(cluster, Version("abnormal", Release("1", URI, DIGEST), service()), NAMESPACE, timeout_s)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "POLL_S", 0.2)


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 1000
    return text


@pytest.mark.parametrize(
    "body",
    [
        runtime.serving_runtime(CONFIG),
        service(),
        service(gpus=1, max_replicas=3, autoscaler="keda", prometheus="http://prometheus:9090"),
    ],
    ids=["runtime", "service", "service-gpu"],
)
def test_the_dicts_fit_the_crd(body: dict[str, Any], crd_errors: Callable[[dict[str, Any]], list[str]]) -> None:
    assert crd_errors(body) == []
    wrong = {**body, "spec": {**body["spec"], "nonsense": 1}}
    assert any("nonsense" in said for said in crd_errors(wrong)), "the schema would not notice a typo"


def test_a_pod_that_ends_serves_until_the_nodes_know_and_then_has_time_for_its_answers() -> None:
    container = runtime.serving_runtime(CONFIG)["spec"]["containers"][0]
    (timeout,) = (given for given in container["args"] if given.startswith("--exit-timeout-secs="))
    wait = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert 2 < wait < wait + int(timeout.partition("=")[2]) < 30, (
        "what Kubernetes gives a pod, and KServe does not change"
    )


def test_grpc_clients_come_to_replicas_that_start_after_them() -> None:
    """A Service leaves a connection with its pod: Triton ends it within the time that an autoscaler waits anyway."""
    container = runtime.serving_runtime(CONFIG)["spec"]["containers"][0]
    (age,) = (given for given in container["args"] if given.startswith("--grpc-max-connection-age="))
    assert 10_000 <= int(age.partition("=")[2]) <= 300_000, "milliseconds"


def test_keda_is_told_how_many_may_wait_at_each_replica() -> None:
    """KServe 0.20 reads ``value`` alone, its pull request 6185 the type and the number of that type."""
    body = service(max_replicas=3, autoscaler="keda", prometheus="http://prometheus:9090", pending_requests=5)
    (metric,) = body["spec"]["predictor"]["autoScaling"]["metrics"]
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "5", "value": "5"}


def test_what_kserve_needs_is_there() -> None:
    container = runtime.serving_runtime(CONFIG)["spec"]["containers"][0]
    assert [(p["containerPort"], p["name"]) for p in container["ports"]] == [(8080, "http1"), (9000, "h2c")]
    assert "--http-port=8080" in container["args"]
    assert "--grpc-port=9000" in container["args"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/v2/health/ready", "port": 8080, "scheme": "HTTP"}
    body = service(gpus=2)
    assert body["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"
    assert body["metadata"]["annotations"][manifests.LINEAGE] == DIGEST
    model = body["spec"]["predictor"]["model"]
    assert model["storageUri"] == URI == service(URI.rstrip("/"))["spec"]["predictor"]["model"]["storageUri"]
    assert model["protocolVersion"] == "v2"
    assert model["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    applied = runtime.serving_runtime(CONFIG)
    assert model["runtime"] == applied["metadata"]["name"]
    assert model["modelFormat"]["name"] == applied["spec"]["supportedModelFormats"][0]["name"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "Abnormal_Model"}, "cannot name a service"),
        ({"version": "a b"}, "cannot be a label value"),
        ({"uri": "/home/me/models"}, "publish it to a store that the cluster reaches"),
        ({"min_replicas": 3}, "serving.min_replicas 3 is above max_replicas 1"),
    ],
)
def test_what_cannot_be_deployed_is_refused_before_the_cluster_is_asked(change: dict[str, Any], says: str) -> None:
    release = Release(change.pop("version", "1"), change.pop("uri", URI), DIGEST)
    with pytest.raises(ConfigError, match=re.escape(says)) as error:
        manifests.inference_service(ServingConfig(namespace=NAMESPACE, **change), release)
    one_line(error)


def test_apply_creates_and_applying_again_changes_nothing(api: Any) -> None:
    objects = [runtime.serving_runtime(CONFIG), service()]
    apply(objects, namespace=NAMESPACE)
    first = [api("GET", f"{RUNTIMES}/posewatch-triton"), api("GET", f"{ISVC}/abnormal")]
    assert first[1]["spec"]["predictor"]["model"]["storageUri"] == URI
    assert first[1]["metadata"]["managedFields"][0]["manager"] == "posewatch"

    apply(objects, namespace=NAMESPACE)
    again = [api("GET", f"{RUNTIMES}/posewatch-triton"), api("GET", f"{ISVC}/abnormal")]
    keys = ("resourceVersion", "generation", "uid")
    assert [[o["metadata"][k] for k in keys] for o in again] == [[o["metadata"][k] for k in keys] for o in first]

    apply([service("s3://posewatch/models/abnormal/2/")], namespace=NAMESPACE)
    changed = api("GET", f"{ISVC}/abnormal")
    assert changed["metadata"]["generation"] == first[1]["metadata"]["generation"] + 1
    assert changed["spec"]["predictor"]["model"]["storageUri"].endswith("/2/")


def test_a_field_of_another_manager_is_a_conflict_until_forced(api: Any) -> None:
    apply([service(max_replicas=4)], namespace=NAMESPACE, field_manager="autoscaler")
    with pytest.raises(ServingError) as error:
        apply([service()], namespace=NAMESPACE)
    text = one_line(error)
    assert all(
        word in text for word in ("posewatch/abnormal", '"autoscaler"', ".spec.predictor.maxReplicas", "--force")
    )
    assert api("GET", f"{ISVC}/abnormal")["spec"]["predictor"]["maxReplicas"] == 4

    apply([service()], namespace=NAMESPACE, force=True)
    assert api("GET", f"{ISVC}/abnormal")["spec"]["predictor"]["maxReplicas"] == 1


def test_an_unknown_field_and_a_missing_namespace_are_one_line(api: Any) -> None:
    wrong = service()
    wrong["spec"]["predictor"]["replicas"] = 1
    with pytest.raises(ServingError, match=r"replicas: field not declared") as error:
        apply([wrong], namespace=NAMESPACE)
    one_line(error)
    with pytest.raises(ServingError, match=r'namespaces "nowhere" not found.*apply -k manifests/base') as error:
        apply([service()], namespace="nowhere")
    one_line(error)
    assert api("GET", ISVC)["items"] == []


def test_a_cluster_without_kserve(monkeypatch: pytest.MonkeyPatch, api: Any) -> None:
    monkeypatch.setattr("posewatch.kube.cluster.SETTLE_S", 0.2)
    body = {"apiVersion": "serving.kserve.io/v9", "kind": "InferenceService", "metadata": {"name": "a"}}
    with pytest.raises(ServingError, match=r"install KServe 0\.20 or newer"):
        apply([body], namespace=NAMESPACE)


def test_a_crd_that_was_installed_a_moment_ago(api: Any) -> None:
    """The first discovery does not know the kind; it appears while apply is asking."""
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}}
    fresh = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "watchers.posewatch.example.com"},
        "spec": {
            "group": "posewatch.example.com",
            "scope": "Namespaced",
            "names": {"plural": "watchers", "kind": "Watcher", "singular": "watcher"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    late = threading.Timer(1.0, lambda: api("POST", path, fresh))
    late.start()
    try:
        body = {"apiVersion": "posewatch.example.com/v1", "kind": "Watcher", "metadata": {"name": "one"}}
        apply([{**body, "spec": {"a": "b"}}], namespace=NAMESPACE)
    finally:
        late.join()
    stored = api("GET", f"/apis/posewatch.example.com/v1/namespaces/{NAMESPACE}/watchers/one")
    assert stored["spec"] == {"a": "b"}


def test_available_pods_end_the_wait(api: Any) -> None:
    apply([service()], namespace=NAMESPACE)
    api.status("abnormal", "InProgress", ready=True, seen=False)
    waits()


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({"transition": "InProgress", "ready": False}, "PredictorReady=False (MinimumReplicasUnavailable: Deployment"),
        ({"transition": "UpToDate", "ready": False}, "model UpToDate"),
        (None, "controller has not looked at it yet"),
    ],
    ids=["pods", "up-to-date-is-not-available", "no-controller"],
)
def test_not_ready_in_time(api: Any, status: dict[str, Any] | None, says: str) -> None:
    apply([service()], namespace=NAMESPACE)
    if status is not None:
        api.status("abnormal", **status)
    with pytest.raises(ServingError) as error:
        waits(0.6)
    text = one_line(error)
    assert "not ready after 0.6 s" in text
    assert says in text


@pytest.mark.parametrize(
    ("transition", "reason", "message"),
    [
        ("BlockedByFailedLoad", "ModelLoadFailed", "failed to load 'abnormal':\n  unexpected shape for input"),
        ("InvalidSpec", "NoSupportingRuntime", "No runtime found to support specified predictor"),
    ],
)
def test_a_failed_load_ends_the_wait_with_the_servers_words(
    api: Any, transition: str, reason: str, message: str
) -> None:
    apply([service()], namespace=NAMESPACE)
    api.status("abnormal", transition, lastFailureInfo={"reason": reason, "message": message})
    began = time.monotonic()
    with pytest.raises(ServingError) as error:
        waits(300)
    assert time.monotonic() - began < 100, "it waited although nothing could come any more"
    text = one_line(error)
    assert all(word in text for word in (transition, reason, " ".join(message.split()), "describe inferenceservice"))


@pytest.mark.parametrize(
    "told",
    [
        {"deploymentMode": "Serverless"},  # 0.15.2, which writes it down
        {"conditions": [{"type": kind, "status": "Unknown"} for kind in ("LatestDeploymentReady", "RoutesReady")]},
    ],
    ids=["0.15.2", "0.13-to-0.15.1"],
)
def test_a_kserve_that_takes_standard_for_knative_ends_the_wait(api: Any, told: dict[str, Any]) -> None:
    """KServe before 0.16 knows no mode of that name, and takes the cluster's default, by its manifests Knative's."""
    apply([service()], namespace=NAMESPACE)
    status = {"modelStatus": {"transitionStatus": "InProgress"}, **told}
    api("PATCH", f"{ISVC}/abnormal/status", {"status": status}, "application/merge-patch+json")
    with pytest.raises(ServingError, match=r"mode .* not Standard.*install KServe 0\.20 or newer") as error:
        waits(300)
    one_line(error)


def test_a_version_that_somebody_stopped_says_so(api: Any) -> None:
    """KServe's annotation is none of our fields, so it stays there when the version is applied again."""
    apply([service()], namespace=NAMESPACE)
    stop = {"metadata": {"annotations": {"serving.kserve.io/stop": "true"}}}
    api("PATCH", f"{ISVC}/abnormal", stop, "application/merge-patch+json")
    with pytest.raises(ServingError, match=r"was stopped .*annotate .* abnormal serving\.kserve\.io/stop-") as error:
        waits(2)
    one_line(error)


def test_what_is_not_stopped_is_nothing_to_wait_for(api: Any) -> None:
    """KServe since 0.15.2 writes Stopped=False on all that runs."""
    apply([service()], namespace=NAMESPACE)
    conditions = [{"type": "PredictorReady", "status": "False"}, {"type": "Stopped", "status": "False"}]
    status = {"modelStatus": {"transitionStatus": "InProgress"}, "conditions": conditions}
    api("PATCH", f"{ISVC}/abnormal/status", {"status": status}, "application/merge-patch+json")
    with pytest.raises(ServingError, match="PredictorReady=False; model InProgress"):
        waits(0.6)


@pytest.mark.parametrize("after_s", [0.0, 0.5])
def test_a_wait_ends_when_the_api_server_stays_away(mortal_api: Any, after_s: float) -> None:
    apply([service()], namespace=NAMESPACE)
    stop = threading.Timer(after_s, mortal_api.process.terminate)
    stop.start()
    if not after_s:
        mortal_api.process.wait(20)
    try:
        with pytest.raises(ServingError, match=r"not ready after 3 s: .*cannot reach the cluster") as error:
            waits(3)
    finally:
        stop.join()
    one_line(error)


def test_a_wait_outlives_an_api_server_that_is_away_for_a_moment(api: Any, recorder: Any) -> None:
    apply([service()], namespace=NAMESPACE)
    api.status("abnormal", "UpToDate", ready=True)
    recorder.down = 2  # from the first request on
    waits(60)
    assert recorder.down == 0


def test_no_such_service(api: Any) -> None:
    with pytest.raises(ServingError, match="posewatch/abnormal does not exist") as error:
        waits(5)
    one_line(error)


def test_no_cluster_and_wrong_kubeconfig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kubeconfig: Callable[[str], Path], free_port: int
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(ServingError, match="no usable kubeconfig") as error:
        apply([service()], namespace=NAMESPACE)
    one_line(error)

    (tmp_path / "broken").write_text("{ not: [yaml")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "broken"))
    with pytest.raises(ServingError, match="no usable kubeconfig") as error:
        apply([service()], namespace=NAMESPACE)
    one_line(error)

    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(f"http://127.0.0.1:{free_port}")))
    with pytest.raises(
        ServingError, match=rf"cannot reach the cluster at http://127.0.0.1:{free_port}.*refused"
    ) as error:
        apply([service()], namespace=NAMESPACE)
    one_line(error)
    with pytest.raises(ServingError, match=r"no usable kubeconfig.*elsewhere") as error:
        apply([service()], namespace=NAMESPACE, context="elsewhere")
    one_line(error)


def test_the_command_line_starts_without_kubernetes() -> None:
    code = "import sys, posewatch.deploy.kserve; sys.exit('kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_namespace_that_lets_no_pod_in_is_said_in_one_line(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with KServe from its manifests, whose storage initializer has no restricted settings."""
    monkeypatch.setattr(proof, "NO_POD_S", 0.5)
    apply([service()], namespace=NAMESPACE)
    api.status("abnormal", "InProgress")
    with pytest.raises(ServingError, match="storage initializer has to be restricted, too") as error:
        waits(1.5)
    one_line(error)
