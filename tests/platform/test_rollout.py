"""Versions come, are tested where they run, and go: the rollout against a stand-in API server, with KServe's controller
and kube-proxy played as they behave, and pods that answer by the v2 protocol."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from published import Bucket, Version, version

pytest.importorskip("tritonclient.grpc")

from posewatch.config import RobustnessConfig
from posewatch.deploy import history
from posewatch.errors import ConfigError, InputError, ServingError
from posewatch.stages import deploy as stage

from .chart import ROOT, load_script
from .clients import Client
from .kserve import ISVC, SERVICES, Controller
from .rollouts import CONFIG, IN_CLUSTER, acts, live, name, one_line, put, services, way


def test_create_then_the_same_again_changes_nothing(api: Any, kserve: Controller, versions: Any) -> None:
    one = versions[0]
    assert put(kserve, one) == IN_CLUSTER

    def stored() -> list[Any]:
        paths = (ISVC, SERVICES)
        found = [o for path in paths for o in api("GET", path)["items"] if "predictor" not in o["metadata"]["name"]]
        return [(o["metadata"]["name"], o["spec"], o["metadata"].get("generation")) for o in found]

    before = stored()
    assert put(kserve, one) == IN_CLUSTER
    assert stored() == before
    assert kserve.restarts == []
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
    (old,) = services(api)
    put(kserve, two)
    assert live(api) == (name(two), "", 0)
    (new,) = services(api)
    assert new != old, "each version has an InferenceService of its own"
    assert acts(kserve)[-2:] == [("admitted", name(two)), ("live", name(two))]
    assert api("GET", f"{ISVC}/{new}")["metadata"]["annotations"]["posewatch/lineage-digest"] == two.model.digest
    assert kserve.restarts == [], "no pod that served was restarted"


def test_canary_then_more_of_it_then_promote(api: Any, kserve: Controller, versions: Any, crd_errors: Any) -> None:
    one, two, three = versions
    put(kserve, one)
    served = [pod.name for pod in kserve.pods()]
    assert put(kserve, two, percent=10) == IN_CLUSTER.replace("abnormal.", "abnormal-canary.")
    assert live(api) == (name(one), name(two), 10)
    for found in api("GET", ISVC)["items"]:
        assert crd_errors({k: v for k, v in found.items() if k != "status"}) == []
    for made in (one, three):
        with pytest.raises(InputError, match=r"is a canary with 10 % of the traffic: promote or roll it back first"):
            put(kserve, made)
    put(kserve, two, percent=50)
    assert live(api) == (name(one), name(two), 50)
    assert served[0] in [pod.name for pod in kserve.pods()], "weighting restarts nothing"

    assert way(kserve).promote().version == name(two)
    assert live(api) == (name(two), "", 0)
    assert kserve.restarts == []
    told = [e for e in history.read(kserve.store, "posewatch", "abnormal") if e.act in ("canary", "live")]
    assert [(e.act, e.version, e.traffic) for e in told] == [
        ("live", name(one), 100), ("canary", name(two), 10), ("canary", name(two), 50), ("live", name(two), 100),
    ]  # fmt: skip
    with pytest.raises(InputError, match="has no canary"):
        way(kserve).promote()


def test_the_stable_version_serves_while_the_new_one_loads(
    api: Any, kserve: Controller, versions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What KServe reports as Ready is not what answers: the answer itself decides."""
    one, two, three = versions
    put(kserve, one)
    kserve.network.lag_s = 0.5
    with Client(kserve.network) as client:
        for made in (two, three):
            put(kserve, made)
            assert client.fresh_http() == name(made), "live means that nothing else answers any more"
            assert client.fresh_grpc() == name(made)
        way(kserve).rollback()
        assert client.fresh_http() == name(two)
    assert client.failures == []
    assert client.order() == [name(one), name(two), name(three), name(two)]


def test_a_canary_that_cannot_load_is_taken_back(api: Any, kserve: Controller, versions: Any) -> None:
    one, two, _ = versions
    put(kserve, one)
    kserve.broken.add(name(two))
    with pytest.raises(ServingError) as error:
        put(kserve, two)
    text = one_line(error)
    assert f"version {name(two)} was taken back, version {name(one)} serves on" in text
    assert "unexpected shape for input" in text
    assert live(api) == (name(one), "", 0)
    assert len(services(api)) == 1
    assert acts(kserve)[-1] == ("rejected", name(two))


