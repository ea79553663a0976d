"""A stand-in API server on loopback, with KServe's real CRDs: no controller runs, so the tests write the status."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from published import Bucket, Version, version

from .kserve import Controller
from .recorder import Recorder
from .rollouts import CONFIG

K8S = Path(__file__).resolve().parents[2].parent / "shared" / "k8s"
NAMESPACE = "posewatch"
ISVC = "/apis/serving.kserve.io/v1beta1/namespaces/posewatch/inferenceservices"
RUNTIMES = "/apis/serving.kserve.io/v1alpha1/namespaces/posewatch/servingruntimes"
TRAINJOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/posewatch/trainjobs"
PODS = "/api/v1/namespaces/posewatch/pods"
SERVICES = "/api/v1/namespaces/posewatch/services"
CONFIGMAPS = "/api/v1/namespaces/posewatch/configmaps"


@dataclass(frozen=True)
class Api:
    """Plain HTTP to the stand-in, so that a test sees what is stored and not what the client believes."""

    url: str
    kubeconfig: Path
    process: subprocess.Popen[bytes]

    def __call__(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": kind}, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def status(self, name: str, transition: str, *, ready: bool = False, seen: bool = True, **model: Any) -> None:
        """What KServe's controller would write for InferenceService ``name``."""
        found = self("GET", f"{ISVC}/{name}")
        host = f"{name}-predictor.posewatch.svc.cluster.local"
        told = {} if ready else {"reason": "MinimumReplicasUnavailable", "message": "Deployment has too few\nreplicas"}
        status = {
            "observedGeneration": found["metadata"]["generation"] - (0 if seen else 1),
            "url": f"http://{name}.posewatch.example.com",
            "address": {"url": f"http://{host}"},
            "conditions": [
                {"type": kind, "status": str(ready), **told} for kind in ("IngressReady", "PredictorReady", "Ready")
            ],
            "modelStatus": {"transitionStatus": transition, **model},
        }
        self("PATCH", f"{ISVC}/{name}/status", {"status": status}, "application/merge-patch+json")


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A CRD's structural schema in which an unknown field is an error, as it is in a server-side apply."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    out = {k: v for k, v in schema.items() if k in ("type", "enum", "minimum", "maximum", "pattern", "required")}
    if "properties" in schema:
        out["properties"] = {k: _closed(v) for k, v in schema["properties"].items()}
        out["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if "items" in schema:
        out["items"] = _closed(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        out["additionalProperties"] = _closed(schema["additionalProperties"])
    return out


@pytest.fixture(scope="session")
def crd_errors() -> Callable[[dict[str, Any]], list[str]]:
    """What KServe's own schema says against an object; skips where the shared files are not beside the checkout."""
    known: dict[tuple[str, str], dict[str, Any]] = {}

    def errors(body: dict[str, Any]) -> list[str]:
        plural, version = body["kind"].lower() + "s", body["apiVersion"].rpartition("/")[2]
        if (plural, version) not in known:
            path = K8S / "crds" / f"{plural}.yaml"
            if not path.is_file():
                pytest.skip(f"no KServe CRDs at {path.parent}")
            definition = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]
            found = next(v for v in definition["versions"] if v["name"] == version)
            known[plural, version] = _closed(found["schema"]["openAPIV3Schema"])
        check = jsonschema.Draft7Validator(known[plural, version])
        return [e.message for e in check.iter_errors({k: v for k, v in body.items() if k != "metadata"})]

    return errors


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a kubeconfig for a server's URL."""
    return lambda server: _kubeconfig(tmp_path / "kubeconfig", server)


def _kubeconfig(path: Path, server: str) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "clusters": [{"name": "here", "cluster": {"server": server}}],
                "users": [{"name": "me", "user": {"token": "none"}}],
                "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            }
        )
    )
    return path


@pytest.fixture
def free_port() -> int:
    """A TCP port of loopback on which nothing listens."""
    return _free_port()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _serve(folder: Path) -> Iterator[Api]:
    """The stand-in with KServe's CRDs and the namespace ``posewatch``."""
    script = K8S / "apisub.py"
    if not script.is_file():
        pytest.skip(f"no stand-in API server at {script}")
    port = _free_port()
    crds = [str(K8S / "crds" / f"{plural}.yaml") for plural in ("servingruntimes", "inferenceservices", "trainjobs")]
    server = subprocess.Popen([sys.executable, "-W", "ignore", str(script), str(port), *crds])
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/version", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, "the stand-in API server died"
                assert time.monotonic() < deadline, "the stand-in API server did not come up"
                time.sleep(0.1)
        api = Api(url, _kubeconfig(folder / "config", url), server)
        api("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        yield api
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with _serve(tmp_path_factory.mktemp("kube")) as api:
        yield api


@pytest.fixture
def mortal_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A stand-in of the test's own, which it may stop."""
    with _serve(tmp_path) as api:
        monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
        yield api


@pytest.fixture
def api(api_server: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """An empty namespace, and KUBECONFIG pointing at the stand-in."""
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    yield api_server
    for path in (ISVC, RUNTIMES, TRAINJOBS, PODS, SERVICES, CONFIGMAPS):
        for found in api_server("GET", path)["items"]:
            api_server("DELETE", f"{path}/{found['metadata']['name']}")


@pytest.fixture
def recorder(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """KUBECONFIG leads through a proxy that notes what was asked for."""
    server = Recorder(api.url)
    worker = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    worker.start()
    monkeypatch.setenv("KUBECONFIG", str(_kubeconfig(tmp_path / "proxied", server.url)))
    yield server
    server.shutdown()
    server.server_close()
    worker.join(10)


@pytest.fixture
def fast_proofs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Short waits, and the addresses of a stand-in cluster's own network."""

    def use(controller: Any) -> None:
        monkeypatch.setattr("posewatch.deploy.proof.POLL_S", 0.1)
        monkeypatch.setattr("posewatch.deploy.proof.ROUND_S", 0.01)
        monkeypatch.setattr("posewatch.deploy.proof.ROUNDS", 4)
        monkeypatch.setattr("posewatch.deploy.proof.addresses", controller.network.addresses)

    return use


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    return Bucket(tmp_path_factory.mktemp("bucket"))


@pytest.fixture(scope="session")
def versions(store: Bucket) -> tuple[Version, ...]:
    """Three good versions of one model."""
    return tuple(version(store, seed, CONFIG) for seed in (1, 2, 3))


@pytest.fixture
def kserve(api: Any, store: Bucket, fast_proofs: Any) -> Iterator[Controller]:
    for info in store.list("deployments/"):
        store.delete(info.key)
    controller = Controller(api, store)
    fast_proofs(controller)
    controller.start()
    yield controller
    controller.close()
