"""The log of a job's pods, read as it grows: each line once, whatever happens to the connection."""

from __future__ import annotations

from typing import Any

from posewatch.kube.cluster import REQUEST_S, Away, one_line, settled
from posewatch.progress import Progress, say

FIRST = "batch.kubernetes.io/job-completion-index"
CONTAINER = "node"
_TAIL = 200


class LogReader:
    """Follows the pods that ``selector`` names; ``away`` says why the cluster could not be asked last time."""

    def __init__(self, cluster: Any, namespace: str, selector: str, progress: Progress) -> None:
        self.cluster, self.namespace, self.selector, self.progress = cluster, namespace, selector, progress
        self.away = ""
        self._pods: list[dict[str, Any]] = []
        self._read: dict[str, tuple[str, set[str]]] = {}
        self._tail: list[str] = []

    def ask(self, api_version: str, kind: str, name: str) -> dict[str, Any] | None:
        """The object and, on the way, its pods; None where it has gone, or (see ``away``) nobody answers."""
        from kubernetes.dynamic.exceptions import NotFoundError

        self.away = ""
        at = {"namespace": self.namespace, "_request_timeout": REQUEST_S}
        try:
            with one_line(f"{kind} {self.namespace}/{name}", self.namespace):
                try:
                    found = settled(self.cluster, api_version, kind, lambda r: r.get(name=name, **at)).to_dict()
                except NotFoundError:
                    return None
                pods = settled(self.cluster, "v1", "Pod", lambda r: r.get(label_selector=self.selector, **at))
                self._pods = sorted(pods.to_dict()["items"], key=lambda p: p["metadata"]["name"])
                return dict(found)
        except Away as error:
            self.away = str(error)
            return None

    def read(self) -> None:
        """Print what the first pod has said since the last time."""
        for pod in self._pods:
            if (pod["metadata"].get("labels") or {}).get(FIRST, "0") != "0":
                continue
            for line in self._new(pod["metadata"]["name"]):
                say(line)
                self._tail = [*self._tail[-_TAIL:], line]

    def last_error(self) -> str:
        """The last line in which posewatch said why it failed; of the other pods, where the first one knows none."""
        for lines in (self._tail, *(self._new(p["metadata"]["name"]) for p in self._pods if self._failed(p))):
            for line in reversed(lines):
                if line.startswith("posewatch: ") and not line.startswith("posewatch: note: "):
                    return line.removeprefix("posewatch: ")
        return ""

    def casualties(self) -> str:
        """Which pods ended badly, and how (OOMKilled, exit code), in brackets; or ""."""
        told = [f"{pod['metadata']['name']} {why}" for pod in self._pods if (why := self._failed(pod))]
        return f" [{', '.join(told)}]" if told else ""

    def pods_text(self) -> str:
        """How many pods are in which phase."""
        phases = [str((pod.get("status") or {}).get("phase") or "Pending") for pod in self._pods]
        return "".join(f", {phases.count(p)} {p}" for p in sorted(set(phases)))

    @staticmethod
    def _failed(pod: dict[str, Any]) -> str:
        for row in (pod.get("status") or {}).get("containerStatuses") or ():
            ended = (row.get("state") or {}).get("terminated") or (row.get("lastState") or {}).get("terminated")
            if ended and ended.get("exitCode"):
                return f"{ended.get('reason') or 'Error'}, exit code {ended['exitCode']}"
        return ""

    def _new(self, pod: str) -> list[str]:
        """Lines that were not read before. ``sinceTime`` is to the second, so lines of that second come again."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        since, seen = self._read.get(pod, ("", set()))
        query = [("container", CONTAINER), ("timestamps", "true")]
        query += [("sinceTime", since[:19] + "Z")] if since else []
        try:
            answer = self.cluster.client.call_api(
                f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log",
                "GET",
                query_params=query,
                header_params={"Accept": "text/plain, */*"},
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=REQUEST_S,
            )
            raw = answer[0].data if isinstance(answer, tuple) else answer.data
        except (ApiException, HTTPError):
            return []  # it does not run yet, or has gone: its log is no reason to end a training
        lines = []
        for line in raw.decode("utf-8", "replace").splitlines():
            stamp, _, said = line.partition(" ")
            if stamp < since or (stamp == since and said in seen):
                continue
            if stamp != since:
                since, seen = stamp, set()
            seen.add(said)
            lines.append(said)
        self._read[pod] = (since, seen)
        return lines
