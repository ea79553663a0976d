"""KServe's controller, played by a thread: it serves by the real Triton whatever version the cluster asks for."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

from posewatch.artifact import get
from posewatch.errors import PosewatchError
from posewatch.inference.triton_admin import load_model
from posewatch.stack import TritonServer
from posewatch.store import FolderStore

ISVC = "/apis/serving.kserve.io/v1beta1/namespaces/posewatch/inferenceservices"


class Controller(threading.Thread):
    """Watches InferenceService ``abnormal``. Its one Triton serves the canary where there is one, else the stable
    version; ``broken`` are versions that cannot be loaded, ``instead`` maps a version to the one really served."""

    def __init__(self, api: Any, triton: TritonServer | None, store: FolderStore) -> None:
        super().__init__(daemon=True)
        self.api, self.triton, self.store = api, triton, store
        self.broken: set[str] = set()
        self.instead: dict[str, str] = {}
        self.asleep = False
        self.serves = True
        """False for tests of the steps alone: nothing is loaded, and nobody asks the endpoint."""
        self.seen: list[tuple[str, str, int]] = []
        """Every state that was asked for: stable version, canary version, traffic."""
        self.over = threading.Event()
        self._loaded = ""
        self._done = (0, "")

    @property
    def url(self) -> str:
        return f"http://{self.triton.http}" if self.triton else "http://abnormal.example.com"

    def run(self) -> None:
        while not self.over.wait(0.05):
            found = [o for o in self.api("GET", ISVC)["items"] if o["metadata"]["name"] == "abnormal"]
            if found and not self.asleep:
                self.reconcile(found[0])

    def reconcile(self, found: dict[str, Any]) -> None:
        mark = (found["metadata"]["generation"], found["metadata"]["uid"])
        if mark == self._done:
            return
        spec = found["spec"]
        stable = self._version(spec["predictor"]["model"]["storageUri"])
        rows, canary, traffic = [], "", 0
        for row in spec.get("canary") or ():
            canary, traffic = self._version(row["predictor"]["model"]["storageUri"]), row["trafficPercent"]
            rows.append({"name": row["predictor"]["name"], "trafficPercent": traffic, **self._state(canary)})
        state = self._state(stable)
        self._load(canary or stable)
        self.seen.append((stable, canary, traffic))
        host = "http://abnormal-predictor.posewatch.svc.cluster.local:8080"
        status = {
            "observedGeneration": mark[0],
            "url": self.url,
            "address": {"url": host},
            "conditions": [{"type": "Ready", "status": str(state["ready"])}],
            "modelStatus": state["modelStatus"],
            "canaryStatuses": rows,
        }
        kind = "application/merge-patch+json"
        self.api("PATCH", f"{ISVC}/abnormal/status", {"status": status}, kind)
        self._done = mark

    @staticmethod
    def _version(uri: str) -> str:
        return uri.rstrip("/").rsplit("/", 1)[1]

    def _state(self, version: str) -> dict[str, Any]:
        if version not in self.broken:
            return {"ready": True, "modelStatus": {"transitionStatus": "UpToDate"}}
        why = {"reason": "ModelLoadFailed", "message": "failed to load 'abnormal': unexpected shape for input"}
        return {"ready": False, "modelStatus": {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": why}}

    def _load(self, version: str) -> None:
        version = self.instead.get(version, version)
        if not self.serves or self.triton is None or version == self._loaded or version in self.broken:
            return
        with tempfile.TemporaryDirectory() as temp:
            get(self.store, f"models/abnormal/{version}").fetch_all(Path(temp))
            here = self.triton.repository / "abnormal"
            shutil.rmtree(here, ignore_errors=True)
            shutil.copytree(Path(temp) / "abnormal", here)
        try:
            load_model(self.triton.grpc, "abnormal")
        except PosewatchError as error:  # a test that waits for it says so in words
            self.broken.add(f"{version}: {error}")
        self._loaded = version
