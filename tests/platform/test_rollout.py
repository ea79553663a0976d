"""Versions come, are tested where they run, and go: the rollout against a stand-in API server and the real Triton."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from published import Bucket, Version, version

pytest.importorskip("tritonclient.grpc")

from posewatch.config import RobustnessConfig, ServingConfig
from posewatch.deploy import history, rollout, service
from posewatch.deploy.service import State
from posewatch.deploy.target import Release
from posewatch.errors import ConfigError, InputError, ServingError
from posewatch.stack import TritonServer
from posewatch.stages import deploy as stage

from .kserve import ISVC, Controller

CONFIG = ServingConfig(target="kserve", namespace="posewatch", min_f1=0.8, model_warmup="none", max_batch=32)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    return Bucket(tmp_path_factory.mktemp("bucket"))


@pytest.fixture(scope="session")
def versions(store: Bucket) -> tuple[Version, ...]:
    """Three good versions of one model."""
    return tuple(version(store, seed, CONFIG) for seed in (1, 2, 3))


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    home = tmp_path_factory.mktemp("triton")
    with TritonServer.start(home / "models", log=home / "triton.log") as server:
        yield server


@pytest.fixture
def kserve(api: Any, triton: TritonServer, store: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Controller]:
    monkeypatch.setattr("posewatch.deploy.readiness.POLL_S", 0.1)
    for info in store.list("deployments/"):
        store.delete(info.key)
    controller = Controller(api, triton, store)
    controller.start()
    yield controller
    controller.over.set()
    controller.join(30)


def put(kserve: Controller, made: Version, config: ServingConfig = CONFIG, **options: Any) -> str:
    return stage.deploy(made.model, made.evaluation, config, smoke_url=kserve.url, smoke=kserve.serves, **options)


def way(kserve: Controller, config: ServingConfig = CONFIG) -> rollout.Rollout:
    return stage.rollout(kserve.store, config, smoke_url=kserve.url, smoke=kserve.serves)


def name(made: Version) -> str:
    return made.model.prefix.rsplit("/", 1)[1]


def acts(kserve: Controller) -> list[tuple[str, str]]:
    return [(e.act, e.version) for e in history.read(kserve.store, "posewatch", "abnormal")]


def live(api: Any) -> tuple[str, str, int]:
    """Stable version, canary's version, its traffic: as the cluster stores them."""
    state = service.state_of(api("GET", f"{ISVC}/abnormal"))
    assert state.stable
    return state.stable.version, state.canary.version if state.canary else "", state.traffic


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_create_then_the_same_again_changes_nothing(api: Any, kserve: Controller, versions: Any) -> None:
    one = versions[0]
    assert put(kserve, one) == f"{kserve.url}/abnormal"
    before = api("GET", f"{ISVC}/abnormal")["metadata"]
    assert put(kserve, one) == f"{kserve.url}/abnormal"
    after = api("GET", f"{ISVC}/abnormal")["metadata"]
    # The status of the stand-in is written once for a generation: the version says whether anybody wrote.
    assert (after["generation"], after["resourceVersion"]) == (before["generation"], before["resourceVersion"])
    assert acts(kserve) == [("admitted", name(one)), ("live", name(one))]
    told = history.read(kserve.store, "posewatch", "abnormal")[-1]
    assert told.smoke["clips"] == 12
    assert told.smoke["max_abs_difference"] < 1e-4
    assert {g["name"]: (g["value"], g["limit"]) for g in told.gates} == {"f1": (0.9, 0.8), "parity": (2e-6, 1e-4)}
    assert told.digest == one.model.digest
    assert told.by
    assert told.when.endswith("Z")


def test_a_new_version_is_tested_without_traffic_then_takes_over(api: Any, kserve: Controller, versions: Any) -> None:
    one, two, _ = versions
    put(kserve, one)
    put(kserve, two)
    a, b = name(one), name(two)
    assert kserve.seen == [(a, "", 0), (a, b, 0), (b, b, 0), (b, "", 0)]
    assert live(api) == (b, "", 0)
    assert acts(kserve)[-2:] == [("admitted", b), ("live", b)]
    notes = api("GET", f"{ISVC}/abnormal")["metadata"]["annotations"]
    assert notes["posewatch/lineage-digest"] == two.model.digest
    assert not any("canary" in key for key in notes), "nothing of the canary stays behind"