def test_a_version_that_answers_wrongly_never_gets_traffic(
    api: Any, kserve: Controller, store: Bucket, versions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = versions
    put(kserve, one)
    with Client(kserve.network) as client:
        kserve.instead[name(two)] = name(three)
        quick = dataclasses.replace(CONFIG, ready_timeout_s=2)
        with pytest.raises(ServingError, match=rf"was taken back.*answers as version {name(three)}"):
            put(kserve, two, quick, percent=20)
        kserve.instead.clear()
        with monkeypatch.context() as patch:  # the right name, other answers
            patch.setattr("posewatch.stages.smoke_test.TOLERANCE", -1.0)
            with pytest.raises(ServingError, match=r"was taken back.*not answer like the exported model"):
                put(kserve, two, percent=20)
    assert set(client.order()) == {name(one)}
    assert live(api) == (name(one), "", 0)
    assert acts(kserve)[-1] == ("rejected", name(two))


def test_the_first_version_has_nothing_to_fall_back_on(api: Any, kserve: Controller, versions: Any) -> None:
    one, two, _ = versions
    kserve.broken.add(name(one))
    with pytest.raises(ServingError, match=r"does not serve, and none did before it.*BlockedByFailedLoad"):
        put(kserve, one, percent=10)
    assert acts(kserve) == [("admitted", name(one)), ("rejected", name(one))]
    put(kserve, two)
    assert live(api) == (name(two), "", 0), "a broken first version does not stand in the way"


def test_not_ready_in_time_leaves_the_old_version(api: Any, kserve: Controller, versions: Any) -> None:
    one, two, _ = versions
    put(kserve, one)
    kserve.asleep = True
    with pytest.raises(ServingError, match=r"serves on: .*not ready after 1 s: KServe's controller has not looked"):
        put(kserve, two, dataclasses.replace(CONFIG, ready_timeout_s=1))
    assert live(api) == (name(one), "", 0)


def test_a_smoke_test_that_fails_later_deletes_nothing_that_serves(
    api: Any, kserve: Controller, versions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = versions[0]
    put(kserve, one)
    monkeypatch.setattr("posewatch.stages.smoke_test.TOLERANCE", -1.0)
    with pytest.raises(ServingError, match="not answer like the exported model"):
        put(kserve, one)
    assert live(api) == (name(one), "", 0)
    assert len(kserve.pods()) == 1


def test_two_replicas_and_no_pod_is_taken_for_a_canary(api: Any, kserve: Controller, versions: Any) -> None:
    one, two, _ = versions
    config = dataclasses.replace(CONFIG, min_replicas=2, max_replicas=4)
    put(kserve, one, config)
    put(kserve, two, config, percent=10)
    kserve.settle()
    assert len(kserve.pods()) == 4, "each version has its own replicas"
    way(kserve, config).promote()
    kserve.settle()
    assert len(kserve.pods()) == 2
    more = dataclasses.replace(config, min_replicas=3)
    before = {pod.name for pod in kserve.pods()}
    put(kserve, two, more)
    kserve.settle()
    assert before < {pod.name for pod in kserve.pods()}, "another number of replicas restarts nothing"


def test_one_gpu(api: Any, kserve: Controller, versions: Any) -> None:
    """Beside the old version there is no room: a rolling deployment says so, ``recreate`` stops the old one first."""
    one, two, three = versions
    kserve.gpus = 1
    config = dataclasses.replace(CONFIG, gpus=1, ready_timeout_s=2)
    put(kserve, one, config)
    with pytest.raises(ServingError, match=r"no node has room for it: .*nvidia.com/gpu.*serving\.strategy=recreate"):
        put(kserve, two, config)
    assert live(api) == (name(one), "", 0)
    config = dataclasses.replace(config, strategy="recreate", ready_timeout_s=20)
    with pytest.raises(InputError, match="runs one version at a time"):
        put(kserve, two, config, percent=10)
    put(kserve, two, config)
    assert live(api) == (name(two), "", 0)
    assert history.read(kserve.store, "posewatch", "abnormal")[-1].reason.startswith("nothing served for ")
    kserve.broken.add(name(three))
    with pytest.raises(ServingError, match=rf"version {name(three)} was taken back, version {name(two)} serves on"):
        put(kserve, three, config)
    kserve.settle()
    assert live(api) == (name(two), "", 0)
    assert way(kserve, config).rollback().version == name(one)


def test_rollback_goes_back_one_version_and_never_to_a_bad_one(api: Any, kserve: Controller, versions: Any) -> None:
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
    one, two, _ = versions
    put(kserve, one)
    put(kserve, two, percent=30)
    assert way(kserve).rollback().version == name(one)
    assert live(api) == (name(one), "", 0)
    assert acts(kserve)[-1] == ("withdrawn", name(two))
    put(kserve, two, percent=30)
    assert acts(kserve)[-2:] == [("admitted", name(two)), ("canary", name(two))], "a new attempt is a new entry"


def test_a_model_of_the_other_unit_takes_over_only_with_a_reason(api: Any, kserve: Controller, store: Bucket) -> None:
    """Its clients send clips of the unit that serves: no canary, and no way back that nobody named."""
    scenes, persons, later = (
        version(store, 30 + i, CONFIG, unit=u) for i, u in enumerate(("scene", "person", "person"))
    )
    put(kserve, scenes)
    with pytest.raises(ServingError) as error:
        put(kserve, persons)
    assert one_line(error) == (
        "the model is not deployed: it recognises single persons (unit person), and what serves as abnormal now"
        " recognises whole scenes (unit scene), which its clients send (publish it under another serving.name, or give"
        " a reason to serve it all the same: --override-gates REASON)"
    )
    with pytest.raises(InputError, match=r"a canary of another unit would be sent clips of this one"):
        put(kserve, persons, override="the watchers move, too", percent=10)
    assert acts(kserve) == [("admitted", name(scenes)), ("live", name(scenes))]
    put(kserve, persons, override="the watchers move, too")
    told = history.read(kserve.store, "posewatch", "abnormal")[-1]
    assert (told.version, told.override) == (name(persons), "the watchers move, too")
    assert [g["name"] for g in told.gates if not g["passed"]] == ["unit"]
    put(kserve, later, percent=10)
    assert way(kserve).promote().version == name(later)
    assert way(kserve).rollback().version == name(persons)
    with pytest.raises(
        InputError, match=rf"version {name(scenes)} before {name(persons)} is of the unit scene, .*--to"
    ):
        way(kserve).rollback()
    assert live(api) == (name(persons), "", 0)
    assert way(kserve).rollback(name(scenes)).version == name(scenes)


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
    put(kserve, versions[0])
    api("DELETE", f"{ISVC}/{services(api)[0]}")
    assert acts(kserve) == [("admitted", name(versions[0])), ("live", name(versions[0]))]
    put(kserve, versions[0])
    assert live(api) == (name(versions[0]), "", 0)


def test_the_commands(
    api: Any, kserve: Controller, versions: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a user types them."""
    from posewatch.cli.main import main

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
    assert said == "posewatch: posewatch/abnormal has no canary: `posewatch deploy --canary-percent N` makes one\n"
    assert deploy(one)[0] == 0
    assert deploy(two, "--canary-percent", "101")[0] == 2
    assert deploy(two, "--canary-percent", "25")[0] == 0
    assert live(api) == (name(one), name(two), 25)
    assert run("promote", "--skip-smoke-test")[0] == 0
    code, out, _ = run("rollback", "--skip-smoke-test", "--reason", "too many alarms")
    assert (code, out) == (0, f"{IN_CLUSTER} serves version {name(one)}\n")
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


def test_the_trial_of_make_test_cluster_passes_where_the_controllers_are_played(
    kserve: Controller, versions: Any, tmp_path: Path
) -> None:
    trial = load_script(ROOT / "helm" / "try_rollout.py")
    said = trial.rollout(kserve.store, CONFIG, versions[0], versions[1], tmp_path)
    assert "0 without an answer" in said
    assert kserve.restarts == []
