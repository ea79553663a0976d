"""Compiled pipelines for older Kubeflow Pipelines servers, held against the fields that those know."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from compiled_pipelines import ENV, GOLDEN, compiled, parts, tasks
from support import run

from pipelines.servers import Release, adapt, release_of
from posewatch.errors import InputError, PosewatchError

SECRET = {"secretName", "keyToEnv"}
STRUCT = None
"""Any value: the server hands it on."""
CONTEXT = {"runAsUser", "runAsGroup", "runAsNonRoot"}
"""Since 2.16."""
EXECUTOR: dict[str, Any] = {
    "secretAsEnv": {*SECRET}, "activeDeadlineSeconds": STRUCT, "fieldPathAsEnv": {"name", "fieldPath"},
    "nodeSelector": {"labels"}, "tolerations": {"key", "operator", "value", "effect", "tolerationSeconds"},
    "emptyDirMounts": {"volumeName", "mountPath", "medium", "sizeLimit"},
}  # fmt: skip
PLATFORM = {"deploymentSpec", "platform", "config", "pipelineConfig"}
OLD_CONFIG = {"semaphoreKey", "mutexName", "resourceTtl", "workspace"}
KNOWN: dict[Release, tuple[set[str], set[str], set[str]]] = {
    (2, 3): ({"deploymentSpec"}, set(), SECRET),
    (2, 4): (PLATFORM, OLD_CONFIG, SECRET),
    (2, 5): (PLATFORM, OLD_CONFIG, {*SECRET, "secretNameParameter"}),
    (2, 14): (PLATFORM, OLD_CONFIG, {*SECRET, "secretNameParameter"}),
    (2, 15): (PLATFORM, {"resourceTtl", "workspace"}, {*SECRET, "secretNameParameter", "optional"}),
    (2, 16): (PLATFORM, {"resourceTtl", "workspace"}, {*SECRET, "secretNameParameter", "optional"}),
}
"""By release: the fields of SinglePlatformSpec, of PipelineConfig (api/v2alpha1/pipeline_spec.proto) and of SecretAsEnv
(kubernetes_platform/proto/kubernetes_executor_config.proto) in kubeflow/pipelines at the tag; for 2.3 and 2.4 those of
the versions that go.mod names. The other messages are EXECUTOR's in all of them, as far as our pipelines use them."""


def unknown(kubernetes: dict[str, Any], release: Release) -> set[str]:
    """The fields that a server of ``release`` does not know."""
    platform, config, secret = KNOWN[release]
    found = (set(kubernetes) - platform) | (set(kubernetes.get("pipelineConfig", {})) - config)
    for about in kubernetes["deploymentSpec"]["executors"].values():
        for field, value in about.items():
            known = secret if field == "secretAsEnv" else EXECUTOR.get(field, set())
            if field == "securityContext":
                known = CONTEXT if release >= (2, 16) else set()
            for item in value if isinstance(value, list) else [value]:
                found |= set() if known is STRUCT else set(item) - known
    return found


def adapted(folder: Path, name: str, release: Release | None, *keys: str, source: Path = GOLDEN) -> tuple[Path, str]:
    package = folder / f"{name}.yaml"
    shutil.copyfile(source / package.name, package)
    return package, "; ".join(adapt(package, release, keys))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipelines without shards."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "mine.yaml").write_text("shards: false\n")
    return compiled(folder / "out", POSEWATCH_RESOURCES=str(folder / "mine.yaml"))


@pytest.mark.parametrize("release", KNOWN)
@pytest.mark.parametrize("name", ["prepare", "train", "end_to_end", "refresh"])
def test_a_server_is_sent_what_it_knows(tmp_path: Path, whole: Path, name: str, release: Release) -> None:
    if (name, release) == ("end_to_end", (2, 3)):
        pytest.skip("refused")
    assert "resourceTtlOnCompletion" in unknown(parts(whole / f"{name}.yaml")[1], release)
    package, without = adapted(tmp_path, name, release, source=whole)
    spec, kubernetes = parts(package)
    assert unknown(kubernetes, release) == set()
    asked = {
        pair["envVar"]
        for about in kubernetes["deploymentSpec"]["executors"].values()
        for secret in about.get("secretAsEnv", ())
        for pair in secret["keyToEnv"]
    }
    assert "POSEWATCH_S3_SECRET_KEY" in asked
    assert ("POSEWATCH_S3_REGION" in asked) == (release >= (2, 15)) == ("POSEWATCH_S3_REGION" not in without)
    assert "ttl_s" in without
    assert ("restricted" in without) == (release < (2, 16))
    status = spec["root"]["dag"]["tasks"]["notify"]["inputs"]["parameters"]["status"]
    declared = spec["components"]["comp-notify"]["inputDefinitions"]["parameters"]["status"]["parameterType"]
    if release >= (2, 14):
        assert ("taskFinalStatus" in status, declared) == (True, "TASK_FINAL_STATUS")
    else:
        assert (status["runtimeValue"]["constant"], declared) == ({"state": "UNKNOWN"}, "STRUCT")