def test_canary_then_more_of_it_then_promote(api: Any, kserve: Controller, versions: Any, crd_errors: Any) -> None:
    one, two, three = versions
    put(kserve, one)
    put(kserve, two, percent=10)
    found = api("GET", f"{ISVC}/abnormal")
    assert live(api) == (name(one), name(two), 10)
    (canary,) = found["spec"]["canary"]
    assert canary["predictor"]["minReplicas"] == 1, "at 0 % KServe would otherwise start no pod"
    assert canary["predictor"]["name"] == service.canary_name(name(two))
    assert crd_errors({k: v for k, v in found.items() if k != "status"}) == []
    assert kserve.seen[1] == (name(one), name(two), 0), "tested before it got traffic"

    generation = found["metadata"]["generation"]
    put(kserve, two, percent=10)
    assert api("GET", f"{ISVC}/abnormal")["metadata"]["generation"] == generation
    with pytest.raises(InputError, match=r"is a canary with 10 % of the traffic: promote or roll it back first"):
        put(kserve, three)
    put(kserve, two, percent=50)
    assert live(api) == (name(one), name(two), 50)
    assert not any(traffic == 0 for _, canary, traffic in kserve.seen[3:] if canary), "users keep what they have"

    assert way(kserve).promote().version == name(two)
    assert live(api) == (name(two), "", 0)
    told = [e for e in history.read(kserve.store, "posewatch", "abnormal") if e.act in ("canary", "live")]
    assert [(e.act, e.version, e.traffic) for e in told] == [
        ("live", name(one), 100), ("canary", name(two), 10), ("canary", name(two), 50), ("live", name(two), 100),
    ]  # fmt: skip
    with pytest.raises(InputError, match="has no canary"):
        way(kserve).promote()


def test_a_canary_that_cannot_load_is_taken_back(api: Any, kserve: Controller, versions: Any) -> None:
    kserve.serves = False
    one, two, _ = versions
    put(kserve, one)
    kserve.broken.add(name(two))
    with pytest.raises(ServingError) as error:
        put(kserve, two)
    text = one_line(error)
    assert f"version {name(two)} was taken back, version {name(one)} serves on" in text
    assert "unexpected shape for input" in text
    assert live(api) == (name(one), "", 0)
    assert acts(kserve)[-1] == ("rejected", name(two))


def test_a_version_that_answers_wrongly_never_gets_traffic(api: Any, kserve: Controller, versions: Any) -> None:
    one, two, three = versions
    put(kserve, one)
    kserve.instead[name(two)] = name(three)
    with pytest.raises(ServingError, match=r"was taken back.*not answer like the exported model.*differs by 0\.\d"):
        put(kserve, two, percent=20)
    assert live(api) == (name(one), "", 0)
    assert all(traffic == 0 for _, _, traffic in kserve.seen)
    assert acts(kserve)[-1] == ("rejected", name(two))
    kserve.instead.clear()
    kserve._loaded = ""
    put(kserve, two)
    assert live(api) == (name(two), "", 0)


def test_the_first_version_has_nothing_to_fall_back_on(api: Any, kserve: Controller, versions: Any) -> None:
    kserve.serves = False
    one, two, _ = versions
    kserve.broken.add(name(one))
    with pytest.raises(ServingError, match=r"does not serve, and none did before it.*BlockedByFailedLoad"):
        put(kserve, one, percent=10)
    assert acts(kserve) == [("admitted", name(one)), ("rejected", name(one))]
    put(kserve, two)
    assert live(api) == (name(two), "", 0), "a broken first version does not stand in the way"


