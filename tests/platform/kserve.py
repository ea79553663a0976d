"""KServe 0.20's controller, and the Deployments under it, as they behave (Standard mode); read in its sources.

- ``status.observedGeneration`` is the *Deployment's* (inference_service_status.go, PropagateRawStatus);
- ``PredictorReady`` is the Deployment's Available condition: it stays True while pods of the template before answer;
- ``modelStatus`` is UpToDate as soon as the service is Ready and the newest pod's init container has ended
  (PropagateModelStatus), whoever answers;
- labels and annotations go into the pod template of **every** Deployment of the service (buildObjectMeta);
- ``canaryStatuses`` has name, ready and trafficPercent only; the canary's replicas are taken out of the stable ones
  (components/predictor.go);
- ``status.url`` is ``<name>-<namespace>.example.com``, ``status.address.url`` the Service inside the cluster.

``shuffle`` (a random generator) makes it slow, and does its steps for several objects in another order each time.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from posewatch.store import ObjectStore

from .network import Network
from .pods import Pod, SmallServer

NAMESPACE = "/namespaces/posewatch"
ISVC = f"/apis/serving.kserve.io/v1beta1{NAMESPACE}/inferenceservices"
SERVICES = f"/api/v1{NAMESPACE}/services"
PODS = f"/api/v1{NAMESPACE}/pods"
_NUMBERS = itertools.count(1)


@dataclass
class Deployment:
    """``template`` is what a change of restarts the pods for; ``generation`` counts changes of its spec."""

    name: str
    template: dict[str, Any] = field(default_factory=dict)
    replicas: int = 0
    generation: int = 0
    observed: int = 0
    pods: list[tuple[str, Pod]] = field(default_factory=list)
    """(digest of the template, pod), oldest first."""

    def want(self, template: dict[str, Any], replicas: int) -> None:
        if (template, replicas) != (self.template, self.replicas):
            self.template, self.replicas, self.generation = copy.deepcopy(template), replicas, self.generation + 1

    @property
    def revision(self) -> str:
        return json.dumps(self.template, sort_keys=True)

    @property
    def available(self) -> int:
        return sum(pod.ready for _, pod in self.pods)


class Controller(threading.Thread):
    """Serves every InferenceService of the stand-in cluster with pods, behind a ``network`` of Services.

    ``broken`` are versions whose model does not load, ``instead`` maps a version to the one that its pods really serve;
    ``asleep`` stops the controller, ``gpus`` is how many the only node has. ``restarts`` are the pods that were
    replaced while their service stayed.
    """

    def __init__(
        self, api: Any, store: ObjectStore, kind: type = SmallServer, shuffle: random.Random | None = None
    ) -> None:
        super().__init__(daemon=True)
        self.api, self.store, self.kind, self.shuffle = api, store, kind, shuffle
        self.broken: set[str] = set()
        self.instead: dict[str, str] = {}
        self.asleep = False
        self.load_s = 0.0
        self.gpus = 1000
        self.restarts: list[str] = []
        self.over = threading.Event()
        self.deployments: dict[str, Deployment] = {}
        self._owner: dict[str, str] = {}
        self._stopping: list[threading.Thread] = []
        self.network = Network(self._services, self.pods)

    def pods(self) -> list[Pod]:
        return [pod for deployment in list(self.deployments.values()) for _, pod in list(deployment.pods)]

    def close(self) -> None:
        self.over.set()
        self.join(30)
        for deployment in self.deployments.values():
            self._end(deployment, [pod for _, pod in deployment.pods])
        for thread in self._stopping:
            thread.join(30)
        self.network.over.set()
        self.network.join(30)

    def run(self) -> None:
        self.network.start()
        while not self.over.wait(self.shuffle.uniform(0.05, 0.4) if self.shuffle else 0.05):
            if not self.asleep:
                self._round()

    def _round(self) -> None:
        found = {o["metadata"]["name"]: o for o in self.api("GET", ISVC)["items"]}
        for name, owner in list(self._owner.items()):
            if owner not in found or name not in self._names(found[owner]):
                deployment = self.deployments[name]
                self._end(deployment, [pod for _, pod in deployment.pods])
                del self.deployments[name], self._owner[name]
                self._forget(f"{SERVICES}/{name}")
        order = list(found.values())
        if self.shuffle:
            self.shuffle.shuffle(order)
        for isvc in order:
            self._reconcile(isvc)

    def _reconcile(self, isvc: dict[str, Any]) -> None:
        meta, spec = isvc["metadata"], isvc["spec"]
        shared = {
            "labels": {**meta.get("labels", {}), "serving.kserve.io/inferenceservice": meta["name"]},
            "annotations": meta.get("annotations", {}),
        }
        rows = spec.get("canary") or []
        ready_canaries = 0
        for row in rows:
            predictor = {**copy.deepcopy(spec["predictor"]), **row["predictor"]}
            replicas = int(row["predictor"].get("minReplicas", 1))
            deployment = self._deploy(
                meta["name"], f"{meta['name']}-{row['predictor']['name']}-predictor", shared, predictor, replicas
            )
            ready_canaries += replicas if deployment.available else 0
        least = int(spec["predictor"].get("minReplicas") or 1)
        least = max(least - ready_canaries, 1) if ready_canaries else least
        stable = self._deploy(meta["name"], f"{meta['name']}-predictor", shared, spec["predictor"], least)
        for deployment in [self.deployments[n] for n in self._names(isvc)]:
            self._roll(deployment)
        self._report(isvc, stable, rows)

    def _names(self, isvc: dict[str, Any]) -> list[str]:
        name = isvc["metadata"]["name"]
        rows = isvc["spec"].get("canary") or ()
        return [f"{name}-predictor", *(f"{name}-{row['predictor']['name']}-predictor" for row in rows)]

    def _deploy(
        self, owner: str, name: str, shared: dict[str, Any], predictor: dict[str, Any], replicas: int
    ) -> Deployment:
        if name not in self.deployments:
            self.deployments[name] = Deployment(name)
            self._owner[name] = owner
            ports = [
                {"name": "http1", "port": 80, "targetPort": 8080},
                {"name": "h2c", "port": 9000, "targetPort": 9000},
            ]
            body = {
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "posewatch"},
                "spec": {"selector": {"app": f"isvc.{name}"}, "ports": ports},
            }  # fmt: skip
            self.api("POST", SERVICES, body)
        scaling = ("minReplicas", "maxReplicas", "autoScaling")
        pods = {k: v for k, v in predictor.items() if k not in scaling}
        template = {**shared, "labels": {**shared["labels"], "app": f"isvc.{name}"}, "spec": pods}
        self.deployments[name].want(template, replicas)
        return self.deployments[name]

    def _roll(self, deployment: Deployment) -> None:
        """One step of a rolling update: start what is missing (25 % surge: one pod), stop what is too much."""
        if self.shuffle and self.shuffle.random() < 0.5:
            return
        deployment.observed = deployment.generation
        new = [pod for revision, pod in deployment.pods if revision == deployment.revision]
        old = [pod for revision, pod in deployment.pods if revision != deployment.revision]
        missing = deployment.replicas - len(new)
        if missing > 0 and len(deployment.pods) <= deployment.replicas:
            self._start(deployment)
        done = (
            [pod for pod in old if sum(p.ready for p in new) or not pod.ready][:1]
            if old
            else new[deployment.replicas :]
        )
        self.restarts += [pod.name for pod in done if old]
        self._end(deployment, done)

    def _start(self, deployment: Deployment) -> None:
        spec = deployment.template["spec"]
        gpus = int(((spec["model"].get("resources") or {}).get("limits") or {}).get("nvidia.com/gpu", 0))
        name = f"{deployment.name}-{next(_NUMBERS)}"
        pending = f"{PODS}/{deployment.name}-pending"
        if gpus and gpus + self._gpus_used() > self.gpus:
            self._pending(deployment, pending)
            return
        self._forget(pending)
        root, _, version = spec["model"]["storageUri"].rstrip("/").rpartition("/")
        uri = f"{root}/{self.instead.get(version, version)}"
        model = root.rpartition("/")[2]
        labels = deployment.template["labels"]
        failed = f"failed to load '{model}': unexpected shape for input" if version in self.broken else ""
        pod = Pod(name, labels, self.store, uri, model, self.kind, self.load_s, failed)
        pod.gpus = gpus
        deployment.pods.append((deployment.revision, pod))

    def _gpus_used(self) -> int:
        return sum(pod.gpus for pod in self.pods()) + sum(t.gpus for t in self._stopping if t.is_alive())  # type: ignore[attr-defined]

    def _end(self, deployment: Deployment, pods: list[Pod]) -> None:
        for pod in pods:
            deployment.pods = [(r, p) for r, p in deployment.pods if p is not pod]
            thread = threading.Thread(target=pod.stop, daemon=True)
            thread.gpus = pod.gpus  # type: ignore[attr-defined]
            thread.start()
            self._stopping.append(thread)

    def _report(self, isvc: dict[str, Any], stable: Deployment, rows: list[dict[str, Any]]) -> None:
        name = isvc["metadata"]["name"]
        available = stable.available >= max(1, stable.replicas - stable.replicas // 4)
        failed = next((pod.failed for _, pod in stable.pods if pod.failed), "")
        newest = stable.pods[-1][1] if stable.pods else None
        model: dict[str, Any] = {"transitionStatus": "InProgress"}
        if failed and not available:
            why = {"reason": "ModelLoadFailed", "message": failed}
            model = {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": why}
        elif available and newest is not None and newest.downloaded:
            model = {"transitionStatus": "UpToDate"}
        why = (
            {}
            if available
            else {"reason": "MinimumReplicasUnavailable", "message": "Deployment does not have\nminimum"}
        )
        kinds = ("IngressReady", "PredictorReady", "Ready")
        status: dict[str, Any] = {
            "observedGeneration": stable.observed,
            "url": f"http://{name}-posewatch.example.com",
            "address": {"url": f"http://{name}-predictor.posewatch.svc.cluster.local"},
            "conditions": [{"type": kind, "status": str(available), **why} for kind in kinds],
            "modelStatus": model,
            "canaryStatuses": [
                {
                    "name": row["predictor"]["name"],
                    "ready": bool(self.deployments[f"{name}-{row['predictor']['name']}-predictor"].available),
                    "trafficPercent": row["trafficPercent"],
                }
                for row in rows
            ],
        }
        if isvc.get("status") != status:
            self._try("PATCH", f"{ISVC}/{name}/status", {"status": status}, "application/merge-patch+json")

    def _pending(self, deployment: Deployment, path: str) -> None:
        labels = deployment.template["labels"]
        message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
        body = {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": path.rpartition("/")[2], "namespace": "posewatch", "labels": labels},
            "spec": {"containers": [{"name": "kserve-container", "image": "triton"}]},
            "status": {
                "phase": "Pending",
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
                ],
            },
        }  # fmt: skip
        self._try("POST", PODS, body)

    def _services(self) -> list[dict[str, Any]]:
        return list(self._try("GET", SERVICES).get("items", []))

    def _forget(self, path: str) -> None:
        self._try("DELETE", path)

    def _try(self, method: str, *rest: Any) -> dict[str, Any]:
        """A request whose object may exist already, or no more."""
        from urllib.error import HTTPError

        try:
            return dict(self.api(method, *rest))
        except HTTPError as error:
            if error.code not in (404, 409):
                raise
            return {}

    def settle(self, timeout_s: float = 30.0) -> None:
        """Wait until no pod starts or stops any more."""
        end = time.monotonic() + timeout_s
        while any(t.is_alive() for t in self._stopping) or not all(p.ready or p.failed for p in self.pods()):
            assert time.monotonic() < end, "the cluster does not settle"
            time.sleep(0.05)
