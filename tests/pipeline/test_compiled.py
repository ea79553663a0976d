"""The compiled pipelines: equal to the golden files, and what they promise to a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from compiled_pipelines import ENV, GOLDEN, NAMES, compiled, parts, tasks
from support import ROOT, run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("compiled"))


@pytest.mark.parametrize("name", NAMES)
def test_equal_to_the_golden_file(made: Path, name: str) -> None:
    want, got = (GOLDEN / f"{name}.yaml").read_text(), (made / f"{name}.yaml").read_text()
    assert got == want, f"{name}.yaml has changed: look at the difference, then run make golden"


def test_nothing_else_is_left_behind(made: Path) -> None:
    assert sorted(p.name for p in made.iterdir()) == sorted(f"{n}.yaml" for n in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_step_has_limits_retries_and_an_end(made: Path, name: str) -> None:
    spec, kubernetes = parts(made / f"{name}.yaml")
    for step, about in spec["deploymentSpec"]["executors"].items():
        assert {"resourceCpuLimit", "resourceMemoryLimit", "resourceCpuRequest", "resourceMemoryRequest"} <= set(
            about["container"]["resources"]
        ), step
        assert int(kubernetes["deploymentSpec"]["executors"][step]["activeDeadlineSeconds"]) > 0
        image = about["container"]["image"]
        assert image.startswith("registry.example/posewatch-")
        assert image.endswith(":abc123")
    leaves = {n: t for n, t in tasks(spec).items() if f"exec-{t['componentRef']['name'][5:]}" in _executors(spec)}
    assert leaves
    for step, task in leaves.items():
        policy = task["retryPolicy"]
        assert policy["maxRetryCount"] >= 1, step
        assert policy["backoffFactor"] == 2.0, step
        assert policy["backoffDuration"] == "30s", step
        # Argo's maxDuration: later than that after its first start a step is neither retried nor left running.
        timeout_s = int(kubernetes["deploymentSpec"]["executors"][_executor(spec, task)]["activeDeadlineSeconds"])
        pauses_s = sum(30 * 2.0**i for i in range(policy["maxRetryCount"]))
        needed_s = timeout_s * (policy["maxRetryCount"] + 1) + pauses_s
        assert int(policy["backoffMaxDuration"].rstrip("s")) >= needed_s, step
    # all three: Argo takes that of success or failure first, and Kubeflow's own defaults fill in what is not said
    kept = kubernetes["pipelineConfig"]
    assert kept == {f"resourceTtlOn{end}": 604800 for end in ("Completion", "Success", "Failure")}


def _executor(spec: dict[str, Any], task: dict[str, Any]) -> str:
    return str(spec["components"][task["componentRef"]["name"]]["executorLabel"])


def _executors(spec: dict[str, Any]) -> set[str]:
    return set(spec["deploymentSpec"]["executors"])


def test_each_kind_of_stage_has_its_image(made: Path) -> None:
    spec, _ = parts(made / "end_to_end.yaml")
    kinds = {n[5:]: e["container"]["image"][len("registry.example/posewatch-") : -7] for n, e in _of(spec)}
    assert (kinds["mask"], kinds["pose"], kinds["train"], kinds["deploy"], kinds["split"]) == (
        "masking",
        "pose",
        "train",
        "serving",
        "base",
    )


def _of(spec: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(spec["deploymentSpec"]["executors"].items())


def test_training_gets_a_gpu_node_and_shared_memory(made: Path) -> None:
    spec, kubernetes = parts(made / "train.yaml")
    assert spec["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"]["accelerator"] == {
        "count": "1", "resourceCount": "1", "resourceType": "nvidia.com/gpu", "type": "nvidia.com/gpu",
    }  # fmt: skip
    pod = kubernetes["deploymentSpec"]["executors"]["exec-train"]
    (memory,) = pod["emptyDirMounts"]
    assert (memory["mountPath"], memory["medium"], memory["sizeLimit"]) == ("/dev/shm", "Memory", "8Gi")
    assert pod["nodeSelector"]["labels"] == {"nvidia.com/gpu.present": "true"}
    assert [(t["key"], t["operator"], t["effect"]) for t in pod["tolerations"]] == [
        ("nvidia.com/gpu", "Exists", "NoSchedule")
    ]


def test_what_looks_outside_is_never_taken_from_the_cache(made: Path) -> None:
    spec, _ = parts(made / "end_to_end.yaml")
    cached = {n for n, t in tasks(spec).items() if t.get("cachingOptions", {}).get("enableCache")}
    outside = {"ingest", "queue-clips", "label-import", "label-gate", "snapshot", "deploy", "smoke-test", "score"}
    assert not cached & outside
    assert {"mask", "split", "pose", "dataset", "train", "evaluate", "export", "publish"} <= cached


def test_only_the_step_that_records_gets_the_cameras_password(made: Path) -> None:
    _, kubernetes = parts(made / "end_to_end.yaml")
    got = {
        step: pair["envVar"]
        for step, about in kubernetes["deploymentSpec"]["executors"].items()
        for secret in about["secretAsEnv"]
        for pair in secret["keyToEnv"]
        if secret.get("optional") and "CAMERA" in pair["envVar"]
    }
    assert got == {"exec-ingest": "POSEWATCH_CAMERA_PASSWORD"}


def test_every_step_that_gets_the_stores_keys_gets_its_region_where_the_secret_has_it(made: Path) -> None:
    for name in NAMES:
        _, kubernetes = parts(made / f"{name}.yaml")
        for step, about in kubernetes["deploymentSpec"]["executors"].items():
            optional = {p["envVar"]: s.get("optional", False) for s in about["secretAsEnv"] for p in s["keyToEnv"]}
            if "POSEWATCH_S3_ENDPOINT" in optional:
                assert optional["POSEWATCH_S3_REGION"], step


def test_shards_run_side_by_side_up_to_a_limit_and_the_end_is_told(made: Path) -> None:
    spec, kubernetes = parts(made / "prepare.yaml")
    loop = next(t for t in tasks(spec).values() if "parameterIterator" in t)
    assert loop["iteratorPolicy"]["parallelismLimit"] == 8
    notice = spec["root"]["dag"]["tasks"]["notify"]
    assert notice["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    about = kubernetes["deploymentSpec"]["executors"]["exec-notify"]
    assert about["fieldPathAsEnv"] == [{"name": "POSEWATCH_RUN", "fieldPath": "metadata.labels['pipeline/runid']"}]
    secrets = about["secretAsEnv"]
    assert [k["envVar"] for s in secrets for k in s["keyToEnv"]] == ["POSEWATCH_WEBHOOK"]
    assert "POSEWATCH_S3_SECRET_KEY" not in json.dumps(spec), "credentials come from a secret, not a parameter"


def test_a_file_of_resources_changes_what_it_names(tmp_path: Path) -> None:
    told = tmp_path / "mine.yaml"
    told.write_text("parallelism: 3\nsteps: {train: {gpus: 4, memory_limit: 64Gi}, mask: {gpus: 0}}\n")
    out = compiled(tmp_path / "out", POSEWATCH_RESOURCES=str(told))
    spec, _ = parts(out / "end_to_end.yaml")
    held = {n: e["container"]["resources"] for n, e in _of(spec)}
    assert (held["exec-train"]["accelerator"]["count"], held["exec-train"]["resourceMemoryLimit"]) == ("4", "64Gi")
    assert "accelerator" not in held["exec-mask"]
    assert "accelerator" in held["exec-pose"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps: {trian: {gpus: 1}}", "no step 'trian': did you mean 'train'?"),
        ("steps: {train: {gpu: 1}}", "unknown configuration key 'steps.train.gpu': did you mean 'gpus'?"),
        ("steps: {train: {gpus: -1}}", "steps.train.gpus must be a whole number from 0"),
        ("steps: {train: {memory: lots}}", "steps.train.memory must be a quantity"),
        ("parallelism: 0", "parallelism must be a whole number from 1"),
        ("steps: [train]", "steps must be a mapping"),
        ("ttl_s: week", "ttl_s must be a whole number"),
        ("- 1", "must be a mapping"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_file_of_resources_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    from pipelines.resources import resources
    from posewatch.errors import ConfigError

    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        resources(str(tmp_path / "mine.yaml"))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_pods_fit_in_a_namespace_that_is_restricted(made: Path) -> None:
    """What Kubeflow Pipelines leaves out of it for our container (applyUserContainerSecurityContext, 2.17.0)."""
    for name in NAMES:
        executors = parts(made / f"{name}.yaml")[1]["deploymentSpec"]["executors"]
        assert {str(about.get("securityContext")) for about in executors.values()} == {"{'runAsNonRoot': True}"}, name


@pytest.mark.parametrize("moving", [{"POSEWATCH_IMAGE": "posewatch:latest"}, {"POSEWATCH_TAG": "latest"}])
def test_images_that_move_are_refused_and_leave_no_file(tmp_path: Path, moving: dict[str, str]) -> None:
    done = run("compile", "--out", str(tmp_path / "new" / "out"), env={**ENV, **moving}, module="pipelines")
    assert done.returncode == 2
    assert done.stderr.startswith("posewatch: the image ")
    assert "fixed tag" in done.stderr
    assert not list(tmp_path.iterdir()), "no empty folder either"


def test_every_component_names_its_kind_of_image() -> None:
    from pipelines.resources import STEPS

    assert {p.name for p in (ROOT / "components").iterdir() if (p / "component.py").is_file()} == set(STEPS)