def test_not_ready_in_time_leaves_the_old_version(api: Any, kserve: Controller, versions: Any) -> None:
    kserve.serves = False
    one, two, _ = versions
    put(kserve, one)
    kserve.asleep = True
    with pytest.raises(ServingError, match=r"serves on: .*not ready after 1 s: KServe's controller has not looked"):
        put(kserve, two, dataclasses.replace(CONFIG, ready_timeout_s=1))
    assert live(api) == (name(one), "", 0)


def test_rollback_goes_back_one_version_and_never_to_a_bad_one(api: Any, kserve: Controller, versions: Any) -> None:
    kserve.serves = False
    one, two, three = (name(v) for v in versions)
    for made in versions:
        put(kserve, made)
    assert way(kserve).rollback(reason="false alarms").version == two
    assert live(api) == (two, "", 0)
    assert way(kserve).rollback().version == one
    with pytest.raises(InputError, match=rf"no earlier version to go back to \(have served: .*{three}"):
        way(kserve).rollback()
    assert way(kserve).rollback(three).version == three
    with pytest.raises(InputError, match=r"no version nonsense to go back to"):
        way(kserve).rollback("nonsense")
    events = history.read(kserve.store, "posewatch", "abnormal")
    assert [(e.version, e.reason) for e in events if e.act == "rolled-back"] == [
        (two, "false alarms"), (one, f"from {two}"), (three, f"from {one}"),
    ]  # fmt: skip


def test_rollback_takes_a_canary_back_first(api: Any, kserve: Controller, versions: Any) -> None:
    kserve.serves = False
    one, two, _ = versions
    put(kserve, one)
    put(kserve, two, percent=30)
    assert way(kserve).rollback().version == name(one)
    assert live(api) == (name(one), "", 0)
    assert acts(kserve)[-1] == ("withdrawn", name(two))
    put(kserve, two, percent=30)
    assert acts(kserve)[-2:] == [("admitted", name(two)), ("canary", name(two))], "a new attempt is a new entry"


class Killed(BaseException):
    """As if by SIGKILL: nothing after it runs that an ``except`` could hold."""