@pytest.mark.parametrize("release", [None, (2, 17), (3, 0)])
def test_a_newer_server_is_sent_what_was_compiled(tmp_path: Path, release: Release | None) -> None:
    package, without = adapted(tmp_path, "prepare", release)
    assert (package.read_bytes(), without) == ((GOLDEN / "prepare.yaml").read_bytes(), "")


def test_the_optional_keys_that_the_secret_has_are_asked_for(tmp_path: Path) -> None:
    package, without = adapted(tmp_path, "train", (2, 14), "POSEWATCH_WEBHOOK")
    executors = parts(package)[1]["deploymentSpec"]["executors"]
    (secret,) = executors["exec-notify"]["secretAsEnv"]
    assert [pair["secretKey"] for pair in secret["keyToEnv"]] == ["POSEWATCH_WEBHOOK"]
    assert "POSEWATCH_S3_REGION, " in without
    assert "(--secret-key NAME" in without
    assert "POSEWATCH_WEBHOOK" not in without
    with pytest.raises(InputError, match="did you mean 'POSEWATCH_S3_REGION'"):
        adapted(tmp_path, "train", (2, 14), "POSEWATCH_S3_REGIO")


@pytest.mark.parametrize(
    ("name", "release", "says"),
    [
        ("prepare", (2, 5), "2.14 or newer is needed, or `shards: false`"),
        ("end_to_end", (2, 5), "2.14 or newer is needed, or `shards: false`"),
        ("train", (2, 2), "a Kubeflow Pipelines server of 2.2 cannot run train: 2.3 or newer is needed"),
    ],
)
def test_what_a_server_cannot_run_is_refused_in_one_line(
    tmp_path: Path, name: str, release: Release, says: str
) -> None:
    with pytest.raises(PosewatchError) as raised:
        adapted(tmp_path, name, release)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_parts_that_hand_on_results_need_a_server_of_2_4(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(PosewatchError, match=r"2\.4 or newer is needed, or prepare and train"):
        adapted(tmp_path, "end_to_end", (2, 3), source=whole)


def test_without_shards_one_pod_of_each_step_takes_all_videos(whole: Path) -> None:
    spec, _ = parts(whole / "prepare.yaml")
    steps = tasks(spec)
    assert not {"shards", "gather"} & set(steps)
    assert steps["queue-clips"]["inputs"]["parameters"]["clips"]["taskOutputParameter"]["producerTask"] == "split"
    assert not any("parameterIterator" in task for task in steps.values())


def test_compile_writes_what_the_server_can_run(tmp_path: Path) -> None:
    assert run("compile", "--out", str(tmp_path), env=ENV, module="pipelines").returncode == 0
    assert len(list(tmp_path.iterdir())) == 4
    done = run("compile", "--out", str(tmp_path), "--server", "2.5", env=ENV, module="pipelines")
    assert done.returncode == 0, done.stderr
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["refresh", "train"]
    assert "a server of 2.5 goes without: ttl_s" in done.stderr
    for path in tmp_path.iterdir():
        list(yaml.safe_load_all(path.read_text()))
    done = run("compile", "--out", str(tmp_path), "--server", "two", env=ENV, module="pipelines")
    assert (done.returncode, "--server 'two' is no release" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("text", "release"),
    [("2.5.0", (2, 5)), ("v2.14.4", (2, 14)), ("2.16", (2, 16)), ("3.0.0-rc.1", (3, 0)), ("2.5a", None), ("", None),
     ("unknown", None), ("2", None), ("0f3a2.5", None)],
)  # fmt: skip
def test_a_servers_release(text: str, release: Release | None) -> None:
    assert release_of(text) == release
