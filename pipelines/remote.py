"""Talk to a Kubeflow Pipelines server: submit, list, follow, upload and schedule. Errors are one line with a remedy."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

from pipelines.resources import STEPS
from pipelines.servers import release_of
from posewatch.errors import InputError, NotAllowed, NotFound, PosewatchError

HOST = "KF_PIPELINES_ENDPOINT"
TOKEN = "POSEWATCH_KFP_TOKEN"
IN_CLUSTER = "http://ml-pipeline.{namespace}.svc.cluster.local:8888"
MOUNTED = Path("/var/run/secrets/kubeflow/pipelines/token")
FORWARD = "kubectl -n kubeflow port-forward svc/ml-pipeline 8888:8888, then --host http://127.0.0.1:8888"
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


_NAMES = "|".join(name.replace("_", "-") for name in STEPS)
_STEP = re.compile(rf"({_NAMES})(-\d+)?")
_DRIVER = re.compile(rf"({_NAMES})(-\d+)?-driver")


@dataclass(frozen=True)
class Task:
    """A step of a run: its state, the names that may lead to its log, its error and when it began."""

    name: str
    state: str
    pods: tuple[str, ...]
    error: str
    started: str


class ServerFailure(PosewatchError):
    """The server answered, with an HTTP status from 500 on."""


class Remote:
    """A server that has answered. ``host`` empty: KF_PIPELINES_ENDPOINT, else, in a pod, the cluster's own service.

    The token (POSEWATCH_KFP_TOKEN or ``token_file``; in a pod the mounted one) never stands on a command line.
    Raises InputError without a host, NotAllowed for a refused token, PosewatchError for a server without an answer.
    """

    def __init__(self, host: str = "", token_file: Path | None = None, namespace: str = "", ca: str = "") -> None:
        host = host or os.environ.get(HOST, "")
        inside = not host and "KUBERNETES_SERVICE_HOST" in os.environ
        if inside:
            host = IN_CLUSTER.format(namespace=os.environ.get("POSEWATCH_KFP_NAMESPACE", "kubeflow"))
        if not host:
            raise InputError(f"no Kubeflow Pipelines server: give --host or set {HOST} ({FORWARD})")
        if not host.startswith(("http://", "https://")):
            raise InputError(f"--host must be an http:// or https:// URL, not {host!r}")
        self.host, self.namespace = host.rstrip("/"), namespace or None
        token = _token(token_file, inside)
        self._token = token
        self._ca = ca or None
        self._told = self.read("/apis/v2beta1/healthz")
        import kfp

        with _quiet(), self.errors():
            self.client = kfp.Client(
                host=self.host, existing_token=token or None, namespace=namespace or "kubeflow", ssl_ca_cert=self._ca
            )

    @property
    def release(self) -> tuple[int, int] | None:
        """The server's release; None where it does not say one."""
        try:
            return release_of(str(json.loads(self._told).get("tag_name") or ""))
        except (ValueError, AttributeError):
            return None

    def read(self, path: str) -> bytes:
        """GET a path of the server, with the token."""
        import ssl

        request = urllib.request.Request(self.host + path)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        context = None
        if self.host.startswith("https"):
            try:
                context = ssl.create_default_context(cafile=self._ca)
            except OSError as error:
                raise InputError(f"--ca {self._ca} cannot be read: {error}") from None
        try:
            with urllib.request.urlopen(request, timeout=15, context=context) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            error.close()
            raise self._refusal(error.code, path) from None
        except OSError as error:
            raise self._unreachable(getattr(error, "reason", error)) from None

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Any error of the client as one line of ours."""
        import kfp_server_api
        import urllib3

        try:
            yield
        except kfp_server_api.ApiException as error:
            try:
                body = json.loads(error.body or "{}")
                text = body.get("error_message") or body.get("message") or body.get("error") or ""
            except (ValueError, AttributeError):
                text = ""
            raise self._refusal(error.status or 0, " ".join(str(text).split())[:300]) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(error) from None
        except (ValueError, RuntimeError) as error:
            raise PosewatchError(f"{self.host}: {' '.join(str(error).split())[:300]}") from None

    def _refusal(self, status: int, about: str) -> PosewatchError:
        about = f": {about}" if about else ""
        if status in (401, 403):
            return NotAllowed(
                f"{self.host} refuses (HTTP {status}){about}; set {TOKEN} or --token-file, and --namespace"
            )
        if status == 404:
            return NotFound(f"{self.host} knows no such thing{about} (is it a Kubeflow Pipelines 2 server?)")
        kind = ServerFailure if status >= 500 else PosewatchError
        return kind(f"{self.host} answers HTTP {status}{about}")

    def _unreachable(self, error: object) -> PosewatchError:
        text = " ".join(str(error).split())[:200]
        return PosewatchError(f"no answer from {self.host}: {text} (is it the right --host? from outside: {FORWARD})")

    def submit(self, package: Path, arguments: dict[str, Any], experiment: str, name: str, account: str = "") -> str:
        """Start a run of a compiled pipeline; returns its id."""
        with _quiet(), self.errors():
            group = self.client.create_experiment(experiment, namespace=self.namespace)
            run = self.client.run_pipeline(
                group.experiment_id, name, str(package), params=arguments, service_account=account or None
            )
        return str(run.run_id)

    def runs(self, limit: int = 20) -> list[dict[str, str]]:
        """The newest runs: id, name, state and creation time."""
        with _quiet(), self.errors():
            found = self.client.list_runs(page_size=limit, sort_by="created_at desc", namespace=self.namespace)
        return [_row(run) for run in found.runs or []]

    def run(self, run_id: str) -> tuple[dict[str, str], list[Task]]:
        """A run and its steps in order. Raises NotFound.

        The server tells every node of Argo's graph; groups, tries and the drivers that did their work are left out.
        """
        with _quiet(), self.errors():
            found = self.client.get_run(run_id)
        details = (found.run_details.task_details if found.run_details else None) or []
        nodes = {child.pod_name for task in details for child in task.child_tasks or [] if child.pod_name}
        tasks = [
            Task(
                name=task.display_name or "",
                state=task.state or "",
                pods=_pods(task, nodes),
                error=" ".join((task.error.message or "").split()) if task.error else "",
                started=str(task.start_time or ""),
            )
            for task in details
        ]
        shown = [t for t in tasks if _STEP.fullmatch(t.name) or (t.state == "FAILED" and _DRIVER.fullmatch(t.name))]
        return _row(found), sorted(shown or tasks, key=lambda t: (t.started, t.name))

    def wait(self, run_id: str, every_s: float = 10.0) -> dict[str, str]:
        """Poll until the run has ended. Raises the error of the sixth failed request in a row."""
        missed = 0
        while True:
            try:
                row, _ = self.run(run_id)
                missed = 0
                if row["state"] in ENDED:
                    return row
            except (NotFound, NotAllowed):
                raise
            except PosewatchError:
                missed += 1
                if missed > 5:
                    raise
            sleep(every_s)

    def log(self, run_id: str, pods: tuple[str, ...]) -> str | None:
        """The log of a step's pod, by the first of its names that leads to one; None where it is deleted."""
        for pod in pods:
            try:
                text = self.read(f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log").decode(errors="replace")
            except (NotFound, ServerFailure):
                continue
            if not _is_error(text):
                return text
        return None

    def upload(self, package: Path, name: str, version: str) -> tuple[str, str]:
        """Upload ``version`` of the pipeline ``name``; returns both ids. An existing version is not replaced."""
        with _quiet(), self.errors():
            # the client's own get_pipeline_id looks in no namespace, where a multi-user server has other pipelines
            same = self.client.list_pipelines(filter=_called(name), namespace=self.namespace).pipelines or []
            if same:
                found = same[0].pipeline_id
            else:
                pipeline = self.client._upload_api.upload_pipeline(str(package), name=name, namespace=self.namespace)
                found = pipeline.pipeline_id
            known = self.client.list_pipeline_versions(found, filter=_called(version)).pipeline_versions or []
            if known:
                return str(found), str(known[0].pipeline_version_id)
            new = self.client.upload_pipeline_version(str(package), version, pipeline_id=found)
        return str(found), str(new.pipeline_version_id)

    def schedule(self, package: Path, arguments: dict[str, Any], experiment: str, name: str, cron: str) -> str:
        """Run a compiled pipeline again and again, one run at a time; a missed turn is left out. Returns the id."""
        with _quiet(), self.errors():
            group = self.client.create_experiment(experiment, namespace=self.namespace)
            job = self.client.create_recurring_run(
                group.experiment_id,
                name,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                params=arguments,
                pipeline_package_path=str(package),
            )
        return str(job.recurring_run_id)


def _called(name: str) -> str:
    """The API's filter for things of a name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _is_error(text: str) -> bool:
    """Whether this is an error of the server, which sends its status, 200, before it looks for the log."""
    try:
        told = json.loads(text)
    except ValueError:
        return False
    return isinstance(told, dict) and set(told) == {"error_message", "error_details"}


def _pods(task: Any, nodes: set[str]) -> tuple[str, ...]:
    """The names by which the log of a step may be found, the pod's first, then that of its node in Argo's graph.

    The server names no pod (kubeflow/pipelines#14007); what it calls the pods of a task's children are ids of nodes,
    ``workflow-HASH``. That of a step's container is its only child, or where it is retried the parent of its tries,
    whose names end in ``(0)``, ``(1)`` and so on. A driver's children are what runs after it. The manifests of 2.17 let
    Argo retry every template, also the graph around a container: then a step's children are the tries of that.
    """
    if task.pod_name:
        return (task.pod_name,)
    child = next((c.pod_name for c in reversed(task.child_tasks or []) if c.pod_name), "")
    workflow, _, number = child.rpartition("-")
    if not child or _DRIVER.fullmatch(task.display_name or ""):
        return ()
    if not workflow or not number.isdecimal():
        return (child,)
    inner = str(_hash(int(number), ".executor"))
    if f"{workflow}-{inner}" in nodes:
        number = inner
    template, tries = "system-container-impl", 0
    while f"{workflow}-{_hash(int(number), f'({tries})')}" in nodes:
        tries += 1
    if tries:
        template, number = f"retry-{template}", str(_hash(int(number), f"({tries - 1})"))
    return (f"{workflow}-{template}-{number}", f"{workflow}-{number}")


def _hash(start: int, text: str) -> int:
    """Argo's hash of a node's name (FNV-1a, 32 bits) that goes on from the one of its beginning."""
    for byte in text.encode():
        start = (start ^ byte) * 0x01000193 & 0xFFFFFFFF
    return start


def _row(run: Any) -> dict[str, str]:
    error = " ".join((run.error.message or "").split()) if run.error else ""
    return {
        "run": run.run_id,
        "name": run.display_name or "",
        "state": run.state or "",
        "created": str(run.created_at or ""),
        "error": error,
    }


def _token(file: Path | None, inside: bool) -> str:
    if file is None and os.environ.get(TOKEN):
        return os.environ[TOKEN].strip()
    if file is None and inside and MOUNTED.is_file():
        file = MOUNTED
    if file is None:
        return ""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"the token in {file} cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence kfp's client, which prints links and warnings and logs traces: our errors are one line."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
