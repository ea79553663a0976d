"""The log of a job's pods, read as it grows: each line once, whatever happens to the connection."""

from __future__ import annotations

from typing import Any

from posewatch.kube.cluster import REQUEST_S, Cluster
from posewatch.progress import say

INDEX = "batch.kubernetes.io/job-completion-index"
CONTAINER = "node"
TAIL = 200
"""Lines of the first pod saved for ``last_error``."""


class LogReader:
    """Follows the pods that ``selector`` names."""

    def __init__(self, cluster: Cluster, namespace: str, selector: str) -> None:
        self._cluster, self._namespace, self._selector = cluster, namespace, selector
        self._pods: list[dict[str, Any]] = []
        self._read: dict[str, tuple[str, set[str]]] = {}
        self._tail: list[str] = []

    def update(self) -> None:
        """Look which pods there are, and print the new lines of the first one. Raises ClusterUnavailable."""
        self._pods = self._cluster.list("v1", "Pod", self._namespace, self._selector)
        for pod in self._pods:
            if (pod["metadata"].get("labels") or {}).get(INDEX, "0") != "0":
                continue
            for line in self._new_lines(pod["metadata"]["name"]):
                say(line)
                self._tail = [*self._tail[-TAIL:], line]

    def last_error(self) -> str:
        """The last error that posewatch logged: in the first pod, else in one that failed; "" if there is none."""
        failed = (self._new_lines(pod["metadata"]["name"]) for pod in self._pods if _failure(pod))
        for lines in (self._tail, *failed):
            for line in reversed(lines):
                if line.startswith("posewatch: ") and not line.startswith("posewatch: note: "):
                    return line.removeprefix("posewatch: ")
        return ""

    def failures(self) -> str:
        """Which pods failed, and how (OOMKilled, exit code), in brackets; "" if none did."""
        reasons = [f"{pod['metadata']['name']} {reason}" for pod in self._pods if (reason := _failure(pod))]
        return f" [{', '.join(reasons)}]" if reasons else ""

    def phases(self) -> str:
        """How many pods are in which phase."""
        phases = [str((pod.get("status") or {}).get("phase") or "Pending") for pod in self._pods]
        return "".join(f", {phases.count(p)} {p}" for p in sorted(set(phases)))

    def _new_lines(self, pod: str) -> list[str]:
        """Lines that were not read before. ``sinceTime`` is to the second, so lines of that second come again."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        since, seen = self._read.get(pod, ("", set()))
        query = [("container", CONTAINER), ("timestamps", "true")]
        query += [("sinceTime", since[:19] + "Z")] if since else []
        try:
            answer = self._cluster.client.client.call_api(
                f"/api/v1/namespaces/{self._namespace}/pods/{pod}/log",
                "GET",
                query_params=query,
                header_params={"Accept": "text/plain, */*"},
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=REQUEST_S,
            )
            raw = answer[0].data if isinstance(answer, tuple) else answer.data
        except (ApiException, HTTPError):
            return []  # the pod does not run yet or is deleted: a missing log is no reason to end a training
        lines = []
        for line in raw.decode("utf-8", "replace").splitlines():
            stamp, _, text = line.partition(" ")
            if stamp < since or (stamp == since and text in seen):
                continue
            if stamp != since:
                since, seen = stamp, set()
            seen.add(text)
            lines.append(text)
        self._read[pod] = (since, seen)
        return lines


def _failure(pod: dict[str, Any]) -> str:
    """How a pod's container failed; "" if it did not."""
    for row in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = (row.get("state") or {}).get("terminated") or (row.get("lastState") or {}).get("terminated")
        if ended and ended.get("exitCode"):
            return f"{ended.get('reason') or 'Error'}, exit code {ended['exitCode']}"
    return ""
