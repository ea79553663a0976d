"""Kubeflow Trainer's controller, played by a thread: it does with a TrainJob what a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from .recorder import Recorder

TRAINJOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/posewatch/trainjobs"
PODS = "/api/v1/namespaces/posewatch/pods"


class Trainer(threading.Thread):
    """Runs ``act(self, job)`` for each new TrainJob; ``jobs`` are all that there were."""

    def __init__(self, api: Any, recorder: Recorder, act: Callable[[Trainer, dict[str, Any]], None]) -> None:
        super().__init__(daemon=True)
        self.api, self.recorder, self.act = api, recorder, act
        self.jobs: list[dict[str, Any]] = []
        self.over = threading.Event()
        self.failure: BaseException | None = None

    def __enter__(self) -> Trainer:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.over.set()
        self.join(60)
        if self.failure is not None:
            raise self.failure

    def run(self) -> None:
        known: set[str] = set()
        try:
            while not self.over.wait(0.05):
                for job in self.api("GET", TRAINJOBS)["items"]:
                    if job["metadata"]["uid"] not in known:
                        known.add(job["metadata"]["uid"])
                        self.jobs.append(job)
                        self.act(self, job)
        except BaseException as error:
            self.failure = error

    def pods(self, job: dict[str, Any]) -> list[str]:
        """One pod for each node, as JobSet names and labels them."""
        name = job["metadata"]["name"]
        made = []
        for index in range(job["spec"]["trainer"]["numNodes"]):
            labels = {"jobset.sigs.k8s.io/jobset-name": name, "batch.kubernetes.io/job-completion-index": str(index)}
            pod = f"{name}-node-0-{index}-{job['metadata']['uid'][:5]}"
            meta = {"name": pod, "namespace": "posewatch", "labels": labels}
            spec = {"containers": [{"name": "node", "image": "a:1"}]}
            self.api("POST", PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
            made.append(pod)
        return made

    def say(self, pod: str, *lines: str) -> None:
        for line in lines:
            self.recorder.logs[pod].append((datetime.now(UTC).isoformat().replace("+00:00", "000Z"), line))

    def condition(self, job: dict[str, Any], kind: str, message: str = "") -> None:
        told = {
            "type": kind, "status": "True", "reason": f"Jobs{kind}", "message": message or kind,
            "lastTransitionTime": "2026-11-01T00:00:00Z",
        }  # fmt: skip
        path = f"{TRAINJOBS}/{job['metadata']['name']}/status"
        self.api("PATCH", path, {"status": {"conditions": [told]}}, "application/merge-patch+json")

    def ended(self, pod: str, reason: str, code: int) -> None:
        state = {"terminated": {"exitCode": code, "reason": reason}}
        rows = [{"name": "node", "state": state, "image": "a:1", "imageID": "", "ready": False, "restartCount": 0}]
        self.api("PATCH", f"{PODS}/{pod}", {"status": {"phase": "Failed", "containerStatuses": rows}},
                 "application/merge-patch+json")  # fmt: skip