@pytest.mark.parametrize("at", range(1, 7))
def test_killed_between_any_two_steps_and_run_again(
    api: Any, kserve: Controller, versions: Any, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Each call to the cluster or the history is a place to die; the second run ends as if there had been one."""
    kserve.serves = False
    one, two, _ = versions
    put(kserve, one)
    count = 0

    def fragile(act: Any) -> Any:
        def run(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == at:
                raise Killed
            return act(*args, **options)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(rollout, "apply", fragile(rollout.apply))
        patch.setattr(rollout, "ensure_runtime", fragile(rollout.ensure_runtime))
        patch.setattr(history, "record", fragile(history.record))
        with pytest.raises(Killed):
            put(kserve, two)
    put(kserve, two)
    assert live(api) == (name(two), "", 0)
    assert acts(kserve) == [("admitted", name(v)) if k == 0 else ("live", name(v)) for v in (one, two) for k in (0, 1)]
    assert way(kserve).rollback().version == name(one)


def test_a_killed_promotion_is_undone_by_rollback_and_a_killed_rollback_is_finished(
    api: Any, kserve: Controller, versions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kserve.serves = False
    one, two, three = versions
    put(kserve, one)
    put(kserve, two)

    def dies(*_: Any, **__: Any) -> None:
        raise Killed

    for act in (lambda: put(kserve, three), lambda: way(kserve).rollback()):
        with monkeypatch.context() as patch:
            # the cluster has changed, the history does not know yet
            patch.setattr(rollout.Rollout, "_live", dies)
            real = history.record
            patch.setattr(history, "record", lambda *a, real=real: dies() if a[3].act == "rolled-back" else real(*a))
            with pytest.raises(Killed):
                act()
        if live(api)[0] == name(three):
            assert way(kserve).rollback().version == name(two), "three was never live"
            continue
        assert live(api)[0] == name(one)
        assert way(kserve).rollback().version == name(one), "the same rollback, not a second one"
    assert acts(kserve)[-1] == ("rolled-back", name(one))


def test_a_field_of_another_manager_is_a_conflict(api: Any, kserve: Controller, versions: Any) -> None:
    kserve.serves = False
    from posewatch.kube.cluster import apply

    one, two, _ = versions
    put(kserve, one)
    theirs = service.body(CONFIG, State(stable=Release.of(one.model), max_replicas=5))
    apply([theirs], namespace="posewatch", field_manager="autoscaler", force=True)
    with pytest.raises(ServingError, match=r'another manager holds: .*"autoscaler".*maxReplicas.*--force'):
        put(kserve, two)
    put(kserve, two, force=True)
    assert live(api) == (name(two), "", 0)


def test_gates_hold_a_model_back_before_the_cluster_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Bucket
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    rows = {"joints_dropped": [{"level": 0.3, "f1": 0.5, "f1_loss": 0.4}]}
    asks = RobustnessConfig(max_f1_drop_30=0.1)
    for seed, of, config, robustness, says in (
        (11, {"f1": 0.79}, CONFIG, None, r"F1 of 0.790 is below serving.min_f1 = 0.8"),
        (12, {"f1": None}, CONFIG, None, r"no F1 and serving.min_f1 is 0.8"),
        (13, {"f1": float("nan")}, CONFIG, None, r"no F1 and serving.min_f1 is 0.8"),
        (14, {"robustness": rows}, CONFIG, asks, r"joints dropped costs 40.0 points of F1, max_f1_drop_30 allows 10.0"),
        (15, {"parity": 3e-3}, CONFIG, None, r"differs from PyTorch by 0.003, serving.max_parity_error is 0.0001"),
        (16, {"parity": None}, CONFIG, None, r"the exported model was not compared with PyTorch"),
    ):
        made = version(store, seed, CONFIG, **of)
        with pytest.raises(ServingError, match=f"not deployed: .*{says}.*--override-gates REASON") as error:
            stage.deploy(made.model, made.evaluation, config, robustness=robustness)
        one_line(error)
    good, other = version(store, 17, CONFIG), version(store, 18, CONFIG)
    with pytest.raises(ConfigError, match=r"serving.min_f1 is 0.8: give the evaluation of this model"):
        stage.deploy(good.model, None, CONFIG)
    with pytest.raises(ServingError, match="is the evaluation of another model"):
        stage.deploy(good.model, other.evaluation, CONFIG)
    with pytest.raises(ConfigError, match=r"set robustness.draws to 1 or more"):
        stage.deploy(good.model, good.evaluation, CONFIG, robustness=asks)
    with pytest.raises(ServingError, match="no usable kubeconfig"):
        stage.deploy(good.model, good.evaluation, CONFIG)


def test_an_override_is_a_reason_and_stays_in_the_history(api: Any, kserve: Controller, store: Bucket) -> None:
    kserve.serves = False
    bad = version(store, 21, CONFIG, f1=0.3)
    with pytest.raises(ServingError, match="not deployed"):
        put(kserve, bad, override="  ")
    assert api("GET", ISVC)["items"] == []
    assert acts(kserve) == []
    put(kserve, bad, override="demo for the fair")
    events = history.read(store, "posewatch", "abnormal")
    assert [(e.act, e.override) for e in events] == [("admitted", "demo for the fair"), ("live", "demo for the fair")]
    text = history.text(events)
    assert "f1=0.3!" in text
    assert "gates overridden: demo for the fair" in text
    assert text.splitlines()[1].split()[2] == "live", "newest first"


def test_history_outlives_the_service(api: Any, kserve: Controller, versions: Any) -> None:
    kserve.serves = False
    put(kserve, versions[0])
    api("DELETE", f"{ISVC}/abnormal")
    assert acts(kserve) == [("admitted", name(versions[0])), ("live", name(versions[0]))]
    kserve._done = (0, "")
    put(kserve, versions[0])
    assert live(api) == (name(versions[0]), "", 0)


def test_a_service_of_somebody_else_is_left_alone(api: Any, kserve: Controller, versions: Any) -> None:
    kserve.asleep = True
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://theirs/model/"}
    meta = {"name": "abnormal", "namespace": "posewatch"}
    theirs = {"apiVersion": service.API, "kind": service.KIND, "metadata": meta}
    api("POST", ISVC, theirs | {"spec": {"predictor": {"model": model}}})
    with pytest.raises(ServingError, match=r"was not created by posewatch: choose another serving\.name"):
        put(kserve, versions[0])


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://a-predictor.ns.svc.cluster.local", "http://a-v12ab-predictor.ns.svc.cluster.local:80"),
        ("http://a-predictor.ns.svc.cluster.local:8080", "http://a-v12ab-predictor.ns.svc.cluster.local:8080"),
        ("https://a-predictor.ns.svc.other", "https://a-v12ab-predictor.ns.svc.other:443"),
        ("http://a.example.com:81", "http://a-v12ab-predictor.ns.svc.cluster.local:80"),
        ("", "http://a-v12ab-predictor.ns.svc.cluster.local:80"),
    ],
)
def test_where_a_canary_answers(address: str, url: str) -> None:
    one = Release("12ab", "s3://b/models/a/12ab/", "0" * 64)
    config = ServingConfig(name="a", namespace="ns")
    assert service.canary_url(config, State(one, one, address=address)) == url


def test_canary_names_are_short_and_differ() -> None:
    names = [service.canary_name(v) for v in ("1", "1.0", "1-0", "V1", "v1", "0123456789ab", "0123456789ac", "x" * 63)]
    assert len(set(names)) == len(names)
    for made in names:
        assert re.fullmatch(r"v[a-z0-9]([-a-z0-9]*[a-z0-9])?", made)
        assert len(f"{'a' * 40}-{made}-predictor") <= 63


def test_the_commands(
    api: Any, kserve: Controller, versions: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a user types them."""
    from posewatch.cli.main import main

    kserve.serves = False
    monkeypatch.setattr("posewatch.store.open_store", lambda uri: kserve.store)
    monkeypatch.setenv("POSEWATCH_USER", "ada")
    one, two, _ = versions
    common = ["--set", "serving.target=kserve", "--set", "serving.min_f1=0.8"]

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, *common])
        told = capsys.readouterr()
        return code, told.out, told.err

    def deploy(made: Version, *options: str) -> tuple[int, str, str]:
        given = ("deploy", made.model.uri, "--evaluation", made.evaluation.uri, "--skip-smoke-test")
        return run(*given, *options)

    assert run("history")[:2] == (0, "nothing was deployed yet\n")
    code, _, said = run("promote")
    assert code == 2
    assert said == "posewatch: posewatch/abnormal has no canary: `posewatch deploy` makes one\n"
    assert deploy(one)[0] == 0
    assert deploy(two, "--canary-percent", "101")[0] == 2
    assert deploy(two, "--canary-percent", "25")[0] == 0
    assert live(api) == (name(one), name(two), 25)
    assert run("promote", "--skip-smoke-test")[0] == 0
    code, out, _ = run("rollback", "--skip-smoke-test", "--reason", "too many alarms")
    assert (code, out) == (0, f"{kserve.url}/abnormal serves version {name(one)}\n")
    _, out, _ = run("history")
    head, newest = out.splitlines()[:2]
    assert head.split() == ["when", "act", "version", "traffic", "by", "figures", "digest", "remark"]
    assert newest.split()[2:] == [
        "rolled-back", name(one), "100", "%", "ada", "f1=0.9", "parity=2e-06", one.model.digest[:12],
        "too", "many", "alarms",
    ]  # fmt: skip
    _, out, _ = run("history", "--json")
    assert [row["act"] for row in json.loads(out)] == [
        "admitted", "live", "admitted", "canary", "live", "rolled-back"
    ]  # fmt: skip
    common[1] = "serving.target=embedded"
    assert "set serving.target=kserve (it is 'embedded')" in run("rollback")[2]
    assert "shares no traffic" in deploy(two, "--canary-percent", "25")[2]
