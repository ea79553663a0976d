"""helm, kubectl and `posewatch deploy` in one namespace, in any order: one owner per object, and nobody is refused.

helm really installs and upgrades, on the stand-in API server. It keeps its releases in PostgreSQL, because the stand-in
does not read the form in which they become Secrets.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from labels.conftest import PostgresServer

from posewatch.config import ServingConfig
from posewatch.deploy.images import TRITON_IMAGE
from posewatch.deploy.runtime import API, KIND, RUNTIME, ensure_runtime, part_of, serving_runtime
from posewatch.errors import ServingError
from posewatch.progress import Progress

from .applying import apply
from .chart import CHART, NAMESPACE, ROOT, Body, helm, render, teach, tool
from .conftest import RUNTIMES, Api, _serve

MINIMAL = ("labeling.enabled=false", "networkPolicy.enabled=false")
CONFIG = ServingConfig(namespace=NAMESPACE)
MIRROR = "mirror.example/nvidia/tritonserver:26.10-py3"
NAMES = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with _serve(tmp_path_factory.mktemp("owners")) as api:
        for body in render(sets=MINIMAL):
            teach(api, body)
        yield api


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    found = PostgresServer()
    try:
        found.start()
        yield found
        found.kill()
    finally:
        found.remove()


class Namespace:
    """What operators and pipelines do to one namespace."""

    def __init__(self, api: Api, database: str) -> None:
        self._api = api
        self._env = {**os.environ, "KUBECONFIG": str(api.kubeconfig), "HELM_DRIVER": "sql"}
        self._env["HELM_DRIVER_SQL_CONNECTION_STRING"] = f"{database}?sslmode=disable"

    def chart(self, *sets: str) -> None:
        told = [word for one in (*MINIMAL, *sets) for word in ("--set", one)]
        told += ["--namespace", NAMESPACE, "--disable-openapi-validation"]
        helm("upgrade", "--install", "posewatch", str(CHART), *told, env=self._env)

    def base(self) -> None:
        command = [
            tool("kubectl"),
            "apply",
            "--server-side",
            "--validate=false",
            "-k",
            str(ROOT / "manifests" / "base"),
        ]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    def deploy(self, instances: int = 2, **options: Any) -> Body:
        """The runtime that a version would get."""
        return self(ensure_runtime(dataclasses.replace(CONFIG, instances=instances), **options))

    def __call__(self, name: str) -> Body:
        return dict(self._api("GET", f"{RUNTIMES}/{name}"))

    def runtimes(self) -> dict[str, Body]:
        return {body["metadata"]["name"]: body for body in self._api("GET", RUNTIMES)["items"]}

    def clear(self) -> None:
        for body in [*render(sets=MINIMAL), *self.runtimes().values()]:
            group, _, version = body["apiVersion"].rpartition("/")
            where = f"/{'apis/' + group if group else 'api'}/{version}/namespaces/{NAMESPACE}"
            with suppress(urllib.error.HTTPError):  # it is not there
                self._api("DELETE", f"{where}/{body['kind'].lower()}s/{body['metadata']['name']}")


@pytest.fixture
def here(server: Api, database: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Namespace]:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    namespace = Namespace(server, database.database(f"releases{next(NAMES)}"))
    yield namespace
    namespace.clear()


def image(body: Body) -> str:
    return str(body["spec"]["containers"][0]["image"])


def cpus(body: Body) -> set[str]:
    return {told["cpu"] for told in body["spec"]["containers"][0]["resources"].values()}


def upgrade(here: Namespace) -> None:
    here.chart(f"serving.runtime.image={MIRROR}")


ACTS: dict[str, Callable[[Namespace], Any]] = {
    "base": Namespace.base,
    "chart": Namespace.chart,
    "deploy": lambda here: here.deploy(instances=4),
    "upgrade": upgrade,
}


@pytest.mark.parametrize(
    "order", ["base chart deploy upgrade deploy base", "deploy chart base upgrade base deploy"], ids=["base", "deploy"]
)
def test_in_any_order_nobody_is_refused(here: Namespace, order: str) -> None:
    for act in order.split():
        ACTS[act](here)
    theirs = here(RUNTIME)
    assert {row["manager"] for row in theirs["metadata"]["managedFields"]} == {"helm"}
    assert image(theirs) == MIRROR
    deployed = here.deploy(instances=4)
    assert (image(deployed), cpus(deployed)) == (MIRROR, {"4"})
    assert {row["manager"] for row in deployed["metadata"]["managedFields"]} == {"posewatch"}


def test_what_serves_keeps_its_runtime_when_the_chart_is_upgraded(here: Namespace) -> None:
    """KServe restarts what refers to a runtime that changes: so none that a version refers to ever does."""
    here.chart()
    old = here.deploy()
    upgrade(here)
    new = here.deploy()
    assert here(old["metadata"]["name"]) == old
    assert (image(old), image(new)) == (TRITON_IMAGE, MIRROR)
    assert new["metadata"]["name"] != old["metadata"]["name"]
    assert here.deploy() == new, "the same content has the same name"
    assert len(here.runtimes()) == 3


@pytest.mark.parametrize("chart", [False, True])
def test_a_model_may_take_as_long_to_load_as_it_is_waited_for(here: Namespace, chart: bool) -> None:
    """TensorRT builds an engine for minutes; a startup probe that gives up first has it begin anew, for ever."""
    if chart:
        here.chart()
    for timeout_s in (20, 900, 3000):
        body = here(ensure_runtime(dataclasses.replace(CONFIG, ready_timeout_s=timeout_s)))
        probe = body["spec"]["containers"][0]["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= timeout_s
        assert probe["httpGet"]["path"] == "/v2/health/ready"


def test_without_a_chart_it_is_our_own(here: Namespace, crd_errors: Callable[[Body], list[str]]) -> None:
    body = here.deploy()
    assert body["spec"] == serving_runtime(CONFIG)["spec"]
    assert crd_errors(body) == []
    assert (image(body), cpus(body)) == (TRITON_IMAGE, {"2"})
    assert image(here.deploy(image=MIRROR)) == MIRROR
    assert set(here.runtimes()) == {body["metadata"]["name"], here.deploy(image=MIRROR)["metadata"]["name"]}


def test_what_earlier_versions_of_deploy_left_is_no_pattern(here: Namespace) -> None:
    """They wrote to posewatch-triton themselves: its Triton has holes, and nobody else takes care of it."""
    apply([serving_runtime(CONFIG, image="nvcr.io/nvidia/tritonserver:24.10-py3")], namespace=NAMESPACE)
    assert image(here.deploy()) == TRITON_IMAGE


def test_the_operators_runtime_is_named_and_its_holes_too(here: Namespace, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = serving_runtime(CONFIG, image="mirror.example/tritonserver:24.10-py3")
    theirs["spec"]["tolerations"] = [{"key": "gpu", "operator": "Exists"}]
    apply([theirs], namespace=NAMESPACE, field_manager="kubectl")
    with Progress("deploy", 1) as progress:
        body = here.deploy(progress=progress)
    said = capsys.readouterr().err
    assert "(owner: kubectl): mirror.example/tritonserver:24.10-py3" in said
    assert "has known holes: take 26.07 or newer" in said
    assert body["spec"]["tolerations"] == theirs["spec"]["tolerations"], "what they set goes along"
    empty = {"apiVersion": API, "kind": KIND, "metadata": {"name": RUNTIME, "labels": part_of(RUNTIME)}}
    spec = {**theirs["spec"], "containers": [{**theirs["spec"]["containers"][0], "name": "triton"}]}
    apply([{**empty, "spec": spec}], namespace=NAMESPACE, field_manager="kubectl")
    with pytest.raises(ServingError, match="has no container kserve-container"):
        here.deploy()
