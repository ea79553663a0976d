"""The rollout where something comes between: a kill at any step, a slow controller, other owners, no way to it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from published import Bucket

pytest.importorskip("tritonclient.grpc")

from posewatch.deploy import history, traffic
from posewatch.deploy.state import API, KIND
from posewatch.errors import InputError, ServingError
from posewatch.kube.cluster import Cluster
from posewatch.redact import redact

from .clients import Client
from .kserve import ISVC, SERVICES, Controller
from .rollouts import CONFIG, IN_CLUSTER, acts, live, name, put, services, way


class Killed(BaseException):
    """As if by SIGKILL: nothing after it runs that an ``except`` could hold."""


class Fragile:
    """Counts each change of the cluster and of the history; ``at`` that one it dies."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.count, self.at = 0, at
        for owner, verb in ((Cluster, "apply"), (Cluster, "delete"), (history, "record")):
            monkeypatch.setattr(owner, verb, self._wrap(getattr(owner, verb)))

    def _wrap(self, act: Any) -> Any:
        def run(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                raise Killed
            return act(*args, **options)

        return run


def test_killed_between_any_two_steps_and_run_again(
    api: Any, kserve: Controller, versions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change of the cluster or the history is a place to die; the second run ends as if there had been one."""
    one, two, _ = versions
    put(kserve, one)
    at, died = 0, True
    with Client(kserve.network) as client:
        while died:
            at += 1
            target = two if at % 2 else one
            died = False
            with monkeypatch.context() as patch:
                Fragile(patch, at)
                try:
                    put(kserve, target, smoke=False)
                except Killed:
                    died = True
            put(kserve, target, smoke=False)
            assert live(api) == (name(target), "", 0)
            assert len(services(api)) == 1
            assert acts(kserve)[-1] == ("live", name(target))
            assert [a for a in acts(kserve) if a[0] in ("rejected", "rolled-back")] == []
            assert client.fresh_http() == name(target)
    assert at > 10, "it died too seldom"
    assert client.failures == []
    assert kserve.restarts == []


def test_a_killed_promotion_is_undone_by_rollback_and_a_killed_rollback_is_finished(
    api: Any, kserve: Controller, versions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = versions
    put(kserve, one)
    put(kserve, two)

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    for act in (lambda: put(kserve, three), lambda: way(kserve).rollback()):
        with monkeypatch.context() as patch:
            # the cluster has changed, the history does not know yet
            real = history.record
            patch.setattr(
                history, "record", lambda *a, real=real: real(*a) if a[3].act not in history.SERVING else die()
            )
            with pytest.raises(Killed):
                act()
        if live(api)[0] == name(three):
            assert way(kserve).rollback().version == name(two), "three was never live"
            continue
        assert live(api)[0] == name(one)
        assert way(kserve).rollback().version == name(one), "the same rollback, not a second one"
    assert acts(kserve)[-1] == ("rolled-back", name(one))


def test_a_slow_controller_that_changes_its_order(
    api: Any, store: Bucket, versions: Any, fast_proofs: Any, tmp_path: Path
) -> None:
    one, two, three = versions
    controller = Controller(api, store, shuffle=random.Random(7))
    controller.load_s, controller.network.lag_s = 0.5, 0.3
    fast_proofs(controller)
    controller.start()
    try:
        put(controller, one)
        with Client(controller.network) as client:
            put(controller, two, percent=20)
            way(controller).promote()
            put(controller, three)
            way(controller).rollback()
        assert client.failures == []
        assert client.order() == [name(v) for v in (one, two, three, two)]
        assert controller.restarts == []
    finally:
        controller.close()


def test_a_field_of_another_manager_is_a_conflict(api: Any, kserve: Controller, versions: Any) -> None:
    one, two, _ = versions
    put(kserve, one)
    theirs = traffic.service(CONFIG, "abnormal", "elsewhere")
    with Cluster() as cluster:
        cluster.apply(theirs, "posewatch", "argocd", force=True)
    with pytest.raises(ServingError, match=r'another manager holds: .*"argocd".*selector.*--force'):
        put(kserve, one)
    put(kserve, two, force=True)
    assert live(api) == (name(two), "", 0)


def test_names_that_are_taken(api: Any, kserve: Controller, versions: Any) -> None:
    meta = {"name": "abnormal", "namespace": "posewatch"}
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}}
    api("POST", SERVICES, theirs)
    with pytest.raises(ServingError, match=r"Service posewatch/abnormal was not created by posewatch: choose another"):
        put(kserve, versions[0])
    assert api("GET", f"{SERVICES}/abnormal")["spec"] == {"ports": [{"port": 80}]}


def test_a_service_of_the_version_before_is_taken_over(api: Any, kserve: Controller, versions: Any) -> None:
    """One InferenceService for all releases, as posewatch had until 0.2: it serves on until the new version answers."""
    one, two, _ = versions
    model = {"modelFormat": {"name": "triton"}, "storageUri": f"{one.model.uri}/", "runtime": "posewatch-triton"}
    labels = {"app.kubernetes.io/name": "abnormal", "app.kubernetes.io/version": name(one)}
    notes = {"posewatch/lineage-digest": one.model.digest}
    meta = {"name": "abnormal", "namespace": "posewatch", "labels": labels, "annotations": notes}
    body = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": meta}
    api("POST", ISVC, body | {"spec": {"predictor": {"model": model}}})
    put(kserve, two)
    assert live(api) == (name(two), "", 0)
    assert "abnormal" in services(api), "clients of its own address keep it"
    assert kserve.restarts == []


def test_from_outside_the_cluster(api: Any, kserve: Controller, versions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names have no address there: --smoke-url names a forwarded port, and nothing else is asked."""
    one = versions[0]
    monkeypatch.setattr("posewatch.deploy.proof.addresses", lambda service, namespace: ("http://nowhere.invalid:80",))
    with pytest.raises(ServingError, match=r"cannot ask http://nowhere\.invalid:80: run this inside") as told:
        put(kserve, one)
    assert "--smoke-url http://127.0.0.1:8080" in redact(str(told.value))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    forwarded = f"http://127.0.0.1:{kserve.network.listen('abnormal', 80)}"
    assert put(kserve, one, smoke_url=f"{forwarded}/") == IN_CLUSTER
    assert history.read(kserve.store, "posewatch", "abnormal")[-1].smoke["endpoint"] == f"{forwarded}/abnormal"


@pytest.mark.parametrize("url", ["https://127.0.0.1:8080", "127.0.0.1:8080", "http://127.0.0.1", "http://h:1/v2"])
def test_an_address_to_test_at_is_checked_before_anything_starts(
    api: Any, kserve: Controller, versions: Any, url: str
) -> None:
    with pytest.raises(InputError, match="bad --smoke-url") as told:
        put(kserve, versions[0], smoke_url=url)
    assert "write http://127.0.0.1:8080, without a path" in redact(str(told.value))
    assert acts(kserve) == []


def test_a_service_of_somebody_else_is_left_alone(api: Any, kserve: Controller, versions: Any) -> None:
    kserve.asleep = True
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://theirs/model/"}
    meta = {"name": "abnormal", "namespace": "posewatch"}
    theirs = {"apiVersion": API, "kind": KIND, "metadata": meta}
    api("POST", ISVC, theirs | {"spec": {"predictor": {"model": model}}})
    with pytest.raises(ServingError, match=r"was not created by posewatch: choose another serving\.name"):
        put(kserve, versions[0])
